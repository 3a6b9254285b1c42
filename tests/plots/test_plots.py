"""Known answers for the pixels; the curves are checked by what is drawn, and by eye."""

import math
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.plots import points_plot, sample_grid, save_png, to_uint8, training_curves


def curves_row(step, **changes):
    row = {
        "step": step,
        "discriminator/loss": 1.4,
        "generator/loss": 0.7,
        "D/train_logit": 2.0 + step,
        "D/validation_logit": 1.0,
        "D/fake_logit": -1.0,
        "D/train_accuracy": 0.9,
        "D/validation_accuracy": 0.6,
        "D/fake_accuracy": 0.8,
    }
    return row | {name.replace("__", "/"): value for name, value in changes.items()}


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []


@pytest.mark.filterwarnings("error")
def test_to_uint8_known_values():
    values = np.array([-1, 1, 0, -5, 7, math.nan, math.inf, -math.inf, -0.5], np.float32)
    assert to_uint8(values).tolist() == [0, 255, 128, 0, 255, 0, 255, 0, 64]
    every = np.arange(256, dtype=np.uint8)
    for dtype in (np.float32, np.float64):
        assert (to_uint8(every.astype(dtype) / 127.5 - 1) == every).all()  # the inverse of how images are scaled
    assert to_uint8(jnp.array([-1, 1], jnp.bfloat16)).tolist() == [0, 255]
    assert to_uint8(jnp.zeros((2, 3, 4, 1))).shape == (2, 3, 4, 1) and to_uint8(np.float16([0])).dtype == np.uint8
    for images in (every, jnp.arange(3), np.array([True])):
        with pytest.raises(UserError, match="floating dtype, not"):
            to_uint8(images)


def test_every_pixel_of_a_grid_has_its_place():
    n, h, w, columns, pad, scale = 5, 2, 3, 2, 4, 3
    images = np.random.default_rng(0).integers(0, 255, (n, h, w, 3)).astype(np.uint8)
    grid = sample_grid(images, columns, pad, scale)
    assert grid.shape == (3 * (h * scale + pad) + pad, 2 * (w * scale + pad) + pad, 3) and grid.dtype == np.uint8
    expected = np.full_like(grid, 255)
    for i, y, x, dy, dx in np.ndindex(n, h, w, scale, scale):
        row, column = pad + i // columns * (h * scale + pad), pad + i % columns * (w * scale + pad)
        expected[row + y * scale + dy, column + x * scale + dx] = images[i, y, x]
    assert (grid == expected).all()


def test_grid_defaults():
    digits = np.zeros((10, 8, 8, 1), np.uint8)
    assert sample_grid(digits).shape == (3 * 33 + 1, 4 * 33 + 1, 3)  # 4 columns, 32 pixels a tile
    assert sample_grid(np.zeros((1, 9, 30, 3), np.uint8)).shape == (9 * 4 + 2, 30 * 4 + 2, 3)
    assert sample_grid(np.zeros((1, 64, 64, 3), np.uint8)).shape == (66, 66, 3)
    assert sample_grid(digits, columns=99, pad=0, scale=1).shape == (8, 80, 3)  # no empty columns
    grey = sample_grid(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1), pad=0, scale=1)
    assert (grey == np.arange(16).reshape(4, 4, 1)).all() and grey.shape[-1] == 3


@pytest.mark.parametrize(
    "images, settings",
    [
        (np.zeros((2, 8, 8, 1)), {}),
        (np.zeros((8, 8, 1), np.uint8), {}),
        (np.zeros((2, 8, 8, 2), np.uint8), {}),
        (np.zeros((0, 8, 8, 1), np.uint8), {}),
        (np.zeros((2, 8, 8, 1), np.uint8), {"columns": 0}),
        (np.zeros((2, 8, 8, 1), np.uint8), {"scale": 0}),
        (np.zeros((2, 8, 8, 1), np.uint8), {"pad": -1}),
    ],
)
def test_what_is_no_grid_is_refused(images, settings):
    with pytest.raises(UserError, match="a grid wants"):
        sample_grid(images, **settings)


def test_png_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((5, 7, 3), (5, 7)):
        array = rng.integers(0, 256, shape).astype(np.uint8)
        path = save_png(tmp_path / "made" / "picture.png", array)
        with Image.open(path) as image:
            assert image.format == "PNG" and (np.asarray(image) == array).all()
    assert os.listdir(tmp_path / "made") == ["picture.png"]
    for bad in (np.zeros((5, 7, 3)), np.zeros((5, 7, 4), np.uint8), np.zeros((0, 7), np.uint8), np.zeros(5, np.uint8)):
        with pytest.raises(UserError, match="a PNG wants"):
            save_png(tmp_path / "bad.png", bad)


