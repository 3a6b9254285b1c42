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

`gan.fit(gain.recipe(30), data)` and `gan.sweep` train it. See `cells.py` for what an example is.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from gan_jax.core.batch import Batch
from gan_jax.core.bind import Bound, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION, Net
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.games.common import first_players, gradient_step
from gan_jax.games.imputation import cells
from gan_jax.games.imputation.cells import Cells, Imputing, check
from gan_jax.gan.game import GAN
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import State, finish_step
from gan_jax.gan.turns import mean_terms
from gan_jax.networks.unet import UNet
from gan_jax.optimizers import adam


@part("imputation")
class Gain(Imputing):
    """A GAIN, as data. The defaults are those of the authors' code, which trains for 10,000 steps.

    alpha:     weight of the error on observed cells, >= 0. With a large weight G is nearly an
               autoencoder.
    hint_rate: share of the cells whose mask is revealed to D, in [0, 1]
    hint_fill: the hint of all other cells: 0 (code) or .5 (paper)
    noise:     z ~ U(0, noise) stands in missing cells
    hide:      share of the observed columns of each row that count as missing in a step, but stay
               in the reconstruction error, as in a denoising autoencoder (Vincent et al., 2008).
               With 0, GAIN as published, only D teaches G about missing cells.
    ema_decay: of the moving average of G, which imputes; 0 is the last G
    groups:    the number of cells of each column
    """

    title = "GAIN"
    shares = ("hint_rate", "hint_fill", "hide")
    game = property(lambda knobs: GAIN)
    features = property(lambda knobs: sum(knobs.groups))

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


def recipe(
    features: int | tuple[int, ...],
    *,
    image_shape: tuple[int, int, int] | None = None,
    width: int | None = None,
    depth: int = 2,
    optimizer: Bound | None = None,
    **fields: Any,
) -> Gain:
    """A GAIN for examples of `features` cells.

    features:    cells of an example (for an image the product of its shape), or the cells of each
                 column of a mixed table
    image_shape: (h, w, c) of images whose neighbouring pixels belong together. Both networks are
                 then U-Nets (`networks/unet.py`), with `width` (16) channels and `depth` halvings.
                 None treats all cells alike.
    width:       of the hidden layers of both networks; None for the number of cells
    depth:       number of hidden layers
    optimizer:   of both players: Adam(1e-3, .9, .999), as in the code
    fields:      any other field of `Gain`

    Raises UserError for a number out of its range, or a structure that cannot be built.
    """
    groups = cells.groups_of("gain", features)
    cells.check_sizes("gain", fields, width=width, depth=depth)
    total = sum(groups)
    if image_shape is None:
        networks = Cells(total, width or total, depth, groups, "columns"), Cells(total, width or total, depth)
    elif groups != (1,) * int(np.prod(image_shape)):
        raise UserError(f"gain: {total} cells and images of shape {image_shape}: give as many as the image has numbers")
    else:
        networks = tuple(UNet(image_shape, width or 16, depth, squash) for squash in (True, False))
    generator, discriminator = (Side(Net(network), optimizer or adam(1e-3, b1=0.9)) for network in networks)
    return cells.checked(Gain(generator, discriminator, groups=groups, **fields))


# ---- one step ----------------------------------------------------------------------------------


class View(NamedTuple):
    """What the players see of a batch: [b, cells] but for `share`."""

    x: Array  # the values, 0 where they are unknown
    mask: Array  # 1 where the value is in the reconstruction error
    shown: Array  # 1 where G sees the value: the mask m of the game
    noisy: Array  # x~
    hint: Array  # h
    share: Array  # the mean of `mask` over the whole batch


def view(knobs: Gain, batch: Batch, draws: Draws) -> View:
    """The batch with this step's draws of hidden columns, noise and hints."""
    values, mask = cells.cells_of(batch.images, batch.mask)
    dtype = values.dtype
    uniform = lambda name, k: draws.named(name).uniform((k,), dtype)
    x = jnp.where(mask, values, 0)
    shown = cells.shown_of(knobs, mask, draws, dtype)
    z = uniform("noise", values.shape[1]) * jnp.asarray(knobs.noise, dtype)
    revealed = cells.of_columns(knobs.groups, uniform("hint", len(knobs.groups)) < knobs.hint_rate)
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
    rows = (2 * knobs.features,)
    players = first_players("GAIN", knobs, key, {"generator": rows, "discriminator": rows})
    averaged = jax.tree.map(jnp.copy, players["generator"].params)  # donation: no shared buffers
    return State(jnp.int32(0), key, **players, ema={"params": averaged, "stats": {}}, memory={})


def step(knobs: Gain, state: State, batch: Batch, axis_name: str | None = None) -> tuple[State, dict]:
    """One step of D, then one of G against the new D, on the same batch, noise and hint."""
    resolved = resolve(knobs, state.step)
    batch = batch.replace(axis_name=axis_name)
    shared = view(resolved, batch, Draws(jax.random.fold_in(state.key, state.step), batch.index))
    metrics, new = {}, state
    for name, terms in (("discriminator", discriminator_terms), ("generator", generator_terms)):
        other = new.generator if name == "discriminator" else new.discriminator

        def loss(params, name=name, terms=terms, other=other):
            values = terms(resolved, params[name], other.params, shared)
            return values["loss"].mean(), ({name: {}}, values)

        new, norms, values = gradient_step(resolved, new, (name,), loss, axis_name)
        metrics |= mean_terms(name, values, axis_name) | norms
    return finish_step(knobs, resolved, state, new, {"params": new.generator.params, "stats": {}}), metrics


# ---- what a trained one is for -----------------------------------------------------------------


def impute(knobs: Gain, params: Any, values: Array, mask: Array, z: Any = None) -> Float[Array, "b d"]:
    """G's answer for every cell of rows [b, cells], observed ones too; for categories,
    probabilities.

    params: the generator's, `state.ema["params"]`
    z:      what stands in missing cells, as a share of the noise's range, broadcast to [b, cells];
            None for the middle of the range, so that no row's answer depends on chance
    """
    z = (0.5 if z is None else z) * jnp.asarray(knobs.noise, values.dtype)
    return fill(knobs, params, jnp.where(mask > 0, values, z), mask.astype(values.dtype))


def evaluate(knobs: Gain, state: State, train: tuple, validation: tuple) -> dict[str, Array]:
    """RMSE of G on training and held-out rows: see `cells.errors_of`."""
    return cells.errors_of(impute, knobs, state, train, validation)


GAIN = part("imputation", "GAIN")(Game(init, step, lambda knobs: knobs.batch_size, GAN.dtype, check, evaluate))
