"""MisGAN (Li, Jiang & Marlin, 2019): a GAN of complete examples, learnt from incomplete ones alone,
and an imputer beside it.

A data generator G_x makes complete examples and a mask generator G_m makes masks; a critic D_x
compares them, masked, with the
data, masked: f(x, m) = m x + (1 - m) tau. A second critic D_m compares masks. The imputer G_i fills
in the data, and a third critic D_i compares what it filled with what G_x makes. With Wasserstein
critics

    L_x = E D_x(f(x, m)) - E D_x(f(G_x(z), G_m(e)))      D_x: max L_x      G_x: min L_x + beta L_i
    L_m = E D_m(m) - E D_m(G_m(e))                       D_m: max L_m      G_m: min L_m + alpha L_x
    L_i = E D_i(G_x(z)) - E D_i(m x + (1 - m) G_i)       D_i: max L_i      G_i: min L_i + gamma * mismatch

each critic with a gradient penalty, gp * (|grad D| - 1)^2 (Gulrajani et al., 2017). The mismatch,
of the authors' code, is sum(m (x - G_i)^2) / sum(m) of each row, in the mean. The masks are assumed
to be independent of the values (MCAR).

In the authors' code (steveli/misgan) the term that beta weighs is the imputer's share of L_i, on
which G_x has no influence: there beta changes nothing, and `beta=0` plays as the code does. The
default is the paper's game and number.

It is a `Game`: `gan.fit(misgan.recipe((28, 28, 1)), data)` and `gan.sweep` train it, and every number is a leaf. See `cells.py`
for what an example is. `fit(...).samples(n)` are complete examples: uint8 images, or rows in [0, 1].
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

from gan_jax import penalties
from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.bind import Bound, Schedule, number, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game, refuse_penalties
from gan_jax.core.net import EVALUATION, Mode, cast
from gan_jax.core.parts import part
from gan_jax.core.ranges import check_numbers
from gan_jax.core.rng import Draws, named
from gan_jax.games.imputation.cells import cells_of, check_cells, errors_of
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, moving_average
from gan_jax.gan.turns import optimizer_step, split_batch, total_loss

GENERATORS = ("data_generator", "mask_generator", "imputer")


CRITICS = ("data_critic", "mask_critic", "imputer_critic")


@part("imputation")
class MisGAN(struct.PyTreeNode):
    """A MisGAN, as data: numbers are leaves, so that a sweep over any is one program (see `recipe`
    for what they mean).

    The generators' networks and the imputer's answer with logits, what makes numbers in [0, 1] of
    them is the game's. An imputer takes rows [b, 2 k], values (noise where missing) and mask, and
    answers [b, k]. Without an imputer, and so without its critic, both are None.
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
        """What `fit` and `sweep` play with it."""
        return MISGAN

    @property
    def features(self) -> int:
        """Cells of an example."""
        return int(np.prod(self.image_shape))

    def players(self, names: tuple[str, ...] = GENERATORS + CRITICS) -> list[str]:
        """Those of the names that play."""
        return [name for name in names if getattr(self, name) is not None]


def check_knobs(knobs: MisGAN) -> None:
    """Raises UserError for a number that is not finite or outside its range."""
    check_numbers(knobs)
    for name, bad, what in (("tau", lambda x: x > 1, "lie in [0, 1]"), ("temperature", lambda x: x <= 0, "be above 0")):
        value = getattr(knobs, name)
        if not isinstance(value, Bound) and np.any(bad(np.asarray(value))):
            raise UserError(f"misgan: {name} is {float(np.max(value)):g}: it must {what}")


class MisGANState(struct.PyTreeNode):
    """Everything that changes in training. ema: {"params", "stats"}, of each generator by its name,
    their moving average."""

    step: Int[Array, ""]
    key: Key[Array, ""]
    data_generator: Player
    mask_generator: Player
    imputer: Player | None
    data_critic: Player
    mask_critic: Player
    imputer_critic: Player | None
    ema: Any


