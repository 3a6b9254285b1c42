"""Scores that need labels: how well a classifier does on generated images, or learns from them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import Split, Splits
from gan_jax.metrics.checks import first_not_finite
from gan_jax.metrics.features.classifier import DEFAULT, Training, Weights, labelled, predict, train
from gan_jax.metrics.features.extractor import check_images

WHAT = "gan_train and gan_test"


def inception_score(logits: ArrayLike, splits: int = 1, seed: int | None = None) -> tuple[float, float]:
    """Mean and standard deviation over `splits` of exp(mean_i KL(p(y | x_i) || mean_i p(y | x_i))).

    logits [n, c]: of generated images by any classifier (`features.classifier_logits`); p is their
    softmax, in float64 (Salimans et al., 2016). The images are cut into `splits` consecutive parts,
    after a shuffle by `seed` where one is given. Published figures use 50,000 images in 10 parts.

    In [1, c]: 1 where all predictions are alike, c where they are certain and classes equally
    frequent. Real data score less than c: print their score beside it. The score is blind to copies
    and rises with n.
    Raises UserError for logits that are not finite [n, c], or fewer than `splits`.
    """
    from scipy.special import rel_entr, softmax

    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not 1 <= splits <= len(logits) or not logits.shape[1]:
        raise UserError(f"inception_score wants logits [n, c] with n >= splits = {splits} >= 1, not {list(logits.shape)}")
    if (bad := first_not_finite(logits)) is not None:
        raise UserError(f"inception_score: logits of image {bad} are not finite")
    if seed is not None:
        logits = logits[np.random.Generator(np.random.PCG64(seed)).permutation(len(logits))]
    scores = []
    for part in np.split(logits, [i * len(logits) // splits for i in range(1, splits)]):
        shares = softmax(part, 1)
        scores.append(np.exp(rel_entr(shares, shares.mean(0)).sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


def real_classifier(data: Splits, n: int, training: Training = DEFAULT) -> Weights:
    """The reference of `gan_train` and `gan_test`: trained on at most the first n images of T."""
    images, labels = labelled(data.train, data, WHAT, advise=False)
    return train(images[:n], labels[:n], data.classes, training)


def gan_train(
    images: np.ndarray,
    labels: np.ndarray,
    data: Splits,
    held_out: Split,
    training: Training = DEFAULT,
    real: Weights | None = None,
) -> dict[str, Any]:
    """GAN-train: the accuracy on held-out images of a classifier trained on generated ones.

    Shmelkov et al. (2018); the classification accuracy score of Ravuri & Vinyals (2019). images:
    uint8 [n, h, w, c], with the labels [n] that they were generated for. The classifier is that of
    `features.classifier`. real: the result of `real_classifier`, which is called by default.

    Returns {"accuracy", "reference", "n", "n_reference", "tested"}: accuracies in [0, 1] on
    `tested` held-out images after training on the n images, and on the first n_reference of T, the
    training split. Their standard error is sqrt(a (1 - a) / tested); training seeds add as much.
    Real data reach the reference, and so do copies of T; unrelated labels reach 1 / classes. Raises
    UserError for data without labels or of points, or where images and labels do not fit.
    """
    return _scores(True, images, labels, data, held_out, training, real)


def gan_test(
    images: np.ndarray,
    labels: np.ndarray,
    data: Splits,
    held_out: Split,
    training: Training = DEFAULT,
    real: Weights | None = None,
) -> dict[str, Any]:
    """GAN-test: the accuracy on generated images of a classifier trained on real ones.

    Arguments, result and errors are those of `gan_train`. The score is above the reference where
    images are easier than real ones: copies of T, or only typical examples.
    """
    return _scores(False, images, labels, data, held_out, training, real)


def _scores(
    on_generated: bool, images: Any, labels: Any, data: Splits, held_out: Split, training: Training, real: Weights | None
) -> dict[str, Any]:
    """The row of `gan_train` (a classifier is trained on the generated images) or of `gan_test`."""
    labelled(data.train, data, WHAT, advise=False)
    images, labels = check_generated(images, labels, data)
    tested = labelled(held_out, data, WHAT, advise=False)
    n = len(images)
    real = real_classifier(data, n, training) if real is None else real
    if on_generated:
        accuracy = _accuracy(train(images, labels, data.classes, training), *tested)
    else:
        accuracy = _accuracy(real, images, labels)
    sizes = {"n": n, "n_reference": min(n, len(data.train)), "tested": len(held_out)}
    return {"accuracy": accuracy, "reference": _accuracy(real, *tested)} | sizes


def check_generated(images: Any, labels: Any, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Samples and labels as arrays. Raises UserError where they do not fit each other or `data`."""
    images, labels = check_images(images, "generated images"), np.asarray(labels)
    if images.shape[1:] != data.image_shape:
        raise UserError(f"generated images {list(images.shape[1:])} are not of {data.name}, {list(data.image_shape)}")
    if labels.shape != (len(images),):
        raise UserError(f"{len(images)} generated images and labels {list(labels.shape)}: give one each")
    class_counts(labels, data.classes)  # refuses what is no label
    return images, labels


def _accuracy(weights: Weights, images: np.ndarray, labels: np.ndarray) -> float:
    return float((predict(weights, images) == labels).mean())
