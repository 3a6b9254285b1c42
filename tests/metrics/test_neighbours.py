"""Known answers of pairs, precision, recall, density, coverage and the 1-NN test: SciPy,
scikit-learn, prdc, torch-fidelity."""

import math
from pathlib import Path

import numpy as np
import pytest
from prdc import compute_prdc
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

import gan_jax as gan
from gan_jax.metrics.checks import check_features
from gan_jax.metrics.neighbours import expected_coverage, nearest, one_nn, one_nn_from, prdc, prdc_from
from gan_jax.metrics.pairs import ROWS, CrossPairs, SelfPairs, cross_pairs, self_pairs

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "fidelity.npz")
WIDE = 40


def features(n, d, seed, shift=0.0):
    return np.maximum(np.random.default_rng(seed).normal(0.5 + shift, 1, (n, d)), 0)


# ---- pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [3, WIDE])
def test_passes_in_blocks_are_the_whole_matrices(d):
    """Differences and products, and sizes on both sides of a block; against SciPy's and
    scikit-learn's matrices."""
    k, x, y = 5, features(ROWS + 7, d, 0), features(60, d, 1, 0.2)
    wx, wy = self_pairs(x, k), self_pairs(y, k)
    pairs = cross_pairs(x, y, wx, wy)
    own, other, cross = cdist(x, x), cdist(y, y), cdist(x, y)
    np.fill_diagonal(own, np.inf), np.fill_diagonal(other, np.inf)
    x_radius, y_radius = np.sort(own, 1)[:, k - 1], np.sort(other, 1)[:, k - 1]
    cube = lambda a, b: polynomial_kernel(a, b, degree=3, gamma=1 / d, coef0=1)
    alone, kernel = cube(x, x), cube(x, y)
    np.fill_diagonal(alone, 0)
    expected = {
        (wx, "distance"): own.min(1), (wx, "radius"): x_radius, (wx, "kernel_rows"): alone.sum(1),
        (wx, "kernel_sum"): alone.sum(), (wx, "kernel_squares"): (alone**2).sum(),
        (pairs, "forward_distance"): cross.min(1), (pairs, "backward_distance"): cross.min(0),
        (pairs, "kernel_rows"): kernel.sum(1), (pairs, "kernel_columns"): kernel.sum(0),
        (pairs, "kernel_squares"): (kernel**2).sum(),
    }  # fmt: skip
    for (made, name), value in expected.items():
        np.testing.assert_allclose(getattr(made, name), value, rtol=1e-9, err_msg=name)
    np.testing.assert_array_equal(
        np.concatenate([wx.index, pairs.forward_index]), np.concatenate([own.argmin(1), cross.argmin(1)])
    )
    np.testing.assert_array_equal(pairs.backward_index, cross.argmin(0))
    np.testing.assert_array_equal(pairs.in_y_balls, (cross < y_radius).sum(1))
    np.testing.assert_array_equal(pairs.in_x_balls, (cross < x_radius[:, None]).sum(0))


