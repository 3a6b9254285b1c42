"""Which remedies help the rare classes?

    # digits, ratio 10; 10 settings, 5 seeds
    python experiments/class_imbalance.py
    python experiments/class_imbalance.py --data mnist --size 16 --subset 10000 --ratio 100 \\
        --steps 3000 --final
    python experiments/class_imbalance.py --data mnist --size 16 --ratio 50 --kind step

The training images T are made long-tailed (`data.imbalanced`); the validation images V, the test
images S and the extractor images E stay balanced. A conditional DCGAN trains on T without and with
each remedy. All remedies were named before any was tried:

    balanced_reals     reals are drawn so that all classes come equally often; generated labels
                       follow the reals' (`sampling.class_balanced`)
    balanced_labels    generated labels alone are balanced (`latents.balanced_labels`)
    rare_noise         latents are up to twice as wide, the rarer the class (the article's first
                       proposal)
    inverse_weights    both players' losses are weighted by inverse class frequency (the article's
                       second proposal)
    effective_weights  the same weights by effective numbers, beta .99 (Cui et al., 2019)
    label_noise        noise on class embeddings, the more the rarer the class (as in NoisyTwins,
                       Rangwani et al., 2023, without their twins)
    auxiliary          D classifies as well (ACGAN) and sees no label: the part of class_balance
                       that D needs, alone
    class_balance      auxiliary with balanced generated labels and the regulariser of Rangwani et
                       al. (2021)
    drs                the GAN without a remedy, but only those of its samples that D accepts
                       (discriminator rejection sampling, Azadi et al., 2019)

Three numbers are measured for each class, and for the rare third of the classes: coverage of
held-out images and Frechet distance, both in a classifier's features, and near-copies of training
images by pixels. Usefulness is measured as well: every class is filled up with samples to the size
of the largest class, and a logistic regression is trained on real and generated images and tested
on held-out images. Beside it stand four ways that need no GAN: T as it is, oversampling, class
weights and SMOTE. Two questions are tested, each with paired t-tests and Holm's correction over the
remedies: is the rare third's coverage higher than with none, and is the classifier's balanced
accuracy higher? Both are answered on V. The choice is the first remedy that is shown better in the
second question; `--final` opens S, once, for the choice and for none. If no remedy is shown better,
S stays closed.

Cost (one CPU core, Python 3.12.1, jax 0.12.0.1): the first command 4 min 20 s, the second 12
minutes.

Finding (five seeds, on V). Digits, 429 images (106 to 10 a class; Python 3.11.7, jax 0.10.2): no
remedy is shown to raise the rare third's coverage (.60 +- .08 with none) or the classifier's
balanced accuracy (.942 +- .010); auxiliary and class_balance lower the coverage (.33 and .14, p
.006 and .001). Near-copies are 9 % of the samples of the most frequent class with none, and of the
rarest class 8 % with inverse_weights and 3 % with balanced_reals. The same command with Python
3.12.1 and jax 0.12.0.1 had 16 % with effective_weights and 8 % with balanced_reals there, and
class_balance alone worse: five seeds do not settle which remedy makes a GAN copy the rarest class.

MNIST, 2,444 images (987 to 9 a class): coverage of the rare third, .017 +- .006 with none, is
raised by balanced_reals (.038, p .036), at the price of copying (12.5 % of the rare third's samples
are near-copies, 21 % of the rarest class's), and by effective_weights (.029, p .003), without
copying; auxiliary and class_balance lower the coverage (p .009, .013) and the accuracy (p .018,
.044). No remedy is shown to raise balanced accuracy (.779 +- .007 with none).

A GAN does not pay here: without a GAN the same classifier reaches .960 (digits) and .836 (MNIST) by
class weights, .959 and .823 by SMOTE, .938 and .767 by nothing. S stayed closed.
"""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from class_imbalance_report import BASELINE, NOTE, OTHERS, QUESTIONS, figure_of, ranked, report, without_text

from gan_jax.cli.options import ComparisonOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Positive, Seed, Weight
from gan_jax.core.errors import UserError
from gan_jax.tables import to_csv

if TYPE_CHECKING:
    from gan_jax.sweeps.result import Sweep

DRS, SAMPLE_SEED = "drs", 0


