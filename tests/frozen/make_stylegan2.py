"""Frozen: StyleGAN2's networks of NVlabs/stylegan2-ada-pytorch with seeded weights: layers, blocks,
small networks, sizes.

Made at commit d72cc7d041b42ec8e806021a205ed9349f87c6a4 with torch 2.13.0 on a CPU (so by its
reference operations), by

    PYTHONPATH=stylegan2-ada-pytorch python tests/frozen/make_stylegan2.py

Writes stylegan2.npz beside itself, images as NHWC. The tests import the functions of the first
part, which need NumPy alone.
"""

import sys
import types
from pathlib import Path

import numpy as np

try:
    from make_inception import uniform  # run as a script
except ImportError:
    from tests.frozen.make_inception import uniform

HERE = Path(__file__).parent
CHANNELS = {"channel_base": 64, "channel_max": 12}  # of the small networks: 12, 8 and 4 at sides 4, 8 and 16
LATENTS, STYLE, CLASSES, SIZE, GROUP = 6, 5, 3, 16, 2
PSI, LAYERS = 0.7, 2
ARCHITECTURES = {
    "skip": {"clamp": None, "classes": 0},
    "orig": {"clamp": 1.5, "classes": 3},
    "resnet": {"clamp": None, "classes": 3},
}
PUBLISHED = {  # by train.py: size, channel_base, mapping layers, D's architecture, group, classes
    "cifar": (32, 32768, 2, "orig", 32, 0),
    "cifar conditional": (32, 32768, 2, "orig", 32, 10),
    "paper256": (256, 16384, 8, "resnet", 8, 0),
}


def normal(name, shape):
    """Of mean 0 and standard deviation 1; uniform, which does as well."""
    return (uniform(name, shape) - 0.5) * np.sqrt(12)


def weight(name, shape):
    """The tensor of this name in PyTorch's layout, so that none is at its default and each
    matters."""
    value = normal(name, shape)
    if "mapping.fc" in name:
        value = value * (100 if name.endswith("weight") else 30)
    elif name.endswith("bias"):
        value = 0.3 * value + ("affine" in name)
    return np.asarray(value, np.float32)


def given(name):
    """Inputs, NHWC."""
    shape = {
        "z": (4, LATENTS), "ws": (2, 3, STYLE), "images": (4, SIZE, SIZE, 3), "x": (2, 6, 6, 4), "styles": (2, 4),
        "kernel1": (3, 4, 1, 1), "kernel3": (3, 4, 3, 3), "features": (2, 4, 4, 6), "image": (2, 4, 4, 3),
        "large": (4, 8, 8, 6), "last": (4, 4, 4, 6), "cmap": (4, 5), "std": (8, 4, 4, 6), "pixels": (4, SIZE, SIZE, 3),
    }[name]  # fmt: skip
    return normal(f"given {name}", shape).astype(np.float32)


def labels():
    return np.array([0, 2, 1, 2])


# ---- what comes out: torch ---------------------------------------------------------------------


def reference():
    sys.modules.setdefault("requests", types.ModuleType("requests"))  # dnnlib imports it; nothing is downloaded
    from training import networks

    return networks


def seeded(module, prefix=""):
    """The module with its tensors by name; filters stay."""
    import torch

    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if not name.endswith("resample_filter"):
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(weight(prefix + name, tuple(tensor.shape))))
    return module.eval()


def nchw(name):
    import torch

    return torch.from_numpy(np.moveaxis(given(name), -1, 1).copy())


def nhwc(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1).copy()


def hot():
    import torch

    return torch.eye(CLASSES)[labels()]


