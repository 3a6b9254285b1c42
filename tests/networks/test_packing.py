"""Known answers: a packed critic sees packets, is regularised as a whole, and is a plain one at
size 1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax.core.net import EVALUATION
from gan_jax.networks.packing import Packed
from tests.tiny_games import assert_close

SLOPES = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)  # of a packet's two examples


class Linear(nn.Module):
    """A packet's logit: each example's product with its own slope, summed."""

    @nn.compact
    def __call__(self, rows, labels, mode):
        return gan.DiscriminatorOutput(rows @ jnp.asarray(SLOPES.ravel(), rows.dtype))


def packed(size, **fields):
    made = gan.recipes.mlp((2,), width=8, depth=1, batch_size=8, **fields)
    return made.replace(discriminator=made.discriminator.replace(net=Packed(made.discriminator.net, size)))


def test_a_packet_is_consecutive_examples_side_by_side():
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    output, _ = Packed(gan.Net(Linear()), 2).apply({}, {}, jnp.asarray(rows), None, EVALUATION, {})
    np.testing.assert_allclose(output.logits, [(rows[:2] * SLOPES).sum(), (rows[2:] * SLOPES).sum()])


def test_images_are_stacked_as_channels():
    seen = {}

    class Look(nn.Module):
        @nn.compact
        def __call__(self, images, labels, mode):
            seen["shape"] = images.shape
            return gan.DiscriminatorOutput(images.mean((1, 2, 3)))

    output, _ = Packed(gan.Net(Look()), 3).apply({}, {}, jnp.ones((7, 8, 8, 1)), None, EVALUATION, {})
    assert seen["shape"] == (2, 8, 8, 3) and output.logits.shape == (2,), "in evaluation the seventh is left out"


def test_each_example_of_a_packet_brings_its_label():
    seen = {}

    class Look(nn.Module):
        @nn.compact
        def __call__(self, images, labels, mode):
            seen["images"], seen["labels"] = images, labels
            return gan.DiscriminatorOutput(images.mean((1, 2, 3)))

    images = jnp.arange(4.0)[:, None, None, None] * jnp.ones((1, 2, 2, 1))
    Packed(gan.Net(Look()), 2, 3).apply({}, {}, images, jnp.asarray([2, 0, 1, 1]), EVALUATION, {})
    assert seen["labels"] is None and seen["images"].shape == (2, 2, 2, 8)
    by_hand = [[0, 0, 0, 1, 1, 1, 0, 0], [2, 0, 1, 0, 3, 0, 1, 0]]  # value and one-hot label, of both in turn
    np.testing.assert_array_equal(seen["images"], np.broadcast_to(np.asarray(by_hand)[:, None, None], (2, 2, 2, 8)))


def test_a_conditional_packed_game_trains_with_class_weights():
    made = gan.recipes.dcgan((8, 8, 1), width=2, latent_dim=3, classes=3, batch_size=4)
    inside = gan.recipes.dcgan((8, 8, 1), width=2).discriminator.net
    loss = gan.losses.class_weighted(gan.recipes.loss("hinge"), [4, 2, 1])
    made = made.replace(discriminator=made.discriminator.replace(net=Packed(inside, 2, 3)), loss=loss)
    batch = gan.Batch(jnp.zeros((4, 8, 8, 1)), jnp.arange(4), jnp.asarray([0, 1, 2, 0]))
    metrics = jax.eval_shape(lambda key: gan.train_step(made, gan.init(made, key), batch)[1], jax.random.key(0))
    assert {"discriminator/loss", "generator/loss"} <= metrics.keys()


def test_the_gradient_penalty_is_of_the_whole_packet():
    critic = lambda x, y: Packed(gan.Net(Linear()), 2).apply({}, {}, x, y, EVALUATION, {})[0]
    rows = jnp.ones((4, 2))
    turn = gan.PenaltyContext(
        critic=critic, generator=None, params={}, reals=rows, fakes=rows, real_labels=None, fake_labels=None, z=rows,
        draws=gan.Draws(jax.random.key(0), jnp.arange(4)), step=jnp.int32(0),
    )  # fmt: skip
    np.testing.assert_allclose(gan.penalties.r1(turn, gamma=2.0), [30.0, 30.0])  # 1 + 4 + 9 + 16
    assert gan.lazy(gan.bind(gan.penalties.r1, gamma=2.0), 2)(turn).shape == (2,)


def test_packets_of_one_are_no_packing():
    penalties = {"r1": gan.bind(gan.penalties.r1, gamma=1.0)}
    batch = gan.Batch(jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32), jnp.arange(8))
    after = []
    for made in (packed(1), gan.recipes.mlp((2,), width=8, depth=1, batch_size=8)):
        made = made.replace(discriminator=made.discriminator.replace(penalties=penalties))
        after.append(jax.jit(gan.train_step)(made, gan.init(made, jax.random.key(0)), batch)[0])
    assert_close(after[0].replace(memory={}), after[1].replace(memory={}), 1e-6)


def test_a_packed_game_trains_and_is_watched():
    run = gan.fit(packed(4, judge_together=True), gan.load("ring").subset(250), steps=4, log_every=2, progress=False,
                  checkpoint_every=2, sample_every=2)  # fmt: skip
    assert run.stopped is None and 0 <= run.history[-1]["D/train_validation_auc"] <= 1


def test_what_cannot_be_packed_is_refused():
    net = Packed(gan.Net(Linear()), 2)
    training = EVALUATION.replace(train=True)
    with pytest.raises(gan.UserError, match="batch of 3 does not divide into packets of 2"):
        net.apply({}, {}, jnp.ones((3, 2)), None, training, {})
    with pytest.raises(gan.UserError, match="Packed.net, size, classes."):
        net.apply({}, {}, jnp.ones((4, 2)), jnp.zeros(4, jnp.int32), training, {})
    with pytest.raises(gan.UserError, match="Packed.net, size, classes."):
        Packed(gan.Net(Linear()), 2, 3).apply({}, {}, jnp.ones((4, 2)), None, training, {})