@dataclass
class Options(ComparisonOptions):
    """Make classes rare, train with and without each remedy, and see what the rare classes gain."""

    ratio: Positive = 10.0
    """Images of the most frequent class over those of the rarest."""
    kind: Literal["long_tailed", "step"] = "long_tailed"
    """Frequencies fall exponentially, or are those of a frequent and a rare half."""
    class_seed: Seed | None = None
    """Seed of which classes are frequent; in the order of their numbers when left out."""
    beta: Weight = 0.99
    """Of effective numbers."""
    noise: Weight = 1.0
    """rare_noise: by how much wider the rarest class's latents are."""
    sigma: Weight = 0.75
    """label_noise: of a class with one image, in units of the embedding."""
    balance: Weight = 1.0
    """class_balance: weight of the regulariser."""
    pool: Count = 5
    """drs: samples drawn for one that is taken."""
    subset: Count | None = None
    """Make the first N images of a seeded, stratified order imbalanced; all when left out."""
    out: Path = Path("runs/class_imbalance")
    """The sweep folder."""
    steps: Count = 2000
    """Training steps: updates of the generator."""
    batch_size: Count = 32
    """Images per discriminator turn."""
    rank_by: str = "G/validation_fd"
    """Metric of the pictures of training."""

    def load(self) -> Any:
        """The data with an imbalanced T."""
        from gan_jax.data import imbalanced

        return imbalanced(super().load(), self.ratio, self.kind, order=self.class_seed)


def remedies(options: Options, data: Any) -> dict[str, Any]:
    """{setting: recipe} of what is trained, none first. Raises UserError for what is no labelled
    image."""
    import gan_jax as gan
    from gan_jax import latents, losses, sampling
    from gan_jax.networks.label_noise import with_label_noise

    if len(data.image_shape) != 3:
        raise UserError(f"these remedies are of images, not of rows {data.image_shape}: use --data digits or other images")
    counts = gan.data.class_counts(data.train.labels, data.classes)
    sizes: dict[str, Any] = {"width": options.width, "batch_size": options.batch_size, "classes": data.classes}
    plain = gan.recipes.dcgan(data.image_shape, **sizes)
    dimension = plain.latent.options["dimension"]
    with_classes = gan.recipes.dcgan(data.image_shape, conditioning="auxiliary", loss="auxiliary_classifier", **sizes)
    balanced = gan.bind(latents.balanced_labels, counts=counts, strength=1.0)
    weighted = lambda beta: plain.replace(loss=losses.class_weighted(plain.loss, counts, beta=beta))
    regulariser: dict[str, Any] = {"weight": options.balance, "counts": counts, "beta": options.beta}
    known = {
        BASELINE: plain,
        "balanced_reals": plain.replace(sampling=gan.bind(sampling.class_balanced, strength=1.0, classes=data.classes)),
        "balanced_labels": plain.replace(fake_labels=balanced),
        "rare_noise": plain.replace(
            latent=gan.bind(latents.rare_noise, dimension=dimension, counts=counts, strength=options.noise)
        ),
        "inverse_weights": weighted(1.0),
        "effective_weights": weighted(options.beta),
        "label_noise": plain.replace(
            generator=with_label_noise(plain.generator, counts, sigma=options.sigma, beta=options.beta)
        ),
        "auxiliary": with_classes,
        "class_balance": gan.recipes.with_penalty(
            with_classes.replace(fake_labels=balanced), "class_balance", "generator", **regulariser
        ),
    }
    return options.choose(known)


# ---- what is measured --------------------------------------------------------------------------

Judge = Callable[[np.ndarray, np.ndarray], tuple[dict[str, float], Any]]  # images, labels -> numbers, a row for each class


def judge_of(data: Any, held_out: Any) -> Judge:
    """What is said of samples: {number: value} of all, and the table of the classes."""
    from gan_jax.data import class_counts
    from gan_jax.data.imbalance import thirds
    from gan_jax.metrics import per_class as measured
    from gan_jax.metrics.features import classifier

    extractor, rare = classifier(data), thirds(class_counts(data.train.labels, data.classes))[2]

    def judge(images: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], Any]:
        table = measured.per_class(images, labels, data, held_out, extractor)
        useful = measured.usefulness(*measured.filled(data, images, labels), held_out, data.classes)
        table["recall"] = useful["recalls"]
        numbers = measured.mean_over(table)
        numbers |= {f"rare_{name}": value for name, value in measured.mean_over(table, rare).items()}
        numbers |= {"balanced_accuracy": useful["balanced_accuracy"], "rare_recall": float(np.nanmean(useful["recalls"][rare]))}
        return numbers, table

    return judge


def wanted_labels(data: Any, held_out: Any) -> np.ndarray:
    """Equally many of each class: enough to fill up the rarest and to cover held-out images."""
    from gan_jax.data import class_counts

    most = max(class_counts(split.labels, data.classes).max() for split in (data.train, held_out))
    return np.repeat(np.arange(data.classes), most)


