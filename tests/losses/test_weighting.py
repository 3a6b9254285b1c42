"""Weights of classes, in losses, in a regulariser and in a generator's noise: closed forms, loops,
laws, mistakes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import losses, penalties
from gan_jax.class_weights import class_shares, class_weights, effective_number
from gan_jax.core.net import EVALUATION, Mode
from gan_jax.losses.weighting import class_weighted
from gan_jax.networks.label_noise import NoisyLabels, with_label_noise
from gan_jax.sweeps.population import Member, Population, member_state
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.placement import place
from tests.tiny_games import assert_close, feed

COUNTS = np.array([500, 60, 7, 1])
SHARES = COUNTS / COUNTS.sum()
RNG = np.random.default_rng(0)

# ---- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.3, 0.9, 0.99, 0.9999])
def test_the_effective_number_is_its_sum(x64, beta):
    """(1 - b^n) / (1 - b) = 1 + b + ... + b^(n - 1)."""
    sums = [sum(beta**i for i in range(n)) for n in COUNTS]
    np.testing.assert_allclose(effective_number(COUNTS.astype(float), beta), sums, rtol=1e-11)


def test_its_limits_are_1_and_the_count():
    counts = COUNTS.astype(np.float32)
    np.testing.assert_array_equal(effective_number(counts, np.float32(0)), 1)
    np.testing.assert_array_equal(effective_number(counts, np.float32(1)), counts)
    np.testing.assert_allclose(effective_number(counts, np.float32(1 - 1e-7)), counts, rtol=1e-4)
    np.testing.assert_allclose(effective_number(counts, np.float32(1e-6)), 1, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda b: effective_number(counts, b).sum())(0.99))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_weights_have_mean_1_over_the_examples_drawn(x64, balance):
    share = COUNTS ** (1 - balance) / (COUNTS ** (1 - balance)).sum()
    np.testing.assert_allclose(class_shares(COUNTS.astype(float), balance), share, rtol=1e-12)
    for beta in (0.0, 0.9, 1.0):
        found = np.asarray(class_weights(COUNTS.astype(float), beta, balance))
        assert (share * found).sum() == pytest.approx(1, abs=1e-12)
        inverse = 1 / np.array([sum(beta**i for i in range(n)) for n in COUNTS])
        np.testing.assert_allclose(found / found[0], inverse / inverse[0], rtol=1e-10)


def test_beta_0_weighs_all_alike_and_beta_1_by_the_inverse_frequency(x64):
    np.testing.assert_allclose(class_weights(COUNTS.astype(float), 0.0), 1, rtol=1e-14)
    np.testing.assert_allclose(class_weights(COUNTS.astype(float), 1.0), 1 / (4 * SHARES), rtol=1e-12)


# ---- losses ------------------------------------------------------------------------------------

REAL_LABELS, FAKE_LABELS = jnp.array([0, 0, 1, 3, 2, 0, 0, 1]), jnp.array([3, 0, 0, 2, 1, 1, 0, 0])


def judged(seed):
    rng = np.random.default_rng(seed)
    return gan.DiscriminatorOutput(
        jnp.asarray(rng.normal(size=8)), jnp.asarray(rng.normal(size=(8, 4))), jnp.asarray(rng.normal(size=(8, 3)))
    )


def batch(weights=None):
    weights = None if weights is None else jnp.asarray(weights)
    return gan.Batch(jnp.zeros(0), jnp.arange(8), REAL_LABELS, weights, fake_labels=FAKE_LABELS)


@pytest.mark.parametrize("loss", losses.LOSSES)
def test_every_loss_is_weighted_example_by_example(x64, loss):
    """Each term times 1 + s (w_label - 1), of a loss that sees the reals' weights; the oracle is a
    loop over examples."""
    plain, strengths = losses.LOSSES[loss], {"real": 0.75, "fake": 0.5, "generator": 0.25}
    found = class_weighted(plain, COUNTS, beta=1.0, **strengths)(judged(0), judged(1), batch())
    weigh = lambda s, labels: np.array([1 + s * (COUNTS.sum() / (4 * COUNTS[label]) - 1) for label in labels])
    of_real, of_fake, of_generator = (
        weigh(s, labels) for s, labels in zip(strengths.values(), (REAL_LABELS, FAKE_LABELS, FAKE_LABELS), strict=True)
    )
    terms = plain(judged(0), judged(1), batch(of_real))
    np.testing.assert_allclose(found.real, terms.real * of_real, rtol=1e-6)
    np.testing.assert_allclose(found.fake, terms.fake * of_fake, rtol=1e-6)
    np.testing.assert_allclose(found.generator, terms.generator * of_generator, rtol=1e-6)


@pytest.mark.parametrize("loss", ["hinge", "rpgan", "relativistic_average", "mmd"])
def test_strength_0_and_beta_0_are_the_loss_itself(x64, loss):
    plain = losses.LOSSES[loss]
    wanted = plain(judged(0), judged(1), batch())
    off = class_weighted(plain, COUNTS, real=0.0, fake=0.0, generator=0.0)(judged(0), judged(1), batch())
    assert_close(off, wanted, 0)
    assert_close(class_weighted(plain, COUNTS, beta=0.0)(judged(0), judged(1), batch()), wanted, 1e-12)


def test_weights_multiply_those_that_the_batch_has(x64):
    given = np.linspace(0.5, 1.5, 8)
    found = class_weighted(losses.relativistic_average, COUNTS, beta=1.0, fake=0.0, generator=0.0)
    mine = np.asarray(class_weights(COUNTS.astype(float), 1.0))[REAL_LABELS]
    np.testing.assert_allclose(
        found(judged(0), judged(1), batch(given)).generator,
        losses.relativistic_average(judged(0), judged(1), batch(given * mine)).generator,
        rtol=1e-6,
    )


def test_a_uniform_generator_s_weights_have_mean_1_over_classes(x64):
    labels = jnp.arange(4)
    said = gan.DiscriminatorOutput(jnp.ones(4))
    given = gan.Batch(jnp.zeros(0), labels, labels, fake_labels=labels)
    terms = class_weighted(losses.wasserstein, COUNTS, beta=0.9, balance_fake=1.0)(said, said, given)
    np.testing.assert_allclose(terms.fake.mean(), 1, rtol=1e-6)


def test_the_logged_boundary_is_the_inner_loss_s():
    assert losses.boundary(class_weighted(losses.least_squares, COUNTS)) == 0.5
    assert losses.boundary(class_weighted(losses.rpgan, COUNTS)) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"counts": [3, 0, 2]}, "class 1 has 0 images"),
        ({"counts": [3, np.nan]}, "class 1 has nan images"),
        ({"counts": 3}, "a list of at least 2"),
        ({"counts": [3, 1], "beta": 1.5}, r"beta is 1.5: it lies in \[0, 1\]"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(gan.UserError, match=message) as caught:
        class_weighted(losses.hinge, **arguments)
    assert "\n" not in str(caught.value)


def test_a_loss_without_labels_says_so():
    with pytest.raises(gan.UserError, match="class_weighted needs labels"):
        class_weighted(losses.hinge, COUNTS)(judged(0), judged(1), gan.Batch(jnp.zeros(0), jnp.arange(8)))


# ---- training ----------------------------------------------------------------------------------


def recipe(strength, sigma):
    """Perceptrons on rows of 4 numbers with every weight of classes at once."""
    counts = [20, 10, 5]
    loss = class_weighted(losses.least_squares, counts, beta=0.9, real=strength, fake=strength, generator=strength)
    made = gan.recipes.mlp(
        (4,), width=4, depth=1, classes=3, conditioning="auxiliary", batch_size=8, dtype="float64", loss=loss
    )
    balance = gan.bind(penalties.class_balance, weight=strength, counts=np.array(counts))
    side = with_label_noise(made.generator, counts, sigma=sigma)
    return made.replace(generator=side.replace(penalties={"balance": balance}))


@pytest.mark.slow
def test_a_population_s_members_train_as_alone_and_strength_0_as_absence(x64):
    """3 steps in float64: one program of two strengths against the recipe of one, and against the
    recipe without any."""
    given, placement = feed(n=40, shape=(4,)), place(1)
    members = [Member(str(s), recipe(s, 2 * s), 0, 40) for s in (0.0, 1.0)]
    population = Population(gan.GAN, placement, members, given)
    state = jax.jit(population._init)(*population.init_arguments())
    starts = [jax.tree.map(jnp.copy, member_state(state, i)) for i in range(2)]
    whole, _, _ = population.chunk(3).compile()(population.knobs, state, population.feed, population.alive)
    strong = members[1].recipe
    generator = strong.generator.replace(net=strong.generator.net.net, numbers={}, penalties={})
    absent = strong.replace(generator=generator, loss=gan.bind(losses.least_squares))
    for i, alone in enumerate((absent, strong)):
        found, _ = compiled_chunk(gan.GAN, 3, placement)(alone, starts[i], given)
        assert_close(member_state(whole, i), found, 1e-9)
    kernel = whole.generator.params["Dense_0"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-4


# ---- the regulariser ---------------------------------------------------------------------------


def turn(fakes, logits=None):
    """What the regulariser reads of a `PenaltyContext`."""
    return SimpleNamespace(
        fakes=fakes, fake=gan.DiscriminatorOutput(fakes.sum((1, 2, 3)), classes=logits), mean=lambda x: x.mean(0)
    )


def of_balance(logits, **numbers):
    return penalties.class_balance(turn(jnp.zeros((len(logits), 2, 2, 1)), logits), **numbers)


def test_the_regulariser_is_the_weighted_negative_entropy_of_the_mean_prediction(x64):
    logits = RNG.normal(size=(8, 4))
    share = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).mean(0)
    inverse = (1 - 0.9) / (1 - 0.9**COUNTS)
    values = of_balance(jnp.asarray(logits), weight=2.0, counts=COUNTS, beta=0.9)
    assert values.shape == (8,)
    np.testing.assert_allclose(values, 2 * (inverse / inverse.mean() * share * np.log(share)).sum(), rtol=1e-9)


def test_at_a_balanced_prediction_it_is_minus_log_k_without_a_slope(x64):
    """Each example sure of another class, or all undecided."""
    for logits in (3.0 * jnp.eye(4), jnp.zeros((4, 4))):
        value, slope = jax.value_and_grad(lambda x: of_balance(x, weight=1.0).mean())(logits)
        np.testing.assert_allclose([value, np.abs(slope).max()], [-np.log(4), 0], atol=1e-12)


def test_its_slope_asks_for_the_class_that_is_missing(x64):
    logits = jnp.asarray(np.tile([2.0, 2.0, 2.0, -2.0], (4, 1)))
    slope = jax.grad(lambda x: of_balance(x, weight=1.0).mean())(logits)
    assert (slope[:, 3] < 0).all() and (slope[:, :3] > 0).all()
    weighted = jax.grad(lambda x: of_balance(x, weight=1.0, counts=COUNTS, beta=0.99).mean())(jnp.zeros((4, 4)))
    assert (np.diff(weighted, axis=1) < 0).all(), "the rarer, the more of it"


def twice_the_pixels(images):
    return 2 * images.reshape(len(images), -1)


def test_a_classifier_may_be_given_and_one_is_needed(x64):
    images = jnp.asarray(RNG.normal(size=(5, 2, 2, 1)))
    t = turn(images)
    bound = gan.bind(penalties.class_balance, weight=1.0, classifier=twice_the_pixels)
    np.testing.assert_allclose(bound(t), of_balance(2 * images.reshape(5, 4), weight=1.0), rtol=1e-12)
    with pytest.raises(gan.UserError, match="class_balance needs class logits"):
        penalties.class_balance(t, weight=1.0)


# ---- noise on labels ---------------------------------------------------------------------------


class Embedded:
    """A net that is its labels' embedding."""

    def __new__(cls):
        from flax import linen as nn

        class Module(nn.Module):
            @nn.compact
            def __call__(self, z, labels, mode):
                return nn.Embed(4, 3, name="label", embedding_init=nn.initializers.ones)(labels)

        return gan.Net(Module())


