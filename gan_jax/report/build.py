"""From images, or from a trained run, to a report."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from gan_jax.arguments import count, refuse
from gan_jax.core.errors import UserError
from gan_jax.data.imbalance import class_counts
from gan_jax.data.splits import Splits
from gan_jax.metrics import neighbours
from gan_jax.metrics.features import Extractor, check_images, from_function
from gan_jax.metrics.features.classifier import classifier
from gan_jax.metrics.features.fixed import pixels, random
from gan_jax.metrics.labelled import gan_train
from gan_jax.metrics.likelihood import mixture_report
from gan_jax.metrics.memorization import share_interval
from gan_jax.metrics.order import content_order
from gan_jax.report.controls import CUTS, REAL, sets_of
from gan_jax.report.copying import Copying
from gan_jax.report.expectation import SAMPLES, expected_features
from gan_jax.report.logit_numbers import discriminator_numbers
from gan_jax.report.metric_specs import METRIC_SPECS
from gan_jax.report.number import VERSION, Number, numbers_of
from gan_jax.report.numbers import Measured, References, around, share_error
from gan_jax.report.report import Report
from gan_jax.report.runs import measure_run, openings, record_opening, samples_of
from gan_jax.report.verdict import collapse, decide
from gan_jax.training.run import Run

Data = Splits | Sequence[ArrayLike]
Features = str | Extractor | Callable[[Any], Any]

USEFUL = 1 / 3  # of the way from chance to 1: with less accuracy a classifier's features are not taken unasked
SHOWN = 64  # samples in the evidence
PAIRS = 20  # closest pairs in the evidence
NOT_MEASURED = {
    10: "no discriminator, no likelihood: give logits={'train': ..., 'held_out': ..., 'samples': ...}",
    11: "not asked for: recovery=256 (slow)",
    12: "the samples have no labels, and the data no known law",
}


def overfitting_report(
    fakes: Run | ArrayLike,
    data: Data | None = None,
    *,
    final: bool = False,
    features: Features = "auto",
    logits: Mapping[str, ArrayLike] | None = None,
    labels: ArrayLike | None = None,
    n: int | None = None,
    recovery: int = 0,
    permutations: int = 0,
    seed: int = 0,
    references: References | None = None,
) -> Report:
    """Does it overfit? Twelve rows of numbers, each beside its controls, and a verdict.

    T are the training images, V is the validation split and S the test split.

    fakes: a `Run`, or the samples of any GAN: uint8 [n, h, w, c] (points: float32 [n, d]).
    data: the Splits of `gan.load`, or two arrays (training images, held-out images). A Run brings
        its own. Arrays may be in any order: the same ones give the same report.
    final: open S. Without it one half of V is held out, and the other is the real control (of few
        images both in turn, over several cuts): use that to choose, to stop and to rank, and open S
        once, for what you chose. The folder of a run records each opening.
    features: "auto" (the classifier, a small network trained on the split E, where the data have
        labels and it is right often enough, "random" where not, coordinates for points),
        "classifier", "random", "pixels", an Extractor (such as
        `gan.metrics.features.inception(weights)`), or a function of images.
    logits: of the GAN's discriminator for {"train", "held_out", "samples"}: [n] each. A Run brings
        its own.
    labels: [n] of the samples, where they have some: a classifier trained on them is tested on
        held-out images. A conditional Run makes its samples for them, by default for labels with
        the shares of T.
    n: images of each set in rows 1 to 5 and 9 (`metric_specs.ROWS` names the rows); by default as
        many as T, the held-out set and the control all have.
    recovery: images of T, and held-out ones, whose latents are searched for (Run only; 0: none).
    permutations: of T and held-out images, for the p of the gap in Frechet distance (0: none; 200
        take a second or two).
    references: of `references_of`, to be shared by reports of the same data. They replace data,
        final, features and n.

    Raises UserError for images that are not such, too few of them, or a run that has neither a
    discriminator nor a likelihood.
    """
    run = fakes if isinstance(fakes, Run) else None
    data = run.data if run is not None and data is None else data
    if references is None:
        if data is None:
            raise UserError("samples alone say nothing of overfitting: give data=, the Splits or (training, held-out) images")
        references = references_of(data, final=final, features=features, n=n, seed=seed)
    sets = references.sets
    if run is not None and (why := diverged(run)):
        found = decide({}, diverged=why)
        return Report(found, {}, _about(references, run, 0), _protocol(references, run, 0), {"history": run.history})
    if sets.held_out_name == "S" and run is not None:
        record_opening(run.folder, step=run.step)
    images, labels = _samples(fakes, labels, references)
    copying = references.pool.search(images)
    measured, real_extra = references.measure(images) | copying.numbers, {}
    evidence: dict[str, Any] = {"history": run.history if run else []}
    if run is not None:
        extra, real_extra, evidence["logits"] = measure_run(run, references, recovery)
        measured |= extra
    elif logits is not None:
        logits = _sorted(logits)
        measured |= discriminator_numbers(logits)
        evidence["logits"] = {k.replace("_", " "): v for k, v in logits.items()}
    if permutations := count(permutations, "permutations", 0):
        measured["fd_gap_p"] = references.gap_p(images, permutations)
    of_samples, of_real = _useful(references, images, labels)
    measured |= _truth(references, images) | of_samples
    controls = references.controls | {REAL: references.controls[REAL] | real_extra | of_real}
    protocol = _protocol(references, run, len(images))
    with_train = {"train": len(sets.train), "train_hash": sets.train.hash}
    numbers = numbers_of(measured, controls, sets.held_out_name, protocol, with_train)
    missing = {row: why for row, why in NOT_MEASURED.items() if row not in {METRIC_SPECS[key].row for key in measured}}
    evidence |= _evidence(references, images, numbers, copying)
    about = _about(references, run, len(images))
    collapsed = collapse(references.extractor(images), references.held_out)
    judged = decide(numbers, copying.finding, collapsed=collapsed)
    no_control = run is not None and sets.splits is not None and not len(sets.splits.extractor)
    notes = ("the split E is empty: row 10 has no control of real data",) if no_control else ()
    return Report(judged, numbers, about, protocol, evidence, missing, (*references.notes, *notes, copying.note))


def _sorted(logits: Any) -> dict[str, np.ndarray]:
    if not isinstance(logits, Mapping) or not {"train", "held_out", "samples"} <= set(logits):
        refuse(logits, "logits", "{'train': [n], 'held_out': [n], 'samples': [n]}")
    return {name: np.sort(np.ravel(np.asarray(values, np.float64))) for name, values in logits.items()}


def _samples(fakes: Run | ArrayLike, labels: ArrayLike | None, references: References) -> tuple[np.ndarray, np.ndarray | None]:
    """The images to judge, with their labels: a run's for labels with the shares of T, an array's
    in an order that depends on the images alone."""
    if isinstance(fakes, Run) and labels is None:
        return samples_of(fakes, max(references.n, SAMPLES), references.sets.train)
    if isinstance(fakes, Run):
        return fakes.samples(len(np.asarray(labels)), labels=labels), np.asarray(labels)
    images = check_images(fakes, "generated images")
    if labels is not None and np.shape(labels) != (len(images),):
        raise UserError(f"{len(images)} generated images and labels {list(np.shape(labels))}: give one each")
    order = content_order(images, labels, references.seed)
    return images[order], None if labels is None else np.asarray(labels)[order]


def references_of(
    data: Data, *, final: bool = False, features: Features = "auto", n: int | None = None, seed: int = 0
) -> References:
    """What samples are compared with, to be shared by the reports of many runs. The arguments are
    those of `overfitting_report`."""
    sets = sets_of(data, final, seed)
    extractor, notes = _chosen(features, data, sets.train.images.shape[1:])
    if sets.folds:
        notes = (
            *notes,
            f"few images: {sets.held_out_name} is cut in halves {CUTS} times, each half is held out in turn, means are shown",
        )
    return References(sets, extractor, n=n, seed=seed, notes=notes)


def extractor_of(features: Features, data: Data, image_shape: tuple[int, ...]) -> Extractor:
    """The extractor that `features` names. Raises UserError for an unknown name, or one that does
    not fit the data."""
    return _chosen(features, data, image_shape)[0]


def _chosen(features: Features, data: Data, image_shape: tuple[int, ...]) -> tuple[Extractor, tuple[str, ...]]:
    """The extractor that `features` names, and what the reader must know of the choice."""
    if isinstance(features, Extractor):
        return features, ()
    if callable(features):
        return from_function(features, image_shape), ()
    if features == "classifier" or (features == "auto" and expected_features(data, image_shape) == "classifier"):
        if not isinstance(data, Splits) or not len(data.extractor):
            raise UserError("the classifier's features are trained on the split E of gan.load: use features='random'")
        found = classifier(data)
        chance = float(class_counts(data.validation.labels, data.classes).max() / len(data.validation))
        if (accuracy := found.settings["accuracy"]) >= chance + USEFUL * (1 - chance):
            return found, ()
        poor = f"the classifier trained on E is right on {accuracy:.0%} of V, where the largest class has {chance:.0%}"
        return (found, (poor,)) if features == "classifier" else (random(image_shape), (f"{poor}: random features instead",))
    without = isinstance(data, Splits) and data.classes and len(image_shape) > 1 and features == "auto"
    notes = ("the split E, on which a classifier is trained, is empty: random features instead",) if without else ()
    features = expected_features(data, image_shape) if features == "auto" else features
    if features in ("random", "pixels"):
        return {"random": random, "pixels": pixels}[features](image_shape), notes
    raise UserError(f"unknown features {features!r}: use auto, classifier, random, pixels, an Extractor or a function")


def diverged(run: Run) -> str | None:
    """Why a run counts as diverged, or None."""
    if run.stopped and run.stopped.startswith("not finite"):
        return run.stopped
    finite = jax.tree.map(lambda x: bool(np.isfinite(np.asarray(x)).all()), run.state.ema)
    return None if all(jax.tree.leaves(finite)) else f"the parameters are not finite at step {run.step}"


def _protocol(references: References, run: Run | None, samples: int) -> dict[str, Any]:
    """What every number depends on."""
    sets, extractor = references.sets, references.extractor
    return {
        "version": VERSION, "features": extractor.name, "extractor": extractor.digest, **dict(extractor.settings),
        "dtype": "float64", "n": references.n, "samples": samples, "k": references.k, "near_copy_rate": references.rate,
        "held_out": sets.held_out_name, "held_out_hash": sets.held_out.hash, "control_hash": sets.control.hash,
        "seed": references.seed, "ema": run is not None,
    } | ({"folds": len(sets.folds)} if sets.folds else {})  # fmt: skip


def _about(references: References, run: Run | None, samples: int) -> dict[str, Any]:
    """What the report is about, for its reader."""
    sets = references.sets
    source = (sets.splits.source if sets.splits else None) or {}
    about: dict[str, Any] = {
        "data": sets.splits.name if sets.splits else "two arrays",
        **({"held-out data": source["held_out"]} if "held_out" in source else {}), "training images": len(sets.train),
        f"held-out images ({sets.held_out_name})": len(sets.held_out), "control images": len(sets.control),
        "samples": samples, "features": references.extractor.name,
    }  # fmt: skip
    if run is None:
        return about
    opened = openings(run.folder)
    return {"run": str(run.folder or "in memory"), "step": run.step, "seed": run.seed, "openings": opened} | about


def _truth(references: References, images: np.ndarray) -> dict[str, Measured]:
    """Row 12 on toys whose distribution is known."""
    density = references.sets.splits.density if references.sets.splits else None
    if density is None:
        return {}
    found = mixture_report(images, density)
    return {
        "truth_log_density": Measured(found["log_likelihood"]),
        "truth_modes": Measured(found["modes"]),
        "truth_high_quality": Measured(found["high_quality"], *share_interval(found["high_quality"], len(images))),
        "truth_reverse_kl": Measured(found["reverse_kl"]),
    }


def _useful(
    references: References, images: np.ndarray, labels: ArrayLike | None
) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Row 12 where the samples have labels: of a classifier trained on them, and of one trained on
    T."""
    if labels is None:
        return {}, {}
    splits = references.sets.splits
    if splits is None or references.sets.held_out.labels is None:
        raise UserError("labels of samples are tested on labelled held-out images: give the Splits of labelled data")
    found = gan_train(images, np.asarray(labels), splits, references.sets.held_out)
    spread = lambda share: {"gan_train": around(share, share_error(share, found["tested"]))}
    return spread(found["accuracy"]), spread(found["reference"])


