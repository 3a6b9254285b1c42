"""A small classifier, trained once on E (the extractor split); its inside is the feature space.

3x3 convolutions with ReLU (32 channels, then 64; stride 2 while the shorter side exceeds 4; at
least two), a hidden layer of 64 with ReLU, logits. It is trained by AdamW with a cosine schedule,
label smoothing and small shifts, with draws of PCG64 (no flips: a mirrored digit is another sign).
"""

import os
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from gan_jax.core.batch import to_unit
from gan_jax.core.errors import UserError
from gan_jax.data.splits import Split, Splits
from gan_jax.metrics.features.extractor import Extractor, digest_of
from gan_jax.metrics.features.fixed import he_uniform, spread, strides
from gan_jax.networks.conv import conv

VERSION = 1  # of the code below: part of the cache's key and of each digest
Weights = dict[str, Any]  # {name: array}


@dataclass(frozen=True)
class Training:
    """How a classifier is trained.

    width, hidden: channels of the first convolution (others have twice as many), units of the
    hidden layer. epochs: passes over the images, at least `least` steps. decay, smoothing: of the
    weights, of the labels. shift: images are shifted by up to this share of their side (at least a
    pixel), edges repeated; 0 for none. seed: of weights, order and shifts.
    """

    width: int = 32
    hidden: int = 64
    epochs: int = 12
    least: int = 600
    batch: int = 64
    rate: float = 2e-3
    decay: float = 1e-2
    smoothing: float = 0.05
    shift: float = 1 / 14
    seed: int = 0


DEFAULT = Training()


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier, as two extractors; accuracy in [0, 1] is on V, the validation split."""

    features: Extractor
    logits: Extractor
    accuracy: float
    classes: int


def classifier(data: Splits, cache: str | Path | None = None, training: Training = DEFAULT) -> Extractor:
    """The default features: float32 [n, 96] of uint8 images [n, h, w, c], from E alone.

    They are the 64 units of the last hidden layer of a classifier, and the standard deviations over
    the image of its first convolution's 32 channels, each block scaled to a mean variance of 1 on
    E. The hidden layer shows missing classes, the first layer texture: images of MNIST blurred by
    one pixel have 160 times the Frechet distance of two real samples, half of the classes 26 times.

    E is disjoint from the training (T), validation (V) and test (S) splits: none is favoured. The
    weights are trained on first use and kept in `cache` (see `cache_folder`). `settings` holds the
    accuracy on V, which should be high. Raises UserError for data without labels or of points: use
    "random" or "pixels".
    """
    return trained_classifier(data, cache, training).features


def classifier_logits(data: Splits, cache: str | Path | None = None, training: Training = DEFAULT) -> Extractor:
    """The logits [n, classes] of `classifier`'s network, for scores such as the inception score."""
    return trained_classifier(data, cache, training).logits


def trained_classifier(data: Splits, cache: str | Path | None = None, training: Training = DEFAULT) -> Classifier:
    """The classifier of `classifier`, with its logits and its accuracy on V."""
    images, labels = labelled(data.extractor, data, "the classifier's features")
    key = digest_of("classifier", VERSION, asdict(training), data.classes, data.extractor.hash)
    file = cache_folder(cache) / f"classifier-{key[:32]}.npz"
    weights = _read(file, key)
    if weights is None:
        weights = train(images, labels, data.classes, training)
        weights |= _scales(weights, images)
        _write(file, key, weights)
    validation, truth = labelled(data.validation, data, "the classifier's accuracy")
    accuracy = round(float((predict(weights, validation) == truth).mean()), 6)
    about = {"accuracy": accuracy, "classes": data.classes, "training": asdict(training)}
    digest = _digest(key, weights)
    features = Extractor("classifier", digest, lambda x: _features(weights, x), about)
    logits = Extractor("classifier logits", digest_of(digest, "logits"), lambda x: _logits(weights, x), about)
    return Classifier(features, logits, accuracy, data.classes)


