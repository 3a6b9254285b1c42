"""The game: two players, one pure step. The only file that knows both players.

    init       (recipe, key)                -> State
    train_step (recipe, state, batch)       -> (State, metrics: dict of scalars)
    sample     (recipe, state, key, n, ...) -> images

`train_step` reads like the algorithm: discriminator turns, then a generator turn (`alternating`), or both from the same
point (`simultaneous`). It runs under jit, scan, vmap, sharding by placement, and pmap with a named axis.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from gan_jax import penalties
from gan_jax.draws import Draws, named
from gan_jax.errors import UserError
from gan_jax.game import Batch
from gan_jax.networks.net import EVALUATION, Judgement, Mode, cast, device_mean
from gan_jax.penalties import Turn
from gan_jax.recipe import Recipe, Side, effective


class Player(struct.PyTreeNode):
    """params, stats (linen's other collections: running averages) and the optimizer's state."""

    params: Any
    stats: Any
    opt_state: Any


class State(struct.PyTreeNode):
    """Everything that changes in training, mirroring the Recipe. `key` is constant: draws fold in `step`.

    ema:    {"params", "stats"}: the generator's moving average
    memory: what penalties remember, {player: {penalty: ...}}, and live values of controlled leaves, {"live": {path: value}}
    """

    step: Int[Array, ""]
    key: Key[Array, ""]
    generator: Player
    discriminator: Player
    ema: Any
    memory: Any


# ---- the three functions ----------------------------------------------------------------------------------------------


def init(recipe: Recipe, key: Key[Array, ""]) -> State:
    """A fresh state: parameters and statistics in `recipe.dtype`, the moving average a copy of the generator's.

    Raises UserError for a recipe that cannot be built (unsupported image size, simultaneous play with several turns).
    """
    recipe = effective(recipe, jnp.int32(0))
    draws = Draws(named(key, "init"), jnp.arange(2))
    labels = jnp.zeros(2, jnp.int32) if recipe.classes else None
    z = recipe.latent(draws, labels, jnp.float32)

    def player(side: Side, name: str, inputs) -> Player:
        params, stats = cast(side.net.init(named(key, name), inputs, labels, side.numbers), recipe.dtype)
        return Player(params, stats, cast(side.optimizer().init(params), recipe.dtype))

    generator = player(recipe.generator, "generator", z)
    images, _ = generate(recipe, generator.params, generator.stats, z, labels, EVALUATION)
    memory = {}
    for name in ("generator", "discriminator"):
        remembered = {k: penalties.initial_memory(p) for k, p in getattr(recipe, name).penalties.items()}
        if remembered := {k: jax.tree.map(jnp.float32, v) for k, v in remembered.items() if v}:
            memory[name] = cast(remembered, recipe.dtype)
    return State(
        step=jnp.int32(0),
        key=key,
        generator=generator,
        discriminator=player(recipe.discriminator, "discriminator", images),
        ema=jax.tree.map(jnp.copy, {"params": generator.params, "stats": generator.stats}),  # donation: no shared buffers
        memory=memory,
    )


def train_step(recipe: Recipe, state: State, batch: Batch, axis_name: str | None = None) -> tuple[State, dict]:
    """One step of the game: both players move. `axis_name` is the device axis under pmap.

    Returns the new state and scalars averaged over the whole batch: each player's loss, penalties, logits, gradient norms.
    """
    live = effective(recipe, state.step, state.memory.get("live"))
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    new, metrics = live.play(live, state, batch, draws, axis_name)
    new = new.replace(step=state.step + 1, ema=_moving_average(live, state, new))
    return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state), metrics


def sample(recipe: Recipe, state: State, key: Key[Array, ""], n: int, labels=None, *, ema: bool = True, first: int = 0):
    """n generated examples [n, ...] in the data's scale, from the moving average or the raw generator.

    Example i depends on key and `first + i` alone, so a long sample may be drawn in pieces. labels: [n], or None for every
    class in turn when the recipe is conditional.
    """
    live = effective(recipe, state.step, state.memory.get("live"))
    index = first + jnp.arange(n)
    if live.classes and labels is None:
        labels = index % live.classes
    z = live.latent(Draws(named(key, "latent"), index), labels, jnp.dtype(live.dtype))
    source = state.ema if ema else {"params": state.generator.params, "stats": state.generator.stats}
    return generate(live, source["params"], source["stats"], z, labels, EVALUATION)[0]


# ---- ways to play -----------------------------------------------------------------------------------------------------


def alternating(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """`d_steps` discriminator turns, each with reals of its own, then one generator turn (the article's text)."""
    turns = _deal(batch, recipe.d_steps)

    def discriminate(state, turn):
        batch, i = turn
        return discriminator_turn(recipe, state, batch, _turn_draws(draws, "discriminator", i, batch), axis_name)

    last = jax.tree.map(lambda x: x[-1], turns)
    if recipe.d_steps == 1:
        state, d_metrics = discriminate(state, (last, 0))
    else:
        state, d_metrics = jax.lax.scan(discriminate, state, (turns, jnp.arange(recipe.d_steps)))
        d_metrics = jax.tree.map(lambda x: x.mean(0), d_metrics)
    state, g_metrics = generator_turn(recipe, state, last, _turn_draws(draws, "generator", 0, last), axis_name)
    return state, d_metrics | g_metrics


def simultaneous(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """Both gradients at the same point, then both updates (the article's code).

    Raises UserError for more than one discriminator turn: there is no such thing at one point.
    """
    if recipe.d_steps != 1:
        raise UserError(f"simultaneous play has one discriminator turn, not d_steps = {recipe.d_steps}: play alternating")
    moved, d_metrics = discriminator_turn(recipe, state, batch, draws.named("discriminator"), axis_name)
    new, g_metrics = generator_turn(recipe, state, batch, draws.named("generator"), axis_name)
    memory = state.memory | {k: v for k, v in moved.memory.items() if k == "discriminator"}
    memory |= {k: v for k, v in new.memory.items() if k == "generator"}
    return new.replace(discriminator=moved.discriminator, memory=memory), d_metrics | g_metrics


def _deal(batch: Batch, turns: int) -> Batch:
    """[turns * b, ...] -> [turns, b, ...]: example j goes to turn j % turns, so a device's share stays on that device."""
    n = len(batch.index)
    if n % turns:
        raise UserError(f"{n} examples cannot be dealt to {turns} discriminator turns: give a multiple")
    dealt = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(n // turns, turns, *x.shape[1:]), 1, 0), batch)
    return dealt.replace(index=dealt.index // turns)


def _turn_draws(draws: Draws, name: str, turn, batch: Batch) -> Draws:
    key = jax.random.fold_in(draws.key, turn) if isinstance(turn, jax.Array) else draws.key
    return Draws(key, batch.index).named(name)


# ---- turns ------------------------------------------------------------------------------------------------------------


def discriminator_turn(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """D moves once, against fresh fakes. The generator's batch statistics are its own turn's business and stay."""
    g, d = state.generator, state.discriminator
    z, labels = _latents(recipe, batch, draws)
    fakes, _ = generate(recipe, g.params, g.stats, z, labels, _training(draws.named("generate"), axis_name))

    def objective(params):
        real, fake, stats = judge_both(recipe, params, d.stats, batch, fakes, labels, draws.named("judge"), axis_name)
        terms = recipe.loss(real, fake, batch)
        values = {"loss": _weighted(terms.real, batch.weights) + terms.fake}
        turn = _turn(recipe, state, "discriminator", params, batch, fakes, z, labels, draws, axis_name)
        values, memory = _with_penalties(recipe.discriminator, "discriminator", values, turn, state.memory)
        logits = {"discriminator/real_logit": real.logits, "discriminator/fake_logit": fake.logits}
        return total(values), (stats, memory, _means(values, "discriminator", axis_name) | _average(logits, axis_name))

    player, (stats, memory, metrics) = move(recipe.discriminator, d, objective, "discriminator", axis_name)
    return state.replace(discriminator=player.replace(stats=stats), memory=memory), metrics


def generator_turn(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """G moves once. D's batch statistics are its own turn's business and stay."""
    g, d = state.generator, state.discriminator
    z, labels = _latents(recipe, batch, draws)

    def objective(params):
        fakes, stats = generate(recipe, params, g.stats, z, labels, _training(draws.named("generate"), axis_name))
        real, fake, _ = judge_both(recipe, d.params, d.stats, batch, fakes, labels, draws.named("judge"), axis_name)
        values = {"loss": recipe.loss(real, fake, batch).generator}
        turn = _turn(recipe, state, "generator", params, batch, fakes, z, labels, draws, axis_name)
        values, memory = _with_penalties(recipe.generator, "generator", values, turn, state.memory)
        return total(values), (stats, memory, _means(values, "generator", axis_name))

    player, (stats, memory, metrics) = move(recipe.generator, g, objective, "generator", axis_name)
    return state.replace(generator=player.replace(stats=stats), memory=memory), metrics


def move(side: Side, player: Player, objective, name: str, axis_name) -> tuple[Player, tuple]:
    """The one place that turns a gradient into parameters, for either player."""
    (_, (stats, memory, metrics)), gradient = jax.value_and_grad(objective, has_aux=True)(player.params)
    gradient = device_mean(gradient, axis_name)
    updates, opt_state = side.optimizer().update(gradient, player.opt_state, player.params)
    params = jax.tree.map(lambda p, u: p + u.astype(p.dtype), player.params, updates)
    metrics[f"{name}/gradient_norm"] = optax.tree.norm(gradient)
    return Player(params, player.stats, opt_state), (stats, memory, metrics)


def total(values: dict[str, Float[Array, "b"]]) -> Float[Array, ""]:
    """What the player minimises: the mean over examples of the sum of all terms."""
    return sum(v.mean() for v in values.values())  # pyright: ignore[reportReturnType]


# ---- what a turn needs ------------------------------------------------------------------------------------------------


def generate(recipe: Recipe, params, stats, z, labels, mode: Mode) -> tuple[Any, Any]:
    """(images, new stats) of the generator with these parameters."""
    side = recipe.generator
    return side.net.apply(params, stats, z, labels, mode, side.numbers, recipe.compute_dtype)


def judge(recipe: Recipe, params, stats, images, labels, draws: Draws, axis_name) -> tuple[Judgement, Any]:
    """(Judgement, new stats) of the discriminator in training: it sees the augmented images."""
    side = recipe.discriminator
    for name, augment in recipe.augment.items():
        images = augment(images, labels, draws.named("augment", name))
    mode = _training(draws, axis_name)
    return side.net.apply(params, stats, images, labels, mode, side.numbers, recipe.compute_dtype)


def judge_both(recipe: Recipe, params, stats, batch: Batch, fakes, fake_labels, draws: Draws, axis_name):
    """(Judgement of reals, of fakes, new stats): in two passes, reals first, or in one if `recipe.judge_together`."""
    if not recipe.judge_together:
        real, stats = judge(recipe, params, stats, batch.images, batch.labels, draws.named("reals"), axis_name)
        fake, stats = judge(recipe, params, stats, fakes, fake_labels, draws.named("fakes"), axis_name)
        return real, fake, stats
    images, labels = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), (batch.images, batch.labels), (fakes, fake_labels))
    both = draws.replace(index=jnp.concatenate([draws.index, draws.index + recipe.batch_size]))
    judgement, stats = judge(recipe, params, stats, images, labels, both.named("both"), axis_name)
    n = len(fakes)
    return jax.tree.map(lambda x: x[:n], judgement), jax.tree.map(lambda x: x[n:], judgement), stats


def _training(draws: Draws, axis_name) -> Mode:
    return Mode(train=True, draws=draws, axis_name=axis_name)


def _latents(recipe: Recipe, batch: Batch, draws: Draws):
    labels = recipe.fake_labels(draws.named("labels"), batch, recipe.classes)
    return recipe.latent(draws.named("latent"), labels, batch.images.dtype), labels


def _turn(recipe, state, mover: str, params, batch, fakes, z, labels, draws: Draws, axis_name) -> Turn:
    """The record that penalties see, with the mover's current parameters in place."""
    g, d = state.generator, state.discriminator
    g_params, d_params = (params, d.params) if mover == "generator" else (g.params, params)
    look, make = draws.named("penalty", "critic"), draws.named("penalty", "generator")
    return Turn(
        critic=lambda images, y: judge(recipe, d_params, d.stats, images, y, look, axis_name)[0],
        generator=lambda z, y: generate(recipe, g_params, g.stats, z, y, _training(make, axis_name))[0],
        params=params, reals=batch.images, fakes=fakes, real_labels=batch.labels, fake_labels=labels, z=z,
        draws=draws.named("penalty"), step=state.step, axis_name=axis_name,
    )  # fmt: skip


def _with_penalties(side: Side, name: str, values: dict, turn: Turn, memory) -> tuple[dict, Any]:
    """The turn's terms with this player's penalties, and the memory that they leave."""
    mine = dict(memory.get(name, {}))
    for key, penalty in side.penalties.items():
        own = replace(turn, draws=turn.draws.named(key), memory=mine.get(key))
        values[key], after = penalties.evaluate(penalty, own)
        if key in mine:
            mine[key] = jax.lax.stop_gradient(after)
    return values, (memory | {name: mine}) if mine else memory


def _weighted(values, weights):
    return values if weights is None else values * weights


def _average(values: dict, axis_name) -> dict:
    return {k: device_mean(v.mean(), axis_name) for k, v in values.items()}


def _means(values: dict, name: str, axis_name) -> dict:
    return _average({f"{name}/{k}": v for k, v in values.items()}, axis_name)


def _moving_average(recipe: Recipe, old: State, new: State):
    """decay * ema + (1 - decay) * generator, parameters and statistics; the decay ramps up as (1 + t) / (10 + t)."""
    t = old.step.astype(jnp.float32)
    decay = jnp.minimum(recipe.ema_decay, (1 + t) / (10 + t))
    latest = {"params": new.generator.params, "stats": new.generator.stats}
    return jax.tree.map(lambda e, x: x + decay.astype(x.dtype) * (e - x), old.ema, latest)
