"""Imbalanced data, and drawing classes more evenly than they come: counts, records, exact
probabilities, laws, mistakes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import latents, losses, sampling
from gan_jax.data.checks import check_counts
from gan_jax.data.imbalance import class_counts, class_order, imbalanced, imbalanced_counts, thirds
from gan_jax.data.splits import Split
from gan_jax.networks.label_noise import with_label_noise
from gan_jax.report import rejection
from gan_jax.sweeps.population import Member, Population, member_state
from gan_jax.training import chunk, placement
from tests.tiny_games import assert_close, feed

# ---- counts -------------------------------------------------------------------------------------


def test_long_tailed_counts_are_those_of_cifar_10_lt():
    """The published sets of ratio 100 (12,406 images) and 10 (20,431)."""
    hundred, ten = (imbalanced_counts([5000] * 10, ratio) for ratio in (100, 10))
    assert hundred.tolist() == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50] and hundred.sum() == 12406
    assert ten.sum() == 20431 and ten[-1] == 500


def test_step_counts_are_two_values():
    assert imbalanced_counts([100] * 5, 10, "step").tolist() == [100, 100, 10, 10, 10]


@pytest.mark.parametrize("kind", ["long_tailed", "step"])
@pytest.mark.parametrize("available", [[40, 90, 70, 80], [90, 40, 30, 5], [7, 7, 7, 7]])
def test_no_class_is_asked_for_more_than_it_has_and_one_more_would_be_too_many(kind, available):
    counts = imbalanced_counts(available, 3, kind)
    assert (counts <= available).all()
    share = np.array([1, 3 ** (-1 / 3), 3 ** (-2 / 3), 1 / 3]) if kind == "long_tailed" else np.array([1, 1, 1 / 3, 1 / 3])
    assert (np.asarray(available) < (counts[0] + 1) * share - 1e-9).any()


def test_a_ratio_of_1_keeps_all_of_equal_classes():
    assert imbalanced_counts([6, 6, 6], 1).tolist() == [6, 6, 6]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([9, 9], 0.5), "ratio=0.5: .* at least 1"),
        (([9, 9], np.nan), "ratio=nan"),
        (([9, 9], "10"), "ratio='10'"),
        (([9, 9], 10), "leaves class number 2 of 2 with no image, of 9 in the largest: use a ratio of at most 9"),
        (([9, 9], 2, "tailed"), "unknown imbalance 'tailed': use one of long_tailed, step"),
        (([9], 2), "1 class cannot be imbalanced"),
    ],
)
def test_counts_that_cannot_be_are_refused_in_one_line(arguments, message):
    with pytest.raises(gan.UserError, match=message) as caught:
        imbalanced_counts(*arguments)
    assert "\n" not in str(caught.value)


# ---- data --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    return gan.load("digits")


def rows_of(split):
    return {row.tobytes() for row in split.images}


def test_only_t_becomes_imbalanced_with_the_first_of_each_class(digits):
    found = imbalanced(digits, 10)
    for name in ("validation", "test", "extractor"):
        assert getattr(found, name) is getattr(digits, name)
    counts = class_counts(found.train.labels, 10)
    assert counts[0] == 10 * counts[-1] + 6 == 106 and (np.diff(counts) < 0).all()
    for c, n in enumerate(counts):
        own = found.train.images[found.train.labels == c]
        np.testing.assert_array_equal(own, digits.train.images[digits.train.labels == c][:n])


def test_a_higher_ratio_s_images_are_among_a_lower_one_s_and_prefixes_are_as_imbalanced(digits):
    low, high = imbalanced(digits, 5), imbalanced(digits, 20)
    assert rows_of(high.train) < rows_of(low.train)
    shares = class_counts(low.train.labels, 10) / len(low.train)
    for n in (30, 100, 200):
        part = class_counts(low.subset(n).train.labels, 10)
        assert np.abs(part - n * shares).max() <= 1


def test_the_order_of_the_classes_may_be_permuted_by_a_seed(digits):
    order = class_order(10, 3)
    assert sorted(order) == list(range(10)) and (order != np.arange(10)).any() and (order == class_order(10, 3)).all()
    counts = class_counts(imbalanced(digits, 10, order=3).train.labels, 10)
    assert (np.diff(counts[order]) <= 0).all() and counts[order[0]] > 9 * counts[order[-1]]
    np.testing.assert_array_equal(class_order(4), np.arange(4))


@pytest.mark.parametrize("take", [None, "before", "after"])
def test_the_record_loads_the_same_data_again(digits, take):
    found = imbalanced(digits.subset(500) if take == "before" else digits, 8, "step", order=1)
    found = found.subset(60) if take == "after" else found
    again = gan.load(**found.source)
    assert again.hashes == found.hashes != digits.hashes and again.describe() == found.describe()
    assert again.source == found.source


def test_a_record_of_something_else_is_refused(digits):
    with pytest.raises(gan.UserError, match="imbalance has no 'factor'"):
        gan.load("digits", imbalance={"factor": 10})
    assert imbalanced(imbalanced(digits, 2), 2).source is None


def test_data_without_labels_or_with_wrong_ones_are_refused(digits):
    from dataclasses import replace

    with pytest.raises(gan.UserError, match="no labels"):
        imbalanced(replace(digits, train=Split(digits.train.images), class_names=()), 10)
    with pytest.raises(gan.UserError, match="labels lie in 0 to 9: expected 0 to 8"):
        imbalanced(replace(digits, class_names=digits.class_names[:9]), 10)
    rare = Split(digits.train.images, np.where(digits.train.labels == 4, 5, digits.train.labels))
    with pytest.raises(gan.UserError, match="class 4 has no training image"):
        imbalanced(replace(digits, train=rare), 2)
    assert class_counts(imbalanced(digits, 100).train.labels, 10)[-1] == 1, "one image is enough"


@pytest.mark.parametrize("labels", [[0.0, 1.0], [0.0, np.nan], ["0", "1"], [[0, 1], [1, 0]], [True, False], 1])
def test_labels_that_are_no_integers_one_for_each_image_are_refused_in_one_line(labels):
    with pytest.raises(gan.UserError, match="expected integers, one for each image") as caught:
        class_counts(labels, 2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint64])
def test_classes_are_counted_whatever_the_kind_of_integer(kind):
    assert class_counts(np.array([2, 0, 2], kind), 4).tolist() == [1, 0, 2, 0]
    assert class_counts([], 3).tolist() == [0, 0, 0]


def test_thirds_are_the_rarest_and_the_most_frequent():
    frequent, middle, rare = thirds([5, 9, 1, 7, 3, 8, 2])
    assert (frequent.tolist(), sorted(middle), rare.tolist()) == ([1, 5], [0, 3, 4], [6, 2])
    assert [part.tolist() for part in thirds([1, 1])] == [[0], [], [1]]


# ---- sampling of reals -------------------------------------------------------------------------

COUNTS = np.array([70, 20, 9, 1])
LABELS = np.repeat(np.arange(4), COUNTS)[np.random.default_rng(1).permutation(100)]


def drawn(strength, size=100, n=20_000):
    draws = gan.Draws(jax.random.key(0), jnp.arange(n))
    table = sampling.class_table(jnp.asarray(LABELS), size, 4)
    rows = jnp.tile(jnp.arange(size), n // size + 1)[:n]
    return rows, np.asarray(sampling.class_balanced(draws, rows, jnp.asarray(LABELS), table, strength=strength, classes=4))


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("size", [100, 40])
def test_classes_are_drawn_with_their_exact_probabilities_and_examples_evenly(strength, size):
    """Counts of 20,000 draws within 4.5 standard errors; of a subset of a traced size, its own
    counts."""
    _, found = drawn(strength, size)
    counts = np.bincount(LABELS[:size], minlength=4)
    share = np.where(counts > 0, counts.clip(1) ** (1.0 - strength), 0)
    share = share / share.sum()
    seen = np.bincount(LABELS[found], minlength=4) / len(found)
    assert (np.abs(seen - share) <= 4.5 * np.sqrt(share * (1 - share) / len(found)) + 1e-9).all()
    each = np.bincount(found, minlength=100)[:size] / len(found)
    wanted = (share / counts.clip(1))[LABELS[:size]]
    assert found.max() < size and (np.abs(each - wanted) <= 4.5 * np.sqrt(wanted / len(found))).all()


def test_strength_0_is_the_order_of_the_data_bit_for_bit():
    rows, found = drawn(0.0)
    np.testing.assert_array_equal(rows, found)
    rows, found = drawn(0.0, size=37)
    np.testing.assert_array_equal(rows, found)


def test_the_fewest_examples_are_changed():
    """A share of sum (q - p)+ of the rows, and rare ones never."""
    rows, found = drawn(1.0)
    changed = np.asarray(rows) != found
    assert changed.mean() == pytest.approx(0.45, abs=0.02)  # .70 - .25; a class may be redrawn by itself only from another
    assert not changed[LABELS[rows] > 0].any()


@jax.jit
def labels_of(recipe, given):
    """Of the batch that a chunk takes at step 1."""
    choose = gan.GAN.sampler(recipe, given)
    state = gan.State(jnp.int32(1), jax.random.key(1), None, None, None, {})
    return chunk.gather_batch(given, 1, 64, "float32", placement.place(1), choose and partial(choose, state)).labels


def test_a_recipe_s_sampling_reaches_the_batch_and_0_is_absence():
    given = feed(n=40, shape=(4,)).replace(labels=jnp.asarray(np.repeat([0, 1, 2], [36, 3, 1]), jnp.int32))
    plain = gan.recipes.mlp((4,), width=4, depth=1, classes=3, batch_size=16)
    with_strength = lambda s: plain.replace(sampling=gan.bind(sampling.class_balanced, strength=s, classes=3))
    absent, zero, one = (labels_of(r, given) for r in (plain, with_strength(0.0), with_strength(1.0)))
    np.testing.assert_array_equal(absent, zero)
    assert np.bincount(one, minlength=3).min() >= 12, "of 64, 21 are expected; before, 2"
    late = with_strength(gan.schedules.switch(0.0, 1.0, 10))  # deferred: another state's step
    np.testing.assert_array_equal(labels_of(late, given), zero)


def test_a_population_s_members_are_the_runs_of_their_own_strength_and_size(x64):
    """Two strengths and two nested sizes in one program equal each member alone, after 3 steps in
    float64."""
    labels = jnp.asarray(np.resize([0, 0, 0, 0, 1, 1, 2, 0], 40), jnp.int32)
    given = feed(n=40, shape=(4,)).replace(labels=labels)
    recipe = lambda s: gan.recipes.mlp(
        (4,), width=4, depth=1, classes=3, batch_size=8, dtype="float64", loss="least_squares",
        sampling=gan.bind(sampling.class_balanced, strength=s, classes=3),
        latent=gan.bind(latents.rare_noise, dimension=2, counts=np.array([25.0, 10, 5]), strength=s),
    )  # fmt: skip
    members = [Member(f"{s}", recipe(s), seed, n) for s, seed, n in ((0.0, 0, 40), (1.0, 1, 16))]
    one = placement.place(1)
    population = Population(gan.GAN, one, members, given)
    state = jax.jit(population._init)(*population.init_arguments())
    starts = [jax.tree.map(jnp.copy, member_state(state, i)) for i in range(2)]
    whole, _, _ = population.chunk(3).compile()(population.knobs, state, population.feed, population.alive)
    for i, member in enumerate(members):
        own = given.replace(size=jnp.int32(member.n))
        alone, _ = chunk.compiled_chunk(gan.GAN, 3, one)(member.recipe, starts[i], own)
        assert_close(member_state(whole, i), alone, 1e-9)


def test_sampling_by_classes_that_are_not_there_is_refused(digits):
    recipe = gan.recipes.dcgan(digits.image_shape, width=4, sampling=gan.bind(sampling.class_balanced, strength=1.0, classes=9))
    with pytest.raises(gan.UserError, match="sampling is of 9 classes, but digits has 10"):
        gan.fit(recipe, digits, steps=1, progress=False)
    unlabelled = gan.from_arrays(digits.train.images)
    with pytest.raises(gan.UserError, match="draws reals by their class, but arrays has no labels"):
        gan.fit(recipe, unlabelled, steps=1, progress=False)


COUNTED = {
    "loss": lambda plain, counts: plain.replace(loss=plain.loss.replace(counts=np.array(counts))),
    "fake_labels": lambda plain, counts: plain.replace(
        fake_labels=gan.bind(latents.balanced_labels, counts=np.array(counts), strength=1.0)
    ),
    "latent": lambda plain, counts: plain.replace(
        latent=gan.bind(latents.rare_noise, dimension=100, counts=np.array(counts), strength=1.0)
    ),
    "generator": lambda plain, counts: plain.replace(
        generator=plain.generator.replace(numbers=plain.generator.numbers | {"label_counts": np.array(counts)})
    ),
}


@pytest.mark.parametrize("where", COUNTED)
def test_counts_of_classes_that_the_data_have_not_are_refused(digits, where):
    """JAX would give classes beyond the counts those of the last one, without a word."""
    plain = gan.recipes.dcgan(digits.image_shape, width=4, classes=10)
    counted = plain.replace(generator=with_label_noise(plain.generator, [1] * 10)) if where == "generator" else plain
    counted = counted.replace(loss=losses.class_weighted(counted.loss, [1] * 10)) if where == "loss" else counted
    of = lambda counts: COUNTED[where](counted, counts)
    check_counts(of([9.0] * 9 + [1.0]), digits)
    with pytest.raises(gan.UserError, match=f"^{where}.*counts are of 3 classes, but digits has 10"):
        gan.GAN.check(of([9.0, 3.0, 1.0]), digits)
    with pytest.raises(gan.UserError, match=f"^{where}.*counts: class 7 has 0 images"):
        gan.GAN.check(of([9.0] * 7 + [0.0, 5.0, 1.0]), digits)


# ---- generated labels, latents -----------------------------------------------------------------


def generated(strength, sampled=0.0, labels=LABELS, repeat=200):
    real = np.tile(labels, repeat)
    draws = gan.Draws(jax.random.key(2), jnp.arange(len(real)))
    batch = gan.Batch(None, draws.index, jnp.asarray(real))
    return real, np.asarray(latents.balanced_labels(draws, batch, 4, counts=COUNTS, strength=strength, sampled=sampled))


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_generated_labels_have_their_probabilities(strength):
    real, made = generated(strength)
    share = COUNTS ** (1 - strength) / (COUNTS ** (1 - strength)).sum()
    seen = np.bincount(made, minlength=4) / len(made)
    assert (np.abs(seen - share) <= 4.5 * np.sqrt(share * (1 - share) / len(made))).all()


def test_generated_labels_of_strength_0_or_of_the_reals_own_are_the_reals():
    np.testing.assert_array_equal(*generated(0.0))
    np.testing.assert_array_equal(*generated(1.0, sampled=1.0, labels=np.arange(4)))
    real, made = generated(0.0, sampled=1.0, labels=np.arange(4), repeat=5000)  # back from balanced reals to the data's
    np.testing.assert_allclose(np.bincount(made, minlength=4) / len(made), COUNTS / 100, atol=0.012)


def test_rare_classes_latents_are_wider_by_their_rarity():
    labels = jnp.asarray(np.repeat(np.arange(3), 4000))
    draws = gan.Draws(jax.random.key(0), jnp.arange(12_000))
    made = lambda s: latents.rare_noise(draws, labels, jnp.float32, dimension=2, counts=np.array([100.0, 10, 1]), strength=s)
    std = np.asarray(made(1.5)).reshape(3, -1).std(1)
    np.testing.assert_allclose(std, [1, 1.75, 2.5], rtol=0.03)
    np.testing.assert_array_equal(made(0.0), latents.normal(draws, None, jnp.float32, dimension=2))
    np.testing.assert_array_equal(latents.rarity_scale(np.full(4, 7.0), 3.0), 1)


def test_what_needs_labels_says_so():
    draws = gan.Draws(jax.random.key(0), jnp.arange(2))
    with pytest.raises(gan.UserError, match="rare_noise needs the labels"):
        latents.rare_noise(draws, None, jnp.float32, dimension=2, counts=COUNTS, strength=1.0)
    with pytest.raises(gan.UserError, match="balanced_labels needs the labels"):
        latents.balanced_labels(draws, gan.Batch(None, draws.index), 4, counts=COUNTS, strength=1.0)
    assert latents.balanced_labels(draws, None, 0, counts=COUNTS, strength=1.0) is None


# ---- rejection sampling ------------------------------------------------------------------------


def test_acceptance_turns_the_generator_s_distribution_into_the_data_s():
    """Without gamma, d = log p / q of the best D accepts by p / (M q): what passes has the
    distribution of the data."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    logits = np.log(p / q)
    below = logits - logits.max()
    wanted = np.exp(below)
    odds = below - np.log(-np.expm1(below - 1e-8))
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), wanted, rtol=1e-6)
    shifted = rejection.acceptance(np.repeat(logits, 100), percentile=50.0)
    gamma = np.percentile(np.repeat(odds, 100), 50)
    np.testing.assert_allclose(shifted[::100], 1 / (1 + np.exp(gamma - odds)), rtol=1e-12)
    np.testing.assert_allclose(q * wanted / (q * wanted).sum(), p, rtol=1e-12)


