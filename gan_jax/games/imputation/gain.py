"""GAIN (Yoon, Jordon & van der Schaar, 2018): a generator fills in missing cells, and a
discriminator guesses which cells were missing.

    x~ = m x + (1 - m) z,  x^ = m x + (1 - m) G(x~, m)
    D(x^, h): the probability of each cell that it was observed
    D: -mean(m log D + (1 - m) log(1 - D))
    G: -mean((1 - m) log D) + alpha * sum(m (x - G)^2) / sum(m)

(equations 2, 3, 7 and 8), with z ~ U(0, noise). The hint h gives D a part of the mask: h = b m + (1
- b) * hint_fill, where b ~ Bernoulli(hint_rate) for each cell. In the authors' code
(jsyoon0823/GAIN) hint_fill is 0, so that a hint of 0 means "missing, or not revealed". In the
paper's equation 4 it is .5, which means "not revealed" alone. The rest follows their code.

`gan.fit(gain.recipe(30), data)` and `gan.sweep` train it, and every number is a leaf. See
`cells.py` for what an example is.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Key

from gan_jax.core.batch import Batch
from gan_jax.core.bind import Bound, number, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION, Mode, Net
from gan_jax.core.parts import part
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import Draws, named
from gan_jax.data.checks import refuse_penalties
from gan_jax.data.splits import as_integer
from gan_jax.games.imputation.cells import cells_of, check_cells, check_shares, errors_of, groups_of, of_columns
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import State, finish_step, init_player
from gan_jax.gan.turns import PlayerGradient, apply_gradient
from gan_jax.networks.initializers import he
from gan_jax.networks.unet import UNet
from gan_jax.optimizers import adam

UNIT_NUMBERS = ("hint_rate", "hint_fill", "hide")  # shares: they lie in [0, 1]


@part("imputation")
class Cells(nn.Module):
    """Rows [b, k] -> a value for each cell [b, features], by `depth` hidden layers of `width`
    ReLUs.

    Weights start as N(0, 2 / inputs).

    groups: the number of cells of each column of the table
    head:   "logits" returns logits. "columns" returns the sigmoid of a column of one cell, and the
            softmax of a column of several (a category, one-hot).
    """

    features: int
    width: int
    depth: int = 2
    groups: tuple[int, ...] = ()
    head: str = "logits"

    @nn.compact
    def __call__(self, x, labels, mode: Mode):
        layer = lambda k: nn.Dense(k, dtype=x.dtype, kernel_init=he)
        for _ in range(self.depth):
            x = nn.relu(layer(self.width)(x))
        logits = layer(self.features)(x)
        if self.head == "logits":
            return logits
        if max(self.groups, default=1) == 1:
            return nn.sigmoid(logits)
        parts = jnp.split(logits, np.cumsum(self.groups)[:-1], -1)
        return jnp.concatenate([nn.softmax(p) if p.shape[-1] > 1 else nn.sigmoid(p) for p in parts], -1)


@part("imputation")
class Gain(struct.PyTreeNode):
    """A GAIN, as data. Leaves can be swept inside one program; `recipe` says what they mean."""

    generator: Side
    discriminator: Side
    alpha: Any = 100.0
    hint_rate: Any = 0.9
    hint_fill: Any = 0.0
    noise: Any = 0.01
    hide: Any = 0.0
    ema_decay: Any = 0.0
    groups: tuple[int, ...] = static(default=())
    batch_size: int = static(default=128)
    dtype: str = static(default="float32")

    def __post_init__(self):
        for name in ("alpha", "noise", "ema_decay", *UNIT_NUMBERS):
            object.__setattr__(self, name, number(getattr(self, name)))

    @property
    def game(self) -> Game:
        """The game that `fit` and `sweep` train."""
        return GAIN

    @property
    def features(self) -> int:
        """Cells of an example."""
        return sum(self.groups)


def recipe(
    features: int | tuple[int, ...],
    *,
    image_shape: tuple[int, int, int] | None = None,
    width: int | None = None,
    depth: int = 2,
    alpha: float = 100.0,
    hint_rate: float = 0.9,
    hint_fill: float = 0.0,
    noise: float = 0.01,
    hide: float = 0.0,
    optimizer: Bound | None = None,
    discriminator_optimizer: Bound | None = None,
    ema_decay: float = 0.0,
    batch_size: int = 128,
    dtype: str = "float32",
) -> Gain:
    """A GAIN for examples of `features` cells. The defaults are those of the authors' code, which
    trains for 10,000 steps.

    features:    cells of an example (for an image the product of its shape); for a mixed table, the
                 cells of each column: 1 for a number, k for a category of k values, one-hot
    image_shape: (h, w, c) of images whose neighbouring pixels belong together. Both networks are
                 then U-Nets (`networks/unet.py`), with `width` (16) channels and `depth` halvings.
                 None treats all cells alike.
    width:       of the hidden layers of both networks; None for the number of cells
    depth:       number of hidden layers
    alpha:       weight of the error on observed cells, >= 0. With a large weight G is nearly an
                 autoencoder.
    hint_rate:   share of the cells whose mask is revealed to D, in [0, 1]
    hint_fill:   the hint of all other cells: 0 (code) or .5 (paper)
    noise:       z ~ U(0, noise) stands in missing cells
    hide:        share of the observed columns of each row that count as missing in a step, but stay
                 in the reconstruction error: the corruption of a denoising autoencoder (Vincent et
                 al., 2008). With 0, GAIN as published, that error asks for the identity alone, and
                 only D teaches G about missing cells.
    optimizer:   of both players unless D has its own: Adam(1e-3, .9, .999), as in the code
    ema_decay:   of the moving average of G, which imputes; 0 is the last G

    Raises UserError for a number out of its range, or a structure that cannot be built.
    """
    groups = groups_of("gain", features)
    structure = {"width": 1 if width is None else width, "depth": depth, "batch_size": batch_size}
    for name, value in structure.items():
        as_integer(value, f"gain: {name}", least=1)
    total = sum(groups)
    optimizer = optimizer or adam(1e-3, b1=0.9)
    if image_shape is None:
        networks = Cells(total, width or total, depth, groups, "columns"), Cells(total, width or total, depth)
    elif groups != (1,) * int(np.prod(image_shape)):
        raise UserError(f"gain: {total} cells and images of shape {image_shape}: give as many as the image has numbers")
    else:
        networks = tuple(UNet(image_shape, width or 16, depth, squash) for squash in (True, False))
    generator, discriminator = map(Net, networks)
    knobs = Gain(
        Side(net=generator, optimizer=optimizer),
        Side(net=discriminator, optimizer=discriminator_optimizer or optimizer),
        alpha, hint_rate, hint_fill, noise, hide, ema_decay, groups, batch_size, dtype,
    )  # fmt: skip
    check_knobs(knobs)
    return knobs


def check_knobs(knobs: Gain) -> None:
    """Raises UserError for a number that is not finite or outside its range."""
    check_numbers(knobs)
    check_shares("gain", knobs, *UNIT_NUMBERS)


# ---- one step ----------------------------------------------------------------------------------


class View(NamedTuple):
    """What the players see of a batch: all [b, cells].

    x:     the values, 0 where they are unknown
    mask:  1 where the value is in the reconstruction error
    shown: 1 where G sees the value: the mask m of the game
    noisy: x~
    hint:  h
    share: the mean of `mask` over the whole batch
    """

    x: Array
    mask: Array
    shown: Array
    noisy: Array
    hint: Array
    share: Array


def view(knobs: Gain, batch: Batch, draws: Draws) -> View:
    """The batch with this step's draws of hidden columns, noise and hints."""
    values, mask = cells_of(batch.images, batch.mask)
    dtype, columns = values.dtype, len(knobs.groups)
    uniform = lambda name, k: draws.named(name).uniform((k,), dtype)
    x = jnp.where(mask, values, 0)
    shown = mask & of_columns(knobs.groups, uniform("hide", columns) >= knobs.hide)
    z = uniform("noise", values.shape[1]) * jnp.asarray(knobs.noise, dtype)
    revealed = of_columns(knobs.groups, uniform("hint", columns) < knobs.hint_rate)
    hint = jnp.where(revealed, shown.astype(dtype), jnp.asarray(knobs.hint_fill, dtype))
    mask = mask.astype(dtype)
    return View(x, mask, shown.astype(dtype), jnp.where(shown, x, z), hint, batch.mean(mask.mean(1)))


