"""An argument is returned as what it is, or refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from gan_jax.arguments import among, count, flag, path, real, seed
from gan_jax.core.errors import UserError

NO_INTEGERS = [None, True, "5", 2.5, 2.0, float("nan"), float("inf"), [3], {}, np.float32(2), np.arange(6), b"1", 1j]
NO_NUMBERS = [None, True, "5", float("nan"), float("inf"), -float("inf"), [3], {}, np.arange(3), b"1", 1j, 10**400]


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_an_integer_is_returned_as_an_int(value):
    assert count(value, "n") == 3 and type(count(value, "n")) is int


@pytest.mark.parametrize("value", [*NO_INTEGERS, 0, -1])
def test_no_count_is_refused_in_one_line(value):
    with pytest.raises(UserError, match="^n=.*: must be an integer of at least 1$") as caught:
        count(value, "n")
    assert len(str(caught.value)) < 150 and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [*NO_INTEGERS, -1, 2**32, 2**70, "a"])
def test_a_seed_is_one_that_jax_reads_whole(value):
    assert seed(0) == 0 and seed(2**32 - 1) == 2**32 - 1
    with pytest.raises(UserError, match="^seed=.*: must be an integer from 0 to 4294967295$"):
        seed(value)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_no_number_is_refused(value):
    with pytest.raises(UserError, match="^rate=.*: must be a number$"):
        real(value, "rate")


def test_numbers_keep_to_their_range():
    assert real(np.float32(0.5), "share", 0, 1) == 0.5 and real(3, "rate") == 3.0
    for value, bounds, must in ((2, (0, 1), "from 0 to 1"), (-1, (0,), "of at least 0"), (2, (-np.inf, 1), "of at most 1")):
        with pytest.raises(UserError, match=f"^share={value}: must be a number {must}$"):
            real(value, "share", *bounds)


@pytest.mark.parametrize("value", [None, "", 3, b"a", "a\0b", ["a"], True])
def test_a_path_is_text(value):
    assert path("a/b", "out") == path(Path("a/b"), "out") == Path("a/b")
    with pytest.raises(UserError, match="^out=.*: must be the path of a file or folder$"):
        path(value, "out")


def test_flags_and_choices():
    assert flag(True, "resume") is True and among("pmap", "parallel", ("sharding", "pmap")) == "pmap"
    with pytest.raises(UserError, match="^resume=1: must be True or False$"):
        flag(1, "resume")
    for value in ("pmpa", None, ["pmap"], np.arange(2)):
        with pytest.raises(UserError, match="^parallel=.*: must be one of 'sharding', 'pmap'$"):
            among(value, "parallel", ("sharding", "pmap"))
