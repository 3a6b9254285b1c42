"""A model of flax nnx is the same network as its linen twin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Mode
from gan_jax.networks import from_nnx


class Linen(nn.Module):
    width: int

    @nn.compact
    def __call__(self, rows, labels, mode, slope=0.0):
        x = nn.BatchNorm(use_running_average=not mode.train, momentum=0.9, name="norm")(
            nn.Dense(self.width, name="first")(rows)
        )
        return gan.DiscriminatorOutput(nn.Dense(1, name="last")(nn.leaky_relu(x, slope))[:, 0])


class Twin(nnx.Module):
    def __init__(self, rngs, width: int):
        self.first, self.last = nnx.Linear(2, width, rngs=rngs), nnx.Linear(width, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)

    def __call__(self, rows, labels, mode, slope=0.0):
        x = self.norm(self.first(rows), use_running_average=not mode.train)
        return gan.DiscriminatorOutput(self.last(nnx.leaky_relu(x, slope))[:, 0])


class Dropping(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)


class OneInput(nnx.Module):
    def __init__(self, rngs):
        self.last = nnx.Linear(2, 1, rngs=rngs)

    def __call__(self, rows):
        return gan.DiscriminatorOutput(self.last(rows)[:, 0])


LINEN, NNX = gan.Net(Linen(4)), from_nnx(Twin, width=4)
ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)


def test_logits_statistics_and_gradients_are_those_of_the_linen_twin():
    params, stats = LINEN.init(jax.random.key(0), ROWS, None, {})
    shapes = jax.tree.map(jnp.shape, NNX.init(jax.random.key(0), ROWS, None, {}))
    assert shapes == jax.tree.map(jnp.shape, (params, stats["batch_stats"]))
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for mode in (Mode(train=True), EVALUATION):
        run = lambda net, params, stats, mode=mode: net.apply(params, stats, ROWS, None, mode, {"slope": jnp.float32(0.3)})
        (linen, after), (twin, other) = run(LINEN, params, stats), run(NNX, params, stats["batch_stats"])
        jax.tree.map(same, (twin.logits, other), (linen.logits, after["batch_stats"]))
        slope = lambda net, stats, run=run: jax.grad(lambda p: jnp.square(run(net, p, stats)[0].logits).sum())(params)
        jax.tree.map(same, slope(NNX, stats["batch_stats"]), slope(LINEN, stats))


def test_a_recipe_takes_it_and_equal_ones_share_a_program():
    recipe = gan.recipes.with_network(gan.recipes.mlp((2,), width=4, depth=1, batch_size=6), "discriminator", lambda _: NNX)
    assert NNX == from_nnx(Twin, width=4) and NNX != from_nnx(Twin, width=5)
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    new, metrics = jax.eval_shape(gan.train_step, recipe, state, gan.Batch(ROWS, jnp.arange(6)))
    assert jax.tree.structure(new) == jax.tree.structure(state) and "discriminator/loss" in metrics


@pytest.mark.parametrize("model, said", [(Dropping, "No RngStream named 'dropout'"), (OneInput, "positional argument")])
def test_a_model_that_draws_on_its_own_or_takes_other_inputs_is_refused(model, said):
    net = from_nnx(model)
    with pytest.raises(gan.UserError, match=said) as error:
        net.apply(*net.init(jax.random.key(0), ROWS, None, {}), ROWS, None, EVALUATION, {})
    assert "mode.draws" in str(error.value) and "\n" not in str(error.value)
