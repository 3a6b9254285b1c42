"""Which remedies close the gap when data are few?

    # digits: all, 20 %, 10 %; 11 remedies, 5 seeds
    python experiments/limited_data.py
    python experiments/limited_data.py --data mnist --size 16 --sizes 0.1 1000 100 --steps 3000 \\
        --final
    python experiments/limited_data.py --data fashion_mnist --size 16 --sizes 100 --steps 5000 \\
        --seeds 8 --log-every 500 --final
    python experiments/limited_data.py --data cifar10 --size 16 --width 32 --steps 20000 \\
        --log-every 2000
    # CIFAR-10, BigGAN: accelerators, see below
    python experiments/limited_data.py --published

The remedies were named before any was tried: none, DiffAugment, ADA and APA in closed loop, LeCam,
R1, dropout, spectral and batch norm in D, balanced consistency, and R3GAN's loss (relativistic
pairing with R1 and R2). The article's DCGAN trains with each remedy on the first n training images
T, nested, at every n. The run ends in the overfitting report on the validation images V (the gap of
FD, near-copies, D's AUC, and sample quality beside them, at every n), in a table of the remedies'
differences to none, and in a choice at the fewest images, by `--choose-by` and the rule of
`gan_jax.metrics.choice`: shown better than none at no shown price in FD. `--final` opens the test
images S, once, for the choice and for none, with all of their seeds, paired. If no remedy is shown
better, none is chosen and S stays closed.

Published numbers are those of other losses and larger networks: LeCam's .3 goes with the hinge loss
(here non-saturating, but with --published), R1's 1 and dropout's .3 are this project's. ADA and APA
may cross their range in half of the run.

--published trains BigGAN with classes at width 64, with the hinge loss and spectral norm in both
players, for 125,000 steps of 4 turns of D on 50 images: DiffAugment's CIFAR-10 scripts at 10 % (at
100 % they have 250,000 steps). Spectral and batch norm in D are left out there. These are 225 runs
with the default sizes, to be trained on several large accelerators over days; they were not run.

Cost: 8 min 23 s of CPU time for the 55 runs of the finding, reports included; 21 minutes on two
cores that other work kept busy (load 5 to 17; Python 3.12.1, jax 0.12.0.1). The default trains
three times as many.

Finding (the third command; Fashion-MNIST, side 16, n = 100, seeds 0 to 7; half an hour on two cores
beside other work; 3.11.7, jax 0.10.2): the gap of FD, 1.42 +- .55 with none, is shown smaller with
DiffAugment alone (-1.31 +- .68, p .026; bcr -1.20 +- .75, p .062), which is chosen, and S, opened
once, confirms it: the gap there is .71 +- .64 with none, -2.10 +- .62 with it (p < .001). Its
samples are no nearer (FD to V +2.7 +- 3.2, p .26; to S +1.9 +- 2.8, p .15), and the report says
"mode loss" of five of its seeds. D's AUC, .843 +- .012, falls to .548 with DiffAugment, .689 with
bcr, .737 with dropout (all p < .001), .824 with spectral norm (p .028); it rises with R1 (.867, p
.003) and batch norm (.994, p < .001). FD to V, 21.1 +- 1.7, is shown lower with batch norm (-4.6 +-
1.7), spectral norm (-4.5 +- 1.6), R1 (-4.1 +- 2.0), RpGAN with R1 and R2 (-4.1 +- 1.6) and dropout
(-2.2 +- 1.3; p .003 to .025), higher with LeCam (+13.8 +- 4.2, p .001). So the remedy that closes
the gap and the remedies that make better samples are different here: only dropout and spectral norm
lower both D's AUC and FD, and neither is shown to close the gap of FD. ADA and APA have hardly
moved (p .002). Near-copies are .12 % or less in the mean, and no remedy is shown to change them.

Finding (digits, --sizes 0.1: n = 107 alone, 1,500 steps, seeds 0 to 4; means with 95 % intervals,
Holm over ten remedies): no remedy is shown to close the gap of FD (4.56 +- 1.36 with none;
DiffAugment -1.72 +- 2.16, p .83, at a price; R1 -.96 +- 1.27, p .83; bcr -.86 +- .66, p .23), so
none is chosen and S stays closed. D's AUC, .730 +- .028, is lower with DiffAugment (-.229 +- .029,
p < .001) and dropout (-.121 +- .019, p < .001), not shown with ADA (-.068 +- .061, p .17) and
spectral norm (-.037 +- .032, p .17), and higher with LeCam (+.055 +- .028, p .040) and batch norm
(+.226 +- .029, p < .001). What D cannot memorise does not make better samples here: FD to V, 26.9
+- 2.6, is shown lower with R1 alone (-4.4 +- 1.5, p .010), whose AUC is no lower, and higher with
DiffAugment (+16.6 +- 4.0, p .003), whose translations and holes are large on 8 x 8 pixels: the
report says "mode loss" of its five seeds, and "discriminator overfits" of all others.

Finding (MNIST at side 16, n = 500 alone, 3,000 steps, batches of 32, seeds 0 to 4, --final; 17 min
30 s of CPU time): the gap of FD is .28 +- .25 with none, hardly a gap, and no remedy is shown to
close it (bcr -.23 +- .43, the least; p .85 or more for all but batch norm's +.49, p .18), so none
is chosen and S stays closed. D's AUC, .580 +- .009, is shown lower with DiffAugment alone (-.066 +-
.017, p .004; FD 25.6 against 19.3, p .11, a price), higher with batch norm (+.153 +- .044, p .006),
whose samples are the nearest in the mean, not shown (FD 16.0, p .14). ADA and APA have hardly
moved. D overfits in every seed of every other setting, and nothing that G does yet shows it: the
report says "discriminator overfits", of DiffAugment "mode loss". CIFAR-10, the default's other
sizes (214 and all 1,069 digits) and --published were not run.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from gan_jax.cli.options import RemedyOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Positive, Share, Weight
from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from gan_jax.metrics.choice import Choice
    from gan_jax.sweeps.result import Sweep

BASELINE = "none"
NUMBERS = {"fd_gap": "FD to V - FD to T", "d_auc": "D tells T from V (AUC)", "fd": "FD to V"}  # of the report: less is better
PLANNED = (1.0, 0.2, 0.1, 1000.0, 100.0)  # shares and numbers of the training images
NEAR = 1.25  # ratio of two planned sizes of which one is enough


@dataclass
class Options(RemedyOptions):
    """Train on fewer and fewer images, with and without each remedy, and see which one closes the
    gap."""

    sizes: tuple[Positive, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    """Training images, nested: up to 1 a share of all, above it a number. All, 20 %, 10 %, 1,000
    and 100 when left out, without those that there are not and those that are nearly another."""
    subset: Count | None = None
    """Begin with the first N images of a seeded, stratified order; with all when left out."""
    only: tuple[str, ...] = ()
    """These remedies, the first being the baseline; all when left out."""
    choose_by: Literal["fd_gap", "d_auc", "fd"] = "fd_gap"
    """Number of the report by which a remedy is chosen."""
    r1: Weight = 1.0
    """Gamma of R1, and of R1 and R2 together."""
    lecam: Weight = 0.3
    """Weight of LeCam."""
    dropout: Share = 0.3
    """Share of D's hidden units dropped."""
    out: Path = Path("runs/limited_data")
    """The sweep folder."""
    steps: Count = 1500
    """Training steps: updates of the generator."""
    batch_size: Count = 32
    """Images per discriminator turn, at most the smallest size."""

    PUBLISHED: ClassVar[dict[str, Any]] = {  # BigGAN as DiffAugment trains it at 10 %
        "data": "cifar10", "size": 32, "width": 64, "steps": 125_000, "batch_size": 50, "log_every": 5000,
    }  # fmt: skip