def modulated():
    import torch

    networks, made = reference(), {}
    filtered = networks.upfirdn2d.setup_filter([1, 3, 3, 1])
    for k in (1, 3):
        for sampling in ({}, {"up": 2}, {"down": 2}):
            for demodulate in (True, False):
                kernel, styles = torch.from_numpy(given(f"kernel{k}")), torch.from_numpy(given("styles"))
                options = {"padding": k // 2, "flip_weight": "up" not in sampling, "resample_filter": filtered, **sampling}
                y = networks.modulated_conv2d(nchw("x"), kernel, styles, demodulate=demodulate, **options)
                made[f"modulated/{k}/{''.join(sampling)}/{demodulate}"] = nhwc(y)
    return made


def layers():
    import torch

    networks = reference()
    z, ws = torch.from_numpy(given("z")), torch.from_numpy(given("ws"))
    mapping = seeded(networks.MappingNetwork(LATENTS, CLASSES, STYLE, 3, num_layers=LAYERS), "mapping.")
    made = {"mapping": mapping(z, hot()).numpy()[:, 0], "truncated": mapping(z, hot(), truncation_psi=PSI).numpy()[:, 0]}
    mapping.train()
    mapping(z, hot())
    made["tracked"] = mapping.w_avg.numpy().copy()
    block = seeded(networks.SynthesisBlock(6, 4, STYLE, 8, 3, False))
    x, image = block(nchw("features"), nchw("image"), ws, noise_mode="const")
    made |= {"synthesis/x": nhwc(x), "synthesis/image": nhwc(image)}
    block = seeded(networks.DiscriminatorBlock(6, 6, 5, 8, 3, 0))
    made["discriminator"] = nhwc(block(nchw("large"), None)[0])
    epilogue = seeded(networks.DiscriminatorEpilogue(6, 5, 4, 3, mbstd_group_size=GROUP))
    made["epilogue"] = epilogue(nchw("last"), None, torch.from_numpy(given("cmap"))).numpy()
    for channels in (1, 2):
        made[f"std/{channels}"] = nhwc(networks.MinibatchStdLayer(4, channels)(nchw("std")))
    return made


def small(architecture, clamp, classes):
    """(G, D) of this architecture."""
    networks, shared = reference(), {"conv_clamp": clamp, **CHANNELS}
    g = networks.Generator(LATENTS, classes, STYLE, SIZE, 3, {"num_layers": LAYERS}, {"architecture": architecture, **shared})
    options = {"mapping_kwargs": {"num_layers": LAYERS}, "epilogue_kwargs": {"mbstd_group_size": GROUP}}
    return seeded(g), seeded(networks.Discriminator(classes, SIZE, 3, architecture, **shared, **options))


def whole():
    import torch

    made = {}
    for architecture, options in ARCHITECTURES.items():
        g, d = small(architecture, **options)
        c = hot() if options["classes"] else torch.zeros(4, 0)
        ws = g.mapping(torch.from_numpy(given("z")), c).detach().requires_grad_()
        images = g.synthesis(ws, noise_mode="const")
        made[f"{architecture}/images"] = nhwc(images)
        made[f"{architecture}/slope"] = torch.autograd.grad((images * nchw("pixels")).sum(), ws)[0].numpy()
        reals = nchw("images").requires_grad_()
        logits = d(reals, c)
        made[f"{architecture}/logits"] = logits.detach().numpy()[:, 0]
        if architecture == "resnet":
            slope = torch.autograd.grad(logits.sum(), reals, create_graph=True)[0]
            moved = torch.autograd.grad(slope.square().sum(), d.b8.conv1.weight)[0]
            made["norm"] = slope.square().sum([1, 2, 3]).detach().numpy()
            made["moved"] = moved.numpy().transpose(2, 3, 1, 0).copy()
    return made


def sizes():
    """{configuration: (parameters of G, of D)}, buffers not counted."""
    networks, made = reference(), {}
    for name, (size, base, layers, architecture, group, classes) in PUBLISHED.items():
        g = networks.Generator(512, classes, 512, size, 3, {"num_layers": layers}, {"channel_base": base})
        d = networks.Discriminator(classes, size, 3, architecture, base, epilogue_kwargs={"mbstd_group_size": group})
        made[f"sizes/{name}"] = np.array([sum(p.numel() for p in net.parameters()) for net in (g, d)])
    return made


if __name__ == "__main__":
    import torch

    with torch.no_grad():
        frozen = modulated() | layers()
    frozen |= whole() | sizes()
    for name, array in frozen.items():
        shown = array if name.startswith("sizes") else f"{array.shape} mean {array.mean():.3f} std {array.std():.3f}"
        print(f"{name:20} {shown}")
    np.savez_compressed(HERE / "stylegan2.npz", **frozen)
