"""Known answers: the order of examples is a bijection per epoch and uniform; draws have the
distribution that they name."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import gan_jax as gan
import gan_jax.data.order as order_module
from gan_jax.core.rng import indexed, named
from gan_jax.data.order import MAX_POSITION
from gan_jax.training.chunk import gather_batch
from gan_jax.training.placement import place

SIZES = sorted({1, 2, 3, 5, 6, 7, 10, 100, 1000} | {2**k + d for k in range(2, 11) for d in (-1, 0, 1)})


@jax.jit
def orders(key, start, places, n):
    """The examples at start + places; n is traced."""
    return jax.vmap(gan.order, (None, 0, None))(key, start + places, n)


def epochs(n, count, seed=0):
    """[count, n]: the first epochs."""
    return np.asarray(orders(jax.random.key(seed), 0, jnp.arange(count * n), n)).reshape(count, n)


def is_bijection(epoch):
    return np.array_equal(np.sort(epoch), np.arange(len(epoch)))


# ---- the order of the examples -----------------------------------------------------------------


def test_every_epoch_visits_every_example_once():
    places = jnp.arange(4100)
    for n in SIZES:
        sequence = np.asarray(orders(jax.random.key(1), 0, places, n))
        for i in range(min(4100 // n, 50)):
            assert is_bijection(sequence[i * n : (i + 1) * n]), f"n = {n}, epoch {i}"


def test_sixty_thousand_examples_are_each_visited_once():
    first, second = epochs(60000, 2)
    assert is_bijection(first) and is_bijection(second)
    assert (first == second).sum() < 10, "about one example keeps its place by chance"


def test_the_order_is_a_bijection_whatever_its_hash(monkeypatch):
    """Sums near 2^32 must not wrap: with millions of examples a hash that large comes up."""
    monkeypatch.setattr(order_module, "mix", lambda x: x | jnp.uint32(0xFFFFFF00))
    many = jax.jit(jax.vmap(lambda *args: gan.order(*args), (None, 0, None)))  # traced anew
    for n in (3, 11, 1000, 60000):
        assert is_bijection(many(jax.random.key(0), jnp.arange(60000), n)[:n]), f"n = {n}"


def test_the_last_epoch_that_fits_is_a_bijection_too():
    n = 1000
    start = MAX_POSITION // n * n - n
    assert start + n <= MAX_POSITION
    assert is_bijection(orders(jax.random.key(0), start, jnp.arange(n), n))


def test_sizes_may_differ_within_one_program():
    """A population whose members train on different shares of the data: each row is its own
    order."""
    sizes, places = jnp.array([3, 17, 64]), jnp.arange(64)
    rows = jax.jit(jax.vmap(lambda n: jax.vmap(gan.order, (None, 0, None))(jax.random.key(0), places, n)))(sizes)
    for n, row in zip(sizes, rows, strict=True):
        np.testing.assert_array_equal(row, orders(jax.random.key(0), 0, places, n))


def test_epochs_and_keys_differ():
    table = epochs(1000, 4)
    for a in range(4):
        for b in range(a):
            assert (table[a] == table[b]).sum() < 12  # 1 expected by chance
    assert (epochs(1000, 1, seed=1) == table[:1]).sum() < 12


@pytest.mark.parametrize("n", [2, 3, 5, 7, 10, 17])
def test_every_example_is_equally_likely_at_every_position(n):
    """A chi-square test; rows and columns both have fixed sums, which makes the usual statistic n /
    (n - 1) too large."""
    count = 60000 // n
    table = epochs(n, count)
    seen = np.zeros((n, n))
    np.add.at(seen, (np.tile(np.arange(n), count), table.ravel()), 1)
    statistic = ((seen - count / n) ** 2 / (count / n)).sum() * (n - 1) / n
    assert stats.chi2.sf(statistic, (n - 1) ** 2) > 1e-3


@pytest.mark.parametrize("n", [3, 4, 5])
def test_every_order_of_few_examples_is_equally_likely(n):
    table = epochs(n, 60000 // n)
    seen = np.unique(table, axis=0, return_counts=True)[1]
    assert len(seen) == math.factorial(n)
    assert stats.chisquare(seen).pvalue > 1e-3


def test_every_pair_of_neighbours_is_equally_likely():
    n, count = 7, 8000
    table = epochs(n, count)
    pairs = (table[:, :-1] * n + table[:, 1:]).ravel()
    seen = np.bincount(pairs, minlength=n * n).reshape(n, n)[~np.eye(n, dtype=bool)]
    assert seen.sum() == count * (n - 1)
    assert stats.chisquare(seen).pvalue > 1e-3


def test_batches_straddle_epochs():
    """Batches of 7 from 10 examples: seven epochs in ten batches, each example seven times, none
    lost at the seams."""
    n, size = 10, 7
    feed = gan.Feed(jnp.arange(n, dtype=jnp.float32)[:, None], jnp.arange(n), jnp.int32(n), jax.random.key(3))
    draw = jax.jit(lambda step: gather_batch(feed, step, size, "float32", place(1)))
    batches = [draw(jnp.int32(step)) for step in range(n)]
    seen = np.concatenate([b.images[:, 0] for b in batches]).astype(int)
    np.testing.assert_array_equal(seen, np.concatenate([b.labels for b in batches]))
    np.testing.assert_array_equal(seen, orders(feed.key, 0, jnp.arange(n * size), n))
    assert all(is_bijection(epoch) for epoch in seen.reshape(size, n))


# ---- draws per example -------------------------------------------------------------------------

MANY = gan.Draws(jax.random.key(7), jnp.arange(20000)).named("test")


def test_normal_draws_are_normal():
    x = np.asarray(MANY.normal((2,)))
    for column in x.T:
        assert stats.kstest(column, "norm").pvalue > 0.01
    assert abs(np.corrcoef(x.T)[0, 1]) < 0.03  # 4 standard errors


def test_uniform_draws_are_uniform_between_their_bounds():
    x = np.asarray(MANY.uniform((), low=-0.5, high=1.5))
    assert stats.kstest((x + 0.5) / 2, "uniform").pvalue > 0.01
    assert x.min() >= -0.5 and x.max() < 1.5


@pytest.mark.parametrize("high", [2, 3, 10])
def test_integer_draws_are_equally_frequent(high):
    assert stats.chisquare(np.bincount(MANY.integers(high), minlength=high)).pvalue > 0.01


def test_draws_of_different_examples_names_and_keys_are_unrelated():
    x = np.asarray(MANY.normal())
    name = np.asarray(MANY.named("other").normal())
    key = np.asarray(MANY.replace(key=jax.random.fold_in(MANY.key, 1)).normal())
    for other in (name, key, *(np.roll(x, shift) for shift in (1, 2, 4096))):
        assert abs(np.corrcoef(x, other)[0, 1]) < 0.03  # 4 standard errors
        assert np.mean(x == other) < 1e-3


def test_names_add_up_to_a_path():
    draws = gan.Draws(jax.random.key(0), jnp.arange(4))
    a, b = draws.named("a", "b").normal(), draws.named("a").named("b").normal()
    np.testing.assert_array_equal(a, b)
    for other in (draws.named("ab"), draws.named("b", "a"), draws.named("b")):
        assert not np.allclose(a, other.normal())


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_keys_of_any_kind_can_be_named_and_indexed(kind):
    key = jax.random.key(0, impl=kind)
    words = lambda k: tuple(np.asarray(jax.random.key_data(k)).tolist())
    made = [key, *(named(key, n) for n in "abc"), *(indexed(key, jnp.int32(i)) for i in range(3))]
    assert len({words(k) for k in made}) == 7
    assert {jax.random.key_impl(k) for k in made} == {jax.random.key_impl(key)}
    x = gan.Draws(key, jnp.arange(5)).normal((2,))
    assert x.shape == (5, 2) and len(np.unique(x)) == 10


def test_draws_have_the_dtype_asked_for(x64):
    draws = gan.Draws(jax.random.key(0), jnp.arange(3))
    for dtype in ("bfloat16", "float32", "float64"):
        normal, uniform = jax.eval_shape(lambda d: (d.normal((2, 3), dtype), d.uniform((2,), dtype)), draws)  # noqa: B023
        assert normal.dtype == uniform.dtype == jnp.dtype(dtype)
        assert normal.shape == (3, 2, 3) and uniform.shape == (3, 2)
    assert jax.eval_shape(lambda d: d.integers(4, (2,)), draws).shape == (3, 2)


# ---- latents and labels ------------------------------------------------------------------------


def test_latents_have_their_distribution():
    normal = gan.bind(gan.latents.normal, dimension=2)(MANY, None, jnp.float32)
    uniform = gan.bind(gan.latents.uniform, dimension=2)(MANY, None, jnp.float32)
    assert normal.shape == uniform.shape == (20000, 2)
    assert stats.kstest(np.asarray(normal)[:, 0], "norm").pvalue > 0.01
    assert stats.kstest((np.asarray(uniform)[:, 1] + 1) / 2, "uniform").pvalue > 0.01


def test_labels_of_fakes_follow_the_batch_or_are_uniform():
    batch = gan.Batch(jnp.zeros((20000, 1)), MANY.index, jnp.ones(20000, jnp.int32))
    assert gan.latents.batch_labels(MANY, batch, 3) is batch.labels
    drawn = gan.latents.uniform_labels(MANY, batch, 3)
    assert drawn.dtype == jnp.int32 and stats.chisquare(np.bincount(drawn, minlength=3)).pvalue > 0.01
    for labels in (gan.latents.batch_labels, gan.latents.uniform_labels):
        assert labels(MANY, batch, 0) is None, "an unconditional recipe has no labels"


def test_instance_noise_is_normal_of_its_standard_deviation_and_fresh_at_each_look():
    images = jnp.ones((20000, 1, 1, 1))
    noise = gan.bind(gan.augment.instance_noise, std=0.5)
    x = np.asarray(noise(images, None, MANY)).ravel()
    assert stats.kstest((x - 1) / 0.5, "norm").pvalue > 0.01
    assert abs(np.corrcoef(x, np.ravel(noise(images, None, MANY.named("fakes"))))[0, 1]) < 0.03
    np.testing.assert_array_equal(noise.replace(std=0.0)(images, None, MANY), images)