def cache_folder(cache: str | Path | None = None) -> Path:
    """Where extractors are kept: the argument, $GAN_JAX_CACHE, or ~/.cache/gan_jax/features."""
    chosen = cache or os.environ.get("GAN_JAX_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gan_jax" / "features"


def labelled(split: Split, data: Splits, what: str, advise: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split. Raises UserError without labels, or for points."""
    advice = ": use features='{}'" if advise else ""
    if split.images.ndim != 4:
        raise UserError(f"{what} want images, and {data.name} holds points{advice.format('pixels')}")
    if split.labels is None or not data.classes:
        raise UserError(f"{what} want labels, and {data.name} has none{advice.format('random')}")
    return split.images, split.labels


def network(weights: Weights, images: Array) -> tuple[Float[Array, "b c"], Float[Array, "b k"], Float[Array, "b w"]]:
    """Images in [-1, 1] [b, h, w, c] -> logits, the last hidden layer, the first one's spread."""
    x, spreads = images, []
    layers = sum(name.startswith("kernel") for name in weights)
    for i, stride in enumerate(strides(images.shape[1:], layers)):
        x = jax.nn.relu(conv(x, weights[f"kernel{i}"], stride) + weights[f"bias{i}"])
        spreads.append(spread(x))
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ weights["hidden"] + weights["hidden_bias"])
    return hidden @ weights["logits"] + weights["logits_bias"], hidden, spreads[0]


def _initial(image_shape: tuple[int, ...], classes: int, training: Training) -> Weights:
    bits, weights = np.random.PCG64(training.seed), {}
    side, channels = image_shape[:2], image_shape[2]
    layers = max(2, (min(side) - 1).bit_length() - 2)  # down to a side of 4 or less
    for i, stride in enumerate(strides(image_shape, layers)):
        width = training.width * (2 if i else 1)
        weights |= {f"kernel{i}": he_uniform(bits, (3, 3, channels, width)), f"bias{i}": np.zeros(width, np.float32)}
        channels, side = width, tuple(-(-n // stride) for n in side)
    sizes = (int(np.prod(side)) * channels, training.hidden, classes)
    for name, rows, columns in (("hidden", *sizes[:2]), ("logits", *sizes[1:])):
        weights |= {name: he_uniform(bits, (rows, columns)), f"{name}_bias": np.zeros(columns, np.float32)}
    return weights


@jax.jit
def _logits(weights: Weights, images: Array) -> Array:
    return network(weights, to_unit(images))[0]


@jax.jit
def _features(weights: Weights, images: Array) -> Array:
    _, hidden, first = network(weights, to_unit(images))
    return jnp.concatenate([hidden * weights["hidden_scale"], first * weights["first_scale"]], -1)


def _scales(weights: Weights, images: np.ndarray) -> Weights:
    """What gives each block of features a mean variance of 1 on these images."""
    ones = {"hidden_scale": np.float32(1), "first_scale": np.float32(1)}
    variance = Extractor("classifier", "", lambda x: _features(weights | ones, x))(images).var(0, dtype=np.float64)
    blocks = np.split(variance, [len(weights["hidden_bias"])])
    factors = [max(block.mean(), 1e-12) ** -0.5 for block in blocks]
    return {name: np.array([factor], np.float32) for name, factor in zip(ones, factors, strict=True)}


def predict(weights: Weights, images: np.ndarray) -> np.ndarray:
    """The most likely class [n] of each image."""
    return Extractor("classifier logits", "", lambda x: _logits(weights, x))(images).argmax(1)


def train(images: np.ndarray, labels: np.ndarray, classes: int, training: Training = DEFAULT) -> Weights:
    """Weights of a classifier of images uint8 [n, h, w, c] with labels [n] in 0 ... classes - 1."""
    n, batch = len(images), min(training.batch, len(images))
    steps = max(training.least, training.epochs * n // batch)
    random = np.random.Generator(np.random.PCG64([training.seed, 1]))
    order = np.concatenate([random.permutation(n) for _ in range(-(-steps * batch // n))])[: steps * batch]
    margin = max(1, round(min(images.shape[1:3]) * training.shift)) if training.shift else 0
    offsets = random.integers(0, 2 * margin + 1, (steps, batch, 2))
    weights = _initial(images.shape[1:], classes, training)
    turns = order.astype(np.int32).reshape(steps, batch), offsets.astype(np.int32)
    trained = _train(weights, jnp.asarray(images), jnp.asarray(labels, jnp.int32), *turns, margin, training)
    return {name: np.asarray(value) for name, value in trained.items()}


@partial(jax.jit, static_argnames=("margin", "training"))
def _train(weights: Weights, images, labels, order, offsets, margin: int, training: Training) -> Weights:
    optimizer = optax.adamw(optax.cosine_decay_schedule(training.rate, len(order)), weight_decay=training.decay)
    wide = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="edge")

    def loss(weights, x, y):
        target = jax.nn.one_hot(y, len(weights["logits_bias"]))
        target = optax.smooth_labels(target, training.smoothing)
        return optax.softmax_cross_entropy(network(weights, to_unit(x))[0], target).mean()

    def step(carry, turn):
        weights, memory = carry
        index, offset = turn
        shape = (1, *images.shape[1:])
        x = jax.vmap(lambda i, at: jax.lax.dynamic_slice(wide, (i, at[0], at[1], jnp.int32(0)), shape)[0])(index, offset)
        update, memory = optimizer.update(jax.grad(loss)(weights, x, labels[index]), memory, weights)
        return (jax.tree.map(lambda w, u: w + u.astype(w.dtype), weights, update), memory), None  # float64 where JAX has it

    weights = jax.tree.map(jnp.asarray, weights)
    return jax.lax.scan(step, (weights, optimizer.init(weights)), (order, offsets))[0][0]


def _read(file: Path, key: str) -> Weights | None:
    """The weights in a file of `_write`; None where it is missing, damaged or another's."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        digest = str(arrays.pop("digest"))
    except Exception:  # a damaged zip raises many kinds; whatever it is, the remedy is to train again
        return None
    return arrays if digest == _digest(key, arrays) else None


def _write(file: Path, key: str, weights: Weights) -> None:
    """Atomically: a reader sees a whole file or none."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            whole = Path(folder) / file.name
            np.savez(whole, digest=np.array(_digest(key, weights)), **weights)
            os.replace(whole, file)
    except OSError as error:
        where = f"cannot keep the trained classifier in {file.parent}"
        raise UserError(f"{where}: {error.strerror}; set GAN_JAX_CACHE to a writable folder") from None


def _digest(key: str, weights: Weights) -> str:
    return digest_of(key, *(part for name in sorted(weights) for part in (name, np.asarray(weights[name]))))
