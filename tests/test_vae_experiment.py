"""The comparison of VAE and GAN: what is equal, what sharpness is, and that it runs to its end."""

import numpy as np
import pytest

from experiments import vae_vs_gan as experiment
from gan_jax.errors import UserError


def test_methods_have_as_many_parameters_as_a_width_allows():
    settings = experiment.settings_of(experiment.Options(), (8, 8, 1))
    numbers = {name: experiment.parameters(recipe) for name, recipe in settings.items()}
    assert len(numbers) == 5 and all(abs(n - numbers["gan"]) < 0.05 * numbers["gan"] for n in numbers.values())
    assert {recipe.batch_size for recipe in settings.values()} == {64}
    with pytest.raises(UserError, match="rows"):
        experiment.settings_of(experiment.Options(), (2,))


def test_sharpness_is_the_mean_size_of_the_laplacian():
    x, y = np.meshgrid(np.arange(8), np.arange(6))
    images = np.stack([np.full((6, 8), 7), 3 * x + 2 * y, x**2])[..., None].astype(np.uint8)
    np.testing.assert_allclose(experiment.laplacian(images), [0, 0, 2])
    checks = ((x + y) % 2 * 100)[None, ..., None].astype(np.uint8)
    np.testing.assert_allclose(experiment.laplacian(checks), [400])


def test_sizes_are_shares_or_numbers():
    assert experiment.counts((0.2, 1.0, 50, 0.2), 1000) == (1000, 200, 50)


@pytest.mark.slow
def test_the_whole_comparison_runs(tmp_path, capsys):
    how = experiment.Options(seeds=2, steps=20, width=8, sizes=(150,), log_every=10, devices=1, out=tmp_path / "out")
    assert experiment.main(how) == 0
    said = capsys.readouterr().out
    assert all(title in said for title, _ in experiment.NUMBERS.values())
    assert (tmp_path / "out/pictures/vae_vs_gan.png").exists()
