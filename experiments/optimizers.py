"""Which way to train, optimizer or order of turns, overfits least, and which trains best?

    python experiments/optimizers.py                                            # digits, 15 settings x 5 seeds
    python experiments/optimizers.py --data cifar10 --size 32 --width 64 --steps 50000 --subset 5000
    python experiments/optimizers.py --only adam ttur extragradient

The article's DCGAN with each optimizer at its usual rate for GANs, and with each way to play; everything else equal. Rates are
published ones, not tuned here: a worse row may be a worse rate (`--vary` of regularization_sweep.py shows how to sweep one).
Ends in the overfitting report: settings ranked on V by the gap of Frechet distances, then by near-copies and D's AUC, quality
beside them; `--final` opens S for the chosen one and the baseline.

Cost: not measured yet (regularization_sweep.py, of the same size, takes 4 min 39 s on two CPU cores).
Finding: none yet: the full comparison has not been run, only its settings have been tried for a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli import ComparisonOptions, run


@dataclass
class Options(ComparisonOptions):
    """Compare optimizers and ways to play."""

    out: Path = Path("runs/optimizers")
    """The sweep folder."""


def settings_of(options: Options, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """{name: recipe}, Adam in turns first."""
    import gan_jax as gan
    from gan_jax import optimizers, play, schedules

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
        "adabelief": using(optimizers.adabelief()),
        "lion": using(optimizers.lion()),
        "optimistic_adam": using(optimizers.optimistic_adam()),
        "lookahead": using(optimizers.lookahead(adam)),
        "ttur": using(optimizers.adam(1e-4), optimizers.adam(4e-4)),  # Heusel et al., 2017; the rates of SAGAN
        "cosine": using(optimizers.adam(schedules.cosine(2e-4, 0.0, options.steps))),  # pyright: ignore[reportArgumentType]
        "n_critic": using(adam, d_steps=3),
        "simultaneous": using(adam, play=gan.bind(play.simultaneous)),
        "extragradient": using(adam, play=gan.bind(play.extragradient)),
        "unrolled": using(adam, play=gan.bind(play.unrolled, rate=1e-3, steps=3)),
    }
    return options.choose(known)


def main(options: Options) -> int:
    options.prepare()
    data = options.load()
    return options.compare(settings_of(options, data.image_shape), data)


if __name__ == "__main__":
    run(main)
