"""How good are generated images to a classifier, and how good is a classifier to them? Scores that
need labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.data.splits import Split, Splits
from gan_jax.metrics.features.classifier import DEFAULT, Training, Weights, labelled, predict, train
from gan_jax.metrics.features.extractor import check_images


def inception_score(logits: ArrayLike, splits: int = 1, seed: int | None = None) -> tuple[float, float]:
    """exp(mean_i KL(p(y | x_i) || mean_i p(y | x_i))) (Salimans et al., 2016), (mean, standard
    deviation) over `splits`.

    logits [n, c] of generated images by any classifier (`features.classifier_logits`); p is their
    softmax, in float64. The images are cut into `splits` consecutive parts, shuffled first by PCG64
    of `seed` where one is given; the deviation is that of the parts (ddof 0), not a standard error.
    Published figures use 50,000 images in 10 parts, shuffled or not.

    In [1, c]: 1 where every image gets the same prediction, c where predictions are certain and
    classes equally frequent. Independent real data score less than c: print their score beside it.
    Blind to copies, and to how images differ within a class; rises with n. Cost: nothing. Raises
    UserError for logits that are not finite [n, c], or fewer than `splits`.
    """
    logits = np.asarray(logits, np.float64)
    if logits.ndim != 2 or not 1 <= splits <= len(logits) or not logits.shape[1]:
        raise UserError(f"inception_score wants logits [n, c] with n >= splits = {splits} >= 1, not {list(logits.shape)}")
    if not np.isfinite(logits).all():
        raise UserError(f"inception_score: logits of image {int(np.argmin(np.isfinite(logits).all(1)))} are not finite")
    if seed is not None:
        logits = logits[np.random.Generator(np.random.PCG64(seed)).permutation(len(logits))]
    edges = [i * len(logits) // splits for i in range(splits + 1)]
    scores = [_score(logits[first:last]) for first, last in zip(edges, edges[1:], strict=False)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(logits: np.ndarray) -> float:
    from scipy.special import rel_entr, softmax

    shares = softmax(logits, 1)
    return float(np.exp(rel_entr(shares, shares.mean(0)).sum(1).mean()))


def real_classifier(data: Splits, n: int, training: Training = DEFAULT) -> Weights:
    """The reference of `gan_train` and `gan_test`: trained on the first n images of T (all of them,
    if there are fewer)."""
    images, labels = labelled(data.train, data, "gan_train and gan_test", advise=False)
    return train(images[:n], labels[:n], data.classes, training)


def gan_train(
    images: np.ndarray,
    labels: np.ndarray,
    data: Splits,
    held_out: Split,
    training: Training = DEFAULT,
    real: Weights | None = None,
) -> dict[str, Any]:
    """The accuracy on held-out real images of a classifier trained on generated ones, and that of
    one trained on real ones.

    GAN-train (Shmelkov et al., 2018), the classification accuracy score of Ravuri & Vinyals (2019).
    images uint8 [n, h, w, c] with the labels [n] that they were generated for; the network and its
    training are those of `features.classifier`. {"accuracy", "reference", "n", "n_reference",
    "tested"}: accuracies in [0, 1], from n generated images and from the first n of T (fewer if T
    is smaller), on len(held_out) images; a standard error of either is sqrt(a (1 - a) / tested),
    beside which training seeds spread as much again.

    The null: independent real data reach the reference, unrelated labels chance, 1 / classes. Low
    where images are bad, or missing, or under the wrong label. Copies of T reach the reference as
    well: it says nothing of overfitting.
    Cost: two trainings (`features.classifier` has the figures), one where `real`, of
        `real_classifier`, is given.
    Raises UserError for data without labels or of points, or where images and labels do not fit.
    """
    images, labels = _generated(images, labels, data)
    tested = labelled(held_out, data, "gan_train and gan_test", advise=False)
    real = real_classifier(data, len(images), training) if real is None else real
    made = train(images, labels, data.classes, training)
    return _found(_accuracy(made, *tested), _accuracy(real, *tested), images, data, held_out)


def gan_test(
    images: np.ndarray,
    labels: np.ndarray,
    data: Splits,
    held_out: Split,
    training: Training = DEFAULT,
    real: Weights | None = None,
) -> dict[str, Any]:
    """The accuracy on generated images of a classifier trained on real ones, and its accuracy on
    held-out real ones.

    GAN-test (Shmelkov et al., 2018): arguments, result and errors as for `gan_train`, with the
    roles swapped. Low where images do not look like their label. Above the reference where they are
    easier than real ones: copies of T (1, where the classifier fits T), or the typical examples of
    a generator that leaves out the rest. Blind to missing ones.
    Cost: one training, none where `real` is given.
    """
    images, labels = _generated(images, labels, data)
    tested = labelled(held_out, data, "gan_train and gan_test", advise=False)
    real = real_classifier(data, len(images), training) if real is None else real
    return _found(_accuracy(real, images, labels), _accuracy(real, *tested), images, data, held_out)


def _generated(images: Any, labels: Any, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    labelled(data.train, data, "gan_train and gan_test", advise=False)
    images, labels = check_images(images, "generated images"), np.asarray(labels)
    if images.shape[1:] != data.image_shape:
        raise UserError(f"generated images {list(images.shape[1:])} are not of {data.name}, {list(data.image_shape)}")
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{len(images)} generated images and labels {labels.dtype} {list(labels.shape)}: give an integer each")
    if labels.min() < 0 or labels.max() >= data.classes:
        ends = f"{labels.min()} to {labels.max()}"
        raise UserError(f"labels of generated images lie in {ends}: expected 0 to {data.classes - 1}")
    return images, labels


def _accuracy(weights: Weights, images: np.ndarray, labels: np.ndarray) -> float:
    return float((predict(weights, images) == labels).mean())


def _found(accuracy: float, reference: float, images: np.ndarray, data: Splits, held_out: Split) -> dict[str, Any]:
    n = len(images)
    sizes = {"n": n, "n_reference": min(n, len(data.train)), "tested": len(held_out)}
    return {"accuracy": accuracy, "reference": reference} | sizes