def generate(knobs: MisGAN, name: str, params: Any, stats: Any, z: Array, mode: Mode) -> tuple[Float[Array, "b *shape"], Any]:
    """(complete examples of the "data_generator", or masks of the "mask_generator", in [0, 1]; new
    stats)."""
    side = getattr(knobs, name)
    logits, stats = side.net.apply(params, stats, z, None, mode, side.numbers)
    if name == "data_generator":
        return jax.nn.sigmoid(logits).reshape(len(z), *knobs.image_shape), stats
    temperature, stretch = (jnp.asarray(x, logits.dtype) for x in (knobs.temperature, knobs.stretch))
    masks = jnp.clip(jax.nn.sigmoid(logits / temperature) * (1 + 2 * stretch) - stretch, 0, 1)
    return jnp.broadcast_to(masks, (len(z), *knobs.image_shape)), stats  # one channel may serve all


def fill(knobs: MisGAN, params: Any, x: Array, mask: Array, z: Array, mode: Mode) -> Float[Array, "b *shape"]:
    """G_i's answer for every cell, in [0, 1]. z: what stands in missing cells, as a share of the
    noise's range."""
    side, n = knobs.imputer, len(x)
    assert side is not None
    noisy = jnp.where(mask > 0, x, jnp.asarray(knobs.noise, x.dtype) * z)
    seen = jnp.concatenate([noisy.reshape(n, -1), mask.reshape(n, -1)], -1)
    return jax.nn.sigmoid(side.net.apply(params, {}, seen, None, mode, side.numbers)[0]).reshape(x.shape)


def masked(knobs: MisGAN, x: Array, mask: Array) -> Array:
    """f(x, m) = m x + (1 - m) tau."""
    return mask * x + (1 - mask) * jnp.asarray(knobs.tau, x.dtype)


def observed(knobs: MisGAN, images: Array, mask: Array | None) -> tuple[Array, Array]:
    """(values, 0 where they are missing; mask, 1 where they are observed), [b, *image_shape]
    both."""
    values, mask = cells_of(images, mask)
    shaped = lambda x: x.reshape(len(x), *knobs.image_shape)
    return shaped(jnp.where(mask, values, 0)), shaped(mask.astype(values.dtype))


def critic_terms(live: MisGAN, name: str, pair: tuple[Array, Array], draws: Draws, params: Any) -> tuple[dict, Any]:
    """(a critic's loss for each example of a pair (real, fake): D(fake) - D(real), and the penalty
    between them; no stats)."""
    side, (real, fake) = getattr(live, name), pair

    def said(examples, labels=None):
        return side.net.apply(params, {}, examples, labels, Mode(True, draws.named("judge")), side.numbers)[0]

    turn = penalties.PenaltyContext(
        critic=said, params=params, reals=real, fakes=fake, real_labels=None, fake_labels=None, draws=draws.named("penalty"),
        step=jnp.int32(0), generator=lambda z, labels: z, z=fake,  # the penalty looks at none of these
    )  # fmt: skip
    return {"loss": said(fake).logits - said(real).logits, "gp": penalties.wgan_gp(turn, weight=live.gp)}, {}


def generator_terms(live: MisGAN, state: MisGANState, name: str, seen: tuple, draws: Draws, axis_name, params: Any) -> tuple:
    """(the loss of the data or the mask generator for each example, term by term; new stats)."""
    at = lambda other: params if other == name else getattr(state, other).params
    data, data_stats = _generated(live, state, "data_generator", at("data_generator"), draws, axis_name)
    masks, mask_stats = _generated(live, state, "mask_generator", at("mask_generator"), draws, axis_name)
    judged = -_judged(live, state, "data_critic", masked(live, data, masks), draws)
    if name == "mask_generator":
        alpha = jnp.asarray(live.alpha, judged.dtype)
        return {"loss": -_judged(live, state, "mask_critic", masks, draws), "data": alpha * judged}, mask_stats
    if live.imputer is None:
        return {"loss": judged}, data_stats
    beta = jnp.asarray(live.beta, judged.dtype)
    return {"loss": judged, "imputation": beta * _judged(live, state, "imputer_critic", data, draws)}, data_stats


