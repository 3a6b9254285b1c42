"""MisGAN (Li, Jiang & Marlin, 2019): a GAN of complete examples that is trained on incomplete ones,
with an imputer.

A data generator G_x makes complete examples, and a mask generator G_m makes masks. A critic D_x
compares the masked data with masked examples of G_x, where f(x, m) = m x + (1 - m) tau. A second
critic D_m compares masks. The imputer G_i fills in the data, and a third critic D_i compares the
completed data with examples of G_x. All critics are Wasserstein critics:

    L_x = E D_x(f(x, m)) - E D_x(f(G_x(z), G_m(e)))    D_x: max L_x    G_x: min L_x + beta L_i
    L_m = E D_m(m) - E D_m(G_m(e))                     D_m: max L_m    G_m: min L_m + alpha L_x
    L_i = E D_i(G_x(z)) - E D_i(m x + (1 - m) G_i)     D_i: max L_i    G_i: min L_i + gamma mismatch

Each critic has the gradient penalty gp * (|grad D| - 1)^2 (Gulrajani et al., 2017). The mismatch
comes from the authors' code: sum(m (x - G_i)^2) / sum(m) of each row, averaged over the rows. The
masks are assumed to be independent of the values (MCAR).

In the authors' code (steveli/misgan) the term that beta weighs is the imputer's share of L_i, on
which G_x has no influence. There beta changes nothing, so `beta=0` trains as the code does. The
default is the paper's game and number.

`gan.fit(misgan.recipe((28, 28, 1)), data)` and `gan.sweep` train it, and every number is a leaf.
See `cells.py` for what an example is. `fit(...).samples(n)` gives complete examples: uint8 images,
or rows in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from gan_jax.core.batch import Batch, device_mean, split_batch
from gan_jax.core.bind import Bound, number, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION
from gan_jax.core.parts import part
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import Draws, named
from gan_jax.data.checks import refuse_penalties
from gan_jax.games.imputation.cells import check_cells, errors_of
from gan_jax.games.imputation.misgan import losses
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, finish_step, init_player, keep_dtypes
from gan_jax.gan.turns import mean_terms, optimizer_step, total_loss

GENERATORS = ("data_generator", "mask_generator", "imputer")
CRITICS = ("data_critic", "mask_critic", "imputer_critic")


@part("imputation")
class MisGAN(struct.PyTreeNode):
    """A MisGAN, as data. Leaves can be swept inside one program; `recipe` says what they mean.

    The networks of the generators and of the imputer return logits, which the game maps to numbers
    in [0, 1]. An imputer takes rows [b, 2 k], values (noise where missing) and mask, and returns
    [b, k]. A MisGAN without an imputer has no imputer critic either: both are None.
    """

    data_generator: Side
    mask_generator: Side
    imputer: Side | None
    data_critic: Side
    mask_critic: Side
    imputer_critic: Side | None
    alpha: Any = 0.1
    beta: Any = 0.1
    gamma: Any = 0.0
    tau: Any = 0.0
    gp: Any = 10.0
    noise: Any = 1.0
    temperature: Any = 0.66
    stretch: Any = 0.1
    ema_decay: Any = 0.999
    image_shape: tuple[int, ...] = static(default=())
    latent_dim: int = static(default=128)
    batch_size: int = static(default=64)
    d_steps: int = static(default=5)
    dtype: str = static(default="float32")

    def __post_init__(self):
        for name in ("alpha", "beta", "gamma", "tau", "gp", "noise", "temperature", "stretch", "ema_decay"):
            object.__setattr__(self, name, number(getattr(self, name)))

    @property
    def game(self) -> Game:
        """The game that `fit` and `sweep` train."""
        return MISGAN

    @property
    def features(self) -> int:
        """Cells of an example."""
        return int(np.prod(self.image_shape))

    def players(self, names: tuple[str, ...] = GENERATORS + CRITICS) -> list[str]:
        """Those of the names that have a player."""
        return [name for name in names if getattr(self, name) is not None]


def check_knobs(knobs: MisGAN) -> None:
    """Raises UserError for a number that is not finite or outside its range."""
    check_numbers(knobs)
    for name, bad, what in (("tau", lambda x: x > 1, "lie in [0, 1]"), ("temperature", lambda x: x <= 0, "be above 0")):
        value = getattr(knobs, name)
        if not isinstance(value, Bound) and np.any(bad(np.asarray(value))):
            raise UserError(f"misgan: {name} is {float(np.max(value)):g}: it must {what}")


class MisGANState(struct.PyTreeNode):
    """Everything that changes in training.

    ema: {"params", "stats"}, each {name of a generator: its moving average}
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    data_generator: Player
    mask_generator: Player
    imputer: Player | None
    data_critic: Player
    mask_critic: Player
    imputer_critic: Player | None
    ema: Any