def counts(sizes: tuple[float, ...], images: int) -> tuple[int, ...]:
    """Numbers of training images, most first, of shares and numbers. Raises UserError for one that
    does not fit."""
    if wrong := [s for s in sizes if not (0 < s <= 1 or (s > 1 and s == int(s) and s <= images))]:
        raise UserError(f"--sizes has {wrong[0]:g}: a share in (0, 1] or a whole number of the {images} training images")
    found: list[int] = []
    for size in sizes or PLANNED:
        n = max(1, round(size * images)) if size <= 1 else int(size)
        apart = all(max(n, k) > NEAR * min(n, k) for k in found)
        if n not in found if sizes else n <= images and apart:
            found.append(n)
    return tuple(sorted(found, reverse=True))


def remedies(options: Options, image_shape: tuple[int, ...], classes: int = 0) -> dict[str, Any]:
    """{remedy: recipe}, nothing first. Raises UserError for what is no image."""
    import gan_jax as gan
    from gan_jax import augment, controllers, recipes
    from gan_jax.networks.spectral import SpectralNorm

    if len(image_shape) != 3:
        raise UserError(f"these remedies are of images, not of rows {image_shape}: use --data digits or other images")
    sizes: dict[str, Any] = {"width": options.width, "batch_size": options.batch_size}
    base = recipes.dcgan(image_shape, **sizes)
    if options.published:
        base = recipes.biggan(image_shape, **sizes, classes=classes)
    loop = controllers.ada(horizon=options.steps * options.batch_size * base.d_steps / 2)
    fields, penalty, side = recipes.with_fields, recipes.with_penalty, recipes.with_side
    driven = lambda made: {"augment": made, "controllers": {f"augment.{name}.p": loop for name in made}}
    gradients = {name: gan.bind(getattr(gan.penalties, name), gamma=options.r1) for name in ("r1", "r2")}
    known = {
        BASELINE: base,
        "diffaugment": fields(base, augment=augment.diffaugment("translation,cutout")),
        "ada": fields(base, **driven({"ada": gan.bind(augment.ada, p=0.0, pipe="bgc")})),
        "apa": fields(base, **driven({"apa": gan.bind(augment.adaptive_pseudo, p=0.0)})),
        "lecam": penalty(base, "lecam", weight=options.lecam, start=min(1000.0, options.steps / 5)),
        "r1": penalty(base, "r1", gamma=options.r1),
        "dropout": side(base, numbers={"dropout": options.dropout}),
        "bcr": penalty(base, "bcr", weight=10.0),
        "rpgan_r1_r2": side(fields(base, loss=recipes.loss("rpgan")), penalties=gradients),
    }
    if not options.published:
        known["spectral_norm"] = recipes.with_network(base, "discriminator", SpectralNorm)
        known["batch_norm"] = recipes.with_module(base, norm="batch")
    return options.choose(known)


