"""Frozen: StyleGAN2-ADA's AugmentPipe at fixed percentiles of every draw, and DiffAugment's
operations with their draws.

Made with torch 2.13.0 and scipy on a CPU, from NVlabs/stylegan2-ada-pytorch at d72cc7d and
mit-han-lab/data-efficient-gans at 0b63395, by

    PYTHONPATH=stylegan2-ada-pytorch:data-efficient-gans python tests/frozen/make_augment.py

Writes augment.npz beside itself. The tests import the functions of the first part, which need NumPy
alone. Every number comes from PCG64's raw 64-bit output, which NumPy promises not to change.
"""

import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SHAPES = {"colour": (1, 24, 22, 3), "grey": (1, 24, 22, 1)}
PIPES = {
    "blit": ("xflip", "rotate90", "xint"),
    "geom": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
    "filter": ("imgfilter",),
    "cutout": ("cutout",),
}
PIPES["all"] = sum(PIPES.values(), ())  # noise has no debugging value
FROZEN = [("colour", pipe, q) for pipe in PIPES for q in (0.2, 0.4, 0.9)] + [("grey", "all", q) for q in (0.4, 0.9)]


# ---- what goes in: NumPy only ------------------------------------------------------------------


def uniform(name, shape):
    """float64 in [0, 1), a sequence of its own for each name."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)


def images(name, shape=None):
    """NHWC float32 in [-1, 1), every pixel unlike its neighbours."""
    return np.float32(2 * uniform(name, shape or SHAPES[name]) - 1)


# ---- the references ----------------------------------------------------------------------------


def ada(kind, pipe, percentile):
    import torch
    from training.augment import AugmentPipe

    made = AugmentPipe(**dict.fromkeys(PIPES[pipe], 1))
    return made(torch.from_numpy(images(kind)).permute(0, 3, 1, 2), debug_percentile=percentile)


def diffaugment(shape=(6, 9, 8, 3)):
    """{operation: (output, draws)}: what torch.rand and torch.randint gave is kept beside what came
    out."""
    import DiffAugment_pytorch as reference
    import torch

    found, drawn = {}, []

    def keeping(function):
        return lambda *args, **kwargs: (drawn.append(function(*args, **kwargs)), drawn[-1])[1]

    torch.manual_seed(3)
    torch.rand, torch.randint = keeping(torch.rand), keeping(torch.randint)
    for word, functions in reference.AUGMENT_FNS.items():
        for function in functions:
            drawn.clear()
            out = function(torch.from_numpy(images("diffaugment", shape)).permute(0, 3, 1, 2))
            found[f"{word}/{function.__name__.removeprefix('rand_')}"] = out, torch.stack([x.flatten() for x in drawn], -1)
    return found


def main():
    nhwc = lambda x: x.permute(0, 2, 3, 1).numpy()
    frozen = {f"ada/{kind}/{pipe}/{q}": nhwc(ada(kind, pipe, q)) for kind, pipe, q in FROZEN}
    for name, (out, draws) in diffaugment().items():
        frozen |= {f"diffaugment/{name}/out": nhwc(out), f"diffaugment/{name}/draws": draws.numpy()}
    np.savez_compressed(HERE / "augment.npz", **frozen)


if __name__ == "__main__":
    main()
