"""The experiment about leaking: what it counts where the share of changed images is known."""

import numpy as np
import pytest

import gan_jax as gan
from experiments import leaking


@pytest.mark.parametrize("change", leaking.CHANGES)
def test_it_finds_the_share_of_images_that_were_changed(change):
    """Held-out images as they are, each of them changed, and half of them: 0, 1, and half within
    what 227 images say."""
    options = leaking.Options(p=(0.0, 0.5, 1.0))
    data = gan.load("digits")
    plain = data.validation.images
    every = np.rint((leaking.changed(change, plain / 127.5 - 1, options.seed) + 1) * 127.5).astype(np.uint8)
    half = np.where(np.random.default_rng(0).permutation(len(plain))[:, None, None, None] < len(plain) // 2, every, plain)
    samples = {leaking.named(c, p): [x] for c in leaking.CHANGES for p, x in zip(options.p, (plain, half, every), strict=True)}
    rows = leaking.shares(options, data, samples)[change][2]
    assert rows[0.0] == [0]
    assert rows[1.0] == pytest.approx([1], abs=1e-9)
    assert rows[0.5] == pytest.approx([0.5], abs=0.1)


def test_p_is_a_number_of_the_recipe_and_a_probability(mistake):
    settings = leaking.settings_of(leaking.Options(p=(0.25,)), (8, 8, 1))
    leaf = gan.leaves(settings["rotation, p = 0.25"])
    assert {path: float(value) for path, value in leaf.items() if path.startswith("augment")} == {"augment.rotation.p": 0.25}
    assert "--p 1.5: it must lie in" in mistake(leaking, "--p", 1.5) or "--p 1.5" in mistake(leaking, "--p", 1.5)