def test_a_higher_percentile_lets_fewer_pass_and_better_logits_pass_more_often():
    logits = np.random.default_rng(0).normal(size=500)
    loose, tight = (rejection.acceptance(logits, percentile=x) for x in (50.0, 80.0))
    assert tight.mean() < loose.mean() and (np.diff(tight[np.argsort(logits)]) >= 0).all()
    with pytest.raises(gan.UserError, match="acceptance wants finite logits"):
        rejection.acceptance([np.nan])


class MadeUp:
    """A run whose samples are their labels' latents 0 ... n - 1, and whose D likes a tenth of
    them."""

    def samples(self, n, *, labels=None, seed=0):
        return np.stack([np.zeros(n) if labels is None else labels, np.arange(n)], 1).astype(np.float32)


def test_rejection_keeps_the_labels_and_takes_what_d_likes(monkeypatch):
    monkeypatch.setattr(
        "gan_jax.report.rejection.logits_of", lambda run, images, labels: np.where(images[:, 1] % 10 == 3, 9.0, -9.0)
    )
    labels = np.array([2, 0, 2, 2, 1])
    made = rejection.rejection_samples(MadeUp(), labels, pool=20, percentile=95.0)  # pyright: ignore
    np.testing.assert_array_equal(made[:, 0], labels)
    assert (made[:, 1] % 10 == 3).all() and len({tuple(row) for row in made[[0, 2, 3]].tolist()}) == 3
    with pytest.raises(gan.UserError, match="labels, or n"):
        rejection.rejection_samples(MadeUp())  # pyright: ignore
