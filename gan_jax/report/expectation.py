"""What a report of these data will be able to tell, before anything is trained."""

from gan_jax.data.splits import Splits
from gan_jax.metrics.discriminator import auc_null_error
from gan_jax.report.controls import CUTS, LEAST, SMALL
from gan_jax.report.copying import LEVEL, limits, tests_of
from gan_jax.report.numbers import CELLS, FEWEST_CELLS, PER_CELL
from gan_jax.report.verdict import GAP

SAMPLES = 2048  # of a run, at least


def expected_features(data: object, image_shape: tuple[int, ...]) -> str:
    """The features of `features="auto"`: pixels of points, the classifier's where there are labels
    and E to train it on, else those of a random network."""
    if len(image_shape) == 1:
        return "pixels"
    labelled = isinstance(data, Splits) and data.classes and data.extractor.labels is not None and len(data.extractor)
    return "classifier" if labelled else "random"


def too_few(data: Splits, n: int | None = None) -> str:
    """Why a run on the first n images of T (all by default) can have no report on V, or ''."""
    n = len(data.train) if n is None else n
    for name, size in (("validation images (V)", len(data.validation)), ("training images (T)", n)):
        if size < LEAST:
            advice = "give more images, or other sizes (split=, --split)"
            return f"no overfitting report: {size} {name} are too few, it takes {LEAST}: {advice}"
    return ""


def expectation(data: Splits, n: int | None = None) -> str:
    """One line: what a report on V of a run on the first n images of T can tell, and what not.

    The figures are those at which the rule of `verdict` can be sure: the share of samples that are
    copies (of 2,048 samples), the AUC of D, and the part of the data whose loss shows.
    Where there are too few images it says so: print it before training.
    """
    n = len(data.train) if n is None else n
    if why := too_few(data, n):
        return why
    held = len(data.validation)
    half = held // 2
    cut = f"each half of {CUTS} cuts in turn, means of all" if held < SMALL else "one half against the other"
    features = expected_features(data, data.image_shape)
    exact, near = limits(SAMPLES, n, held, LEVEL / len(tests_of(features != "pixels", len(data.image_shape) == 3)))
    near_too = f"near ones from {near:.1%}" if near <= 1 else "not near ones"
    auc = 0.5 + max(GAP, 1.96 * auc_null_error(n, held))
    cells = min(max(half // PER_CELL, FEWEST_CELLS), CELLS)
    return (
        f"the overfitting report will hold out V, {held} images, {cut}, in {features} features. It can tell copies of T "
        f"(exact ones from {exact:.1%} of the samples on, {near_too}), D that overfits (AUC from {auc:.2f} on) and, where the "
        f"features show it, the loss of about 1/{cells} of the data; it cannot tell fewer copies, a smaller AUC or the loss of "
        f"less, and distances (FD, KID) of {min(n, half)} images mean something only beside their controls"
    )
