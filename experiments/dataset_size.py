"""How many training images does a GAN need before its discriminator stops memorising them, and what
do regularisers change?

    # digits, 4 settings x 5 sizes x 5 seeds
    python experiments/dataset_size.py
    python experiments/dataset_size.py --data cifar10 --size 16 --sizes 500 2000 8000 \\
        --steps 20000 --width 32
    # two curves: none and R1
    python experiments/dataset_size.py --r1 10 --dropout None --instance-noise None

The article's DCGAN trains on the first n images, nested, at each n, with no regulariser and with
each one named; all sizes and seeds of a setting are one program. The run ends with D's gap (its AUC
of telling training images T from held-out images V, and T's mean logit minus V's) and sample
quality (energy distance to V) against n: a table each, and `sizes_*.png`. The AUC compares
settings; the logit gap also has the scale of D's logits, which a regulariser changes.

At every n, D judges the same min(512, |V|, smallest n) images of T, and as many of V. They are the
same for all members, so AUCs share an error that the intervals over seeds do not show: with 50 and
50 it is .058, and chance need not look like .500. Differences to the baseline have less of it: that
is what is tested.

Cost: 5.3 minutes of CPU time with the default; 11 minutes on two cores that other work kept busy
(Python 3.12.1, jax 0.12.0.1).

Finding (digits, 2,000 steps, seeds 0 to 4, means with 95 % intervals): without a regulariser the
AUC falls from .952 +- .020 at n = 50 to .666 +- .026 at 200 and .533 +- .046 at 800. With dropout
it is shown lower at n = 50, 100 and 400 (.815, .660, .501; Holm's correction over 15 tests), but
not at 200 (.542, p .058) and 800. With instance noise it is lower in the mean at every n (.885 at
50), yet shown at none (p .058 at 50 and 100). R1 is not shown to change it (.978 at 50): it halves
the gap in logits, shown up to n = 200, without making T harder to tell from V. No difference in
sample quality is shown at any n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_jax.cli.options import SweepOptions
from gan_jax.cli.run import run
from gan_jax.cli.types import Count, Few, Share, Weight

if TYPE_CHECKING:
    import pandas as pd

AUC, LOGITS, ENERGY = "D/train_validation_auc", "D/logit_gap", "G/validation_energy"
BASELINE = "none"


@dataclass
class Options(SweepOptions):
    """Train on more and more images, with and without regularisers, and see where D stops
    memorising them."""

    sizes: tuple[Count, ...] = (50, 100, 200, 400, 800)
    """Numbers of training images; each setting is trained on the first of them, nested."""
    out: Path = Path("runs/dataset_size")
    """The sweep folder."""
    steps: Count = 2000
    """Training steps: updates of the generator."""
    width: Few = 16
    """Channels of the widest image layers; deeper layers have multiples."""
    batch_size: Count = 32
    """Images per discriminator turn, at most the smallest size."""
    r1: Weight | None = 1.0
    """Gradient penalty gamma / 2 |grad D|^2 on reals; None leaves the curve out."""
    dropout: Share | None = 0.3
    """Share of the discriminator's hidden units dropped; None leaves the curve out."""
    instance_noise: Weight | None = 0.3
    """Std of the noise on what D sees; None leaves the curve out."""
    log_every: Count = 200
    """Steps between evaluations."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{name: recipe}: the baseline, then each regulariser alone."""
    import gan_jax as gan

    base = gan.recipes.for_data(image_shape, width=options.width, batch_size=options.batch_size)
    with_d = lambda **changed: base.replace(discriminator=base.discriminator.replace(**changed))
    settings = {BASELINE: base}
    if options.r1 is not None:
        settings[f"R1 {options.r1:g}"] = with_d(penalties={"r1": gan.bind(gan.penalties.r1, gamma=options.r1)})
    if options.dropout is not None:
        settings[f"dropout {options.dropout:g}"] = with_d(numbers={"dropout": options.dropout})
    if options.instance_noise is not None:
        noise = gan.bind(gan.augment.instance_noise, std=options.instance_noise)
        settings[f"noise {options.instance_noise:g}"] = base.replace(augment={"instance_noise": noise})
    return settings


def finding(ranked: pd.DataFrame) -> str:
    """Where each regulariser's gap was shown lower (or higher) than the baseline's, in a
    sentence."""
    rows = [row for row in ranked.sort_values("n").to_dict("records") if row["setting"] != BASELINE]
    tested = sum(not math.isnan(row["p_holm"]) for row in rows)
    if not tested:
        return "Finding: nothing was tested; it takes a regulariser, and 5 seeds that it has in common with the baseline."
    said = []
    for setting in dict.fromkeys(row["setting"] for row in rows):
        parts = []
        for word, verdict in {"lower": "better", "higher": "worse"}.items():
            shown = [row for row in rows if row["setting"] == setting and row["verdict"].startswith(verdict)]
            sizes = [f"{row['n']}{' (among survivors)' * row['verdict'].endswith('survivors')}" for row in shown]
            parts += [f"{word} at n = {', '.join(sizes)}"] if sizes else []
        said.append(f"{setting} {' and '.join(parts) or 'not shown to differ at any n'}")
    return f"Finding: D's gap (AUC) against '{BASELINE}', Holm's correction over {tested} tests: {'; '.join(said)}."


def main(options: Options) -> int:
    options.prepare()
    import gan_jax as gan

    data = options.load()
    settings = settings_of(options, data.image_shape)
    swept = options.run(settings, data, steps=options.steps, rank_by=AUC, log_every=options.log_every)
    if swept.stopped:
        print(f"stopped by {swept.stopped}; --resume finishes what is missing")
        return swept.exit_code
    table: Any = swept.table
    table[LOGITS] = table["D/train_logit"] - table["D/validation_logit"]
    ranked = {metric: gan.ranking.rank(table, metric, baseline=BASELINE) for metric in (AUC, LOGITS, ENERGY)}
    for metric, rows in ranked.items():
        print(f"{gan.ranking.ranking_text(rows, metric)}\n")
    pictures = options.out / "pictures"
    if len(set(options.sizes)) > 1:
        label = "mean logit of T minus that of V (nats)"
        gan.plots.dose_response(pictures / "sizes_D_logit_gap.png", table, LOGITS, label, reference=0.0)
    print(f"pictures: {pictures}    table: {options.out}/table.csv\n")
    print(finding(ranked[AUC]))
    return swept.exit_code


if __name__ == "__main__":
    run(main)
