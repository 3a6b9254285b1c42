"""Pictures of sweeps: what is drawn, not how it looks, which is for the eye."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.plots import Panel, dose_response, gap_curves, parts, ranking_figure, sample_sheet, seed_bands, sweeps
from gan_jax.plots.settings import answer_figure

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
        "gap T - V",
    ]


def test_one_wild_seed_does_not_flatten_the_rest(tmp_path, figures):
    table = sweep([f"setting {i}" for i in range(10)], seeds=5)
    table.loc[(table["setting"] == "setting 3") & (table["seed"] == 0) & (table["step"] == 10), AUC] = 1e6
    seed_bands(tmp_path / "bands.png", table, AUC, "AUC", 0.5)
    low, high = figures[0].axes[0].get_ylim()
    assert low < 0.5 and 0.59 < high < 1 and figures[0].get_supxlabel().endswith("; 1 value outside")
    ranking_figure(tmp_path / "ranking.png", table, [Panel(AUC, "AUC")])
    axis = figures[1].axes[0]
    assert "(lower is better; 1 value outside)" in axis.get_xlabel() and axis.get_xlim()[1] < 1
    assert [text.get_text() for text in axis.texts] == ["2e+05"], "the mean is named at the edge"


def test_what_is_apart_and_what_is_not():
    assert parts.apart({"a": 1, "b": 2, "c": 99}) == ["c"] == parts.apart({"a": 98, "b": 99, "c": 1})
    assert parts.apart({"a": 1, "b": 2, "c": 99}, keep=["c"]) == [] == parts.apart({"a": 1, "b": 2, "c": 99}, slack=50)
    assert parts.apart({"a": 1, "b": 99}) == [] == parts.apart({"a": 1, "b": 2, "c": 4, "d": math.nan})
    far = parts.apart({i: 10.0 ** (3 * i) for i in range(9)})
    assert far == [8, 7, 6], "the farthest first, a third at most"


def test_marks_keep_off_one_another_and_off_the_points():
    rng = np.random.default_rng(0)
    for points in (np.full((30, 2), 100.0), rng.uniform(0, 300, (40, 2)), np.zeros((0, 2))):
        moved = parts.offsets(points, (10, 14), (0, 0, 300, 300)) + points
        assert moved.shape == points.shape and (moved - [5, 7] >= 0).all() and (moved + [5, 7] <= 300).all()
        for i, centre in enumerate(moved):
            assert (np.abs(np.delete(moved, i, 0) - centre) >= [10, 14]).any(1).all()
            assert (np.abs(points - centre) >= [5, 7]).any(1).all()


def choice_rows(**changes):
    """Rows of a choice: shown better, the baseline, and an outlier that is shown worse."""
    rows = {"setting": ["a", "none", "far"], "seeds": [5, 5, 3], "diverged": [0, 0, 2], "still_training": [False] * 3}
    for key in ("primary", "guard"):
        rows |= {key: [1.0, 2.0, 900.0], f"{key}_low": [0.9, 1.8, 890.0], f"{key}_high": [1.1, 2.2, 910.0]}
        rows |= {f"{key}_shown": ["better", "", "worse"]}
    return pd.DataFrame(rows | changes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("narrow", [False, True])
def test_the_answer_marks_the_chosen_row_and_what_is_shown(narrow):
    labels = {"primary": "copies", "guard": "FD"}
    figure = answer_figure(choice_rows(), labels, "none", "a", 50, narrow)
    left, right = figure.axes
    assert left.yaxis_inverted() and [axis.get_title("left").split("\n")[0] for axis in figure.axes] == ["copies", "FD"]
    names = [tick.get_text().replace("\n", " ") for tick in left.get_yticklabels()]
    assert names == ["a (chosen)", "none (baseline)", "far (2 of 5 diverged)"]
    assert [tick.get_fontweight() for tick in left.get_yticklabels()] == ["bold", "normal", "normal"]
    signs = {line.get_ydata()[0]: line for line in right.lines if line.get_marker() in ("<", ">", "o")}
    assert [(signs[i].get_marker(), signs[i].get_color()) for i in range(3)] == [
        ("<", sweeps.BLUE),
        ("o", sweeps.BLACK),
        (">", sweeps.VERMILION),
    ]
    assert right.get_xlim()[1] < 3 and [text.get_text() for text in right.texts] == ["900"]
    bars = [list(line.get_xdata()) for line in left.lines if line.get_linewidth() == 1.6 and len(line.get_xdata()) == 2]
    assert bars == [[0.9, 1.1], [1.8, 2.2]]


def test_what_still_trains_is_hollow_and_what_stays_is_no_choice():
    rows = choice_rows(still_training=[True, False, False], guard=[1.0, 2.0, math.nan])
    left, right = answer_figure(rows, {"primary": "p", "guard": "g"}, "none", "none", 50).axes
    assert [tick.get_text() for tick in left.get_yticklabels()][:2] == ["a (still training)", "none (baseline)"]
    faces = [line.get_markerfacecolor() for line in left.lines if line.get_marker() in ("<", "o")]
    assert faces == ["white", sweeps.BLACK] and [text.get_text() for text in right.texts] == ["no seed left"]


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
