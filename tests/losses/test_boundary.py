"""A loss states itself at which logit its discriminator is undecided; a user's loss states it as
the library's do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.losses import Terms, boundary, decides_at


@decides_at(None)
def paired(real, fake, batch):
    """A user's own relativistic loss, of the formula of `rpgan`."""
    ahead = real.logits - fake.logits
    return Terms(jax.nn.softplus(-ahead), jnp.zeros_like(ahead), jax.nn.softplus(ahead))


def squared(real, fake, batch):
    """A user's loss that states nothing."""
    return Terms(jnp.square(real.logits - 1), jnp.square(fake.logits + 1), -fake.logits)


def around(loss, real, fake, batch):
    """A user's loss around another."""
    return loss(real, fake, batch)


def trained(loss):
    """What three steps log, and an evaluation, where all of D's logits lie far above 0."""
    recipe = gan.recipes.mlp(
        (2,), width=8, depth=1, loss=loss, batch_size=16, augment={"noise": gan.bind(gan.augment.instance_noise, std=0.1)},
        controllers={"augment.noise.std": gan.controllers.ada(horizon=100, every=1)},
    )  # fmt: skip
    state = gan.init(recipe, jax.random.key(0))
    high = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 7 if x.shape == (1,) and path[-1].key == "bias" else x, state.discriminator.params
    )
    state = state.replace(discriminator=state.discriminator.replace(params=high))
    points, logged = jax.random.normal(jax.random.key(1), (48, 2)), []
    for i in range(3):
        state, metrics = gan.train_step(recipe, state, gan.Batch(points[16 * i : 16 * (i + 1)], jnp.arange(16)))
        logged.append(metrics)
    return logged, gan.GAN.evaluate(recipe, state, (points[:16], None), (points[16:32], None)), state.memory


def test_a_relativistic_loss_of_the_user_s_logs_the_accuracies_and_drives_the_controller_of_the_library_s():
    (mine, seen, memory), (theirs, expected, told) = trained(paired), trained("rpgan")
    assert theirs[0]["discriminator/real_logit"] > 5 and -1 < theirs[0]["discriminator/real_sign"] < 1
    for a, b in zip(jax.tree.leaves((mine, seen, memory)), jax.tree.leaves((theirs, expected, told)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "loss, logit",
    [
        (gan.bind(squared), 0.0),
        (gan.bind(paired), None),
        (gan.bind(around, gan.bind(paired)), None),
        (gan.bind(around, gan.bind(gan.losses.least_squares)), 0.5),
        (gan.bind(decides_at(0.25)(lambda *args: around(*args)), gan.bind(paired)), 0.25),
    ],
)
def test_a_loss_states_its_boundary_or_has_that_of_the_loss_inside_or_0(loss, logit):
    assert boundary(loss) == logit
