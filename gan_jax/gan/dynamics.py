"""The dynamics of the game: in which order, and from which point, the two players are updated.

Each is a function (recipe, state, batch, draws, axis_name, **numbers) -> (state, metrics); a
recipe's `play` is one of them, bound. G is the generator and D the discriminator, w the parameters
of both; F is the pair of gradients of their losses (grad_G L_G, grad_D L_D).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.batch import Batch, device_mean, split_batch
from gan_jax.core.errors import UserError
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import State
from gan_jax.gan.turns import (
    PlayerGradient,
    apply_gradient,
    discriminator_loss,
    discriminator_turn,
    generator_loss,
    generator_turn,
    player_gradient,
)

PLAYERS = {"discriminator": discriminator_loss, "generator": generator_loss}


@part("dynamics")
def alternating(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """`d_steps` discriminator turns, each with reals of its own, then one generator turn.

    D <- D - rate * grad_D L_D(G, D), then G <- G - rate * grad_G L_G(G, D) against the new D
    (Goodfellow et al., 2014, algorithm 1, and the article's text). `d_steps`, their k, is 1 by
    default, as in their experiments; it is 5 in WGAN (Arjovsky et al., 2017).
    """
    state, last, d_metrics = repeated(discriminator_turn, recipe, state, batch, draws, axis_name)
    state, g_metrics = generator_turn(recipe, state, last, _turn_draws(draws, "generator", 0, last), axis_name)
    return state, d_metrics | g_metrics


@part("dynamics")
def simultaneous(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """Both gradients at the same point, then both updates: w <- w - rate * F(w) (Mescheder et al.,
    2017, and the article's code). Raises UserError for more than one discriminator turn."""
    return _apply_both(recipe, state, _both_gradients(recipe, state, batch, draws, axis_name))


@part("dynamics")
def extragradient(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, dict]:
    """Both players take their gradients one step ahead and apply them where they are (Korpelevich,
    1976; Gidel et al., 2019, algorithms 2 and 4).

    w' = w - rate * F(w), then w <- w - rate * F(w'), at the cost of two simultaneous steps. Both
    gradients are of one batch and one set of draws (Gidel et al. draw anew). An optimizer with a
    state sees both, as in their ExtraAdam. Raises UserError for more than one discriminator turn.
    """
    ahead, _ = simultaneous(recipe, state, batch, draws, axis_name)
    gradients = _both_gradients(recipe, ahead, batch, draws, axis_name)
    back = {name: getattr(ahead, name).replace(params=getattr(state, name).params) for name in PLAYERS}
    return _apply_both(recipe, ahead.replace(**back), gradients)


@part("dynamics")
def consensus(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name, *, weight) -> tuple[State, dict]:
    """Simultaneous descent along F + weight * grad |F|^2 / 2 (Mescheder et al., 2017, equation 12).

    weight: the paper's gamma, >= 0: 10 for its images, .1 for its toys (in their code). The cost is
    about two steps. Raises UserError for more than one discriminator turn.
    """
    here = {name: getattr(state, name).params for name in PLAYERS}

    def energy(params):
        players = {name: getattr(state, name).replace(params=params[name]) for name in PLAYERS}
        found = _both_gradients(recipe, state.replace(**players), batch, draws, axis_name)
        return sum(optax.tree.norm(x.gradient, squared=True) for x in found.values()) / 2, found

    slope, found = jax.grad(energy, has_aux=True)(here)
    slope = device_mean(slope, axis_name)
    add = lambda f, s: f + jnp.asarray(weight, f.dtype) * s
    found = {name: x._replace(gradient=jax.tree.map(add, x.gradient, slope[name])) for name, x in found.items()}
    return _apply_both(recipe, state, found)


@part("dynamics")
def unrolled(
    recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name, *, rate, steps: int = 5
) -> tuple[State, dict]:
    """The discriminator's turns as in `alternating`; then G descends against the D that `steps`
    gradient steps would make of the present one (Metz et al., 2017).

    D_{k+1} = D_k - rate * grad L_D(G, D_k), equation 7, all k on G's batch; the gradient of G goes
    through these steps (equation 10). D_0 is the D after its turns, so that 0 steps are
    `alternating`; in the paper it is the D before its turn (equations 10 and 11).

    rate: of those steps, > 0: 1e-4 in the paper's toys (their notebook takes Adam's steps).
    steps: 5 by default, as in their notebook; the paper has 5 and 10. With 5 a training step takes
    6.6 times as long as an alternating one.
    """
    state, batch, d_metrics = repeated(discriminator_turn, recipe, state, batch, draws, axis_name)
    draws = draws.replace(index=batch.index)
    d, ahead = state.discriminator, draws.named("unrolled")
    descend = lambda p, g: p - jnp.asarray(rate, p.dtype) * g

    def lookahead(g_params: Any) -> Any:
        """The discriminator's parameters after the steps, for these parameters of G."""
        here = state.replace(generator=state.generator.replace(params=g_params))

        def once(d_params):
            now = here.replace(discriminator=d.replace(params=d_params))
            found = player_gradient("discriminator", discriminator_loss, recipe, now, batch, ahead, axis_name)
            return jax.tree.map(descend, d_params, found.gradient)

        return jax.lax.scan(lambda params, _: (jax.checkpoint(once)(params), None), d.params, None, length=steps)[0]

    loss = partial(generator_loss, lookahead=lookahead)
    found = player_gradient("generator", loss, recipe, state, batch, draws.named("generator"), axis_name)
    state, g_metrics = apply_gradient(recipe, state, "generator", found)
    return state, d_metrics | g_metrics


# ---- what they share ---------------------------------------------------------------------------


def repeated(turn: Callable, recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> tuple[State, Batch, dict]:
    """`d_steps` discriminator turns, each on its own share of the batch: (state, share of the last
    turn, mean of the metrics over the turns)."""
    shares = split_batch(batch, recipe.d_steps)
    shares = shares.replace(index=shares.index // recipe.d_steps)  # each share's examples from 0, as split_batch dealt them

    def once(state, x):
        share, i = x
        return turn(recipe, state, share, _turn_draws(draws, "discriminator", i, share), axis_name)

    last = jax.tree.map(lambda x: x[-1], shares)
    if recipe.d_steps == 1:
        state, metrics = once(state, (last, 0))
        return state, last, metrics
    state, metrics = jax.lax.scan(once, state, (shares, jnp.arange(recipe.d_steps)))
    return state, last, jax.tree.map(lambda x: x.mean(0), metrics)


def _turn_draws(draws: Draws, name: str, turn, batch: Batch) -> Draws:
    key = jax.random.fold_in(draws.key, turn) if isinstance(turn, jax.Array) else draws.key
    return Draws(key, batch.index).named(name)


def _both_gradients(recipe: Recipe, state: State, batch: Batch, draws: Draws, axis_name) -> dict[str, PlayerGradient]:
    """Each player's gradient at the same point."""
    if recipe.d_steps != 1:
        name = recipe.play.name
        raise UserError(f"{name} play has one discriminator turn, not d_steps = {recipe.d_steps}: play alternating or unrolled")
    of = lambda name, loss: player_gradient(name, loss, recipe, state, batch, draws.named(name), axis_name)
    return {name: of(name, loss) for name, loss in PLAYERS.items()}


def _apply_both(recipe: Recipe, state: State, gradients: dict[str, PlayerGradient]) -> tuple[State, dict]:
    """The state after both updates; each player keeps the memory of its own penalties."""
    memory, metrics = dict(state.memory), {}
    for name, found in gradients.items():
        state, measured = apply_gradient(recipe, state, name, found)
        memory |= {k: v for k, v in found.memory.items() if k == name}
        metrics |= measured
    return state.replace(memory=memory), metrics