def test_a_class_s_embedding_is_spread_by_its_effective_number():
    net = NoisyLabels(Embedded())
    numbers = {"label_noise": np.float32(0.75), "label_counts": COUNTS.astype(np.float32), "label_beta": np.float32(0.99)}
    labels = jnp.asarray(np.repeat(np.arange(4), 4000))
    params, stats = net.init(jax.random.key(0), jnp.zeros((2, 3)), labels[:2], numbers)
    mode = Mode(train=True, draws=gan.Draws(jax.random.key(1), jnp.arange(len(labels))))
    run = lambda mode, n=numbers: np.asarray(net.apply(params, stats, jnp.zeros((len(labels), 3)), labels, mode, n)[0])
    noise = run(mode) - 1
    wanted = 0.75 * (1 - 0.99) / (1 - 0.99**COUNTS)
    np.testing.assert_allclose(noise.reshape(4, -1).std(1), wanted, rtol=0.03)
    assert wanted[3] == pytest.approx(0.75) and np.abs(noise.mean()) < 0.02
    np.testing.assert_array_equal(run(EVALUATION), 1)
    np.testing.assert_array_equal(run(mode, numbers | {"label_noise": np.float32(0)}), 1)


def test_label_noise_without_its_numbers_or_labels_is_refused():
    with pytest.raises(gan.UserError, match="NoisyLabels wants the number 'label_noise'"):
        NoisyLabels(Embedded()).init(jax.random.key(0), jnp.zeros((2, 3)), jnp.zeros(2, int), {})
    with pytest.raises(gan.UserError, match="needs a network that sees labels"):
        NoisyLabels(Embedded()).init(jax.random.key(0), jnp.zeros((2, 3)), None, {})
    with pytest.raises(gan.UserError, match="class 0 has 0 images"):
        with_label_noise(recipe(0.0, 0.0).generator, [0, 3])
