"""The metrics' benchmark measures equal work: both sides and the report give the same numbers."""

import pytest

from gan_jax.core.errors import UserError
from scripts import benchmark_metrics as bench


def test_both_sides_and_the_report_agree_and_a_difference_is_seen():
    sets = bench.features(80, 24)
    ours, theirs, report = bench.ours(**sets), bench.theirs(**sets), bench.report(**sets)
    assert bench.disagreement(ours, theirs)[1] <= bench.TOLERANCE
    for role in ("generated", "real", "copycat"):
        for name, same in bench.SAME.items():
            assert report[f"{role} {name}"] == pytest.approx(ours[f"{role} {same}"], rel=1e-9, abs=1e-9)
    with pytest.raises(UserError, match="real fd_s: ours"):
        bench.disagreement(ours | {"real fd_s": 2 * ours["real fd_s"]}, theirs)


def test_the_growth_is_the_exponent():
    assert bench.growth([{"n": n, "s": 3 * n**1.7} for n in (10, 20, 50)], "s") == pytest.approx(1.7)