def test_a_failed_write_leaves_the_old_picture_and_no_rubbish(tmp_path, monkeypatch):
    path = save_png(tmp_path / "picture.png", np.zeros((2, 2), np.uint8))
    before = path.read_bytes()

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        for draw in (
            lambda: save_png(path, np.ones((2, 2), np.uint8)),
            lambda: training_curves(path, [curves_row(0)]),
            lambda: points_plot(path, np.zeros((1, 2)), np.zeros((1, 2))),
        ):
            with pytest.raises(UserError, match="picture.png cannot be written.*No space"):
                draw()
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["picture.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_png(tmp_path / "file" / "picture.png", np.zeros((2, 2), np.uint8))


def test_points_share_axes_set_by_the_reals(tmp_path, figures):
    reals = np.random.default_rng(0).normal(size=(50, 2))
    fakes = np.concatenate([reals[:10], [[1e6, 0], [math.nan, 0], [0, math.inf]]])
    one, two = (points_plot(tmp_path / name, fakes, jnp.asarray(reals)) for name in ("a.png", "b.png"))
    assert one == tmp_path / "a.png" and one.read_bytes() == two.read_bytes()
    axes = figures[0].axes[0]
    assert legend(axes) == ["reals (50)", "fakes (13, 3 outside)"]
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    assert (low < reals.min(0)).all() and (high > reals.max(0)).all() and (high - low < 10).all()
    assert [len(scatter.get_offsets()) for scatter in axes.collections] == [50, 10]
    points_plot(tmp_path / "none.png", np.zeros((0, 2)), np.zeros((1, 2)))
    for bad in ((np.zeros((3, 3)), reals), (fakes, reals[:0]), (fakes, fakes), (reals[0], reals)):
        with pytest.raises(UserError, match="points are|reals must"):
            points_plot(tmp_path / "bad.png", *bad)


def test_curves_show_every_field_and_the_gap(tmp_path, figures):
    rows = [curves_row(step) for step in (20, 0, 10)]
    assert training_curves(tmp_path / "curves.png", rows) == tmp_path / "curves.png"
    assert training_curves(tmp_path / "again.png", rows).read_bytes() == (tmp_path / "curves.png").read_bytes()
    losses, logits, accuracies = figures[0].axes
    assert legend(losses) == ["discriminator", "generator"]
    assert legend(logits) == legend(accuracies) == ["training data T", "validation data V", "fakes", "gap between T and V"]
    assert logits.lines[0].get_xydata().tolist() == [[0, 2], [10, 12], [20, 22]]
    gap = logits.collections[0].get_paths()[0].get_extents()
    assert (gap.x0, gap.y0, gap.x1, gap.y1) == (0, 1, 20, 22)
    assert all(axes.get_ylabel().endswith(")") for axes in figures[0].axes) and "step" in accuracies.get_xlabel()


@pytest.mark.filterwarnings("error")
def test_curves_of_incomplete_rows(tmp_path, figures):
    nan = math.nan
    cases = {
        "one row": [curves_row(0)],
        "losses only": [{"step": step, "discriminator/loss": step, "generator/loss": 1.0} for step in range(3)],
        "no V": [curves_row(s, D__validation_logit=nan, D__validation_accuracy=None) for s in range(3)],
        "nothing": [{"step": 0}, {"step": 1, "generator/loss": "lost"}],
        "broken": [
            curves_row(0),
            curves_row(1),
            curves_row(2, generator__loss=nan),
            curves_row(3, generator__loss=nan),
        ],
        "one evaluation": [
            {"step": 1, "generator/loss": 1.0},
            curves_row(2),
            {"step": 3, "generator/loss": np.float32(2)},
        ],
    }
    for name, rows in cases.items():
        with Image.open(training_curves(tmp_path / f"{name}.png", rows)) as image:
            assert image.size == (990, 1045), name
    shown = dict(zip(cases, figures, strict=True))
    assert shown["one row"].axes[2].get_xticks().tolist() == [0]
    assert [text.get_text() for text in shown["losses only"].axes[1].texts] == ["not recorded"]
    assert legend(shown["no V"].axes[1]) == legend(shown["no V"].axes[2]) == ["training data T", "fakes"]
    assert all(not axes.lines for axes in shown["nothing"].axes)
    assert legend(shown["broken"].axes[0]) == ["discriminator", "generator\n(not finite from step 2)"]
    assert legend(shown["one evaluation"].axes[1]) == ["training data T", "validation data V", "fakes"]


def test_many_points_get_a_running_mean(tmp_path, figures):
    rows = [{"step": step, "generator/loss": step % 2} for step in range(500)]
    training_curves(tmp_path / "long.png", rows)
    raw, mean = figures[0].axes[0].lines
    assert len(raw.get_xdata()) == 500 and legend(figures[0].axes[0]) == ["generator, mean of 10"]
    assert np.allclose(mean.get_ydata(), 0.5) and mean.get_xdata()[0] == 5 and len(mean.get_xdata()) == 491


def test_curves_without_steps_are_refused(tmp_path):
    for rows in ([], [{"generator/loss": 1.0}], [curves_row(0), curves_row(math.nan)]):
        with pytest.raises(UserError, match="rows that have a step"):
            training_curves(tmp_path / "bad.png", rows)


def test_the_import_brings_no_matplotlib_pillow_or_pandas():
    code = "import sys, gan_jax.plots; sys.exit(any(name in sys.modules for name in ('matplotlib', 'PIL', 'pandas')))"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