def imputer_terms(live: MisGAN, state: MisGANState, name: str, seen: tuple, draws: Draws, axis_name, params: Any) -> tuple:
    """(the imputer's loss for each example, term by term; its stats, of which there are none)."""
    x, mask = seen
    made = _filled(live, params, x, mask, draws, axis_name)
    per_example = lambda values: values.reshape(len(values), -1).sum(-1)
    mismatch = per_example(mask * jnp.square(x - made)) / jnp.maximum(per_example(mask), 1)
    loss = -_judged(live, state, "imputer_critic", jnp.where(mask > 0, x, made), draws)
    return {"loss": loss, "reconstruction": jnp.asarray(live.gamma, made.dtype) * mismatch}, {}


def critics_turn(live: MisGAN, state: MisGANState, batch: Batch, draws: Draws) -> tuple[MisGANState, dict]:
    """Each critic moves once, on these examples and the same fresh fakes."""
    draws, axis_name = draws.replace(index=batch.index).named("critics"), batch.axis_name
    x, mask = observed(live, batch.images, batch.mask)
    generated = lambda name: _generated(live, state, name, getattr(state, name).params, draws, axis_name)[0]
    data, masks = generated("data_generator"), generated("mask_generator")
    pairs = {"data_critic": (masked(live, x, mask), masked(live, data, masks)), "mask_critic": (mask, masks)}
    if state.imputer is not None:
        made = _filled(live, state.imputer.params, x, mask, draws, axis_name)
        pairs["imputer_critic"] = (data, jnp.where(mask > 0, x, made))
    new, metrics = state, {}
    for name, pair in pairs.items():
        terms = partial(critic_terms, live, name, pair, draws.named(name))
        new, said = _move(live, new, name, terms, axis_name)
        metrics |= said
    return new, metrics


def generators_turn(live: MisGAN, state: MisGANState, batch: Batch, draws: Draws) -> tuple[MisGANState, dict]:
    """The generators and the imputer move once, from the same point, against the critics as they
    are."""
    draws, new, metrics = draws.replace(index=batch.index).named("generators"), state, {}
    seen = observed(live, batch.images, batch.mask)
    for name in live.players(GENERATORS):
        of = imputer_terms if name == "imputer" else generator_terms
        terms = partial(of, live, state, name, seen, draws, batch.axis_name)
        new, said = _move(live, new, name, terms, batch.axis_name)
        metrics |= said
    return new, metrics


def init(knobs: MisGAN, key: Key[Array, ""]) -> MisGANState:
    """A fresh state in `knobs.dtype`. Raises UserError for a critic or an imputer with running
    statistics, and for
    penalties: no side takes any, `gp` weighs those of the critics.
    """
    refuse_penalties("MisGAN", knobs, *knobs.players())
    live = resolve(knobs, jnp.int32(0))
    z, examples = jnp.zeros((2, live.latent_dim), live.dtype), jnp.zeros((2, *live.image_shape), live.dtype)
    inputs = dict.fromkeys(GENERATORS, z) | dict.fromkeys(CRITICS, examples)
    inputs["imputer"] = jnp.zeros((2, 2 * live.features), live.dtype)
    players: dict[str, Any] = dict.fromkeys(inputs)
    for name in live.players():
        side = getattr(live, name)
        params, stats = cast(side.net.init(named(key, name), inputs[name], None, side.numbers), live.dtype)
        if stats and (name in CRITICS or name == "imputer"):
            raise UserError(f"misgan: the {name} has running statistics: give a network without batch norm")
        players[name] = Player(params, stats, cast(side.optimizer().init(params), live.dtype))
    state = MisGANState(jnp.int32(0), key, **players, ema=None)
    return state.replace(ema=jax.tree.map(jnp.copy, _latest(state)))  # donation: no shared buffers


