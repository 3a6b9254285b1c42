"""Pictures of sweeps: what is drawn, not how it looks, which is for the eye."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.plots import Panel, dose_response, gap_curves, ranking_figure, sample_sheet, seed_bands, sweeps

AUC, GAMMA = "D/train_validation_auc", "discriminator.penalties.r1.gamma"
HOSTILE = ["$x_1$", "<b>", "a\nb", "_hidden", r"\frac{", "long " * 30, "", "50 % $"]


def sweep(settings, seeds=2, steps=(0, 10), ns=(100,), lost=(), gammas=()):
    """A table where setting i has an AUC of about .5 + i / 100 at the end; `lost`: (setting, seed)
    diverged after step 0."""
    rows = []
    for i, setting in enumerate(settings):
        for n, seed, step in ((n, seed, step) for n in ns for seed in range(seeds) for step in steps):
            gone = (setting, seed) in lost and step > 0
            y = math.nan if gone else 0.5 + i * step / 1000 + seed / 1e4
            logits = {"D/train_logit": y + step, "D/validation_logit": y}
            gamma = gammas[i] if gammas else math.nan
            rows.append(
                {"setting": setting, "seed": seed, "n": n, "step": step, GAMMA: gamma, AUC: y, **logits, "diverged": gone}
            )
    return pd.DataFrame(rows)


DRAWN = {
    "ranking": lambda path, table: ranking_figure(
        path, table, [Panel(AUC, "AUC", 0.5, "chance"), Panel("D/train_logit", "$T$")]
    ),
    "bands": lambda path, table: seed_bands(path, table, AUC, "AUC", 0.5),
    "gap": gap_curves,
    "dose": lambda path, table: dose_response(path, table, AUC, "AUC", reference=0.5),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_awkward_tables_are_drawn(tmp_path, draw):
    tables = [
        sweep(HOSTILE, steps=(10,)),
        sweep(HOSTILE[:2], ns=(10, 1000)),
        sweep(["one"], seeds=1, steps=(7,)),
        sweep(["gone", "some"], lost=[("gone", 0), ("gone", 1), ("some", 0)]),
        sweep(["gone"], seeds=1, lost=[("gone", 0)]),
    ]
    for i, table in enumerate(tables):
        with Image.open(draw(tmp_path / f"{i}.png", table)) as image:
            image.load()
            assert image.format == "PNG" and min(image.size) > 100, i


def test_equal_tables_give_equal_bytes_and_leave_nothing_else(tmp_path):
    table = sweep(["none", "r1"])
    for name, draw in DRAWN.items():
        first, second = (draw(tmp_path / name / f"{i}.png", table).read_bytes() for i in range(2))
        assert first == second and len(list((tmp_path / name).iterdir())) == 2, name


def test_the_best_is_on_top_and_the_baseline_is_marked(tmp_path, figures):
    table = sweep(["worst", "middle", "best", "lost"], seeds=3, lost=[("lost", 0)])
    table[AUC] = 1.5 - table[AUC]
    panels = [Panel(AUC, "AUC", 0.5, "chance"), Panel("D/train_logit", "logit", higher_is_better=True)]
    ranking_figure(tmp_path / "ranking.png", table, panels, baseline="middle")
    left, right = figures[0].axes
    labels = [tick.get_text() for tick in left.get_yticklabels()]
    assert labels == ["best", "middle (baseline)", "worst", "lost (1 of 3 diverged)"] and left.yaxis_inverted()
    assert [tick.get_fontweight() for tick in left.get_yticklabels()] == ["normal", "bold", "normal", "normal"]
    dots = [line.get_xydata()[0] for line in left.lines if line.get_marker() == "o"]
    assert np.allclose([dot[1] for dot in dots], range(4))
    assert np.allclose([dot[0] for dot in dots[:3]], [0.9799, 0.9899, 0.9999])
    seeds = [scatter.get_offsets() for scatter in left.collections if len(scatter.get_offsets()) > 1]
    assert [len(points) for points in seeds] == [3, 3, 3, 2]
    band = left.collections[0].get_paths()[0].get_extents()
    bars = [line.get_xdata() for line in left.lines if line.get_color() == sweeps.BLACK and len(line.get_xdata()) == 2]
    assert np.allclose([band.x0, band.x1], bars[1])  # the baseline's interval
    assert "lower is better" in left.get_xlabel() and "higher is better" in right.get_xlabel()
    assert [text.get_text() for text in left.texts] == ["chance"]


def test_the_first_panel_says_which_is_best(tmp_path, figures):
    table = sweep(["a", "b", "c"])
    for higher, order in ((False, ["a (baseline)", "b", "c"]), (True, ["c", "b", "a (baseline)"])):
        ranking_figure(tmp_path / "ranking.png", table, [Panel(AUC, "AUC", higher_is_better=higher)])
        assert [tick.get_text() for tick in figures[-1].axes[0].get_yticklabels()] == order
        assert "outside" not in figures[-1].axes[0].get_xlabel()
    with pytest.raises(UserError, match="at least one panel"):
        ranking_figure(tmp_path / "ranking.png", table, [])


def test_bands_have_a_panel_for_each_setting_and_one_scale(tmp_path, figures):
    table = sweep(["none", "a", "b", "c", "d"], seeds=3, steps=(0, 5, 10))
    seed_bands(tmp_path / "bands.png", table, AUC, "AUC")
    axes = figures[0].axes
    assert [panel.get_title(loc="left") for panel in axes] == ["none\n(baseline)", "a", "b", "c", "d"]
    assert len({panel.get_ylim() for panel in axes}) == len({panel.get_xlim() for panel in axes}) == 1
    assert [len(panel.lines) for panel in axes] == [4, 5, 5, 5, 5]  # seeds, the mean, and elsewhere the baseline's
    grey, *seeds, mean = (line.get_ydata() for line in axes[2].lines)
    assert np.allclose(grey, 0.5001) and np.allclose(mean, np.mean(seeds, 0)) and np.allclose(mean, [0.5001, 0.5101, 0.5201])
    half = 4.302652729911275 * 1e-4 / math.sqrt(3)
    band = axes[2].collections[0].get_paths()[0].get_extents()
    assert np.allclose([band.y0, band.y1], [0.5001 - half, 0.5201 + half])


def test_the_gap_lies_between_the_means(tmp_path, figures):
    gap_curves(tmp_path / "gap.png", sweep(["none", "r1"], seeds=3, steps=(0, 10, 20)))
    for panel in figures[0].axes:
        means = [line.get_ydata() for line in panel.lines if line.get_linewidth() > 1]
        gap = panel.collections[0].get_paths()[0].get_extents()
        assert np.allclose(means[0] - means[1], [0, 10, 20])
        assert np.allclose([gap.y0, gap.y1], [np.min(means), np.max(means)])
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "training data T",
        "validation data V",
        "gap between T and V",
    ]


def test_one_wild_seed_does_not_flatten_the_rest(tmp_path, figures):
    table = sweep([f"setting {i}" for i in range(10)], seeds=5)
    table.loc[(table["setting"] == "setting 3") & (table["seed"] == 0) & (table["step"] == 10), AUC] = 1e6
    seed_bands(tmp_path / "bands.png", table, AUC, "AUC", 0.5)
    low, high = figures[0].axes[0].get_ylim()
    assert low < 0.5 and 0.59 < high < 1 and figures[0].get_supxlabel().endswith("; 1 value outside")
    ranking_figure(tmp_path / "ranking.png", table, [Panel(AUC, "AUC")])
    assert "(lower is better; 1 value outside)" in figures[1].axes[0].get_xlabel()


def test_dose_response_against_n_and_against_a_number(tmp_path, figures):
    table = sweep(["none", "r1"], ns=(100, 1000, 10000), lost=[("r1", 0)])
    dose_response(tmp_path / "n.png", table, AUC, "AUC", reference=0.5)
    axis = figures[0].axes[0]
    assert axis.get_xscale() == "log" and [text.get_text() for text in axis.texts] == ["none", "r1"]
    lines = [line.get_xydata() for line in axis.lines if len(line.get_xdata()) == 3]
    assert np.allclose(lines[1], [[100, 0.5101], [1000, 0.5101], [10000, 0.5101]])
    assert [line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "o"].count("white") == 3

    names = ["none", "g 10", "g 0.1", "g 1"]
    for gammas, scale in (((math.nan, 10, 0.1, 1), "log"), ((math.nan, 3, 1, 2), "linear"), ((0, 10, 0.1, 1), "symlog")):
        dose_response(tmp_path / "gamma.png", sweep(names, gammas=gammas), AUC, "AUC", x=GAMMA)
        axis = figures[-1].axes[0]
        line = next(line.get_xdata() for line in axis.lines if len(line.get_xdata()) > 2)
        assert axis.get_xscale() == scale and list(line) == sorted(g for g in gammas if g == g)
        assert [text.get_text() for text in axis.texts] == (["none"] if gammas[0] != 0 else [])
    dose_response(tmp_path / "shared.png", sweep(names, gammas=(1, 1, 2, 3)), AUC, "AUC", x=GAMMA)
    assert sorted(text.get_text() for text in figures[-1].axes[0].texts) == sorted(names)
    with pytest.raises(UserError, match="no setting has a value"):
        dose_response(tmp_path / "none.png", table, AUC, "AUC", x=GAMMA)


def test_labels_at_the_right_do_not_overlap():
    for places in ([0.5] * 5, [0, 0, 0.5, 1, 1], [0.98, 0.99], [0.2], []):
        moved = sweeps._apart(places, 0.1)
        assert all(b - a > 0.1 - 1e-9 for a, b in zip(moved, moved[1:], strict=False))
        assert not moved or (min(moved) > -1e-9 and max(moved) < 1 + 1e-9)
    assert np.allclose(sweeps._apart([0.5, 0.5], 0.1), [0.45, 0.55]) and sweeps._apart([0.1, 0.9], 0.1) == [0.1, 0.9]


def test_names_are_no_mathematics(tmp_path, figures):
    dose_response(tmp_path / "names.png", sweep(HOSTILE), AUC, "$y$")
    seed_bands(tmp_path / "bands.png", sweep(HOSTILE), AUC, "$y$")
    shown = {text.get_text() for text in figures[0].axes[0].texts}
    assert shown > {"(no name)", r"50 % \$", "<b>", r"\$x_1\$", "a b", "_hidden"}
    titles = [panel.get_title(loc="left") for panel in figures[1].axes]
    assert titles[0].startswith(r"\$x_1\$") and titles[2] == "a b" and max(map(len, titles[5].split("\n"))) <= 32


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_metric_that_is_not_there_is_refused(tmp_path, draw):
    table = sweep(["none"]).drop(columns=[AUC, "D/validation_logit"])
    with pytest.raises(UserError, match="is no metric of the table"):
        draw(tmp_path / "bad.png", table)
    with pytest.raises(UserError, match="no rows"):
        draw(tmp_path / "bad.png", table.iloc[:0])
    assert not list(tmp_path.iterdir())


def test_a_sheet_shows_every_pixel_with_the_reals_first(tmp_path, figures):
    rng = np.random.default_rng(0)
    rows = {"$a$": rng.integers(0, 255, (3, 8, 16, 1)), "b" * 99: rng.integers(0, 255, (2, 8, 16, 3))}
    rows = {name: images.astype(np.uint8) for name, images in (rows | {"real (V)": rows["$a$"] // 2}).items()}
    with Image.open(sample_sheet(tmp_path / "sheet.png", rows)) as image:
        pixels = np.asarray(image.convert("RGB"))
    scale, left = 6, sweeps.SHEET_LABEL + 4
    for r, name in enumerate(["real (V)", "$a$", "b" * 99]):
        for i, picture in enumerate(rows[name]):
            top, start = 4 + r * (8 * scale + 4), left + i * (16 * scale + 4)
            shown = pixels[top : top + 8 * scale, start : start + 16 * scale]
            assert (shown == np.broadcast_to(picture, (8, 16, 3)).repeat(scale, 0).repeat(scale, 1)).all()
    assert [text.get_text().replace("\n", "")[:6] for text in figures[0].texts] == ["real (", r"\$a\$", "bbbbbb"]
    assert (pixels[-56:, left + 2 * (16 * scale + 4) :] == 255).all()  # two images in the last row


def test_a_sheet_of_points(tmp_path, figures):
    rng = np.random.default_rng(0)
    rows = {f"setting {i}": rng.normal(size=(20, 2)).astype(np.float32) for i in range(6)}
    rows["setting 0"][:2] = [[1e6, 0], [math.nan, 0]]
    rows["real (V)"] = rng.normal(size=(50, 2)) * 9
    sample_sheet(tmp_path / "points.png", rows)
    axes = figures[0].axes
    assert len(axes) == 7 and [panel.get_title() for panel in axes[:3]] == [
        "real (V)",
        "setting 0\n(2 of 20 outside)",
        "setting 1",
    ]
    assert len({panel.get_subplotspec().colspan.start for panel in axes}) == 5
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in axes}) == 1 and axes[1].get_xlim()[1] < 100


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"a": np.zeros((2, 8, 8, 1))},
        {"a": np.zeros((2, 8, 8, 2), np.uint8)},
        {"a": np.zeros((0, 8, 8, 1), np.uint8)},
        {"a": np.zeros((2, 8, 8, 1), np.uint8), "b": np.zeros((2, 9, 9, 1), np.uint8)},
        {"a": np.zeros((2, 8, 8, 1), np.uint8), "b": np.zeros((2, 2))},
        {"a": np.zeros((0, 2))},
        {"a": np.zeros((3, 3))},
    ],
)
def test_what_is_no_sheet_is_refused(tmp_path, rows):
    with pytest.raises(UserError, match="a sheet (of samples )?wants"):
        sample_sheet(tmp_path / "bad.png", rows)
