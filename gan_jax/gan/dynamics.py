"""Ways to play: in which order, and from which point, the two players move. Functions (recipe,
state, batch, draws, axis_name, **numbers) -> (state, metrics); the recipe's `play` is one of them,
bound.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.batch import Batch, device_mean
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import State
from gan_jax.gan.turns import PlayerGradient, apply_gradient, discriminator_turn, generator_turn, player_gradient, split_batch

PLAYERS = ("discriminator", "generator")


@part("dynamics")
def alternating(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """`d_steps` discriminator turns, each with reals of its own, then one generator turn
    (Goodfellow et al., 2014, algorithm 1, and the article's text).

    D <- D - rate * grad_D L_D(G, D), then G <- G - rate * grad_G L_G(G, D) against the new D.
    `d_steps`, the paper's k: 1 by default, as in its experiments; 5 in WGAN (Arjovsky et al.,
    2017).
    """
    state, last, d_metrics = _discriminator_turns(recipe, state, batch, draws, axis_name)
    state, g_metrics = generator_turn(recipe, state, last, _turn_draws(draws, "generator", 0, last), axis_name)
    return state, d_metrics | g_metrics


@part("dynamics")
def simultaneous(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """Both gradients at the same point, then both updates: w <- w - rate * F(w), with F = (grad_G
    L_G, grad_D L_D).

    Simultaneous gradient descent of Mescheder et al. (2017), and the article's code. It has no
    numbers. Raises UserError for more than one discriminator turn: there is no such thing at one
    point.
    """
    return _move_both(recipe, state, _both(recipe, state, batch, draws, axis_name))


@part("dynamics")
def extragradient(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """Both players look from one step ahead and move from where they are (Korpelevich, 1976; Gidel
    et al., 2019, alg. 2 and 4).

    w' = w - rate * F(w); w <- w - rate * F(w'). Both looks are at one batch with one set of draws
    (Gidel et al. draw anew). An optimizer with a memory (Adam) remembers both looks, as their
    ExtraAdam. It has no numbers but the optimizers', and costs two simultaneous steps. Raises
    UserError for more than one discriminator turn: both look from one point.
    """
    ahead, _ = simultaneous(recipe, state, batch, draws, axis_name)
    seen = _both(recipe, ahead, batch, draws, axis_name)
    back = {name: getattr(ahead, name).replace(params=getattr(state, name).params) for name in PLAYERS}
    return _move_both(recipe, ahead.replace(**back), seen)


@part("dynamics")
def consensus(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name, *, weight) -> tuple[State, dict]:
    """Simultaneous play on F + weight * grad |F|^2 / 2, F being both players' gradients (Mescheder
    et al., 2017, equation 12).

    weight: gamma of the paper, 10 for its images and .1 for its toys' default [their code]; at
    least 0, without a default. Costs about two simultaneous steps and keeps the memory of a second
    derivative. Raises UserError for more than one discriminator turn: |F|^2 is of one point.
    """
    here = {name: getattr(state, name).params for name in PLAYERS}

    def energy(params):
        optimizer_step = {name: getattr(state, name).replace(params=params[name]) for name in PLAYERS}
        seen = _both(recipe, state.replace(**optimizer_step), batch, draws, axis_name)
        return sum(optax.tree.norm(s.gradient, squared=True) for s in seen.values()) / 2, seen

    slope, seen = jax.grad(energy, has_aux=True)(here)
    slope = device_mean(slope, axis_name)
    add = lambda f, s: f + jnp.asarray(weight, f.dtype) * s
    seen = {name: s._replace(gradient=jax.tree.map(add, s.gradient, slope[name])) for name, s in seen.items()}
    return _move_both(recipe, state, seen)


@part("dynamics")
def unrolled(
    recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name, *, rate, steps: int = 5
) -> tuple[State, dict]:
    """D's turns as in `alternating`; then G moves against the D that `steps` steps of gradient
    descent would make of the D that it meets (Metz et al., 2017).

    D_{k+1} = D_k - rate * grad L_D(G, D_k), equation 7, all k on G's batch; G's gradient goes
    through them (equation 10). In the paper D_0 is the D before its turn: both players move from
    one point (equations 10 and 11, which their notebook runs at once and in no set order). Here it
    is the D after its turns, so that 0 steps are `alternating`.

    rate: of those steps, above 0, without a default (1e-4 in the paper's toys, with Adam's steps in
        their notebook).
    steps: 5 by default, their notebook's; the paper has 5 and 10. Each is a discriminator turn and
    its derivative: with 5 of them a step takes 6.6 times as long as an alternating one.
    """
    optimizer_step, batch, d_metrics = _discriminator_turns(recipe, state, batch, draws, axis_name)
    draws = draws.replace(index=batch.index)
    d, ahead = optimizer_step.discriminator, draws.named("unrolled")
    step = lambda p, g: p - jnp.asarray(rate, p.dtype) * g

    def lookahead(params: Any) -> Any:
        """The discriminator's parameters ahead, for these parameters of G."""
        here = optimizer_step.replace(generator=optimizer_step.generator.replace(params=params))

        def once(params):
            seen = player_gradient(
                recipe, here.replace(discriminator=d.replace(params=params)), "discriminator", batch, ahead, axis_name
            )
            return jax.tree.map(step, params, seen.gradient)

        return jax.lax.scan(lambda params, _: (jax.checkpoint(once)(params), None), d.params, None, length=steps)[0]

    seen = player_gradient(recipe, optimizer_step, "generator", batch, draws.named("generator"), axis_name, lookahead)
    new, g_metrics = apply_gradient(recipe, optimizer_step, "generator", seen)
    return new, d_metrics | g_metrics