def step(knobs: MisGAN, state: MisGANState, batch: Batch, axis_name: str | None = None) -> tuple[MisGANState, dict]:
    """`d_steps` turns of the critics, each with examples of its own, then one of the generators on
    the last of them.

    Returns the new state and scalars averaged over the whole batch. `axis_name` is the device axis under pmap. Raises UserError
    for a batch that cannot be dealt in d_steps equal parts.
    """
    live = resolve(knobs, state.step)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    hands = split_batch(batch.replace(labels=None, weights=None, axis_name=axis_name), live.d_steps)
    new, metrics = jax.lax.scan(lambda new, hand: critics_turn(live, new, hand, draws), state, hands)
    metrics = jax.tree.map(lambda x: x.mean(0), metrics)
    new, said = generators_turn(live, new, jax.tree.map(lambda x: x[-1], hands), draws)
    ramp = not isinstance(knobs.ema_decay, Schedule)
    ema = moving_average(live.ema_decay, state.step, state.ema, _latest(new), ramp)
    return new.replace(step=state.step + 1, ema=ema), metrics | said


def _generated(live, state, name, params, draws: Draws, axis_name) -> tuple[Array, Any]:
    """What the generator makes of fresh z ~ N(0, I) in training; new stats."""
    draws = draws.named(name)
    z = draws.named("latent").normal((live.latent_dim,), jnp.dtype(live.dtype))
    return generate(live, name, params, getattr(state, name).stats, z, Mode(True, draws, axis_name))


def _filled(live, params, x, mask, draws: Draws, axis_name) -> Array:
    """What the imputer makes of these examples and fresh noise in training."""
    draws = draws.named("imputer")
    return fill(live, params, x, mask, draws.named("noise").uniform(x.shape[1:], x.dtype), Mode(True, draws, axis_name))


def _judged(live, state, name, examples, draws: Draws) -> Float[Array, "b"]:
    """What a critic says in the turn of the generators."""
    side, player, mode = getattr(live, name), getattr(state, name), Mode(True, draws.named(name))
    return side.net.apply(player.params, {}, examples, None, mode, side.numbers)[0].logits


def _move(live, state, name: str, terms: Callable, axis_name) -> tuple[MisGANState, dict]:
    """The named player moves down the mean of its terms: params -> ({name: [b]}, new stats)."""

    def objective(params):
        values, stats = terms(params)
        return total_loss(values), (stats, values)

    player = getattr(state, name)
    gradient, (stats, values) = jax.grad(objective, has_aux=True)(player.params)
    gradient = device_mean(gradient, axis_name)
    after = optimizer_step(getattr(live, name), player, gradient, stats)
    after = jax.tree.map(lambda x, old: x if x.dtype == old.dtype else x.astype(old.dtype), after, player)
    metrics = {f"{name}/{k}": device_mean(v.mean(), axis_name) for k, v in values.items()}
    return state.replace(**{name: after}), metrics | {f"{name}/gradient_norm": optax.tree.norm(gradient)}


def _latest(state: MisGANState) -> dict:
    """What is averaged: of each generator that there is, by its name."""
    players = {name: player for name in GENERATORS if (player := getattr(state, name)) is not None}
    return {part: {name: getattr(player, part) for name, player in players.items()} for part in ("params", "stats")}


def _samples(name, knobs, state, key, n, labels=None, *, ema=True, first=0):
    live = resolve(knobs, state.step)
    z = Draws(named(key, f"{name} latent"), first + jnp.arange(n)).normal((live.latent_dim,), jnp.dtype(live.dtype))
    source = state.ema if ema else _latest(state)
    return generate(live, name, source["params"][name], source["stats"][name], z, EVALUATION)[0]


