"""Inception-v3 as FID uses it: the network of 2015-12-05 (Szegedy et al., 2016), for given weights.

It differs from the paper's and torchvision's network in four ways: 1,008 logits; 3 x 3 average
pools that leave their padding out of the mean; a max pool where Mixed_7c should have an average
pool; and batch norm with epsilon 1e-3. Layers have the names of the PyTorch conversions of its
weights (pytorch-fid, torch-fidelity), so that their files can be read.
"""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from gan_jax.core.errors import UserError
from gan_jax.metrics.features import weights
from gan_jax.metrics.features.extractor import Extractor, digest_of
from gan_jax.metrics.features.resize import MODES, SIDE, resize

VERSION = 1  # of what the features are, given the weights
FID_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
FID_FILE = "pt_inception-2015-12-05-6726825d.pth"
OUTPUTS = ("pool", "logits_unbiased")  # of the extractors; both, so that they share a program
BATCH = 32  # images at a time: some 0.5 GB of activations


class Conv(nn.Module):
    """A convolution without bias, padded unless `valid`; batch norm by running averages; ReLU."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    valid: bool = False

    @nn.compact
    def __call__(self, x):
        padding = "VALID" if self.valid else "SAME"
        strides, precision = (self.stride,) * 2, jax.lax.Precision.HIGHEST
        x = nn.Conv(self.features, self.kernel, strides, padding, use_bias=False, precision=precision, name="conv")(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


def conv(name: str, features: int, height: int, width: int | None = None) -> Conv:
    return Conv(features, (height, width or height), name=name)


def chain(x, branch: str, *layers: tuple[int, ...]):
    """Convolutions branch_1, branch_2, ..., each (features, height[, width])."""
    for i, layer in enumerate(layers, 1):
        x = conv(f"{branch}_{i}", *layer)(x)
    return x


def reduction(name: str, features: int) -> Conv:
    """A 3 x 3 convolution which halves the grid."""
    return Conv(features, (3, 3), 2, valid=True, name=name)


halved = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
averaged = partial(nn.avg_pool, window_shape=(3, 3), strides=(1, 1), padding="SAME", count_include_pad=False)
join = lambda *branches: jnp.concatenate(branches, -1)


class InceptionA(nn.Module):
    """35 x 35: 5 x 5 convolutions, one of them factorised into two of 3 x 3 (figure 5)."""

    pooled: int

    @nn.compact
    def __call__(self, x):
        five = chain(x, "branch5x5", (48, 1), (64, 5))
        double = chain(x, "branch3x3dbl", (64, 1), (96, 3), (96, 3))
        pool = conv("branch_pool", self.pooled, 1)(averaged(x))
        return join(conv("branch1x1", 64, 1)(x), five, double, pool)


class InceptionB(nn.Module):
    """35 x 35 to 17 x 17, convolutions beside the pool, so that no width is lost (figure 10)."""

    @nn.compact
    def __call__(self, x):
        double = reduction("branch3x3dbl_3", 96)(chain(x, "branch3x3dbl", (64, 1), (96, 3)))
        return join(reduction("branch3x3", 384)(x), double, halved(x))


class InceptionC(nn.Module):
    """17 x 17: 7 x 7 convolutions factorised into 1 x 7 and 7 x 1 (figure 6, n = 7)."""

    width: int

    @nn.compact
    def __call__(self, x):
        w = self.width
        seven = chain(x, "branch7x7", (w, 1), (w, 1, 7), (192, 7, 1))
        double = chain(x, "branch7x7dbl", (w, 1), (w, 7, 1), (w, 1, 7), (w, 7, 1), (192, 1, 7))
        pool = conv("branch_pool", 192, 1)(averaged(x))
        return join(conv("branch1x1", 192, 1)(x), seven, double, pool)


class InceptionD(nn.Module):
    """17 x 17 to 8 x 8."""

    @nn.compact
    def __call__(self, x):
        three = reduction("branch3x3_2", 320)(conv("branch3x3_1", 192, 1)(x))
        seven = reduction("branch7x7x3_4", 192)(chain(x, "branch7x7x3", (192, 1), (192, 1, 7), (192, 7, 1)))
        return join(three, seven, halved(x))


class InceptionE(nn.Module):
    """8 x 8: 3 x 3 convolutions as 1 x 3 beside 3 x 1 (figure 7), over an average or maximum."""

    max_pool: bool = False

    @nn.compact
    def __call__(self, x):
        three = conv("branch3x3_1", 384, 1)(x)
        double = chain(x, "branch3x3dbl", (448, 1), (384, 3))
        pool = nn.max_pool(x, (3, 3), (1, 1), "SAME") if self.max_pool else averaged(x)
        return join(
            conv("branch1x1", 320, 1)(x),
            conv("branch3x3_2a", 384, 1, 3)(three),
            conv("branch3x3_2b", 384, 3, 1)(three),
            conv("branch3x3dbl_3a", 384, 1, 3)(double),
            conv("branch3x3dbl_3b", 384, 3, 1)(double),
            conv("branch_pool", 192, 1)(pool),
        )


class Inception(nn.Module):
    """Images [n, 299, 299, 3] in about [-1, 1] -> {block: its output [n, h, w, c]}, in order.

    The last three are pool [n, 2048] ("pool3", the mean over Mixed_7c's grid), which FID and KID
    use; logits_unbiased [n, 1008], without the bias, of the inception score; and logits [n, 1008].
    """

    @nn.compact
    def __call__(self, x) -> dict[str, Array]:
        stem = [
            reduction("Conv2d_1a_3x3", 32),
            Conv(32, (3, 3), valid=True, name="Conv2d_2a_3x3"),
            conv("Conv2d_2b_3x3", 64, 3),
            halved,
            conv("Conv2d_3b_1x1", 80, 1),
            Conv(192, (3, 3), valid=True, name="Conv2d_4a_3x3"),
            halved,
        ]
        blocks = [InceptionA(pooled, name=f"Mixed_5{i}") for i, pooled in zip("bcd", (32, 64, 64), strict=True)]
        blocks += [InceptionB(name="Mixed_6a")]
        blocks += [InceptionC(width, name=f"Mixed_6{i}") for i, width in zip("bcde", (128, 160, 160, 192), strict=True)]
        blocks += [InceptionD(name="Mixed_7a"), InceptionE(name="Mixed_7b"), InceptionE(max_pool=True, name="Mixed_7c")]
        made = {}
        for layer in [*stem, *blocks]:
            x = layer(x)
            if isinstance(layer, nn.Module):
                made[layer.name] = x
        pool = x.mean((1, 2))
        kernel = self.param("fc", nn.initializers.zeros, (2048, 1008))
        unbiased = jnp.dot(pool, kernel, precision=jax.lax.Precision.HIGHEST)
        bias = self.param("fc_bias", nn.initializers.zeros, (1008,))
        return made | {"pool": pool, "logits_unbiased": unbiased, "logits": unbiased + bias}


LEAVES = {  # the last part of a name in a PyTorch file -> linen's collection and names; the others are called alike
    "conv.weight": ("params", "conv", "kernel"),
    "bn.weight": ("params", "bn", "scale"),
    "bn.bias": ("params", "bn", "bias"),
    "bn.running_mean": ("batch_stats", "bn", "mean"),
    "bn.running_var": ("batch_stats", "bn", "var"),
}
FC = {"fc.weight": ("params", "fc"), "fc.bias": ("params", "fc_bias")}
TORCH_ORDER = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}  # of linen's axes: [h, w, in, out] as [out, in, h, w]


@cache
def layout() -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """PyTorch's name of every tensor -> its place in linen's variables, its shape in PyTorch."""
    made = jax.eval_shape(Inception().init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32))
    names = {parts: name for name, parts in LEAVES.items()}
    whole = {path: name for name, path in FC.items()}
    found = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(made):
        path = tuple(key.key for key in keys)
        name = whole.get(path) or ".".join([*path[1:-2], names.get((path[0], *path[-2:]), "")])
        found[name] = (path, tuple(leaf.shape[i] for i in TORCH_ORDER[leaf.ndim]))
    return dict(sorted(found.items()))


def variables_of(tensors: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
    """The network's variables, from tensors by PyTorch's names; UserError for the first misfit."""
    made: dict[str, Any] = {}
    for name, (path, shape) in layout().items():
        if name not in tensors:
            raise UserError(f"{where}: {name} {list(shape)} is missing: these are not the weights of the FID Inception-v3")
        found = np.asarray(tensors[name])
        if found.shape != shape:
            raise UserError(f"{where}: {name} has shape {list(found.shape)}, not {list(shape)}: not the FID Inception-v3")
        branch = made
        for part in path[:-1]:
            branch = branch.setdefault(part, {})
        branch[path[-1]] = jnp.asarray(found.transpose(np.argsort(TORCH_ORDER[found.ndim])), jnp.float32)
    for name in tensors:
        if name not in layout() and not name.endswith(".num_batches_tracked"):
            raise UserError(f"{where}: {name} is no tensor of the FID Inception-v3: give the file {FID_FILE} or a conversion")
    return made


@partial(jax.jit, static_argnames="mode")
def prepared(images: ArrayLike, mode: str) -> Float[Array, "n 299 299 c"]:
    """uint8 images [n, h, w, c] resized as `mode` says, and scaled to about [-1, 1]."""
    x = resize(images, mode)
    return x / 127.5 - 1 if mode == "pytorch-bilinear" else (x - 128) / 128


@partial(jax.jit, static_argnames="outputs")
def activations(variables: Mapping[str, Any], x: ArrayLike, outputs: tuple[str, ...]) -> dict[str, Array]:
    """The named ones of Inception's outputs, for images as from `prepared`."""
    made: Any = Inception().apply(variables, x)
    return {name: made[name] for name in outputs}


def _features(variables: dict[str, Any], mode: str, output: str, images: np.ndarray) -> Float[np.ndarray, "n k"]:
    if images.ndim != 4:
        raise UserError(f"inception features are of uint8 images [n, h, w, 1 or 3], not of points {list(images.shape)}")
    x = prepared(np.broadcast_to(images, (*images.shape[:3], 3)), mode)
    return np.asarray(activations(variables, x, outputs=OUTPUTS)[output])


def _extractor(path: str | Path, mode: str, sha256: str | None, name: str, output: str) -> Extractor:
    if mode not in MODES:
        raise UserError(f"resize={mode!r}: choose one of {', '.join(MODES)}")
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path}: no such file: the Inception weights are yours to supply, as {FID_FILE} (sha256 {FID_SHA256}), "
            "which pytorch-fid and torch-fidelity publish"
        )
    found = weights.sha256(path)
    if sha256 is not None and found != sha256.lower():
        raise UserError(f"{path}: sha256 is {found}, not {sha256}: download it again, or pass sha256=None for a conversion")
    variables = variables_of(weights.read(path), str(path))
    digest = digest_of("inception", VERSION, output, found, mode)
    function, settings = partial(_features, variables, mode, output), {"resize": mode, "weights": found}
    return Extractor(name, digest, function, settings, BATCH)


