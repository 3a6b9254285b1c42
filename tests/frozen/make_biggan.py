"""Frozen: the networks of BigGAN-PyTorch with seeded weights, and its numbers of parameters.

Made from ajbrock/BigGAN-PyTorch at 9845943 with torch 2.13.0 on a CPU, by

    cd tests; python -m frozen.make_biggan FOLDER_OF_BIGGAN_PYTORCH

Writes biggan.npz beside itself. The weights are seeded as in make_sngan.py, by PyTorch's names.
"""

import functools
import sys

import numpy as np

from tests.frozen.make_sngan import BATCH, CLASSES, HERE, LABELS, fill, image, nchw, nhwc, parameters, seeded, some

CONDITION = 5  # length of the vector that a block's batch norm is told
# The scripts' options for CIFAR-10 and for ImageNet at 128 pixels.
CIFAR = {"resolution": 32, "n_classes": 10}, {"dim_z": 128, "G_shared": False, "G_attn": "0"}, {"D_attn": "0"}
IMAGENET = (
    {"resolution": 128, "n_classes": 1000},
    {"dim_z": 120, "hier": True, "shared_dim": 128, "G_ch": 96, "G_attn": "64"},
    {"D_ch": 96, "D_attn": "64"},
)
# Small ones: tables of each layer's own, and shared vectors with chunks of z and attention.
TABLES = {"resolution": 32}, {"dim_z": 8, "G_shared": False, "G_ch": 1, "G_attn": "0"}, {"D_ch": 1, "D_attn": "0"}
CHUNKS = (
    {"resolution": 64},
    {"dim_z": 15, "hier": True, "shared_dim": 4, "G_ch": 1, "G_attn": "16"},
    {"D_ch": 2, "D_attn": "8"},
)


def pair(both, g, d, **kwargs):
    import BigGAN

    g = BigGAN.Generator(**both, **g, SN_eps=1e-8, skip_init=True, no_optim=True, **kwargs)
    return g, BigGAN.Discriminator(**both, **d, SN_eps=1e-8, skip_init=True, **kwargs)


def whole(name, options):
    """Two calls in training: the second's singular vectors start from the first's."""
    import torch

    g, d = (fill(m) for m in pair(*options, n_classes=CLASSES))
    y, z = torch.from_numpy(LABELS), torch.from_numpy(seeded(f"input z {name}", (BATCH, options[1]["dim_z"])))
    told = g.shared(y) if g.G_shared else y
    x, frozen = nchw(image(name, options[0]["resolution"])), {}
    for i in (1, 2):
        frozen[f"{name}/images{i}"] = some(nhwc(g(z, told)))
        frozen[f"{name}/logits{i}"] = d(x, y).detach().numpy()[:, 0]
    return frozen


def blocks():
    import layers
    import torch

    conv = functools.partial(torch.nn.Conv2d, kernel_size=3, padding=1)
    linear = functools.partial(torch.nn.Linear, bias=False)
    norm = functools.partial(layers.ccbn, which_linear=linear, input_size=CONDITION)
    up = functools.partial(torch.nn.functional.interpolate, scale_factor=2)
    shared = {"which_conv": conv, "activation": torch.nn.ReLU(inplace=False)}
    down = {"downsample": torch.nn.AvgPool2d(2)}
    x, told = nchw(image("block", 4, 6)), torch.from_numpy(seeded("input condition", (BATCH, CONDITION)))
    made = {
        "halving": layers.DBlock(6, 4, preactivation=True, **down, **shared),
        "same": layers.DBlock(6, 6, preactivation=True, **shared),
        "first": layers.DBlock(6, 4, preactivation=False, **down, **shared),
    }
    frozen = {f"block/{name}": nhwc(fill(block)(x)) for name, block in made.items()}
    frozen["block/generator"] = nhwc(fill(layers.GBlock(6, 4, which_bn=norm, upsample=up, **shared))(x, told))
    return frozen | {"attention": nhwc(fill(layers.Attention(16, conv))(nchw(image("attention", 4, 16))))}


def counts():
    named = {"count/cifar": CIFAR, "count/imagenet": IMAGENET}
    return {name: np.array([parameters(m) for m in pair(*options)]) for name, options in named.items()}


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    frozen = counts() | blocks() | whole("tables", TABLES) | whole("chunks", CHUNKS)
    np.savez_compressed(HERE / "biggan.npz", **frozen)
    for name, x in frozen.items():
        print(f"{name:20} {x.shape!s:16} mean {x.mean():.4g} std {x.std():.4g}")
