from __future__ import annotations

from typing import Any

from flax import struct

from gan_jax.core.bind import Bound, number, static
from gan_jax.core.parts import part


@part("gan")
class Side(struct.PyTreeNode):
    """One player: its network, the numbers handed to it, its optimizer and its penalties.

    numbers:   {name: leaf} given to the network at each call (dropout rate, ...); an absent name is
               a part left out.
    optimizer: returns an optax transformation; rebuilt inside the step, so its numbers may be
        traced.
    penalties: {name: bound function of a `PenaltyContext`, per example}, added to this player's
        loss.
    """

    net: Any = struct.field(pytree_node=False)
    optimizer: Any = struct.field()
    numbers: dict[str, Any] = struct.field(default_factory=dict)
    penalties: dict[str, Any] = struct.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "numbers", {k: number(v) for k, v in self.numbers.items()})


@part("gan")
class Recipe(struct.PyTreeNode):
    """A whole GAN, as data. Leaves can be swept inside one program; static fields cannot.

    loss:           (real DiscriminatorOutput, fake DiscriminatorOutput, batch) -> Terms, one value
                    per example
    latent:         (draws, labels, dtype) -> z [b, d]
    fake_labels:    (draws, batch, classes) -> labels [b] of the generated examples
    play:           the order of the turns: `alternating`, `simultaneous`, ... (see `play.py`)
    augment:        {name: (images, labels, draws) -> images}: what D sees, of reals and fakes alike
    controllers:    {path of a leaf: controller}: numbers driven by what is measured (see
                    `controllers.py`)
    sampling:       (draws, rows, labels, table) -> rows: which reals are drawn (see `sampling.py`);
                    None for the data's order
    ema_decay:      of the generator's moving average, in [0, 1); a constant ramps up as (1 + t) /
                    (10 + t)
    batch_size:     examples per discriminator turn, over all devices
    d_steps:        discriminator turns per step
    accumulate:     parts in which a turn's batch is seen, one after the other, before the player
                    moves once
    classes:        number of labels that both networks see; 0 is unconditional
    judge_together: D sees reals and fakes in one pass (they share its batch statistics) or, by
        default, in two
    dtype:          of the state and the arithmetic; `compute_dtype` may be narrower, for the
                    networks alone
    """

    generator: Side
    discriminator: Side
    loss: Bound
    latent: Bound
    fake_labels: Bound
    play: Bound
    augment: dict[str, Any] = struct.field(default_factory=dict)
    controllers: dict[str, Any] = struct.field(default_factory=dict)
    sampling: Any = None
    ema_decay: Any = 0.999
    batch_size: int = static(default=64)
    d_steps: int = static(default=1)
    accumulate: int = static(default=1)
    classes: int = static(default=0)
    judge_together: bool = static(default=False)
    dtype: str = static(default="float32")
    compute_dtype: str | None = static(default=None)

    def __post_init__(self):
        object.__setattr__(self, "ema_decay", number(self.ema_decay))
