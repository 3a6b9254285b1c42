"""Known answers: mode coverage by hand and for exact samplers, the energy distance against SciPy
and closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as scipy_energy_distance

import gan_jax as gan
from gan_jax.data.toys import grid, ring
from gan_jax.metrics.distances import NARROW, ROWS, energy_distance
from gan_jax.metrics.modes import coverage

measured = jax.jit(coverage)
distance = jax.jit(energy_distance)
CEILING = 1 - math.exp(-4.5)  # P(|z| < 3) in two dimensions


def covered(points, modes, sigma):
    return {
        name: float(x) for name, x in measured(np.asarray(points, np.float32), np.asarray(modes, np.float32), sigma).items()
    }


# ---- mode coverage -----------------------------------------------------------------------------


def test_coverage_is_counted_as_by_hand():
    """Two points at the first mode, one at the second, one nearest to the third but out of its
    reach, one far away."""
    modes = [[0, 0], [10, 0], [0, 10], [10, 10]]
    said = covered([[0, 0], [0.5, 0.5], [10, 1], [0, 7], [1e6, 0]], modes, 0.5)
    kl = 2 / 3 * math.log(4 * 2 / 3) + 1 / 3 * math.log(4 / 3)
    assert said == pytest.approx({"modes": 2, "high_quality": 3 / 5, "reverse_kl": kl}, rel=1e-6)


def test_a_point_at_three_sigma_is_not_of_high_quality():
    modes = [[0.0, 0.0], [100.0, 0.0]]
    below = np.nextafter(np.float32(3), np.float32(0))
    assert covered([[3, 0], [0, -3]], modes, 1.0)["high_quality"] == 0
    assert covered([[3, 0], [0, -below]], modes, 1.0) == pytest.approx(
        {"modes": 1, "high_quality": 0.5, "reverse_kl": math.log(2)}
    )
    assert covered([[2.2, 2.2]], modes, 1.0)["modes"] == 0, "the distance is Euclidean: 3.11"
    assert covered([[6, 0]], modes, 2.0)["modes"] == 0 and covered([[5.9, 0]], modes, 2.0)["modes"] == 1


def test_a_point_belongs_to_its_nearest_mode_alone():
    """Modes so close that a point is within three sigma of both."""
    assert covered([[0.9, 0], [0.8, 0]], [[0, 0], [2, 0]], 1.0)["modes"] == 1
    assert covered([[0.9, 0], [1.1, 0]], [[0, 0], [2, 0]], 1.0) == pytest.approx(
        {"modes": 2, "high_quality": 1, "reverse_kl": 0}, abs=1e-6
    )


@pytest.mark.parametrize("mixture", [ring(), grid()], ids=["ring", "grid"])
def test_an_exact_sampler_is_at_the_ceiling_and_at_the_floor(mixture):
    """40 samples of 2,500: the mean share within 4 binomial errors of 1 - exp(-4.5), the mean KL at
    (k - 1) / (2 n)."""
    n, repeats, k = 2500, 40, len(mixture.modes)
    points = mixture.sample(n * repeats, seed=1).reshape(repeats, n, 2)
    said = jax.vmap(lambda x: coverage(x, mixture.modes, mixture.sigma))(points)
    assert (np.asarray(said["modes"]) == k).all()
    error = math.sqrt(CEILING * (1 - CEILING) / (n * repeats))
    assert abs(said["high_quality"].mean() - CEILING) < 4 * error
    floor = (k - 1) / (2 * n * CEILING)
    spread = floor * math.sqrt(2 / (k - 1) / repeats)  # 2 n KL is chi-squared with k - 1 degrees of freedom
    assert abs(said["reverse_kl"].mean() - floor) < 4 * spread


def test_a_sampler_collapsed_to_one_mode_has_the_largest_divergence():
    mixture = ring()
    points = mixture.modes[3] + 0.005 * np.random.default_rng(0).standard_normal((500, 2))
    said = covered(points, mixture.modes, mixture.sigma)
    assert said["modes"] == 1 and said["high_quality"] > CEILING, "a mode that has shrunk exceeds the ceiling"
    assert said["reverse_kl"] == pytest.approx(math.log(8))


def test_points_near_no_mode_and_points_that_are_no_numbers_are_of_low_quality():
    modes = ring().modes
    for points in (np.zeros((10, 2)), np.full((10, 2), np.nan), np.full((10, 2), np.inf)):
        assert covered(points, modes, 0.01) == pytest.approx({"modes": 0, "high_quality": 0, "reverse_kl": math.log(8)})
    assert covered([[np.nan, 0], [1, 0]], modes, 0.01)["high_quality"] == 0.5


def test_a_row_of_coverages_is_each_one(x64):
    """And float32 counts as float64 does."""
    mixture = grid()
    points = np.random.default_rng(2).normal(0, 3, (5, 400, 2)) * [[[1.0]], [[0.1]], [[2.0]], [[0.0]], [[1.0]]]
    points[4] = mixture.sample(400, seed=3)
    rows = jax.vmap(lambda x: coverage(x, mixture.modes, mixture.sigma))(jnp.asarray(points))
    narrow = jax.vmap(lambda x: coverage(x, mixture.modes, mixture.sigma))(jnp.asarray(points, jnp.float32))
    for i, each in enumerate(points):
        for name, value in coverage(jnp.asarray(each), mixture.modes, mixture.sigma).items():
            np.testing.assert_allclose(rows[name][i], value, atol=1e-12)
            np.testing.assert_allclose(narrow[name][i], value, atol=1e-6)


def test_points_of_another_dimension_are_refused():
    with pytest.raises(gan.UserError, match=r"not \[5, 1\] and \[8, 2\]"):
        coverage(jnp.zeros((5, 1)), ring().modes, 0.01)


# ---- energy distance ---------------------------------------------------------------------------


def numpy_means(x, y):
    """Mean |x - y| over all pairs, |x - x'| and |y - y'| over pairs of two examples, in float64."""
    x, y = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (x, y))
    alone = lambda a: cdist(a, a).sum() / (len(a) * (len(a) - 1))
    return cdist(x, y).mean(), alone(x), alone(y)


def test_the_energy_distance_is_scipy_s_in_one_dimension(x64):
    """SciPy gives the root of the V-statistic, which has the pairs of an example with itself."""
    rng = np.random.default_rng(0)
    for n, m in ((2, 2), (40, 60), (ROWS + 7, 30)):
        x, y = rng.normal(size=n), rng.normal(0.5, 2, size=m)
        _, alone_x, alone_y = numpy_means(x, y)
        biased = distance(x[:, None], y[:, None]) + alone_x / n + alone_y / m
        np.testing.assert_allclose(biased, scipy_energy_distance(x, y) ** 2, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 2), (NARROW + 1,), (8, 8, 3)])
def test_the_energy_distance_is_its_formula_over_flat_examples(x64, shape):
    """Sizes on both sides of a block of rows and of a width where the formula changes."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(3, 1, size=(ROWS + 1, *shape)), rng.normal(3.2, 1.5, size=(9, *shape))
    cross, alone_x, alone_y = numpy_means(x, y)
    np.testing.assert_allclose(distance(x, y), 2 * cross - alone_x - alone_y, rtol=1e-10)
    np.testing.assert_allclose(distance(y, x), distance(x, y), rtol=1e-10)


