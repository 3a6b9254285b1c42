"""The experiment about stacked digits: what its objectives share, what it counts, and a step as a
person starts it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import gan_jax as gan
from experiments import stacked_mnist
from gan_jax.core.bind import resolve
from tests.experiments.test_experiments import script

SHAPE = (8, 8, 3)


@pytest.mark.parametrize(("network", "optimizer"), [("dcgan", "recipe"), ("dcgan", "annealed"), ("r3gan", "recipe")])
def test_objectives_differ_in_the_loss_and_in_the_penalties_alone(network, optimizer):
    options = stacked_mnist.Options(network=network, optimizer=optimizer, width=8, batch_size=4, gamma=0.5, steps=10)
    settings = stacked_mnist.settings_of(options, SHAPE)
    assert [(r.loss.name, *r.discriminator.penalties) for r in settings.values()] == [
        ("non_saturating",), ("non_saturating", "r1"), ("rpgan", "r1", "r2"),
    ]  # fmt: skip
    gammas = lambda step: [
        float(p.numbers["gamma"]) for r in settings.values() for p in resolve(r, step).discriminator.penalties.values()
    ]
    end = 0.05 if optimizer == "annealed" else 0.5
    assert gammas(jnp.int32(0)) == pytest.approx([0.5] * 3) and gammas(jnp.int32(10)) == pytest.approx([end] * 3)
    plain = settings["non_saturating"]
    bare = lambda r: r.replace(loss=plain.loss, discriminator=r.discriminator.replace(penalties={}))
    same = {name: bare(recipe) for name, recipe in settings.items()}
    for recipe in same.values():
        assert jax.tree.structure(recipe) == jax.tree.structure(plain)
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, recipe, plain)))


@pytest.mark.parametrize("name", stacked_mnist.OBJECTIVES)
def test_every_objective_is_a_step(name):
    options = stacked_mnist.Options(network="r3gan", width=8, batch_size=4, only=(name,))
    (recipe,) = stacked_mnist.settings_of(options, SHAPE).values()
    batch = gan.Batch(jnp.zeros((4, *SHAPE)), jnp.arange(4))
    metrics = jax.eval_shape(lambda key: gan.train_step(recipe, gan.init(recipe, key), batch)[1], jax.random.key(0))
    assert {"discriminator/loss", "generator/loss"} <= metrics.keys()


@pytest.mark.parametrize(("modes", "n"), [(1000, 26_000), (27, 5000)])
def test_the_even_sampler_has_the_kl_of_chi_squared(modes, n):
    """2 n KL is about chi-squared with modes - 1 degrees of freedom."""
    reached, kl, deviation = stacked_mnist.even_sampler(modes, n)
    degrees = modes - 1
    assert reached == pytest.approx(modes, abs=0.01)
    assert kl == pytest.approx(degrees / 2 / n, rel=0.05)
    assert deviation == pytest.approx(math.sqrt(2 * degrees) / 2 / n, rel=0.2)


class Swept:
    """A sweep of two seeds whose samples all are one stack; the second has diverged."""

    table = pd.DataFrame(
        [("a", 0, 9, 1, False), ("a", 0, 9, 2, False), ("a", 1, 9, 2, True)],
        columns=["setting", "seed", "n", "step", "diverged"],
    )

    def run(self, setting, seed, n):
        assert (setting, seed, n) == ("a", 0, 9)
        return self

    def samples(self, n, ema):
        return np.full((n, 2, 2, 3), [100, 0, 200] if ema else [0, 0, 0], np.uint8)


@pytest.mark.parametrize("raw", [False, True])
def test_a_single_mode_is_counted_as_one_and_a_diverged_run_as_none(raw):
    seen = []
    classify = lambda images: (seen.append(images), np.eye(10)[images[:, 0, 0, 0] // 25])[1]
    options = stacked_mnist.Options(samples=20, raw=raw)
    table = stacked_mnist.counted(Swept(), options, classify)
    assert list(table["step"]) == [2, 2] and table["modes"].iloc[0] == 1
    assert table["kl"].iloc[0] == pytest.approx(math.log(1000)) and table["modes"].isna().tolist() == [False, True]
    assert [set(x.ravel().tolist()) for x in seen] == ([{0}] if raw else [{0, 100, 200}])


def test_a_mean_has_an_error_only_over_several_seeds():
    assert stacked_mnist.mean_and_error(pd.Series([1.0, 3.0]), ".1f") == "2.0 +- 1.0"
    assert stacked_mnist.mean_and_error(pd.Series([1.0]), ".1f") == "1.0"
    assert stacked_mnist.mean_and_error(pd.Series([], dtype=float), ".1f") == ""


def test_objectives_must_be_named():
    with pytest.raises(gan.UserError, match="--only is empty"):
        stacked_mnist.Options(only=()).check()


@pytest.mark.slow
def test_the_experiment_ends_in_modes_of_every_run_beside_real_stacks(tmp_path):
    small = ["--steps", 1, "--log-every", 1, "--width", 4, "--batch-size", 8, "--subset", 200, "--seeds", 1, "--samples", 300]
    text = script("experiments/stacked_mnist.py", *small, "--only", "rpgan_r1_r2", "--out", tmp_path / "sweep")
    table = pd.read_csv(tmp_path / "sweep" / "modes.csv")
    assert table["setting"].tolist() == ["rpgan_r1_r2"] and table["modes"].between(1, 300).all()
    assert f"rpgan_r1_r2 1 of 1 {table['modes'][0]:.1f} {table['kl'][0]:.4f}" in " ".join(text.split())
    real = [line.split()[-2:] for line in text.splitlines() if "digits" in line and "stacks of" in line]
    assert len(real) == 2 and all(200 < int(modes) < 300 and 1 < float(kl) < 2 for modes, kl in real)