def _evidence(references: References, images: np.ndarray, numbers: Mapping[str, Number], copying: Copying) -> dict[str, Any]:
    """Arrays for the pictures."""
    distance, index = neighbours.nearest(references.extractor(images), references.train)
    scores = {"samples": numbers} | references.controls
    found = {
        "distances": {"samples": distance} | references.distances,
        "threshold": references.copying.threshold,
        "samples": images[:SHOWN],
        "scatter": [
            {"name": name, "kind": "samples" if name == "samples" else "control"}
            | {"quality": score["fd"].value, "near_copies": score["near_copies"].value}
            for name, score in scores.items()
        ],
    }
    if images.ndim == 4:
        found["pairs"] = {"copies": _copies(references, images, copying)} if len(copying.samples) else {}
        found["pairs"] |= {"features": _pairs(references, images, distance, index)}
        if references.extractor.digest != references.pixels.digest:
            nearest = neighbours.nearest(references.pixels(images), references.copying_pixels.train)
            found["pairs"]["pixels"] = _pairs(references, images, *nearest)
    return found


def _copies(references: References, images: np.ndarray, copying: Copying) -> tuple:
    """The clearest copies of different training images: (samples, training images, ranks)."""
    order = np.sort(np.unique(copying.images, return_index=True)[1])[:PAIRS]
    samples, originals = images[copying.samples[order]], references.pool.images[copying.images[order]]
    return samples, originals, np.arange(1.0, len(order) + 1)


def _pairs(references: References, images: np.ndarray, distance: np.ndarray, index: np.ndarray) -> tuple:
    """The closest samples of different training images: (samples, training images, distances)."""
    order = np.argsort(distance, kind="stable")
    order = order[np.sort(np.unique(index[order], return_index=True)[1])][:PAIRS]
    return images[order], references.sets.train.images[index[order]], distance[order]
