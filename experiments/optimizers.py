"""Which way to train, optimizer or order of turns, overfits least, and which trains best?

    python experiments/optimizers.py              # digits, 18 settings x 5 seeds
    python experiments/optimizers.py --published  # 5,000 CIFAR-10 images, 100,000 steps: a GPU
    python experiments/optimizers.py --only adam ttur extragradient

The article's DCGAN trains with each optimizer at its usual rate for GANs, and with each order of
turns, everything else being equal. Rates are published ones, not tuned here: a worse row may be a
worse rate (`--vary` of regularization_sweep.py shows how to sweep one). The run ends in the
overfitting report. The report chooses on the validation images V, by the share of samples nearest
to T with FD as the price (`gan_jax.metrics.choice`), and shows D's AUC beside it; `--final` opens
the test images S for the chosen setting and the baseline.

Cost: 15 min 15 s of CPU time with fifteen of the settings, fourteen programs and reports of 75 runs
included; 32 minutes on two cores that other work kept busy (Python 3.12.1, jax 0.12.0.1). The other
three beside Adam: 3 min 40 s (3.11.7, jax 0.10.2).

Finding (digits, n = 200, 2,500 steps, seeds 0 to 4; means with 95 % intervals, Holm over fourteen
settings): no way to train is shown to close the gap of FD (2.72 +- 1.42 with Adam; TTUR -1.08 +-
.94 and three turns of D -1.01 +- .89, p .46), nor to bring samples nearer to V than Adam's 20.0 +-
1.8. D's AUC, .684 +- .018 with Adam, is shown lower only where training is slower, at a price in
FD: cosine decay to 0 (-.081 +- .026, p .011; FD 24.9), Lion and momentum (.502 and .499), which do
not train here at these rates (FD 184 and 327: a worse rate, not shown to be a worse method).
Simultaneous play is lower in the mean, not shown (-.039 +- .035, p .19). Extragradient (+.051 +-
.024, p .041) and AdaBelief (+.068 +- .023, p .013) are higher, their samples no farther. The report
says "discriminator overfits" of every seed but those of Lion and momentum ("underfits", "mode
loss"). No setting makes near-copies (under .1 %). --final and --published were not run.

A second family of tests was run later (`--only adam consensus optimistic_gradient amsgrad`, Holm
over three settings: these p are not of one family of seventeen). None is shown to close the gap of
FD (consensus -.05 +- 1.83 against 2.72 +- 1.55, p .15). Consensus at weight 10 lowers D's AUC
(-.047 +- .027, p .025) but hardly trains here: FD 93 +- 23, p .002 (perhaps for its weight, not
shown to be a worse method). AMSGrad lowers it (-.035 +- .027, p .047) at a price in FD (22.8, p
.006). The optimistic gradient, at sgd's rate of .05, is not told from Adam (AUC +.006 +- .032, FD
19.1 +- 1.8). The report says "discriminator overfits" of every seed of the four.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli.options import RemedyOptions
from gan_jax.cli.run import run


@dataclass
class Options(RemedyOptions):
    """Compare optimizers and ways to play."""

    out: Path = Path("runs/optimizers")
    """The sweep folder."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{name: recipe}, Adam in turns first."""
    import gan_jax as gan
    from gan_jax import optimizers, schedules
    from gan_jax.gan import dynamics

    base = gan.recipes.for_data(image_shape, width=options.width, batch_size=options.batch_size)

    def using(optimizer: Any, for_d: Any = None, **fields: Any) -> Any:
        g = base.generator.replace(optimizer=optimizer)
        d = base.discriminator.replace(optimizer=optimizer if for_d is None else for_d)
        return base.replace(generator=g, discriminator=d, **fields)

    adam = optimizers.adam()
    known = {
        "adam": using(adam),
        "sgd": using(optimizers.sgd(0.05)),
        "momentum": using(optimizers.momentum(0.01)),
        "rmsprop": using(optimizers.rmsprop()),
        "adamw": using(optimizers.adamw()),
        "amsgrad": using(optimizers.amsgrad()),
        "adabelief": using(optimizers.adabelief()),
        "lion": using(optimizers.lion()),
        "optimistic_gradient": using(optimizers.optimistic_gradient(0.05)),  # the rate of sgd
        "optimistic_adam": using(optimizers.optimistic_adam()),
        "lookahead": using(optimizers.lookahead(adam)),
        "ttur": using(optimizers.adam(1e-4), optimizers.adam(4e-4)),  # Heusel et al., 2017; the rates of SAGAN
        "cosine": using(optimizers.adam(schedules.cosine(2e-4, 0.0, options.steps))),  # pyright: ignore[reportArgumentType]
        "n_critic": using(adam, d_steps=3),
        "simultaneous": using(adam, play=gan.bind(dynamics.simultaneous)),
        "extragradient": using(adam, play=gan.bind(dynamics.extragradient)),
        "consensus": using(adam, play=gan.bind(dynamics.consensus, weight=10.0)),  # their weight for images
        "unrolled": using(adam, play=gan.bind(dynamics.unrolled, rate=1e-3, steps=3)),
    }
    return options.choose(known)


def main(options: Options) -> int:
    return options.compare(settings_of)


if __name__ == "__main__":
    run(main)