def sample(
    knobs: MisGAN, state: MisGANState, key: Key[Array, ""], n: int, labels: Any = None, *, ema: bool = True, first: int = 0
) -> Float[Array, "n *shape"]:
    """n complete examples in [0, 1], from the moving average or the raw generator; labels are not
    looked at.

    Example i depends on key and `first + i` alone.
    """
    return _samples("data_generator", knobs, state, key, n, labels, ema=ema, first=first)


def sample_masks(
    knobs: MisGAN, state: MisGANState, key: Key[Array, ""], n: int, labels: Any = None, *, ema: bool = True, first: int = 0
) -> Float[Array, "n *shape"]:
    """n masks in [0, 1], 1 where a cell is observed; otherwise as `sample`, of whose examples they
    are independent."""
    return _samples("mask_generator", knobs, state, key, n, labels, ema=ema, first=first)


def impute(knobs: MisGAN, params: Any, values: Array, mask: Array, z: Any = None) -> Float[Array, "b d"]:
    """The imputer's answer for every cell of rows [b, cells], in [0, 1]. Observed cells are its
    too.

    params: `state.ema["params"]`, or {"imputer": its parameters}. z: what stands in missing cells,
    as a share of the noise's range, [b, cells] or less; None for its middle, so that a row's answer
    is its own alone. Values not observed may be NaN.
    Raises UserError for knobs without an imputer.
    """
    if knobs.imputer is None:
        raise UserError("this MisGAN has no imputer: give misgan.recipe impute=True")
    z = jnp.asarray(0.5 if z is None else z, values.dtype)
    return fill(knobs, params["imputer"], values, mask.astype(values.dtype), z, EVALUATION)


def evaluate(knobs: MisGAN, state: MisGANState, train: tuple, validation: tuple) -> dict[str, Array]:
    """How well D_x tells masked training rows from masked held-out ones, and the imputer's RMSE:
    see `cells.errors_of`.

    train, validation: (examples [n, 2, ...], labels). D/train_validation_auc is .5 at chance; above
        it D_x has memorised.
    """
    live = resolve(knobs, state.step)
    side, judged = live.data_critic, {}
    for name, (images, _) in {"train": train, "validation": validation}.items():
        examples = masked(live, *observed(live, images.astype(live.dtype), None))
        judged[name] = side.net.apply(state.data_critic.params, {}, examples, None, EVALUATION, side.numbers)[0].logits
    row = {f"D/{name}_logit": logits.mean() for name, logits in judged.items()}
    row["D/train_validation_auc"] = (1 + jnp.sign(judged["train"][:, None] - judged["validation"][None, :]).mean()) / 2
    if live.imputer is None:
        return row
    return row | errors_of(partial(impute, live, state.ema["params"]), train, validation, live.dtype)


def check(knobs: MisGAN, data: Any) -> None:
    """Raises UserError for numbers out of range, and where the data do not fit: see
    `cells.check_cells`."""
    check_knobs(knobs)
    check_cells("MisGAN", knobs.features, data)


def _shown(knobs: MisGAN, state: MisGANState, key, n: int, labels=None, *, ema: bool = True, first: int = 0) -> Array:
    """`sample` in the scale that `Run.samples` takes: images in [-1, 1], rows as they are."""
    made = sample(knobs, state, key, n, labels, ema=ema, first=first)
    return 2 * made - 1 if made.ndim == 4 else made


__all__ = [
    "MISGAN", "MisGAN", "MisGANState", "check", "evaluate", "impute", "init", "sample", "sample_masks", "step",
]  # fmt: skip


MISGAN = part("imputation", "MISGAN")(
    Game(init, step, lambda knobs: knobs.batch_size * knobs.d_steps, lambda knobs: knobs.dtype, check, evaluate, sample=_shown)
)
