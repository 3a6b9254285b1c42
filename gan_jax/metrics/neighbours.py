"""Fidelity, diversity and copying by nearest neighbours, in features [n, d] and [m, d]."""

from typing import Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics.checks import check_two
from gan_jax.metrics.pairs import CrossPairs, SelfPairs, check_fit, cross_pairs, self_pairs


def prdc(real: Any, fake: Any, k: int = 5, strict: bool = True) -> dict[str, float]:
    """Precision, recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020).

    real [n, d], fake [m, d]. The ball of an example reaches to its k-th nearest other one.

        precision: the share of fakes in the ball of some real, in [0, 1]
        recall: the share of reals in the ball of some fake, in [0, 1]
        density: the balls of reals that a fake is in, on average, over k; from 0, may exceed 1
        coverage: the share of reals with a fake in their ball, in [0, 1]

    strict: balls without their surface, as in the package prdc, or with it, as in torch-fidelity
    (there k = 3); see `cross_pairs`. Independent real data have density 1 and coverage
    `expected_coverage` on average (.969 for k = 5). A copy has 1 in all four: none detects copying.
    Duplicates among fakes lower recall, one outlier among reals raises precision. Raises UserError
    for fewer than k + 1 examples.
    """
    real, fake = check_two(real, fake, "prdc")
    wr, wf = self_pairs(real, k), self_pairs(fake, k)
    return prdc_from(wr, wf, cross_pairs(fake, real, wf, wr, strict))


def prdc_from(wr: SelfPairs, wf: SelfPairs, pairs: CrossPairs) -> dict[str, float]:
    """`prdc` of self_pairs(real), self_pairs(fake) and cross_pairs(fake, real, wf, wr)."""
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
    """1 - prod_{i=1..k} (n - i) / (n + m - i): the mean coverage of n reals by m independent reals.

    A real is not covered where its k nearest of the n - 1 other reals and m fakes are all real;
    without ties any order is as likely as another. With n = m (Naeem et al., 2020, lemma 2) it
    tends to 1 - 2^-k. Raises UserError unless 1 <= k < n and m >= 1.
    """
    if not 1 <= k < n or m < 1:
        raise UserError(f"expected_coverage wants 1 <= k < n and m >= 1, not k = {k}, n = {n}, m = {m}")
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


def one_nn(x: Any, y: Any) -> dict[str, float]:
    """Leave-one-out accuracy, in [0, 1], of 1-NN (Lopez-Paz & Oquab, 2017; Xu et al., 2018).

    x, y [n, d]. `x_accuracy` is the share of x whose nearest other example is an x, `y_accuracy`
    that of y; `accuracy` is their mean. Each is .5 on average for samples of one distribution, to
    about 1 / (4 n), more for different ones, and less, down to 0, for copies: a tie goes to the
    other set. With x generated, x_accuracy far above y_accuracy is a collapse. Raises UserError
    where the sets are not of one size.
    """
    return one_nn_from(self_pairs(x, 1), self_pairs(y, 1), cross_pairs(x, y))


def one_nn_from(wx: SelfPairs, wy: SelfPairs, pairs: CrossPairs) -> dict[str, float]:
    """`one_nn` of the passes self_pairs(x), self_pairs(y) and cross_pairs(x, y), with any k."""
    check_fit("one_nn", pairs.n, pairs.m, wx, wy)
    if pairs.n != pairs.m:
        raise UserError(f"one_nn wants two sets of one size, not {pairs.n} and {pairs.m}: take equally many of each")
    x = float((wx.distance < pairs.forward_distance).mean())
    y = float((wy.distance < pairs.backward_distance).mean())
    return {"accuracy": (x + y) / 2, "x_accuracy": x, "y_accuracy": y}


def nearest(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """The distance [n] of each x to the nearest y, exactly 0 for a duplicate, and its index [n]."""
    pairs = cross_pairs(x, y)
    return pairs.forward_distance, pairs.forward_index