# ---- one step ----------------------------------------------------------------------------------


def critics_turn(resolved: MisGAN, state: MisGANState, batch: Batch, draws: Draws) -> tuple[MisGANState, dict]:
    """Each critic takes one optimizer step, on these examples and the same fresh fakes."""
    draws, axis_name = draws.replace(index=batch.index).named("critics"), batch.axis_name
    x, mask = losses.observed(resolved, batch.images, batch.mask)
    data, masks = (
        losses.generated(resolved, state, name, getattr(state, name).params, draws, axis_name)[0]
        for name in ("data_generator", "mask_generator")
    )
    masked = partial(losses.masked, resolved)
    pairs = {"data_critic": (masked(x, mask), masked(data, masks)), "mask_critic": (mask, masks)}
    if state.imputer is not None:
        made = losses.filled(resolved, state.imputer.params, x, mask, draws, axis_name)
        pairs["imputer_critic"] = (data, jnp.where(mask > 0, x, made))
    new, metrics = state, {}
    for name, pair in pairs.items():
        terms = partial(losses.critic_terms, resolved, name, pair, draws.named(name))
        new, found = _update(resolved, new, name, terms, axis_name)
        metrics |= found
    return new, metrics


def generators_turn(resolved: MisGAN, state: MisGANState, batch: Batch, draws: Draws) -> tuple[MisGANState, dict]:
    """The generators and the imputer each take one optimizer step from the same state."""
    draws, new, metrics = draws.replace(index=batch.index).named("generators"), state, {}
    examples = losses.observed(resolved, batch.images, batch.mask)
    for name in resolved.players(GENERATORS):
        terms_of = losses.imputer_terms if name == "imputer" else losses.generator_terms
        terms = partial(terms_of, resolved, state, name, examples, draws, batch.axis_name)
        new, found = _update(resolved, new, name, terms, batch.axis_name)
        metrics |= found
    return new, metrics


def _update(resolved: MisGAN, state: MisGANState, name: str, terms: Callable, axis_name) -> tuple[MisGANState, dict]:
    """One optimizer step of the named player; metrics.

    terms: from its parameters to (its loss {name: [b]}, of which it minimises the mean; new
           statistics)
    """

    def objective(params):
        values, stats = terms(params)
        return total_loss(values), (stats, values)

    player = getattr(state, name)
    gradient, (stats, values) = jax.grad(objective, has_aux=True)(player.params)
    gradient = device_mean(gradient, axis_name)
    new = keep_dtypes(optimizer_step(getattr(resolved, name), player, gradient, stats), player)
    metrics = mean_terms(name, values, axis_name) | {f"{name}/gradient_norm": optax.tree.norm(gradient)}
    return state.replace(**{name: new}), metrics


def init(knobs: MisGAN, key: Key[Array, ""]) -> MisGANState:
    """A fresh state in `knobs.dtype`. Raises UserError for a critic or an imputer with running
    statistics, and for penalties: no player takes any, since `gp` weighs those of the critics."""
    refuse_penalties("MisGAN", knobs, *knobs.players())
    resolved = resolve(knobs, jnp.int32(0))
    zeros = lambda *shape: jnp.zeros((2, *shape), resolved.dtype)
    inputs = dict.fromkeys(GENERATORS, zeros(resolved.latent_dim)) | dict.fromkeys(CRITICS, zeros(*resolved.image_shape))
    inputs["imputer"] = zeros(2 * resolved.features)
    players: dict[str, Any] = dict.fromkeys(inputs)
    for name in resolved.players():
        players[name] = init_player(getattr(resolved, name), named(key, name), inputs[name], None, resolved.dtype)
        if players[name].stats and (name in CRITICS or name == "imputer"):
            raise UserError(f"misgan: the {name} has running statistics: give a network without batch norm")
    state = MisGANState(jnp.int32(0), key, **players, ema=None)
    return state.replace(ema=jax.tree.map(jnp.copy, _latest(state)))  # donation: no shared buffers


def step(knobs: MisGAN, state: MisGANState, batch: Batch, axis_name: str | None = None) -> tuple[MisGANState, dict]:
    """`d_steps` turns of the critics, each on its own part of the batch, then one turn of the
    generators on the last part.

    axis_name: the device axis under pmap. Returns the new state, and scalars averaged over the
    whole batch. Raises UserError for a batch that does not divide into d_steps equal parts.
    """
    resolved = resolve(knobs, state.step)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    parts = split_batch(batch.replace(labels=None, weights=None, axis_name=axis_name), resolved.d_steps)
    new, of_critics = jax.lax.scan(lambda new, part: critics_turn(resolved, new, part, draws), state, parts)
    new, of_generators = generators_turn(resolved, new, jax.tree.map(lambda x: x[-1], parts), draws)
    metrics = jax.tree.map(lambda x: x.mean(0), of_critics) | of_generators
    return finish_step(knobs, resolved, state, new, _latest(new)), metrics


