"""The same examples in any order: what takes the first of them takes the same ones."""

import numpy as np
import pandas as pd
import pytest

from gan_jax.data import Split, Splits
from gan_jax.metrics.kernels import mmd
from gan_jax.metrics.order import content_order
from gan_jax.metrics.per_class import per_class

RANDOM = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), 300)
POINTS = (RANDOM.normal(size=(1200, 2)) + 9 * LABELS[:, None]).astype(np.float32)  # stored class by class


@pytest.mark.parametrize("labels", [None, LABELS, np.array(list("wxyz"))[LABELS]], ids=["none", "numbers", "names"])
def test_the_order_depends_on_the_examples_alone(labels):
    order = content_order(POINTS, labels)
    assert sorted(order) == list(range(1200))
    for other in (RANDOM.permutation(1200), np.arange(1200)[::-1]):
        again = content_order(np.asfortranarray(POINTS[other]), None if labels is None else labels[other])
        assert (POINTS[other][again] == POINTS[order]).all()
    assert (content_order(POINTS, labels, seed=1) != order).any()
    shares = np.bincount(LABELS[order[:400]])
    assert (shares == 100).all() if labels is not None else np.abs(shares - 100).max() < 35


def test_equal_examples_stay_together_with_their_labels():
    points, labels = np.zeros((6, 1), np.float32), np.array([0, 1, 0, 1, 0, 1])
    assert np.bincount(labels[content_order(points, labels)[:4]]).tolist() == [2, 2]


def test_metrics_that_take_some_examples_take_the_same_in_any_order():
    shuffled = RANDOM.permutation(1200)
    far = POINTS[:20] + 5
    assert mmd(POINTS, far) == pytest.approx(mmd(POINTS[shuffled], far), rel=1e-12)
    part = lambda start, n: Split(POINTS[start::n], LABELS[start::n])
    data = Splits("four", 0, part(0, 6), part(1, 12), part(2, 12), part(3, 12), ("a", "b", "c", "d"), {})
    tables = [per_class(POINTS[rows], LABELS[rows], data, data.validation) for rows in (np.arange(1200), shuffled)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    assert (tables[0]["generated"] == 300).all() and (tables[0]["coverage"] > 0.7).all()