def test_swapped_pairs_are_those_of_the_other_order():
    x, y = features(60, WIDE, 2), features(50, WIDE, 3)
    wx, wy = self_pairs(x), self_pairs(y)
    there, back = cross_pairs(x, y, wx, wy).swapped(), cross_pairs(y, x, wy, wx)
    for name in CrossPairs.__dataclass_fields__:
        np.testing.assert_allclose(getattr(there, name), getattr(back, name), rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("d", [2, WIDE])
def test_a_duplicate_is_at_exactly_0_in_float32_too(d):
    """At a norm of 20, where |x|^2 + |y|^2 - 2 xy is off by 1e-2 in float32; and at one of 1e6, in
    float64."""
    for size in (20, 1e6):
        x = np.random.default_rng(4).normal(size=(80, d))
        x = (size / math.sqrt(d) + x).astype(np.float32)
        x[70] = x[3]
        y = x[[10, 3, 50]]
        w, pairs = self_pairs(x, 1), cross_pairs(x, y)
        assert w.distance[3] == w.distance[70] == 0 and (w.index[3], w.index[70]) == (70, 3)
        assert (pairs.backward_distance == 0).all() and (pairs.forward_distance[[10, 3, 70, 50]] == 0).all()
        assert w.distance[10] > 0 and w.distance.min() == 0


def test_points_of_a_fine_grid_far_from_0_have_its_spacing():
    """Neighbours at 1e-4 of points around (1, 1): differences, not products."""
    grid = 1 + 1e-4 * np.stack(np.meshgrid(range(12), range(12)), -1).reshape(-1, 2)
    w = self_pairs(grid, 2)
    np.testing.assert_allclose(w.distance, 1e-4, rtol=1e-9)
    np.testing.assert_allclose(w.radius, 1e-4, rtol=1e-9)
    distance, index = nearest(grid + 2e-5, grid)
    np.testing.assert_allclose(distance, 2e-5 * math.sqrt(2), rtol=1e-9)
    np.testing.assert_array_equal(index, np.arange(144))


@pytest.mark.parametrize("d", [2, WIDE])
def test_the_nearest_is_that_of_scipy_s_tree(d):
    random = np.random.default_rng(5)
    x, y = (random.normal(size=(n, d)).astype(np.float32) for n in (90, 70))
    distance, index = cKDTree(y).query(x)
    found, where = nearest(x, y)
    np.testing.assert_allclose(found, distance, rtol=1e-6)
    np.testing.assert_array_equal(where, index)


@pytest.mark.parametrize(
    "x, message",
    [
        (np.full((3, 2), np.nan), "row 0 is not finite"),
        (np.array([[0.0, 1], [1, np.inf], [0, 0]]), "row 1 is not finite"),
        (np.zeros((3, 2, 2)), r"expected numbers \[n, d\], not float64 \[3, 2, 2\]"),
        (np.zeros((3, 0)), r"not float64 \[3, 0\]"),
        (np.array([["a"], ["b"]]), "expected numbers"),
        (np.zeros((1, 2)), "1 rows, but at least 2"),
    ],
)
def test_what_is_no_features_is_refused(x, message):
    with pytest.raises(gan.UserError, match="the features: .*" + message):
        check_features(x, "the features")


def test_sets_that_do_not_fit_are_refused():
    x, y = features(30, WIDE, 0), features(20, WIDE, 0)
    for compare in (cross_pairs, nearest, prdc, one_nn):
        with pytest.raises(gan.UserError, match=f"{WIDE} and {WIDE - 1} features: they must come from one extractor"):
            compare(x, x[:, 1:])
    with pytest.raises(gan.UserError, match="first set has 20 examples, but 30"):
        cross_pairs(x, y, self_pairs(y))
    with pytest.raises(gan.UserError, match="k is 0"):
        self_pairs(x, 0)
    with pytest.raises(gan.UserError, match="5 rows, but at least 6"):
        self_pairs(x[:5])
    with pytest.raises(gan.UserError, match="use one k"):
        prdc_from(self_pairs(x, 3), self_pairs(x, 4), cross_pairs(x, x))
    with pytest.raises(gan.UserError, match="one size, not 30 and 20"):
        one_nn(x, y)


# ---- precision, recall, density, coverage ------------------------------------------------------


@pytest.mark.parametrize("n, m, k, d", [(90, 70, 5, 3), (70, 90, 5, WIDE), (60, 60, 1, WIDE)])
def test_prdc_is_that_of_the_package(n, m, k, d):
    real, fake = features(n, d, 7), features(m, d, 8, 0.3)
    assert prdc(real, fake, k) == pytest.approx(compute_prdc(real, fake, nearest_k=k), rel=1e-9)


def test_with_closed_balls_precision_and_recall_are_torch_fidelity_s():
    """The frozen sets share a point that each has five times: in balls of radius 0 it is with `<=`,
    but not with `<`."""
    real, fake = FROZEN["y"], FROZEN["x"]
    closed, opened = prdc(real, fake, 3, strict=False), prdc(real, fake, 3)
    for name in ("precision", "recall"):
        assert closed[name] == pytest.approx(float(FROZEN[name]), abs=1e-6)
        assert opened[name] < closed[name] - 0.02


@pytest.mark.parametrize("d", [2, WIDE])
def test_a_copy_has_1_in_everything(d):
    """And with closed balls the k-th neighbour is counted, too, though it is at the radius to the
    last bit or nearly so."""
    x = features(200, d, 9) if d == WIDE else np.random.default_rng(9).normal(size=(200, d))
    w = self_pairs(x)
    assert prdc_from(w, w, cross_pairs(x, x, w, w)) == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    closed = prdc_from(w, w, cross_pairs(x, x, w, w, strict=False))
    assert closed == pytest.approx({"precision": 1, "recall": 1, "density": 6 / 5, "coverage": 1})


def test_fakes_in_many_duplicates_have_no_recall():
    """50 points six times each: the fifth neighbour of each is its own duplicate."""
    real = features(300, WIDE, 10)
    made = prdc(real, np.repeat(real[:50], 6, 0))
    assert made["recall"] == 0 and made["precision"] == 1 and made["coverage"] < 1
    assert prdc(real, np.repeat(real[:50], 6, 0), strict=False)["recall"] > 0.1


@pytest.mark.parametrize("n, m, k", [(60, 60, 5), (60, 90, 3), (90, 40, 3)])
def test_coverage_and_density_of_independent_data_are_what_is_expected(n, m, k):
    """Of the passes' definition by NumPy, many times; that it is ours is shown above."""
    random = np.random.default_rng(11)
    rows = []
    for _ in range(300):
        real, fake = random.normal(size=(n, 4)), random.normal(size=(m, 4))
        radius = np.sort(cdist(real, real), 1)[:, k]
        inside = cdist(real, fake) < radius[:, None]
        rows.append([inside.any(1).mean(), inside.sum() / (k * m)])
    coverage, density = np.array(rows).T
    assert abs(coverage.mean() - expected_coverage(n, m, k)) < 4 * coverage.std() / math.sqrt(300)
    assert abs(density.mean() - n / (n - 1)) < 4 * density.std() / math.sqrt(300)
    assert coverage.std() / math.sqrt(300) < 0.005


def test_expected_coverage_is_the_published_one_at_equal_sizes():
    n, k = 1000, 5
    assert expected_coverage(n, n, k) == pytest.approx(1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1)))
    assert expected_coverage(10**9, 10**9, 5) == pytest.approx(1 - 2**-5)
    assert expected_coverage(10**9, 10**9, 3) == pytest.approx(0.875)
    assert expected_coverage(2, 1, 1) == pytest.approx(1 / 2), "which of the other real and the fake is nearer"
    for wrong in ((5, 5, 5), (5, 5, 0), (5, 0, 2)):
        with pytest.raises(gan.UserError, match="expected_coverage wants"):
            expected_coverage(*wrong)


