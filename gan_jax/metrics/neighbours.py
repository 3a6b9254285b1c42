"""Fidelity, diversity and copying by nearest neighbours: precision, recall, density, coverage, and
the 1-NN test."""

from __future__ import annotations

from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_two
from gan_jax.metrics.pairs import CrossPairs, SelfPairs, check_fit, cross_pairs, self_pairs


def prdc(real: Any, fake: Any, k: int = 5, strict: bool = True) -> dict[str, float]:
    """Improved precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et
    al., 2020).

    real [n, d], fake [m, d]: features. The ball of an example reaches to the k-th nearest other
    example of its own set:

        precision  the share of fakes in the ball of some real, in [0, 1]
        recall     the share of reals in the ball of some fake, in [0, 1]
        density    balls of reals that a fake is in, on average, over k; from 0, may exceed 1
        coverage   the share of reals with a fake in their ball, in [0, 1]

    strict: balls without their surface, as in the package prdc, or with it, as in torch-fidelity
    (there k = 3); see `cross_pairs`. Independent real data in the place of fakes have density 1 and
    coverage `expected_coverage` on average (.969 for k = 5); a copy has 1 in all four: none of them
    sees copying. Duplicates among the fakes lower recall, one outlier among the reals raises
    precision. Cost: three passes (`pairs`), n^2 + m^2 + n m pairs.
    Raises UserError where the sets are no features of one width, or have no k-th neighbour.
    """
    real, fake = check_two(real, fake, "prdc")
    wr, wf = self_pairs(real, k), self_pairs(fake, k)
    return prdc_from(wr, wf, cross_pairs(fake, real, wf, wr, strict))


def prdc_from(wr: SelfPairs, wf: SelfPairs, pairs: CrossPairs) -> dict[str, float]:
    """`prdc` of passes that are there: within(real), within(fake) and between(fake, real, wf,
    wr)."""
    check_fit("prdc", pairs.n, pairs.m, wf, wr)
    if wr.k != wf.k:
        raise UserError(f"prdc: the balls of the reals are of neighbour {wr.k}, those of the fakes of {wf.k}: use one k")
    inside = np.less if pairs.strict else np.less_equal
    return {
        "precision": float((pairs.in_y_balls > 0).mean()),
        "recall": float((pairs.in_x_balls > 0).mean()),
        "density": float(pairs.in_y_balls.mean() / wr.k),
        "coverage": float(inside(pairs.backward_distance, wr.radius).mean()),
    }


def expected_coverage(n: int, m: int, k: int) -> float:
    """E[coverage] of n reals by m fakes of the same distribution without ties: 1 - prod_{i=1..k} (n
    - i) / (n + m - i).

    A real is not covered where, of the n - 1 other reals and m fakes around it, the k nearest are
    all real; any order is as likely as another. With n = m it tends to 1 - 2^-k. Naeem et al.
    (2020, lemma 2) have it for n = m.
    Raises UserError unless 1 <= k < n and m >= 1.
    """
    if not 1 <= k < n or m < 1:
        raise UserError(f"expected_coverage wants 1 <= k < n and m >= 1, not k = {k}, n = {n}, m = {m}")
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


def one_nn(x: Any, y: Any) -> dict[str, float]:
    """Leave-one-out accuracy of 1-nearest-neighbour on "x or y?" (Lopez-Paz & Oquab, 2017; Xu et
    al., 2018), in [0, 1].

    x, y [n, d]: features of equally many examples. `x_accuracy` is the share of x whose nearest
    other example of both sets is an x, `y_accuracy` that of y; `accuracy` is their mean. Two
    samples of one distribution have .5 on average in each, to about 1 / (4 n); different ones more,
    up to 1; and copies of the other set less, down to 0. With x generated, x_accuracy far above
    y_accuracy is a collapse. A tie goes to the other set, so that a copy has 0 even where the set
    has duplicates.
    Cost: three passes, 3 n^2 pairs. Raises UserError where the sets are not of one size (the score
        would follow the sizes).
    """
    x, y = check_two(x, y, "one_nn")
    _check_equal(len(x), len(y))
    return one_nn_from(self_pairs(x, 1), self_pairs(y, 1), cross_pairs(x, y))


def one_nn_from(wx: SelfPairs, wy: SelfPairs, pairs: CrossPairs) -> dict[str, float]:
    """`one_nn` of passes that are there: within(x), within(y) and between(x, y), with any k."""
    check_fit("one_nn", pairs.n, pairs.m, wx, wy)
    _check_equal(pairs.n, pairs.m)
    x = float((wx.distance < pairs.forward_distance).mean())
    y = float((wy.distance < pairs.backward_distance).mean())
    return {"accuracy": (x + y) / 2, "x_accuracy": x, "y_accuracy": y}


def nearest(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """(Euclidean distance [n] of each x to the nearest y, its index [n]). A duplicate is at exactly
    0.

    x [n, d], y [m, d]: features. Cost: one pass. Raises UserError where they are no features of one
    width.
    """
    pairs = cross_pairs(x, y)
    return pairs.forward_distance, pairs.forward_index


def _check_equal(n: int, m: int) -> None:
    if n != m:
        raise UserError(f"one_nn wants two sets of one size, not {n} and {m}: take equally many of each")