# ---- what they share ---------------------------------------------------------------------------


def _discriminator_turns(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, Batch, dict]:
    """D's turns, each with its own share of the batch; (state, the last turn's batch, mean
    metrics)."""
    turns = _rounds(batch, recipe.d_steps)

    def discriminate(state, turn):
        batch, i = turn
        return discriminator_turn(recipe, state, batch, _turn_draws(draws, "discriminator", i, batch), axis_name)

    last = jax.tree.map(lambda x: x[-1], turns)
    if recipe.d_steps == 1:
        state, metrics = discriminate(state, (last, 0))
        return state, last, metrics
    state, metrics = jax.lax.scan(discriminate, state, (turns, jnp.arange(recipe.d_steps)))
    return state, last, jax.tree.map(lambda x: x.mean(0), metrics)


def _one_turn(recipe: Recipe, name: str) -> None:
    if recipe.d_steps != 1:
        raise UserError(f"{name} play has one discriminator turn, not d_steps = {recipe.d_steps}: play alternating or unrolled")


def _both(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> dict[str, PlayerGradient]:
    """What either player sees from the same point."""
    _one_turn(recipe, recipe.play.name)
    return {name: player_gradient(recipe, state, name, batch, draws.named(name), axis_name) for name in PLAYERS}


def _move_both(recipe: Recipe, state: State, seen: dict[str, PlayerGradient]) -> tuple[State, dict]:
    """Both updates; what each player remembers is its own."""
    memory, metrics = dict(state.memory), {}
    for name, mine in seen.items():
        state, measured = apply_gradient(recipe, state, name, mine)
        memory |= {k: v for k, v in mine.memory.items() if k == name}
        metrics |= measured
    return state.replace(memory=memory), metrics


def _rounds(batch: Batch, turns: int) -> Batch:
    """The batch dealt to turns, each with a numbering of its own."""
    dealt = split_batch(batch, turns)
    return dealt.replace(index=dealt.index // turns)


def _turn_draws(draws: Draws, name: str, turn, batch: Batch) -> Draws:
    key = jax.random.fold_in(draws.key, turn) if isinstance(turn, jax.Array) else draws.key
    return Draws(key, batch.index).named(name)