# ---- 1-NN --------------------------------------------------------------------------------------


def test_one_nn_is_that_of_scikit_learn():
    x, y = features(80, WIDE, 12), features(80, WIDE, 13, 0.1)
    both, label = np.concatenate([x, y]), np.repeat([0, 1], 80)
    found = NearestNeighbors(n_neighbors=1).fit(both).kneighbors(return_distance=False)[:, 0]
    right = label[found] == label
    expected = {"accuracy": right.mean(), "x_accuracy": right[:80].mean(), "y_accuracy": right[80:].mean()}
    assert one_nn(x, y) == pytest.approx(expected)
    assert 0.2 < expected["x_accuracy"] < 0.95 and expected["x_accuracy"] != expected["y_accuracy"]
    w = self_pairs(x), self_pairs(y)
    assert one_nn_from(*w, cross_pairs(x, y, *w)) == pytest.approx(expected), "any k will do"


def test_a_copy_has_a_1_nn_accuracy_of_0():
    x = features(100, WIDE, 14)
    x[:10] = x[10:20]
    random = np.random.default_rng(0)
    assert one_nn(x, x[random.permutation(100)]) == {"accuracy": 0, "x_accuracy": 0, "y_accuracy": 0}
    assert one_nn(x, x + 1e-9 * random.normal(size=x.shape))["accuracy"] < 0.2


def test_far_sets_are_told_apart_and_a_collapsed_one_shows_in_its_own_half():
    x = features(100, WIDE, 15)
    assert one_nn(x, x + 100)["accuracy"] == 1
    collapsed = x.mean(0) + 0.1 * np.random.default_rng(1).normal(size=x.shape)
    made = one_nn(collapsed, features(100, WIDE, 16))
    assert made["x_accuracy"] == 1 and made["y_accuracy"] < 0.1


def test_the_1_nn_accuracy_of_equal_distributions_is_one_half():
    """Of 200 pairs of samples: (n - 1) / (2 n - 1) of the neighbours are of one's own sample."""
    n, random = 30, np.random.default_rng(17)
    values = []
    for _ in range(200):
        x, y = random.normal(size=(n, 5)), random.normal(size=(n, 5))
        own, other, cross = cdist(x, x), cdist(y, y), cdist(x, y)
        np.fill_diagonal(own, np.inf), np.fill_diagonal(other, np.inf)
        values.append(one_nn_from(_alone(own), _alone(other), _pairs(cross))["accuracy"])
    error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values) - (n - 1) / (2 * n - 1)) < 4 * error and error < 0.01


def _alone(distances):
    none = np.empty(0)
    return SelfPairs(len(distances), 1, distances.min(1), none, none, 0, 0, none)


def _pairs(distances):
    none = np.empty(0)
    return CrossPairs(
        *distances.shape, True, distances.min(1), none, distances.min(0), none, none, none, none, none, 0
    )  # fmt: skip
