"""Frozen: R3GAN's layers and whole networks with seeded weights, and the numbers of parameters of
its configurations.

Made from brownvc/R3GAN at 19a7ddf with torch 2.13.0 on a CPU in float64, by

    python tests/frozen/make_r3gan.py FOLDER_OF_R3GAN

R3GAN/Networks.py runs as it is: its bias_act and upfirdn2d take their reference paths on a CPU.
What it imports and does not need here is stubbed (requests, and pkg_resources' parse_version), and
the data type of the stages is set, as training/networks.py does. Writes r3gan.npz beside itself.
The tests import the functions of the first part, which need NumPy alone.
"""

import sys
import types
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LATENT = 5
LABELS = np.array([2, 0, 1])
# Both players' stages from the smallest side up; (width of the label's vector in G, in D).
PLAIN = {"widths": (8, 8), "cardinalities": (4, 1), "blocks": (1, 2), "expansion": 2}
LABELLED = {"widths": (12, 8, 4), "cardinalities": (3, 2, 2), "blocks": (2, 1, 1), "expansion": 3}
NETWORKS = {"plain": (PLAIN, 0, (0, 0)), "labelled": (LABELLED, 3, (4, 7))}  # (plan, classes, label widths)


# ---- what goes in: NumPy only ------------------------------------------------------------------


def seeded(name, shape):
    """float64, a sequence of its own for each name: weights of about unit gain, biases of .3, all
    else of 1."""
    shape = tuple(shape)
    x = np.random.default_rng([0, zlib.crc32(name.encode())]).normal(size=shape)
    if name.endswith("weight"):
        return x * np.prod(shape[1:]) ** -0.5
    return 0.3 * x if name.endswith("Bias") else x


def image(name, channels, height, width):
    """[b, height, width, channels]"""
    return seeded(f"image {name}", (3, height, width, channels))


def configurations():
    """{name: (widths from the smallest side up, cardinalities, classes)} of train.py; Stacked MNIST
    with CIFAR-10's plan."""
    return {
        "CIFAR-10": ([768] * 4, [96] * 4, 10),
        "FFHQ-64": ([768] * 4 + [384], [96] * 4 + [48], 0),
        "FFHQ-256": ([768] * 4 + [384, 192, 96], [96] * 4 + [48, 24, 12], 0),
        "ImageNet-32": ([1536] * 4, [96] * 4, 1000),
        "Stacked MNIST": ([768] * 4, [96] * 4, 1000),
    }


# ---- what comes out: the authors' code ---------------------------------------------------------


def seed(module):
    import torch

    for name, parameter in module.named_parameters():
        parameter.data = torch.tensor(seeded(name, parameter.shape))
    return module


def channels_first(x):
    import torch

    return torch.tensor(x).permute(0, 3, 1, 2)


def channels_last(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


def players(networks, widths, cardinalities, blocks, expansion, classes, label_widths, latent):
    """Their G and D. D's tuples run from the largest side down."""
    plan = (list(widths), list(cardinalities), list(blocks))
    condition = {"ConditionDimension": classes} if classes else {}
    g = networks.Generator(latent, *plan, expansion, ConditionEmbeddingDimension=label_widths[0], **condition)
    reverse = [x[::-1] for x in plan]
    return g, networks.Discriminator(*reverse, expansion, ConditionEmbeddingDimension=label_widths[1], **condition)


def layers(networks, frozen):
    import torch

    block = seed(networks.ResidualBlock(8, 2, 2, 3, 4))
    frozen["block"] = channels_last(block(channels_first(image("block", 8, 5, 6))))
    frozen["upsample"] = channels_last(networks.InterpolativeUpsampler([1, 2, 1])(channels_first(image("upsample", 3, 3, 5))))
    frozen["downsample"] = channels_last(
        networks.InterpolativeDownsampler([1, 2, 1])(channels_first(image("downsample", 3, 4, 6)))
    )
    basis = seed(networks.GenerativeBasis(LATENT, 6))
    frozen["generative_basis"] = channels_last(basis(torch.tensor(seeded("z", (3, LATENT)))))
    basis = seed(networks.DiscriminativeBasis(6, 2))
    frozen["discriminative_basis"] = basis(channels_first(image("discriminative_basis", 6, 4, 4))).detach().numpy()


def whole(networks, frozen):
    """Images; logits; R1's squared norms, and their sum's gradient by a grouped kernel: a second
    derivative of all layers."""
    import torch

    for name, (plan, classes, label_widths) in NETWORKS.items():
        g, d = map(seed, players(networks, **plan, classes=classes, label_widths=label_widths, latent=LATENT))
        for stage in [*g.MainLayers, *d.MainLayers]:
            stage.DataType = torch.float64
        y = torch.nn.functional.one_hot(torch.tensor(LABELS), classes).double() if classes else None
        frozen[f"{name} G"] = channels_last(g(torch.tensor(seeded("z", (3, LATENT))), y))
        side = 4 * 2 ** (len(plan["widths"]) - 1)
        x = channels_first(image(name, 3, side, side)).requires_grad_(True)
        logits = d(x, y)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        norms = gradient.square().sum([1, 2, 3])
        kernel = d.MainLayers[0].Layers[0].LinearLayer2.Layer.weight
        (by_kernel,) = torch.autograd.grad(norms.sum(), kernel)
        frozen[f"{name} D"], frozen[f"{name} R1"] = logits.detach().numpy(), norms.detach().numpy()
        frozen[f"{name} R1 by kernel"] = by_kernel.permute(2, 3, 1, 0).numpy()


def counts(networks, frozen):
    import torch

    for name, (widths, cardinalities, classes) in configurations().items():
        blocks, label_widths = [2] * len(widths), (64, widths[0]) if classes else (0, 0)
        with torch.device("meta"):
            made = players(networks, widths, cardinalities, blocks, 2, classes, label_widths, 64)
        frozen[f"parameters {name}"] = [sum(p.numel() for p in player.parameters()) for player in made]


def main(folder):
    from torch.torch_version import TorchVersion

    sys.path.insert(0, folder)
    sys.modules["requests"] = types.ModuleType("requests")
    sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")
    vars(sys.modules["pkg_resources"])["parse_version"] = TorchVersion
    from R3GAN import Networks as networks

    frozen = {}
    for part in (layers, whole, counts):
        part(networks, frozen)
    np.savez_compressed(HERE / "r3gan.npz", **frozen)
    for name, value in frozen.items():
        print(name, np.shape(value), value if name.startswith("parameters") else np.abs(value).mean())


if __name__ == "__main__":
    main(sys.argv[1])
