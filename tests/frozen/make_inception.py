"""Frozen: torch-fidelity's Inception-v3 with seeded weights, block by block, two references'
resizing, and PyTorch's files.

Made with torch-fidelity 0.4.0 and torch 2.13.0 on a CPU, by

    python tests/frozen/make_inception.py

(torch-fidelity imports torchvision, of which nothing is used here: an empty package of that name
will do.) Writes inception.npz, inception_zip.pth and inception_legacy.pth beside itself. The tests
import the functions of the first part, which need NumPy alone. Every number comes from PCG64's raw
64-bit output, which NumPy promises not to change.
"""

import tempfile
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CHANNELS = 12  # frozen of every block, at 4 x 4 positions, beside every channel's mean
SIZES = {"smaller": (2, 32, 40, 3), "smaller_grey": (1, 28, 28, 1), "larger": (1, 420, 317, 3)}  # images to resize


# ---- what goes in: NumPy only ------------------------------------------------------------------


def uniform(name, shape):
    """float64 in [0, 1), a sequence of its own for each name."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)


def seeded_weights(shapes):
    """{name: float32 array}: He-scaled kernels, and batch norms of which no number is at its
    default.

    Kernels lose half of their mean. With all of it, all images end up alike (they differ by 1 % of
    the pool's standard deviation); with none, rounding errors grow, as kernels then take small
    differences of large numbers.
    """
    made = {}
    for name, shape in shapes.items():
        u = uniform(name, shape)
        if name.endswith("running_var"):
            u = 0.5 + u
        elif name.endswith("bn.weight"):
            u = 0.6 + 0.8 * u
        elif len(shape) == 1:
            u = u - 0.5
        else:
            u = u - 0.5
            u = u - u.mean(tuple(range(1, len(shape))), keepdims=True) / 2
            u = u * np.sqrt(12 * 2 / np.prod(shape[1:]))
        made[name] = u.astype(np.float32)
    return made


def images(name):
    """uint8 [n, h, w, c]: noise over two slow waves, so that both an edge and a shift show."""
    n, h, w, c = shape = SIZES[name]
    waves = np.sin(np.arange(h) / h * 5)[:, None] + np.cos(np.arange(w) / w * 4)
    return (255 * (0.5 * uniform(name, shape) + 0.25 * (1 + waves[:, :, None] / 2))).astype(np.uint8)


def positions(size):
    """Corners, edges and the middle of a grid."""
    return np.array([0, 1, size // 2, size - 1])


def pixels(side=299):
    """Rows and columns of a resized image."""
    return np.array([0, 1, 2, 3, 10, 29, 74, 101, 149, 150, 200, 253, 288, 296, 297, 298])


def summary(block):
    """A block's output [n, h, w, c] as (some of it, every channel's mean over the grid), of its
    first image."""
    _, h, w, c = block.shape
    some = block[0][positions(h)][:, positions(w)][:, :, np.arange(CHANNELS) * (c - 1) // (CHANNELS - 1)]
    return np.asarray(some), np.asarray(block[0], float).mean((0, 1))


def file_tensors():
    """What inception_zip.pth and inception_legacy.pth hold, as torch saved it (bfloat16 as
    float32)."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6) / 8 - 1
    return {
        "float": base,
        "transposed": base.T,  # the same storage
        "every_second": base[1:, ::2],  # the same storage, from an offset
        "parameter": np.array([1.5, -2.5], np.float32),
        "double": np.array([[np.pi], [-1e-300]]),
        "half": np.array([0.5, -65504, 6e-8], np.float16),
        "bfloat16": np.array([1, -3.140625, 2.0**100], np.float32),
        "long": np.array([2**62, -1]),
        "int": np.array([-(2**31)], np.int32),
        "short": np.array([-(2**15), 7], np.int16),
        "char": np.array([-128, 127], np.int8),
        "byte": np.array([0, 255], np.uint8),
        "bool": np.array([True, False, True]),
        "bn.num_batches_tracked": np.array(3),
        "empty": np.zeros((0, 5), np.float32),
    }


# ---- what comes out: torch ---------------------------------------------------------------------


def save_files():
    import torch

    arrays = file_tensors()
    base = torch.from_numpy(arrays["float"])
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    state |= {"float": base, "transposed": base.T, "every_second": base[1:, ::2], "bfloat16": state["bfloat16"].bfloat16()}
    state["parameter"] = torch.nn.Parameter(state["parameter"])
    torch.save(state, HERE / "inception_zip.pth")
    torch.save({"epoch": 3, "state_dict": state}, HERE / "inception_legacy.pth", _use_new_zipfile_serialization=False)


def seeded_network():
    """torch-fidelity's network, in float64, and its tensors' shapes. As it loads a file, it gets
    these weights instead."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    shapes = {}

    class Seeded(FeatureExtractorInceptionV3):
        def load_state_dict(self, _):
            shapes.update({name: tuple(x.shape) for name, x in self.state_dict().items() if not name.endswith("_tracked")})
            super().load_state_dict({name: torch.from_numpy(x) for name, x in seeded_weights(shapes).items()})

    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({}, file.name)
        return Seeded("inception", ["2048", "logits_unbiased", "logits"], file.name, "float64"), shapes


def network_outputs():
    import torch

    network, shapes = seeded_network()
    frozen = {"names": np.array("\n".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())))}

    def keep(name):
        def hook(module, _, output):
            made = output.permute(0, 2, 3, 1).numpy()
            frozen[f"{name}/std"] = np.float32(made.std())
            frozen[f"{name}/some"], frozen[f"{name}/mean"] = (a.astype(np.float32) for a in summary(made))
            print(f"{name:16} mean {made.mean():7.3f} std {made.std():7.3f} across images {made.std(0).mean():.4f}")

        return hook

    for name, child in network.named_children():
        if name.startswith(("Conv", "Mixed")):
            child.register_forward_hook(keep(name))
    made = network(torch.from_numpy(images("smaller")).permute(0, 3, 1, 2))
    for name, output in zip(("pool", "logits_unbiased", "logits"), made, strict=True):
        frozen[name] = output.numpy()[: 1 if name == "logits" else None]
        print(f"{name:16} mean {output.mean():7.3f} std {output.std():7.3f} across images {output.std(0).mean():.4f}")
    return frozen


def resized():
    import torch
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    frozen, at = {}, pixels()
    for name in SIZES:
        x = torch.from_numpy(images(name)).permute(0, 3, 1, 2).float()[:1]
        tf1 = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
        pytorch = torch.nn.functional.interpolate(x / 255, size=(299, 299), mode="bilinear", align_corners=False) * 255
        for mode, y in (("tf1-bilinear", tf1), ("pytorch-bilinear", pytorch)):
            frozen[f"{mode}/{name}"] = y[0].permute(1, 2, 0).numpy()[at][:, at]
    return frozen


if __name__ == "__main__":
    import torch

    with torch.no_grad():
        np.savez_compressed(HERE / "inception.npz", **network_outputs(), **resized())
    save_files()