def fill(knobs: Gain, params: Any, noisy: Array, shown: Array) -> Array:
    """G(x~, m) [b, cells], in [0, 1]."""
    side = knobs.generator
    return side.net.apply(params, {}, jnp.concatenate([noisy, shown], -1), None, EVALUATION, side.numbers)[0]


def guess(knobs: Gain, params: Any, filled: Array, hint: Array) -> Array:
    """D's logits [b, cells] that a cell was observed."""
    side = knobs.discriminator
    return side.net.apply(params, {}, jnp.concatenate([filled, hint], -1), None, EVALUATION, side.numbers)[0]


def discriminator_terms(knobs: Gain, params: Any, g_params: Any, view: View) -> dict[str, Float[Array, "b"]]:
    """D's loss for each example: the cross-entropy of the mask, averaged over the cells."""
    filled = jnp.where(view.shown > 0, view.x, fill(knobs, g_params, view.noisy, view.shown))
    logits = guess(knobs, params, filled, view.hint)
    return {"loss": optax.sigmoid_binary_cross_entropy(logits, view.shown).mean(1)}


def generator_terms(knobs: Gain, params: Any, d_params: Any, view: View) -> dict[str, Float[Array, "b"]]:
    """G's loss for each example, and its two parts before alpha. The mean of the reconstruction
    over the batch is sum(m (x - G)^2) / sum(m)."""
    made = fill(knobs, params, view.noisy, view.shown)
    logits = guess(knobs, d_params, jnp.where(view.shown > 0, view.x, made), view.hint)
    adversarial = -((1 - view.shown) * jax.nn.log_sigmoid(logits)).mean(1)
    reconstruction = (view.mask * jnp.square(view.x - made)).mean(1) / jnp.maximum(view.share, 1e-8)
    loss = adversarial + jnp.asarray(knobs.alpha, made.dtype) * reconstruction
    return {"loss": loss, "adversarial": adversarial, "reconstruction": reconstruction}


