"""Known answers: consistency penalties of linear players, and what the shifts are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax.core.batch import Batch
from gan_jax.networks.layers import perturbed
from gan_jax.penalties import bcr, cr, icr, zcr_discriminator, zcr_generator
from gan_jax.penalties.consistency import shifted
from tests.penalties.test_gradient import linear, turn

RNG = np.random.default_rng(0)
PIXELS = RNG.normal(size=(16, 8))


def pixel(x):
    """A critic that looks at one pixel alone."""
    return 3 * x[:, 2, 5, 0]


def draws(n, seed=0):
    return gan.Draws(jax.random.key(seed), jnp.arange(n))


# ---- the transformation ------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_images_shift_by_up_to_an_eighth_of_each_side_filled_by_reflection_all_shifts_equally_often(flip):
    """16 x 8 pixels move by 2 rows and 1 column at most: 15 windows of the reflected image, and of
    its mirror image."""
    n, images = 3000, np.stack([PIXELS, PIXELS[:, ::-1]])[: 1 + flip]
    wide = np.pad(images, [(0, 0), (2, 2), (1, 1)], mode="reflect")
    windows = np.stack([image[i : i + 16, j : j + 8] for image in wide for i in range(5) for j in range(3)])
    moved = shifted(jnp.broadcast_to(PIXELS[:, :, None], (n, 16, 8, 1)), draws(n), flip)[..., 0]
    distance = np.abs(windows[:, None, ::5, ::3] - np.asarray(moved)[None, :, ::5, ::3]).max((2, 3))
    found = distance.argmin(0)
    np.testing.assert_allclose(moved, windows[found], atol=1e-5)
    count, share = np.bincount(found, minlength=len(windows)), 1 / len(windows)
    assert (abs(count - n * share) < 4.5 * np.sqrt(n * share * (1 - share))).all()


def test_points_cannot_be_shifted():
    with pytest.raises(gan.UserError, match=r"images \[n, h, w, c\], not examples of shape \[3\]"):
        cr(turn(linear()), weight=1.0)


# ---- CR and bCR --------------------------------------------------------------------------------


def of_images(n=200):
    return turn(pixel, *RNG.normal(size=(2, n, 16, 8, 1)))


def test_cr_is_the_squared_difference_that_the_shift_of_a_real_makes(x64):
    """Of independent pixels: the expected square is 2 * 9 where the pixel moved (14 of 15 shifts),
    else 0."""
    values = np.asarray(cr(of_images(4000), weight=10.0))
    assert abs(values.mean() - 10 * 18 * 14 / 15) < 4 * values.std() / np.sqrt(4000)
    assert abs((values == 0).mean() - 1 / 15) < 4 * np.sqrt(1 / 15 * 14 / 15 / 4000)


def test_bcr_adds_the_fakes_by_their_share(x64):
    t = of_images()
    reals, both, more = cr(t, weight=10.0), bcr(t, weight=10.0), bcr(t, weight=10.0, fakes=3.0)
    np.testing.assert_array_equal(bcr(t, weight=10.0, fakes=0.0), reals)
    np.testing.assert_allclose(more - reals, 3 * (both - reals), rtol=1e-9)
    fakes_alone = bcr(turn(pixel, 0 * t.reals, t.fakes), weight=10.0)
    np.testing.assert_allclose(both - reals, fakes_alone, rtol=1e-9, atol=1e-9)
    assert fakes_alone.mean() > 1


def test_a_critic_that_overlooks_shifts_costs_nothing(x64):
    t = turn(lambda x: x.max((1, 2, 3)) * 0 + 7, *RNG.normal(size=(2, 4, 8, 8, 1)))
    np.testing.assert_array_equal(bcr(t, weight=10.0, flip=True), 0)


# ---- zCR ---------------------------------------------------------------------------------------

A = RNG.normal(size=(4, 6))
SLOPE = RNG.normal(size=6)


def of_latents(n=4000):
    z = jnp.asarray(RNG.normal(size=(n, 4)))
    return turn(linear(SLOPE), z @ A, z @ A, z=z, generator=lambda z, y: z @ A)


@pytest.mark.parametrize("sigma", [0.05, 0.5])
@pytest.mark.parametrize(
    "penalty, expected", [(zcr_discriminator, ((A @ SLOPE) ** 2).sum()), (zcr_generator, -(A**2).sum() / 6)], ids=["D", "G"]
)
def test_zcr_of_linear_players_is_the_variance_of_a_step(x64, penalty, expected, sigma):
    """G(z) = A z moves by A sigma n: its squared length is sigma^2 |A|^2 on average, that of D's
    answer sigma^2 |A^T s|^2."""
    values = np.asarray(penalty(of_latents(), weight=20.0, sigma=sigma))
    assert abs(values.mean() - 20 * sigma**2 * expected) < 4 * values.std() / np.sqrt(len(values))
    scaled = penalty(of_latents(), weight=20.0, sigma=2 * sigma)
    assert abs(scaled.mean() / values.mean() - 4) < 0.4


def test_zcr_judges_and_generates_under_the_labels_of_the_fakes(x64):
    """With labels 2, G = 2 z and D = 2 x: both see them."""
    two, z = jnp.full(3, 2.0), jnp.ones((3, 1))
    seen = {"z": z, "fake_labels": two, "real_labels": two, "generator": lambda z, y: z * y[:, None]}
    t = turn(lambda x, y: x[:, 0] * y, z, z, **seen)
    step = jnp.sqrt(-zcr_generator(t, weight=1.0)) / 2
    np.testing.assert_allclose(zcr_discriminator(t, weight=1.0), (4 * step) ** 2, rtol=1e-6)


# ---- all together ------------------------------------------------------------------------------


def test_icr_has_the_published_numbers():
    discriminator, generator = icr(flip=True)
    assert {name: {k: float(v) for k, v in bound.numbers.items()} for name, bound in discriminator.items()} == {
        "bcr": {"weight": 10.0, "fakes": 1.0},
        "zcr": {"weight": 20.0, "sigma": np.float32(0.05)},
    }
    assert discriminator["bcr"].numbers["weight"] == 10 and discriminator["bcr"].options == {"flip": True}
    assert list(generator) == ["zcr"] and generator["zcr"].numbers["weight"] == 0.5


class Tiny(nn.Module):
    """A player of 8 x 8 images with noise and dropout; D if it has one output."""

    outputs: int

    @nn.compact
    def __call__(self, x, labels, mode, dropout=None, noise=None):
        x = perturbed(nn.relu(nn.Dense(8, dtype=x.dtype)(x.reshape(len(x), -1))), mode, dropout, noise)
        x = nn.Dense(self.outputs, dtype=x.dtype)(x)
        return gan.DiscriminatorOutput(x[:, 0]) if self.outputs == 1 else x.reshape(-1, 8, 8, 1)


def retaken(turn, *, weight):
    """What the loss's look and a penalty's say of the same images; and G of the same latents."""
    again = turn.critic(turn.reals, None).logits - turn.real.logits
    return weight * jnp.square(again) * jnp.square(turn.generator(turn.z, None) - turn.fakes).sum((1, 2, 3))


def test_nothing_but_the_transformation_tells_the_two_looks_apart(x64):
    """Under dropout, hidden noise and instance noise: constant images, which a shift leaves alone,
    and steps of length 0."""
    d, g = icr(flip=True)
    d = {"cr": gan.bind(cr, weight=10.0), "zcr": d["zcr"].replace(sigma=0.0), "retaken": gan.bind(retaken, weight=1.0)}
    side = lambda outputs, penalties: gan.Side(
        gan.Net(Tiny(outputs)), gan.optimizers.sgd(), {"dropout": 0.5, "noise": 0.3}, penalties
    )
    recipe = gan.recipes.dcgan((8, 8, 1), latent_dim=3, batch_size=4, dtype="float64").replace(
        discriminator=side(1, d),
        generator=side(64, {"zcr": g["zcr"].replace(sigma=0.0)}),
        augment={"noise": gan.bind(gan.augment.instance_noise, std=0.5)},
    )
    batch = Batch(jnp.broadcast_to(jnp.array([-1.0, -0.5, 0.5, 1.0])[:, None, None, None], (4, 8, 8, 1)), jnp.arange(4))
    metrics = jax.jit(gan.train_step)(recipe, gan.init(recipe, jax.random.key(0)), batch)[1]
    for name in ("discriminator/cr", "discriminator/zcr", "generator/zcr"):
        assert abs(metrics[name]) < 1e-20
    assert metrics["discriminator/retaken"] > 1e-3, "the loss's looks have draws of their own"
