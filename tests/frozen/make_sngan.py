"""Frozen: the residual networks of the PyTorch library mimicry with seeded weights, and its numbers
of parameters.

Made from kwotsin/mimicry at a7fda06 with torch 2.13.0 on a CPU, by

    python tests/frozen/make_sngan.py FOLDER_OF_MIMICRY

Writes sngan.npz beside itself. The tests import the functions of the first part, which need NumPy
alone. In the whole networks mimicry's ReLU was made to work on a copy (in place it changes what D's
shortcuts see); in the single blocks it is as it was.
"""

import importlib
import re
import sys
import types
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LATENT, BATCH, CLASSES = 8, 3, 3
NETWORKS = {"32": (32, 4, 0), "32 labels": (32, 4, CLASSES), "64": (64, 16, 0)}  # (side, width, classes)
LABELS = np.array([2, 0, 1])


# ---- what goes in: NumPy only ------------------------------------------------------------------


def seeded(name, shape):
    """float64, a sequence of its own for each of PyTorch's names: weights of about unit gain,
    scales around 1, unit vectors.

    A weight and its singular vector have three spellings: they count as .weight and .u here.
    """
    name = re.sub(r"\.(weight_u|sn_u|u0)$", ".u", name.removesuffix("_orig"))
    shape = tuple(shape)
    x = np.random.default_rng([0, zlib.crc32(name.encode())]).normal(size=shape)
    if name.endswith(".u"):
        return x / np.linalg.norm(x)
    if name.startswith("input"):
        return x
    if len(shape) >= 2:
        return x * np.prod(shape[1:]) ** -0.5
    return (1 if name.endswith(("weight", "gain", "gamma")) else 0) + 0.3 * x


def image(name, side, channels=3):
    """[b, side, side, channels]"""
    return seeded(f"input {name}", (BATCH, side, side, channels))


def some(images):
    """Every third pixel each way of a batch [b, h, w, c]."""
    return np.asarray(images)[:, ::3, ::3]


# ---- what comes out: torch ---------------------------------------------------------------------


def fill(module):
    import torch

    for name, x in module.state_dict(keep_vars=True).items():
        if x.dtype.is_floating_point and not name.endswith(("running_mean", "running_var")):
            x.data = torch.from_numpy(np.asarray(seeded(name, x.shape)))
    return module.double().train()


def nchw(x):
    import torch

    return torch.from_numpy(x).permute(0, 3, 1, 2)


def nhwc(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def imported(root, name):
    """A module of mimicry, without what its packages import: training and metrics need further
    libraries."""
    sys.path.insert(0, str(root))
    for package in ("torch_mimicry", "torch_mimicry.nets"):
        if package not in sys.modules:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(Path(root, *package.split(".")))]
    return importlib.import_module(name)


def pair(root, side, classes, **widths):
    """mimicry's generator and discriminator."""
    kind, prefix, given = ("cgan_pd", "CGANPD", {"num_classes": classes}) if classes else ("sngan", "SNGAN", {})
    module = imported(root, f"torch_mimicry.nets.{kind}.{kind}_{side}")
    make = lambda role, **kwargs: getattr(module, f"{prefix}{role}{side}")(**given, **kwargs)
    g = {"nz": widths["latent"], "ngf": widths["width"]} if widths else {}
    return make("Generator", **g), make("Discriminator", **({"ndf": widths["width"]} if widths else {}))


def whole(root, name):
    import torch

    side, width, classes = NETWORKS[name]
    g, d = (fill(m) for m in pair(root, side, classes, width=width, latent=LATENT))
    for module in d.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False
    y = (torch.from_numpy(LABELS),) if classes else ()
    z, x = torch.from_numpy(seeded("input z", (BATCH, LATENT))), nchw(image(name, side))
    frozen = {f"{name}/images": some(nhwc(g(z, *y)))}
    frozen |= {f"{name}/logits{i}": d(x, *y).detach().numpy()[:, 0] for i in (1, 2)}
    if name == "32":  # with labels, mimicry's last layers go on iterating in evaluation
        frozen[f"{name}/evaluation"] = d.eval()(x).detach().numpy()[:, 0]
    return frozen


def blocks(root):
    module = imported(root, "torch_mimicry.modules.resblocks")
    made = {
        "generator": module.GBlock(6, 4, upsample=True),
        "halving": module.DBlock(6, 4, downsample=True, spectral_norm=False),
        "same": module.DBlock(6, 6, spectral_norm=False),
        "first": module.DBlockOptimized(6, 4, spectral_norm=False),
    }
    return {f"block/{name}": nhwc(fill(block)(nchw(image("block", 4, 6)))) for name, block in made.items()}


def counts(root):
    made = {str(side): pair(root, side, 0) for side in (32, 48, 64, 128)}
    made |= {"32 labels": pair(root, 32, 10), "128 labels": pair(root, 128, 1000)}
    return {f"count/{name}": np.array([parameters(m) for m in both]) for name, both in made.items()}


if __name__ == "__main__":
    root = sys.argv[1]
    frozen = counts(root) | blocks(root)
    for name in NETWORKS:
        frozen |= whole(root, name)
    np.savez_compressed(HERE / "sngan.npz", **frozen)
    for name, x in frozen.items():
        print(f"{name:20} {x.shape!s:16} mean {x.mean():.4g} std {x.std():.4g}")