def measure(options: Options, swept: Sweep, held_out: Any, settings: Sequence[str]) -> tuple[Any, Any]:
    """(a row for each setting and seed, a row for each of those and class) of samples judged by
    held-out images."""
    import pandas as pd

    from gan_jax.report.rejection import rejection_samples

    judge, labels = judge_of(swept.data, held_out), wanted_labels(swept.data, held_out)
    rows, classes = [], []
    for setting in settings:
        for seed in sorted({member.seed for member in swept.members}):
            trained = swept.run(BASELINE if setting == DRS else setting, seed)
            about = {"setting": setting, "seed": seed, "n": len(swept.data.train), "step": 0, "diverged": bool(trained.stopped)}
            if trained.stopped:
                rows.append(about | dict.fromkeys((*QUESTIONS, *OTHERS), math.nan))
                continue
            if setting == DRS:
                images = rejection_samples(trained, labels, pool=options.pool, seed=SAMPLE_SEED)
            else:
                images = trained.samples(len(labels), labels=labels, seed=SAMPLE_SEED)
            numbers, table = judge(images, labels)
            rows.append(about | numbers)
            classes.append(table.assign(setting=setting, seed=seed))
    return pd.DataFrame(rows), pd.concat(classes) if classes else pd.DataFrame()


# ---- what is chosen ----------------------------------------------------------------------------


def choice(table: Any) -> str | None:
    """The first setting, by balanced accuracy, that is shown better than none; None where there is
    none."""
    rows = ranked(table, "balanced_accuracy").to_dict("records")
    return next((row["setting"] for row in rows if row["verdict"].startswith("better")), None)


def conclusion(options: Options, swept: Sweep, table: Any, counts: np.ndarray) -> str:
    """What helped, what is chosen, and with --final what S says of it."""
    from gan_jax.report.runs import OPENINGS
    from gan_jax.sweeps.folder import SweepFolder

    lines = []
    for number, title in QUESTIONS.items():
        rows = ranked(table, number).to_dict("records")
        better = [row["setting"] for row in rows if row["verdict"].startswith("better")]
        tested = any(not math.isnan(row["p_holm"]) for row in rows)
        said = f"shown higher than with {BASELINE} by {', '.join(better)}" if better else "no remedy is shown to raise it"
        lines.append(f"{title}: {said if tested else 'nothing was tested; it takes a remedy and 5 seeds'}")
    chosen = choice(table)
    if chosen is None:
        return "\n".join([*lines, "Choice: none, so S stays closed."])
    if not options.final:
        return "\n".join([*lines, f"Choice: {chosen}, on V; --final opens S for it."])
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if swept.folder:
        opened = {"time": now, "settings": [BASELINE, chosen], "n": len(swept.data.train), "command": " ".join(sys.argv)}
        SweepFolder(swept.folder).append(OPENINGS, opened)
    on_s, classes = measure(options, swept, swept.data.test, [BASELINE, chosen])
    confirmed = choice(on_s) == chosen
    seeds = sorted({member.seed for member in swept.members})
    lines += [
        f"Choice: {chosen}, on V. On S it is {'confirmed' if confirmed else 'not confirmed'}:",
        report(on_s, classes, counts).replace(NOTE, "On S, opened once for these two"),
    ]
    return "\n\n".join([*lines, f"on S, {without_text(swept.data, swept.data.test, seeds)}"])


def main(options: Options) -> int:
    options.prepare()
    from gan_jax.data import class_counts
    from gan_jax.plots import figures
    from gan_jax.training.folder import write_atomic, writing

    if BASELINE not in (options.only or (BASELINE,)):
        raise UserError(f"--only leaves out {BASELINE!r}, which every remedy is compared with: name it as well")
    if options.sizes:
        raise UserError("--sizes: one training set here; --ratio and --subset change it")
    data = options.load()
    counts = class_counts(data.train.labels, data.classes)
    print(f"{data.name}: {len(data.train)} training images; by class {', '.join(map(str, counts))}\n")
    only, options.only = options.only, tuple(name for name in options.only if name != DRS)
    settings = remedies(options, data)
    swept = options.run(settings, data, steps=options.steps, rank_by=options.rank_by, log_every=options.log_every)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    judged = [*settings, *([DRS] if not only or DRS in only else [])]
    table, classes = measure(options, swept, data.validation, judged)
    seeds = sorted({member.seed for member in swept.members})
    print(f"\n{report(table, classes, counts)}\n\non V, {without_text(data, data.validation, seeds)}\n")
    with writing(options.out):
        write_atomic(options.out / "rare_classes.csv", to_csv(table))
        write_atomic(options.out / "by_class.csv", to_csv(classes))
    print(conclusion(options, swept, table, counts))
    if len(classes):
        print(f"\npicture: {figures.save(options.out / 'pictures' / 'rare_classes.png', figure_of(classes, counts))}")
    return swept.exit_code


if __name__ == "__main__":
    run(main)
