"""Copies among samples: planted kinds are found and named, independent generators are not
suspected, and what could not be seen is said."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gan_jax.data import Split
from gan_jax.report.controls import Sets
from gan_jax.report.copying import LEVEL, Pool, exact_p, limits

T, H, M = 120, 160, 200


def images(n, random):
    noise = gaussian_filter(random.normal(size=(n, 12, 12, 1)), (0, 1, 1, 0))
    return np.clip(np.rint(noise * 300 + 128), 20, 235).astype(np.uint8)


def features(x):
    return x.reshape(len(x), 12, 3, 4).mean(3).reshape(len(x), -1).astype(np.float32)


def pool(train, held, control, differ=True):
    sets = Sets(Split(train), Split(held), Split(control), "V")
    return Pool(sets, features, lambda: [features(x) for x in (train, held, control)], differ, 0)


@pytest.fixture(scope="module")
def made():
    random = np.random.default_rng(0)
    train, held = images(T, random), images(H, random)
    return pool(train, held[: H // 2], held[H // 2 :]), train, random


def mixed(made, copies, share):
    random = made[2]
    count = round(share * M)
    return random.permutation(np.concatenate([copies(made[1][random.integers(0, T, count)]), images(M - count, random)]))


KINDS = {
    "exact": lambda x: x,
    "nearly the same": lambda x: np.clip(x + np.random.default_rng(1).normal(0, 4, x.shape), 0, 255).astype(np.uint8),
    "shifted": lambda x: np.roll(x, 1, 2),
    "mirrored": lambda x: x[:, :, ::-1],
    "light": lambda x: np.rint(x * 0.4 + 60).astype(np.uint8),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_planted_copies_are_found_counted_and_named(made, kind, share):
    search, train, _ = made
    x = mixed(made, KINDS[kind], share)
    said = search.search(x)
    holds, sentence = said.finding
    assert holds and said.joint_p <= LEVEL and said.low <= share + 0.04 and said.high >= share - 0.04
    assert next(iter(said.how)) == kind and f"{said.how[kind]} {kind}" in sentence and "p " in sentence
    first = said.samples[0]
    if kind == "exact":
        np.testing.assert_array_equal(search.images[said.images[0]], x[first])
    assert search.training[said.images].all() and len(said.samples) == len(said.images) == sum(said.how.values())


def test_independent_generators_are_not_suspected():
    wrong, random = 0, np.random.default_rng(4)
    for i in range(40):
        train, held, x = images(T, random), images(H, random), images(M, random)
        changed = (
            lambda x: x,
            lambda x: gaussian_filter(x, (0, 1, 1, 0)),
            lambda x: x[:, ::-1],
            lambda x: np.repeat(x[:4], M // 4, 0),
        )[i % 4]
        wrong += bool(pool(train, held[:80], held[80:]).search(changed(x)).finding[0])
    assert wrong <= 3  # of 40 at 1 %: more than three once in 2,000 times


def test_an_image_of_both_sets_tells_nothing_and_the_same_sets_cannot_be_told(made):
    _, train, random = made
    held = images(H, random)
    both = pool(np.concatenate([train, held[:10]]), held[: H // 2], held[H // 2 :])
    assert len(both.images) == T + H - 10 and both.held_exact == 10
    same = pool(train, train[:60], train[60:])
    assert same.search(train[:50]).finding == (None, "copies cannot be told: training and held-out images are the same")
    assert same.search(train[:50]).note == "no share of copies could have been seen"


def test_a_generator_of_three_training_images_memorises(made):
    search, train, _ = made
    said = search.search(np.repeat(train[:3], 50, 0))
    assert said.found[0] == "exact copies" and said.share == 1 and said.how == {"exact": 150}
    assert exact_p(3, 3, 0, H) == pytest.approx(6 / ((H + 1) * (H + 2) * (H + 3)))  # all three below the least of H
    assert exact_p(0, 3, 0, H) == exact_p(2, 3, H, H) == 1


def test_the_note_says_what_is_found_surely(made):
    search, train, random = made
    exact, near = limits(M, T, H, LEVEL / 4)
    assert search.limits(M) == (exact, near) and exact <= near and f"{near:.1%}" in search.search(images(M, random)).note
    copies = round(exact * M)
    held = images(M - copies, random)
    assert search.search(np.concatenate([train[:copies], held])).finding[0]
    assert not search.search(np.concatenate([train[: copies // 3], images(M - copies // 3, random)])).finding[0]