# ---- what is shown -----------------------------------------------------------------------------


def differences_text(ranked: pd.DataFrame, number: str, split: str = "V") -> str:
    """Differences to nothing on a split, a row for each remedy and a column for each n: mean, half
    of the 95 % interval, p."""
    import pandas as pd

    form, cells = ".3f" if number == "d_auc" else ".2f", {}
    for row in ranked.sort_values("n", ascending=False, kind="stable").to_dict("records"):
        base = row["setting"] == ranked.attrs["baseline"]
        mean, half = (row["mean"], row["high"] - row["mean"]) if base else (
            row["difference"], row["difference_high"] - row["difference"])  # fmt: skip
        p = "" if math.isnan(row["p_holm"]) else " p <.001" if row["p_holm"] < 0.001 else f" p {row['p_holm']:.3f}"
        plus = "" if base else "+"
        text = f"{mean:{plus}{form}}" + ("" if math.isnan(half) else f" +- {half:{form}}") + p
        cells.setdefault(row["setting"], {})[f"n = {row['n']}"] = "-" if math.isnan(mean) else text
    first = ranked.attrs["baseline"]
    made = pd.DataFrame.from_dict({first: cells.pop(first)} | cells, orient="index")
    label = re.sub(r"\bV\b", split, NUMBERS[number])
    return f"{label}: that of '{first}', and the remedies' differences to it\n\n{made.to_string()}"


def on_s(swept: Sweep, settings: list[str], n: int) -> pd.DataFrame:
    """The numbers of every seed of these settings on S, a row each; the sweep's folder records that
    S was opened."""
    import pandas as pd

    from gan_jax.report import overfitting_report
    from gan_jax.report.build import references_of
    from gan_jax.report.runs import OPENINGS
    from gan_jax.sweeps.folder import SweepFolder

    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if swept.folder:
        SweepFolder(swept.folder).append(OPENINGS, {"time": now, "settings": settings, "n": n, "command": " ".join(sys.argv)})
    references, rows = references_of(swept.data.subset(n), final=True), []
    for member in swept.members:
        if member.n == n and member.setting in settings:
            report = overfitting_report(swept.run(member.setting, member.seed, n), references=references)
            about = {
                "setting": member.setting,
                "seed": member.seed,
                "n": n,
                "step": 0,
                "diverged": report.verdict == "diverged",
            }
            rows.append(about | {k: v.value for k, v in report.numbers.items()})
    return pd.DataFrame(rows)


def conclusion(options: Options, swept: Sweep, choice: Choice) -> str:
    """What is chosen, and with --final what S says of it."""
    from gan_jax.metrics import ranking

    if not choice.decided:
        return f"{choice.sentence} S stays closed."
    if not options.final:
        return f"{choice.sentence} --final opens S for it."
    table = on_s(swept, [swept.baseline, choice.setting], choice.n)
    compared = {number: ranking.rank(table, number, baseline=swept.baseline) for number in NUMBERS}
    lines = [differences_text(rows, number, "S") for number, rows in compared.items()]
    rows = compared[options.choose_by]
    shown = rows.loc[rows["setting"] == choice.setting, "verdict"].iloc[0].startswith("better")
    return "\n\n".join([f"{choice.sentence} On S it is {'confirmed' if shown else 'not confirmed'}, over all seeds:", *lines])


def main(options: Options) -> int:
    options.prepare()
    from gan_jax.metrics.choice import choose
    from gan_jax.report import sweep_report
    from gan_jax.report.controls import sets_of

    data = options.load()
    options.sizes = counts(options.sizes, len(data.train))
    sets_of(data.subset(min(options.sizes)), final=False)  # refuses what the report could not judge, before anything is trained
    settings = remedies(options, data.image_shape, data.classes)
    swept = options.run(settings, data, steps=options.steps, rank_by=options.rank_by, log_every=options.log_every)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    report = sweep_report(swept)
    page = report.save(options.out)
    print(f"\n{report.text()}\n")
    for number in NUMBERS:
        print(f"{differences_text(report.ranked(number), number)}\n")
    print("+-: 95 % Student-t interval over seeds; p: paired t-test, Holm's correction over remedies and sizes\n")
    guard = {"guard": "fd"} if options.choose_by != "fd" else {}
    about = {"baseline": swept.baseline, "n": min(options.sizes), "labels": NUMBERS, "curves": swept.table}
    print(conclusion(options, swept, choose(report.table, options.choose_by, **guard, **about)))
    print(f"\npictures: {options.out}/pictures    table: {options.out}/table.csv    report: {page}")
    return swept.exit_code


if __name__ == "__main__":
    run(main)