@pytest.mark.parametrize("features", [2, 100])
def test_two_points_are_twice_as_far_as_their_distance(features):
    x = np.zeros((5, features), np.float32)
    y = np.zeros((7, features), np.float32)
    y[:, :2] = 3, 4
    assert float(distance(x, y)) == pytest.approx(10, rel=1e-6)
    assert float(distance(x, x[:3])) == 0


def gaussian_distance(mean, std, other):
    """The energy distance of N(0, std^2) and N(mean, other^2): E|d| is known for a Gaussian d."""

    def folded(mean, std):
        return std * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * std**2)) + mean * math.erf(mean / std / math.sqrt(2))

    return 2 * folded(mean, math.hypot(std, other)) - folded(0, math.sqrt(2) * std) - folded(0, math.sqrt(2) * other)


@pytest.mark.parametrize("mean, std, other", [(0, 1, 1), (0, 1, 1.5), (0.3, 1, 1)])
def test_the_energy_distance_of_gaussians_is_right_on_average(mean, std, other):
    """Unbiased, at equal distributions too: the mean over 2,000 draws of 30 and 20 points is within
    4 standard errors."""
    rng = np.random.default_rng(3)
    x = rng.normal(0, std, (2000, 30, 1)).astype(np.float32)
    y = rng.normal(mean, other, (2000, 20, 1)).astype(np.float32)
    values = np.asarray(jax.jit(jax.vmap(energy_distance))(x, y))
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - gaussian_distance(mean, std, other)) < 4 * error
    assert error < 0.003, "the biased statistic, .094 to .12 more, would be seen"
    assert (values < 0).mean() > 0.1


@pytest.mark.parametrize("features", [2, 784])
def test_a_copy_is_below_zero_by_what_its_missing_pairs_are(features):
    """x == y: the pairs of an example with itself are in E|x - y| alone, so -2 E|x - x'| / n."""
    n = 300
    x = np.random.default_rng(4).uniform(-1, 1, (n, features)).astype(np.float32)
    _, alone, _ = numpy_means(x, x[:2])
    assert float(distance(x, x)) == pytest.approx(-2 * alone / n, rel=2e-3)


@pytest.mark.parametrize("features", [2, 784])
@pytest.mark.parametrize("centre", [0, 20])
def test_float32_sees_near_copies_far_from_the_origin(features, centre):
    """Rounding of |x|^2 + |y|^2 - 2 xy is below a hundredth of what a copy changes."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (200, features)) + centre
    y = x + 1e-3 * rng.normal(size=x.shape)
    x, y = x.astype(np.float32), y.astype(np.float32)
    cross, alone_x, alone_y = numpy_means(x, y)
    assert distance(x, y).dtype == jnp.float32
    assert abs(distance(x, y) - (2 * cross - alone_x - alone_y)) < 0.01 * 2 * alone_x / len(x)


def test_images_of_integers_are_read_as_pixels():
    images = np.random.default_rng(6).integers(0, 256, (2, 20, 8, 8, 1), np.uint8)
    floats = (images / 127.5 - 1).astype(np.float32)
    expected = float(distance(*floats))
    for x, y in ((images[0], images[1]), (floats[0], images[1])):
        assert float(distance(x, y)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("features", [2, 100])
def test_a_row_of_energy_distances_is_each_one(x64, features):
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(3, ROWS + 3, features)), rng.normal(size=(3, 40, features))
    rows = jax.jit(jax.vmap(energy_distance))(x, y)
    np.testing.assert_allclose(rows, [distance(*each) for each in zip(x, y, strict=True)], rtol=1e-10)
    shared = jax.jit(jax.vmap(energy_distance, (None, 0)))(x[0], y)
    np.testing.assert_allclose(shared, [distance(x[0], each) for each in y], rtol=1e-10)


@pytest.mark.parametrize("shapes", [((5, 2), (5, 3)), ((1, 2), (5, 2)), ((5, 2), (1, 2)), ((), ())])
def test_samples_that_do_not_compare_are_refused(shapes):
    with pytest.raises(gan.UserError, match="at least 2 alike examples"):
        energy_distance(*map(jnp.zeros, shapes))