def init(knobs: Gain, key: Key[Array, ""]) -> State:
    """A fresh state in `knobs.dtype`. Raises UserError for penalties: neither side takes any."""
    refuse_penalties("GAIN", knobs, "generator", "discriminator")
    resolved = resolve(knobs, jnp.int32(0))
    rows = jnp.zeros((2, 2 * resolved.features), resolved.dtype)
    player = lambda name: init_player(getattr(resolved, name), named(key, name), rows, None, resolved.dtype)
    generator = player("generator")
    ema = {"params": jax.tree.map(jnp.copy, generator.params), "stats": {}}  # donation: no shared buffers
    return State(jnp.int32(0), key, generator, player("discriminator"), ema, {})


def step(knobs: Gain, state: State, batch: Batch, axis_name: str | None = None) -> tuple[State, dict]:
    """One step of D, then one of G against the new D, on the same batch, noise and hint.

    axis_name: the device axis under pmap.
    """
    resolved = resolve(knobs, state.step)
    batch = batch.replace(axis_name=axis_name)
    shared = view(resolved, batch, Draws(jax.random.fold_in(state.key, state.step), batch.index))
    metrics, new = {}, state
    for name, terms in (("discriminator", discriminator_terms), ("generator", generator_terms)):
        other = new.generator if name == "discriminator" else new.discriminator

        def objective(params, terms=terms, other=other):
            values = terms(resolved, params, other.params, shared)
            return values["loss"].mean(), values

        gradient, values = jax.grad(objective, has_aux=True)(getattr(new, name).params)
        gradient, values = jax.tree.map(batch.mean, (jax.tree.map(lambda g: g[None], gradient), values))
        found = PlayerGradient(gradient, {}, new.memory, {f"{name}/{k}": v for k, v in values.items()})
        new, logged = apply_gradient(resolved, new, name, found)
        metrics |= logged
    return finish_step(knobs, resolved, state, new, {"params": new.generator.params, "stats": {}}), metrics


# ---- what a trained one is for -----------------------------------------------------------------


def impute(knobs: Gain, params: Any, values: Array, mask: Array, z: Any = None) -> Float[Array, "b d"]:
    """G's answer for every cell of rows [b, cells], observed cells too; for categories,
    probabilities.

    params: the generator's, `state.ema["params"]`
    z:      what stands in missing cells, as a share of the noise's range, broadcast to [b, cells];
            None for the middle of the range, so that no row's answer depends on chance
    """
    z = (0.5 if z is None else z) * jnp.asarray(knobs.noise, values.dtype)
    return fill(knobs, params, jnp.where(mask > 0, values, z), mask.astype(values.dtype))


def evaluate(knobs: Gain, state: State, train: tuple, validation: tuple) -> dict[str, Array]:
    """RMSE of G on training and held-out rows: see `cells.errors_of`."""
    answer = partial(impute, resolve(knobs, state.step), state.ema["params"])
    return errors_of(answer, train, validation, knobs.dtype)


def check(knobs: Gain, data: Any) -> None:
    """Raises UserError for a number out of its range, and for data that do not fit the knobs."""
    check_knobs(knobs)
    check_cells("GAIN", knobs.features, data)


GAIN = part("imputation", "GAIN")(Game(init, step, lambda knobs: knobs.batch_size, lambda knobs: knobs.dtype, check, evaluate))
