"""Pictures of a run: truncated samples, a picture of paths between samples, and the script that
writes both."""

import jax
import numpy as np
import pytest
from PIL import Image

import gan_jax as gan
from gan_jax.training.run import Run
from scripts import samples

DIGITS = gan.load("digits")


def run(recipe, data=DIGITS):
    return Run(recipe, jax.jit(gan.init)(recipe, jax.random.key(0)), data)


def dcgan(**fields):
    return gan.recipes.dcgan((8, 8, 1), width=2, latent_dim=3, **fields)


@pytest.fixture(scope="module")
def style():
    """Untrained, but with an average style."""
    recipe = gan.recipes.stylegan2_ada((8, 8, 1), channel_base=32, channel_max=4, augment={}, controllers={}, group=8)
    made = run(recipe)
    average = {"style": jax.random.normal(jax.random.key(1), (512,))}
    made.state = made.state.replace(ema=made.state.ema | {"stats": made.state.ema["stats"] | {"averages": average}})
    return made


@pytest.fixture(scope="module")
def conditional():
    """A raw generator that is not its moving average."""
    made = run(dcgan(classes=10))
    g = made.state.generator
    made.state = made.state.replace(generator=g.replace(params=jax.tree.map(lambda x: 3 * x, g.params)))
    return made


def test_truncation_of_stylegan2_is_psi(style):
    """The average image at 0, nothing at 1; in between what its number of this name gives."""
    whole, half, none = (style.samples(4, truncation=psi) for psi in (1.0, 0.5, 0.0))
    np.testing.assert_array_equal(whole, style.samples(4))
    np.testing.assert_array_equal(none, none[:1].repeat(4, 0))
    side = style.recipe.generator.replace(numbers={"noise": 1.0, "truncation": 0.5})
    np.testing.assert_array_equal(half, run_of(style, style.recipe.replace(generator=side)).samples(4))
    assert (half != whole).any() and (half != none).any()


def run_of(other, recipe):
    return Run(recipe, other.state, other.data)


def test_truncation_of_another_gan_is_the_threshold_of_its_latents():
    trained = run(dcgan())
    latent = gan.bind(gan.latents.truncated, dimension=3, threshold=0.5)
    expected = run_of(trained, trained.recipe.replace(latent=latent))
    np.testing.assert_array_equal(trained.samples(5, truncation=0.5), expected.samples(5))
    np.testing.assert_array_equal(expected.samples(5, truncation=9.0), trained.samples(5, truncation=9.0))
    assert (trained.samples(5) != expected.samples(5)).any()


def test_truncation_that_means_nothing_is_refused(style):
    for recipe, value, message in (
        (dcgan(), 0.0, "finite and above 0"),
        (dcgan(), np.inf, "finite and above 0"),
        (dcgan(latent=gan.bind(gan.latents.uniform, dimension=3)), 1.0, "means nothing for uniform latents"),
        (gan.recipes.vae((8, 8, 1), width=2), 1.0, "means nothing for a VAE"),
        (style.recipe, np.nan, "psi must be finite"),
    ):
        with pytest.raises(gan.UserError, match=message):
            Run(recipe, None, DIGITS).samples(2, truncation=value)


def test_labels_that_do_not_fit_are_refused():
    for classes, labels, message in (
        (0, [0, 1], "no classes"),
        (10, [0], "1 labels for 2"),
        (10, [0, 10], "label 10 is none of"),
    ):
        with pytest.raises(gan.UserError, match=message):
            Run(dcgan(classes=classes), None, DIGITS).samples(2, labels=labels)


def tile(picture, row, column, side=32):
    """The 8 x 8 image in this place of a grid whose tiles are 4 times as large, 1 pixel apart."""
    pixels = np.asarray(picture)
    top, left = 1 + row * (side + 1), 1 + column * (side + 1)
    return pixels[top : top + side : 4, left : left + side : 4, :1].astype(int)


SETTINGS = {"ema": False, "seed": 3, "truncation": 1.5}


def test_a_row_of_the_picture_goes_from_sample_to_sample_with_one_label(conditional):
    picture = conditional.interpolate(2, 3, labels=[7, 1], **SETTINGS)
    assert isinstance(picture, Image.Image) and picture.size == (3 * 33 + 1, 2 * 33 + 1)
    samples = conditional.samples(4, labels=[7, 1, 7, 1], **SETTINGS).astype(int)
    for row in range(2):
        np.testing.assert_allclose(tile(picture, row, 0), samples[row], atol=1)
        np.testing.assert_allclose(tile(picture, row, 2), samples[2 + row], atol=1)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_paths_are_arcs_of_normal_latents_and_straight_lines_of_uniform_ones(kind):
    trained = run(dcgan(latent=gan.bind(getattr(gan.latents, kind), dimension=3)))
    path = lambda **way: gan.training.generation.paths(trained.recipe, trained.state, [0], [1], 3, **way)
    np.testing.assert_array_equal(path(), path(spherical=kind == "normal"))
    assert not np.allclose(path(), path(spherical=kind != "normal"), atol=1e-4)


def test_pictures_of_paths_are_of_the_images_of_a_gan():
    ring = gan.load("ring").subset(64)
    for recipe, data in ((gan.recipes.mlp((2,), width=4, depth=1), ring), (gan.recipes.vae((8, 8, 1), width=2), DIGITS)):
        with pytest.raises(gan.UserError, match="a picture of a GAN's images"):
            Run(recipe, None, data).interpolate()
    with pytest.raises(gan.UserError, match="rows=0"):
        Run(dcgan(), None, DIGITS).interpolate(0)


QUIET = {"steps": 2, "log_every": 2, "checkpoint_every": 2, "sample_every": 2, "progress": False}


@pytest.fixture
def opened(monkeypatch):
    """Makes the script open a run that is in memory."""
    return lambda made: monkeypatch.setattr(gan, "open_run", lambda folder, step: made)


def test_the_script_writes_what_the_run_shows(tmp_path, conditional, opened, capsys, mistake):
    opened(conditional)
    samples.main(samples.Options(tmp_path, number=4, paths=2, steps=3, truncation=1.5, labels=(7, 1), raw=True, seed=3))
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "samples" / name) for name in ("samples.png", "paths.png")]
    written = Image.open(tmp_path / "samples/samples.png")
    assert written.size == (2 * 33 + 1, 2 * 33 + 1), "a column of 7 and one of 1"
    np.testing.assert_array_equal(tile(written, 1, 0), conditional.samples(4, labels=[7, 1, 7, 1], **SETTINGS)[2])
    paths = np.asarray(Image.open(tmp_path / "samples/paths.png"))
    np.testing.assert_array_equal(paths, conditional.interpolate(2, 3, labels=[7, 1], **SETTINGS))
    assert "label '11' is none of the 10 classes" in mistake(samples, tmp_path, "--labels", 11)
    assert "--paths -1" in mistake(samples, tmp_path, "--paths", -1)


def test_the_script_draws_points_over_held_out_ones(tmp_path, opened, figures):
    opened(run(gan.recipes.mlp((2,), width=4, depth=1), gan.load("ring").subset(64)))
    samples.main(samples.Options(tmp_path, number=30, out=tmp_path / "seen"))
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["samples.png"]
    assert "fakes (30" in figures[0].axes[0].get_legend_handles_labels()[1][1]


@pytest.mark.slow
def test_the_script_opens_a_folder(tmp_path):
    trained = gan.fit(dcgan(batch_size=8), DIGITS, out=tmp_path / "run", **QUIET)
    samples.main(samples.Options(tmp_path / "run", number=4, paths=0))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "run/samples/samples.png")), trained.show(4))