def inception(path: str | Path, resize: str = "tf1-bilinear", sha256: str | None = FID_SHA256) -> Extractor:
    """The 2,048 features of FID and KID ("pool3"), by Inception-v3 with the weights in `path`.

    path: the FID weights (pt_inception-2015-12-05-6726825d.pth, which takes PyTorch, the extra
    gan-jax[inception]), or the same tensors under the same names as .safetensors or .npz; no file
    is executed. resize: "tf1-bilinear" (the original FID, torch-fidelity), "pytorch-bilinear"
    (pytorch-fid) or "clean-bicubic" (clean-fid); figures of different modes cannot be compared.
    sha256: the file's hash; None accepts any file.

    Grey images are repeated to three channels. Pixels become (x - 128) / 128, or x / 127.5 - 1 with
    "pytorch-bilinear", as in each reference. The features agree with torch-fidelity's to about 1e-5
    of their standard deviation, in float32. Cost: 5.7 GFLOP an image. Raises UserError where the
    file is missing, unreadable or another, and for another mode.
    """
    return _extractor(path, resize, sha256, "inception", "pool")


def inception_logits(path: str | Path, resize: str = "tf1-bilinear", sha256: str | None = FID_SHA256) -> Extractor:
    """The 1,008 logits without their bias, of which the inception score (Salimans et al., 2016)
    takes the softmax; all else as for `inception`."""
    return _extractor(path, resize, sha256, "inception-logits", "logits_unbiased")
