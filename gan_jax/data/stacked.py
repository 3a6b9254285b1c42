"""Stacked digits (Metz et al., 2017): three random digits in one image's channels, 1,000 modes.

A stack of the digits r, g and b has the label 100 r + 10 g + b. Each split holds stacks of its own
digits alone, so that no training image (T) is inside a validation (V), test (S) or extractor (E)
stack.
"""

from dataclasses import replace

import numpy as np

from gan_jax.arguments import count
from gan_jax.core.errors import UserError
from gan_jax.data.splits import NAMES, Split, Splits, seed_sequence

SINGLES = {"stacked_digits": "digits", "stacked_mnist": "mnist", "stacked_fashion_mnist": "fashion_mnist"}


def stack(singles: Split, n: int, seed: int, classes: int = 10, purpose: str = "stack") -> Split:
    """n stacks uint8 [n, h, w, 3] of grey images, each channel drawn from all of them. The first m
    stacks are `stack(..., m, ...)`.

    classes: of the grey images; labels r, g and b make (r * classes + g) * classes + b
    purpose: names the random numbers; another purpose gives other stacks of the same seed

    Raises UserError for images that are not grey or have no labels.
    """
    images, labels, n = singles.images, singles.labels, count(n, "n", least=1)
    if images.ndim != 4 or images.shape[3] != 1 or labels is None:
        raise UserError(f"stacks are made of labelled grey images, not of shape {images.shape[1:]}")
    bits = np.random.PCG64(seed_sequence(seed, purpose)).random_raw((n, 3))
    drawn = (bits % np.uint64(len(images))).astype(np.intp)
    stacks = np.empty((n, *images.shape[1:3], 3), np.uint8)
    for channel in range(3):
        stacks[..., channel] = images[drawn[:, channel], ..., 0]
    r, g, b = labels[drawn].T
    return Split(stacks, (r * classes + g) * classes + b)


def stacked_splits(name: str, singles: Splits) -> Splits:
    """128,000 training stacks, as in PacGAN's code (Lin et al., 2018), and 10,000 in each other
    split, by the seed of `singles`."""
    sizes, classes = dict.fromkeys(NAMES, 10_000) | {"train": 128_000}, singles.classes
    parts = {part: stack(getattr(singles, part), sizes[part], singles.seed, classes, f"{name} {part}") for part in NAMES}
    digits = [str(i) for i in range(classes)]
    names = tuple(r + g + b for r in digits for g in digits for b in digits)
    return replace(singles, name=name, class_names=names, **parts)


def singles(data: Splits) -> Splits:
    """The different grey images inside each split's stacks, with their own labels.

    A classifier of channels learns from them: `classify = classifier_logits(singles(data))`, for
    `metrics.modes.stacked`. Raises UserError for data that are no stacks.
    """
    classes = round(data.classes ** (1 / 3))
    if data.image_shape[2:] != (3,) or classes < 2 or classes**3 != data.classes:
        raise UserError(f"{data.name}: not stacked: it has {data.classes} classes of examples {data.image_shape}")
    parts = {part: _apart(getattr(data, part), classes) for part in NAMES}
    return replace(data, name=f"{data.name} singles", class_names=tuple(str(i) for i in range(classes)), source=None, **parts)


def _apart(stacks: Split, classes: int) -> Split:
    images, label = channels(stacks.images), stacks.labels
    assert label is not None
    labels = np.concatenate([label // classes**2, label // classes % classes, label % classes])
    first = {image.tobytes(): i for i, image in enumerate(images)}  # of equal images the last
    keep = np.fromiter(first.values(), np.intp)
    return Split(images[keep], labels[keep])


def channels(images: np.ndarray) -> np.ndarray:
    """[n, h, w, c] -> grey images [c * n, h, w, 1]: all first channels, then all second, ..."""
    return np.moveaxis(images, -1, 0).reshape(-1, *images.shape[1:3], 1)