def _latest(state: MisGANState) -> dict:
    """What is averaged: each generator that there is, by its name."""
    players = {name: player for name in GENERATORS if (player := getattr(state, name)) is not None}
    return {part: {name: getattr(player, part) for name, player in players.items()} for part in ("params", "stats")}


# ---- what a trained one is for -----------------------------------------------------------------


def _sample(name: str, knobs: MisGAN, state: MisGANState, key, n: int, ema: bool, first: int) -> Float[Array, "n *shape"]:
    resolved = resolve(knobs, state.step)
    draws = Draws(named(key, f"{name} latent"), first + jnp.arange(n))
    z = draws.normal((resolved.latent_dim,), jnp.dtype(resolved.dtype))
    source = state.ema if ema else _latest(state)
    return losses.generate(resolved, name, source["params"][name], source["stats"][name], z, EVALUATION)[0]


def sample(
    knobs: MisGAN, state: MisGANState, key: Key[Array, ""], n: int, labels: Any = None, *, ema: bool = True, first: int = 0
) -> Float[Array, "n *shape"]:
    """n complete examples in [0, 1], from the moving average or the raw generator. Example i
    depends on the key and on `first + i` alone. labels are not used."""
    return _sample("data_generator", knobs, state, key, n, ema, first)


def sample_masks(
    knobs: MisGAN, state: MisGANState, key: Key[Array, ""], n: int, labels: Any = None, *, ema: bool = True, first: int = 0
) -> Float[Array, "n *shape"]:
    """n masks in [0, 1], 1 where a cell is observed, drawn as `sample` draws examples. They are
    independent of the examples of the same key."""
    return _sample("mask_generator", knobs, state, key, n, ema, first)


def impute(knobs: MisGAN, params: Any, values: Array, mask: Array, z: Any = None) -> Float[Array, "b d"]:
    """The imputer's answer for every cell of rows [b, cells], observed cells too, in [0, 1].

    params: `state.ema["params"]`, or {"imputer": its parameters}
    values: [b, cells]; those not observed may be NaN
    z:      what stands in missing cells, as a share of the noise's range, broadcast to [b, cells];
            None for the middle of the range, so that no row's answer depends on chance
    Raises UserError for knobs without an imputer.
    """
    if knobs.imputer is None:
        raise UserError("this MisGAN has no imputer: give misgan.recipe impute=True")
    z = jnp.asarray(0.5 if z is None else z, values.dtype)
    return losses.fill(knobs, params["imputer"], values, mask.astype(values.dtype), z, EVALUATION)


def evaluate(knobs: MisGAN, state: MisGANState, train: tuple, validation: tuple) -> dict[str, Array]:
    """How well D_x tells masked training rows from masked held-out rows, and the imputer's errors
    (see `cells.errors_of`).

    train, validation: (examples [n, 2, ...], labels). D/train_validation_auc is .5 at chance, and
    higher where D_x has memorised training rows.
    """
    resolved, logits = resolve(knobs, state.step), {}
    for name, (images, _) in {"train": train, "validation": validation}.items():
        examples = losses.masked(resolved, *losses.observed(resolved, images.astype(resolved.dtype), None))
        logits[name] = losses.criticise(resolved, "data_critic", state.data_critic.params, examples, EVALUATION)
    row = {f"D/{name}_logit": values.mean() for name, values in logits.items()}
    row["D/train_validation_auc"] = (1 + jnp.sign(logits["train"][:, None] - logits["validation"][None, :]).mean()) / 2
    if resolved.imputer is None:
        return row
    return row | errors_of(partial(impute, resolved, state.ema["params"]), train, validation, resolved.dtype)


def check(knobs: MisGAN, data: Any) -> None:
    """Raises UserError for a number out of its range, and for data that do not fit the knobs."""
    check_knobs(knobs)
    check_cells("MisGAN", knobs.features, data)


def _shown(knobs: MisGAN, state: MisGANState, key, n: int, labels=None, *, ema: bool = True, first: int = 0) -> Array:
    """`sample` in the scale that `Run.samples` takes: images in [-1, 1], rows as they are."""
    made = sample(knobs, state, key, n, labels, ema=ema, first=first)
    return 2 * made - 1 if made.ndim == 4 else made


MISGAN = part("imputation", "MISGAN")(
    Game(init, step, lambda knobs: knobs.batch_size * knobs.d_steps, lambda knobs: knobs.dtype, check, evaluate, sample=_shown)
)
