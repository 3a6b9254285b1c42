"""Features without training: the pixels themselves, and a network of random weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gan_jax.core.batch import to_unit
from gan_jax.core.errors import UserError
from gan_jax.metrics.features.extractor import SEED, Extractor, digest_of
from gan_jax.networks.conv import conv

VERSION = 1  # of the code below: part of each digest
SLOPE = 0.2
LAYERS = 3
SMALLEST = 4  # side at which strides end


def pixels(image_shape: tuple[int, ...]) -> Extractor:
    """Images flattened to d = h w c values in [-1, 1]; points [d] as they are. They cannot miss
    copies, but do not rank models: a shift by one pixel may count for more than another digit."""
    shape = list(_checked(image_shape, "the pixel features", points=True))

    flat = lambda images: np.asarray(to_unit(images, "float32")).reshape(len(images), -1)
    return Extractor("pixels", digest_of("pixels", VERSION, shape), flat, {"features": int(np.prod(shape))})


def random(image_shape: tuple[int, ...], width: int = 64, features: int = 128, seed: int = SEED) -> Extractor:
    """`random_network` as an extractor: uint8 images [b, h, w, c] -> float32 [b, features]. Raises
    UserError for points and for sizes below 1."""
    weights, apply = random_network(image_shape, width, features, seed)
    run = jax.jit(lambda images: apply(to_unit(images)))
    settings = {"width": width, "features": features, "seed": seed}
    return Extractor("random", digest_of("random", VERSION, settings, *weights), run, settings)


def random_network(
    image_shape: tuple[int, ...], width: int = 64, features: int = 128, seed: int = SEED
) -> tuple[list[np.ndarray], Callable[[Array], Float[Array, "b k"]]]:
    """(weights, apply): a fixed random network, images in [-1, 1] [b, h, w, c] -> [b, features].

    Three 3x3 convolutions of `width` channels (stride 2 while the side exceeds 4) with leaky ReLU;
    the standard deviation over the image of every layer's channels (texture) and the last layer's
    means over quarters of the image (shape) are projected by a random matrix (Naeem et al., 2020,
    section 4). Weights are He-scaled and uniform, from PCG64's raw stream: the same bits in every
    NumPy. Blurred MNIST images have 19 times the Frechet distance of two real samples
    (`features.classifier`: 160), half the classes 2.6 times (26). Raises UserError for points and
    for sizes below 1.
    """
    channels = _checked(image_shape, "the random features")[-1]
    if min(width, features) < 1:
        raise UserError(f"the random features have width {width} and {features} features: both must be at least 1")
    bits = np.random.PCG64(seed)
    kernels = [he_uniform(bits, (3, 3, width if i else channels, width)) for i in range(LAYERS)]
    biases = [he_uniform(bits, (width,), fan_in=24) for _ in range(LAYERS)]
    projection = he_uniform(bits, ((LAYERS + 4) * width, features), fan_in=2 * (LAYERS + 4) * width)
    steps = strides(image_shape, LAYERS)

    def apply(images):
        x, found = images, []
        for kernel, bias, stride in zip(kernels, biases, steps, strict=True):
            x = jax.nn.leaky_relu(conv(x, jnp.asarray(kernel, x.dtype), stride) + bias.astype(x.dtype), SLOPE)
            found.append(spread(x))
        return jnp.concatenate([*found, *_quarters(x)], -1) @ projection.astype(x.dtype)

    return [*kernels, *biases, projection], apply


def strides(image_shape: tuple[int, ...], layers: int) -> list[int]:
    """The stride of each layer: 2 while the shorter side exceeds 4."""
    side, found = min(image_shape[:2]), []
    for _ in range(layers):
        found.append(2 if side > SMALLEST else 1)
        side = -(-side // found[-1])
    return found


def he_uniform(bits: np.random.PCG64, shape: tuple[int, ...], fan_in: int | None = None) -> np.ndarray:
    """float32 U(-a, a) of variance 2 / fan_in (He et al., 2015), for kernels [..., in, out]."""
    fan_in = fan_in or int(np.prod(shape[:-1]))
    uniform = (bits.random_raw(int(np.prod(shape))) >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - 1
    return (uniform * np.float32((6 / fan_in) ** 0.5)).reshape(shape)


def spread(x: Array) -> Float[Array, "b c"]:
    """The standard deviation of each channel over the image, with a finite slope at 0."""
    return jnp.sqrt(x.var((1, 2)) + 1e-6)


def _quarters(x: Array) -> list[Array]:
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    halves = (x[:, : rows or 1], x[:, rows:])
    return [part.mean((1, 2)) for half in halves for part in (half[:, :, : columns or 1], half[:, :, columns:])]


def _checked(image_shape: tuple[int, ...], what: str, points: bool = False) -> tuple[int, ...]:
    shape = tuple(map(int, image_shape))
    if min(shape, default=0) < 1 or len(shape) not in ((1, 3) if points else (3,)):
        hint = ": use features='pixels'" if len(shape) == 1 and not points else ""
        raise UserError(f"{what} want images [h, w, c]{' or points [d]' if points else ''}, not {list(shape)}{hint}")
    return shape
