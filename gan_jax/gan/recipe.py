"""What to train: a recipe is a whole GAN, written down as data."""

from typing import Any

from flax import linen as nn
from flax import struct

from gan_jax.arguments import count
from gan_jax.core.bind import Bound, number, static
from gan_jax.core.errors import UserError
from gan_jax.core.net import A_NETWORK
from gan_jax.core.parts import part
from gan_jax.text import described

COUNTS = {"batch_size": 1, "d_steps": 1, "accumulate": 1, "classes": 0}
"""The whole numbers of a recipe, and the least that each may be."""
DTYPES = ("float32", "bfloat16", "float16", "float64")


@part("gan")
class Side(struct.PyTreeNode):
    """One player: its network, the network's numbers, its optimizer and its penalties.

    net:       a `Net`, or any object with its two methods; static
    optimizer: a bound function that returns an optax transformation, rebuilt in each step
    numbers:   {name: leaf} given to the network at each call (dropout rate, ...). A layer (dropout,
               noise) whose number is absent is left out.
    penalties: {name: function of a `PenaltyContext`, one value per example}, added to the loss"""

    net: Any = struct.field(pytree_node=False)
    optimizer: Any = struct.field()
    numbers: dict[str, Any] = struct.field(default_factory=dict)
    penalties: dict[str, Any] = struct.field(default_factory=dict)

    def __post_init__(self):
        if isinstance(self.net, (nn.Module, type)) or not (hasattr(self.net, "init") and hasattr(self.net, "apply")):
            raise UserError(f"a player's net is {described(self.net)}: {A_NETWORK}")
        object.__setattr__(self, "numbers", {k: number(v) for k, v in self.numbers.items()})


@part("gan")
class Recipe(struct.PyTreeNode):
    """A whole GAN, as data. Leaves can be swept inside one program; static fields cannot.

    loss:           (output for reals, output for fakes, batch) -> `Terms`, one value per example
    latent:         (draws, labels, dtype) -> z [b, d]
    fake_labels:    (draws, batch, classes) -> labels [b] of the generated examples
    play:           the order of the players' updates, see `gan/dynamics.py`
    augment:        {name: (images, labels, draws) -> images}, of reals and fakes, before the
                    discriminator; one marked `mixes_fakes` changes the reals alone
    controllers:    {path of a leaf: controller} of leaves that follow a statistic
    sampling:       (draws, rows [b] in the data's order, labels [N], `ClassTable`) -> rows [b] of
                    the reals to train on; None keeps the data's order
    ema_decay:      of the generator's moving average, in [0, 1). Step t uses a constant decay, or
                    (1 + t) / (10 + t) where that is smaller; a schedule is used as it is.
    batch_size:     examples of one discriminator turn, over all devices
    d_steps:        discriminator turns in one step
    accumulate:     parts of a batch, whose gradients are averaged before one update
    classes:        number of labels that both networks see; 0 is unconditional
    judge_together: whether the discriminator sees reals and fakes in one forward pass, so that they
                    share its batch statistics; two passes by default
    dtype:          of the state and of the arithmetic
    compute_dtype:  of the networks' arithmetic where it is narrower, or None"""

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
        for name, least in COUNTS.items():
            count(getattr(self, name), f"the recipe's {name}", least)
        if not isinstance(self.judge_together, bool):
            raise UserError(f"the recipe's judge_together is {self.judge_together!r}: it must be True or False")
        for name in ("dtype", "compute_dtype"):
            if (value := getattr(self, name)) not in (*DTYPES, *([None] if name == "compute_dtype" else ())):
                raise UserError(f"the recipe's {name} is {value!r}: it must be one of {', '.join(DTYPES)}")
