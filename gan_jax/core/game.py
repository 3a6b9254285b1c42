"""A game: one method to train, as pure functions over knobs and a state, both pytrees.

Knobs are a recipe: all numbers and choices of the method. `init` and `step` do the work; the rest
serves them. Chunks, checkpoints, populations and reports take any game. The GAN is one
(`gan.game.GAN`); the VAE, the VAE-GAN and the imputers are others (`games/`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gan_jax.core.parts import part


@part("gan")
def float32_batches(knobs: Any) -> str:
    """The dtype of most games' batches."""
    return "float32"


@part("gan")
@dataclass(frozen=True)
class Game:
    """The functions of a game, all module-level, so that two equal games share one program.

    init:     (knobs, key) -> state, a flax `struct.PyTreeNode` with the fields `step` and `key`
    step:     (knobs, state, batch, axis_name=None) -> (state, {name: scalar})
    examples: knobs -> the number of examples that one step takes, over all devices
    dtype:    knobs -> the dtype of a batch
    check:    (knobs, data) -> None; raises UserError where the two do not fit
    evaluate: (knobs, state, (training images, labels), (validation images, labels), equally many)
              -> {name: scalar}
    observe:  (knobs, state, output of evaluate, steps since the last evaluation)
              -> {field of the state: its new value}
    sample:   (knobs, state, key, n, labels=None, ema=True, first=0) -> images [n, ...]
    log_density: (knobs, state, images, labels) -> lower bounds of the log density [n], in nats
    sampler:  (knobs, feed) -> (state, draws, rows in the order of the data) -> the rows to train
              on; or None, to keep the order"""

    init: Callable
    step: Callable
    examples: Callable[[Any], int]
    dtype: Callable[[Any], str] = float32_batches
    check: Callable[[Any, Any], None] | None = None
    evaluate: Callable | None = None
    observe: Callable | None = None
    sample: Callable | None = None
    log_density: Callable | None = None
    sampler: Callable | None = None

    def evaluate_and_observe(self, knobs: Any, state: Any, steps: Any, train: tuple, validation: tuple) -> tuple[dict, dict]:
        """({name: scalar}, {field: its new value}), `steps` steps after the last evaluation."""
        assert self.evaluate is not None
        row = self.evaluate(knobs, state, train, validation)
        return row, self.observe(knobs, state, row, steps) if self.observe else {}
