"""The comparison of VAE and GAN: what is equal, what sharpness is, and that it runs to its end."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import gan_jax as gan
from experiments import vae_vs_gan as experiment
from gan_jax import recipes
from gan_jax.data.splits import Split, Splits


def test_methods_have_as_many_parameters_as_a_width_allows():
    settings = experiment.settings_of(experiment.Options(), (8, 8, 1))
    numbers = {name: experiment.parameters(recipe) for name, recipe in settings.items()}
    assert len(numbers) == 5 and all(abs(n - numbers["gan"]) < 0.05 * numbers["gan"] for n in numbers.values())
    assert {recipe.batch_size for recipe in settings.values()} == {64}
    narrow = experiment.settings_of(experiment.Options(width=1), (8, 8, 1))
    assert len(narrow) == 5 and all(experiment.parameters(recipe) > 0 for recipe in narrow.values())


def test_sharpness_is_the_mean_size_of_the_laplacian():
    x, y = np.meshgrid(np.arange(8), np.arange(6))
    images = np.stack([np.full((6, 8), 7), 3 * x + 2 * y, x**2])[..., None].astype(np.uint8)
    np.testing.assert_allclose(experiment.laplacian(images), [0, 0, 2])
    checks = ((x + y) % 2 * 100)[None, ..., None].astype(np.uint8)
    np.testing.assert_allclose(experiment.laplacian(checks), [400])


def test_sizes_are_shares_or_numbers():
    assert experiment.counts((0.2, 1.0, 50, 0.2), 1000) == (1000, 200, 50)


def test_bounds_are_of_vaes_alone_of_as_many_images_of_t_and_v_and_of_s_where_it_is_opened(monkeypatch):
    splits = [Split(np.full((n, 2), level, np.float32)) for n, level in ((9, 1.0), (4, 2.0), (6, 3.0), (5, 9.0))]
    data, asked = Splits("made up", 0, *splits, (), {}), []
    recipe = {"gan": recipes.mlp((2,)), "vae": recipes.vae((2,)), "vae, beta 4": recipes.vae((2,), beta=4.0)}
    swept = SimpleNamespace(data=data, run=lambda setting, seed, n: gan.Run(recipe[setting], None, data.subset(n)))
    said = lambda run, split, draws: asked.append((len(split.images), draws)) or split.images[:, 0] - float(run.recipe.beta)
    monkeypatch.setattr("gan_jax.games.vae.likelihood", said)
    table = pd.DataFrame([{"setting": s, "seed": 0, "n": n} for s in recipe for n in (9, 3)])
    found = experiment.with_bounds(table, swept, opened=("gan", "vae, beta 4"))  # pyright: ignore
    assert found["iwae_train"].tolist() == pytest.approx([np.nan, np.nan, 0, 0, -3, -3], nan_ok=True)
    assert found["iwae_gap"].tolist() == pytest.approx([np.nan, np.nan, -1, -1, -1, -1], nan_ok=True)
    assert found["iwae_test"].tolist() == pytest.approx([np.nan] * 4 + [-1, np.nan], nan_ok=True)
    assert set(asked) == {(4, 64), (3, 64)}
    text = experiment.summary(found, recipe)
    assert "log p on S, nats" in text and "-3.0" in text
    assert experiment.with_bounds(table[:2], swept).equals(table[:2])  # pyright: ignore


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--width", 0], "--width 0: it must be at least 1"),
        (["--latent-dim", 0], "--latent-dim 0: it must be at least 1"),
        (["--batch-size", 0], "--batch-size 0: it must be at least 1"),
        (["--seeds", 0], "seed"),
        (["--steps", 0], "steps"),
        (["--beta", -1], "--beta -1.0: it must be at least 0"),
        (["--only", "vae", "flow"], "no setting 'flow'"),
        (["--sizes", 20], "too few"),
        (["--data", "ring"], "rows"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(mistake, words, message, tmp_path):
    assert message in mistake(experiment, "--out", tmp_path / "x", *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_whole_comparison_runs(tmp_path, capsys):
    how = experiment.Options(seeds=2, steps=20, width=8, sizes=(150,), log_every=10, devices=1, out=tmp_path / "out")
    assert experiment.main(how) == 0
    said = capsys.readouterr().out
    assert all(title in said for title, _ in experiment.NUMBERS.values())
    assert (tmp_path / "out/pictures/vae_vs_gan.png").exists()
