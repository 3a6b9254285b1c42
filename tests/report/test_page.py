"""The overfitting report as text and HTML: tables, a page that holds everything and trusts nothing,
and its pictures."""

import base64
import dataclasses
import hashlib
import io
import json
import math
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.metrics.choice import choose
from gan_jax.plots import closest_pairs, distance_cdfs, gap_doses, logit_histograms, overfitting_curves, parts, quality_novelty
from gan_jax.plots.reports import report_pictures
from gan_jax.report.controls import CONTROLS
from gan_jax.report.metric_specs import METRIC_SPECS, ROWS
from gan_jax.report.number import Number
from gan_jax.report.numbers import Measured
from gan_jax.report.page import entries, rule, visible
from gan_jax.report.report import Report
from gan_jax.report.sweep_page import MOST, answer_pictures, sweep_page_html
from gan_jax.report.verdict import PHRASES, Verdict

VOID = {"meta", "img", "br", "hr", "link", "input", "source"}
HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "'><img src=http://evil.example/x>",
    "{{7*7}}{% raw %}",
    "</title></pre>",
    "<!--",
    "&lt;b&gt;&#x27;",
    "long name " * 99,
    "x" * 999,
    "\u202eneddih\u2066",
    "a\x00b\x1b[31m\x07",
    "lone \udcff",
    "\u2028",
]


class Page(HTMLParser):
    """Tags in order, attributes and text of a page; fails on a tag that is closed where another is
    open."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.open, self.script = [], [], [], [], ""
        self.feed(html)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.open += [tag] * (tag not in VOID)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.script = data
        elif self.open[-1:] != ["style"]:
            self.texts.append(data)

    def named(self, name):
        return [value for key, value in self.attributes if key == name]


def number(key, value=0.25, word="", seen=True):
    """A number whose controls come out as they should (`seen`), or all alike."""
    kind = METRIC_SPECS[key]
    step = (1 if kind.worse == "higher" else -1) * seen
    controls = {name: Measured(c := value + step * (name in kind.sees), c - 0.01, c + 0.01) for name in CONTROLS if kind.sees}
    return Number(kind, f"{kind.label} {word}", value, value - 0.0625, value + 0.125, controls, {"seed": 0, "name": word})


def report(word="", phrase="healthy", evidence=None, openings=()):
    """Every number there is, each with a value of its own; `word` wherever a name can stand."""
    numbers = {key: number(key, 0.001 * (101 + i), word) for i, key in enumerate(METRIC_SPECS) if METRIC_SPECS[key].row != 11}
    about = {"run": f"/runs/{word}", "step": 7, "sizes": {f"T {word}": 100}, "classes": [word, 2], "nothing": None}
    about["openings"] = [{"time": time, "command": f"gan report {word}"} for time in openings]
    judged = Verdict(phrase, (f"first {word}", "second"), (f"third {word}",))
    return Report(judged, numbers, about, {"split": word, "deep": {word: 1.5}}, evidence or {}, {11: f"no latents {word}"})


def normal(text):
    return " ".join(text.split())


# ---- the page ----------------------------------------------------------------------------------


def test_the_page_holds_every_number_with_its_controls_and_what_they_mean():
    shown = report(openings=["2026-01-01"])
    page = Page(shown.html())
    for key, one in shown.numbers.items():
        assert normal(one.label) in page.text, key
        assert f"{parts.number(one.value)} [{parts.number(one.low)}, {parts.number(one.high)}]" in page.text, key
        assert f"Real data: {one.kind.null}." in page.text, key
        assert all(parts.number(control.value) in page.text for control in one.controls.values()), key
    assert all(f"{row}. {title}" in page.text for row, title in ROWS.items()) and "Not measured: no latents" in page.text
    for words in (
        *shown.reasons,
        *shown.judged.also,
        "healthy",
        "Nothing here speaks for copying",
        "sizes.T",
        "deep.",
        "1.5",
        "COPIES",
    ):
        assert normal(words) in page.text
    assert "opened for this report" in page.text and "2026-01-01" in page.text
    assert Counter(page.named("scope")) == {"col": 7, "row": len(shown.numbers) + 1, "rowgroup": len(ROWS)}


def test_what_is_not_informative_is_no_evidence():
    shown = Report(Verdict("cannot tell"), {"fd": number("fd", seen=False), "kid": number("kid")}, {}, {})
    why = shown.numbers["fd"].why
    assert why and not shown.numbers["kid"].why
    page = Page(shown.html())
    assert f"Not informative here: {why}." in page.text and page.text.count("Not informative here") == 1
    assert "(0.25 [0.188, 0.375])" in page.text and page.named("class").count("number off") == 11  # fd, and ten empty rows
    text = shown.text(120)
    assert f"not informative here: {why}" in text and text.count("not informative") == text.count("(0.25 [0.188, 0.375])") == 1


def test_the_page_loads_nothing_and_runs_nothing_but_the_sorting_of_a_table():
    images = {"samples": np.zeros((3, 4, 4, 1), np.uint8)}
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    for html, scripts in ((report(evidence=images).html(), 0), (sweep(), 1), (report()._repr_html_(), 0)):
        page = Page(html)
        assert not {"iframe", "object", "embed", "link", "base", "form", "a"} & set(page.tags)
        assert page.tags.count("script") == scripts and bool(page.script) == bool(scripts)
        assert not any(key.startswith("on") or key == "href" for key, _ in page.attributes)
        assert not any(
            "http:" in (v := (value or "").lower()) or "https:" in v or "javascript:" in v for _, value in page.attributes
        )
        sources = page.named("src") + page.named("srcset")
        assert all(source.startswith("data:image/png;base64,iVBOR") for source in sources)
        assert "url(" not in html and "@import" not in html
        digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
        allowed = f"{policy}; script-src 'sha256-{digest}'" if scripts else policy
        assert allowed in page.named("content") or "meta" not in page.tags, "the policy allows this script alone"
    page = Page(report(evidence=images).html())
    assert len(page.named("src")) == 1 and all(page.named("alt")) and "A sheet of generated samples." in page.named("alt")


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(word):
    for make in (lambda w: report(w, openings=["1", w]).html(), lambda w: report(w)._repr_html_(), sweep):
        page, plain = Page(make(word)), Page(make("zebra"))
        assert page.tags == plain.tags and [key for key, _ in page.attributes] == [key for key, _ in plain.attributes]
        shortened = 2 * (make is sweep)  # in the sentence
        names = {visible(word), word.encode("utf-8", "replace").decode()}  # pandas takes no lone surrogates
        assert sum(page.text.count(normal(visible(name))) for name in names) >= plain.text.count("zebra") - shortened
    shown = report(word).text() + report(word).html()
    assert not {c for c in shown if not c.isprintable()} - {"\n", "\t"}
    shown.encode("utf-8")


def test_equal_reports_give_equal_pages():
    assert report("a").html() == report("a").html() != report("b").html()
    assert sweep("a") == sweep("a")


def test_every_verdict_has_a_page_in_plain_words():
    explained = set()
    for phrase in PHRASES:
        page = Page(Report(Verdict(phrase), {}, {}, {}).html())
        explained.add(page.texts[page.texts.index(phrase) + 2])
        assert page.text.count("Not measured") == len(ROWS)
    assert len(explained) == len(PHRASES) and all(text.endswith(".") for text in explained)


def test_opening_the_test_split_twice_is_said_aloud():
    quiet, loud = (Page(report(openings=times).html()) for times in (["one"], ["one", "two"]))
    assert "Warning" not in quiet.text and "note loud" not in quiet.named("class")
    assert "Warning: the test split S was opened 2 times." in loud.text and "note loud" in loud.named("class")
    assert "opened" not in Page(report().html()).text.replace("to be opened once", "")


def test_a_run_s_page_shows_the_closest_pairs_before_any_number_and_defines_its_letters():
    pairs = {"pixels": (IMAGES[:2], IMAGES[2:4], [2.0, 1.0])}
    html = report(evidence={"pairs": pairs, "logits": {"train": [0.0, 1.0]}}).html()
    places = [html.index(words) for words in ("Pairs of a generated", "The twelve rows</h2>", "Histograms of the")]
    assert places == sorted(places)
    for page in (Page(html), Page(sweep())):
        assert {"T", "V", "S", "E", "D", "G", "n", "FD", "AUC", "copy share", "near-copy"} <= set(page.texts)


COLUMNS = {"primary": "copy_share", "guard": "fd"}


def members(settings, seeds=5, verdict="healthy"):
    """A sweep's table, of {setting: (copy share, FD, D's AUC)}, with a little noise."""
    rows = []
    for name, (copies, fd, auc) in settings.items():
        for seed in range(seeds):
            noise = 0.01 * np.sin(7.0 * len(rows))
            row = {"setting": name, "seed": seed, "n": 50, "step": 9, "diverged": False, "verdict": verdict}
            row |= {"copy_share": copies + noise, "fd": fd * (1 + noise), "near_copies": 0.125, "D/train_validation_auc": auc}
            rows.append(row)
    return pd.DataFrame(rows)


def sweep(word="plain"):
    """A sweep's page with a name in every place."""
    whole = word.encode("utf-8", "replace").decode()  # pandas takes no lone surrogates
    table = members({"none": (0.5, 40, 0.9), f"s {whole}": (0.3, 39, 0.9)}, verdict=whole).assign(**{f"fd {whole}": 1.0})
    choice = choose(table, "copy_share", "fd", also=["near_copies"])
    pictures = answer_pictures(choice, COLUMNS) | {f"picture {word}": PNG, "samples": PNG, "curves_loss": PNG}
    reports = {f"s {whole}": report(word)}
    return sweep_page_html(f"sweep {word}", [choice], COLUMNS, table, reports, pictures, [f"S {word}"], f"text\n {word}")


PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = {"none": (0.5, 40, 0.9), "good": (0.3, 30, 0.9), "dear": (0.1, 90, 0.9), "same": (0.501, 40, 0.9)}


def of_settings(settings, seeds=5):
    table = members(settings, seeds)
    choice = choose(table, "copy_share", "fd", also=["near_copies"])
    pictures = answer_pictures(choice, COLUMNS) | {"samples": PNG, "scatter": PNG, "x": PNG}
    made = {name: report(name) for name in settings}
    return choice, Page(sweep_page_html("of r1", [choice], COLUMNS, table, made, pictures, text="as text"))


def test_a_sweep_s_page_answers_first_and_has_one_row_a_setting():
    choice, page = of_settings(SETTINGS)
    assert choice.setting == "good" and page.texts.index(choice.sentence) < page.texts.index("The settings")
    order = [tag for tag in page.tags if tag in ("img", "table", "picture", "details")]
    assert order[:3] == ["picture", "img", "table"] and order.count("details") == len(SETTINGS) + 2
    assert list(dict.fromkeys(page.named("data-value")))[0] == "good" and page.named("class").count("chosen") == 1
    shown = Counter(value for value in page.named("class") if value in ("better", "worse"))
    assert shown == {"better": 3, "worse": 1}, "copies of good and dear, FD of good; FD of dear"
    assert page.text.count("5 of 5: healthy") == len(SETTINGS) and page.text.count("12.5 %") == len(SETTINGS)
    for words in ("▼ better", "▲ worse", "better, at a price in fd", "as text", "verdict: healthy (first good"):
        assert words in page.text
    assert page.text.count("seed 0 of 5 shown") == len(SETTINGS) + 1, "beside each run, and the samples"
    assert all(page.named("alt")) and "picture: x" in page.named("alt") and "Quality against novelty" in page.text


def test_one_seed_and_what_still_trains_are_marked():
    choice, page = of_settings({"none": (0.5, 40, 0.9), "a": (0.4, 40, 0.9)}, seeds=1)
    assert "Nothing is tested" in page.text and "shown better" in page.text and "of 1 shown" not in page.text
    moving = dataclasses.replace(choice, rows=choice.rows.assign(still_training=[False, True]))
    table = members({"none": (0.5, 40, 0.9), "a": (0.4, 40, 0.9)}, 1)
    page = Page(sweep_page_html("", [moving], COLUMNS, table, {}, {}))
    assert page.texts.count("still training") == 1 and page.texts.count("baseline") == 2


def test_the_figure_of_many_settings_says_that_it_shows_the_first():
    many = {"none": (0.5, 40, 0.9)} | {f"s {i}": (0.3 + i / 100, 40, 0.9) for i in range(MOST + 3)}
    _, page = of_settings(many)
    assert f"The first {MOST} of {len(many)} settings" in page.text
    assert "The first" not in of_settings(SETTINGS)[1].text.replace("The first samples", "")


def test_a_rule_is_read_from_its_docstring():
    text = "One\nline.\n\n    term one   meaning of\n               one\n    two        other\n\nEnd."
    assert rule(text) == [("text", "One line."), ("list", [["term one", "meaning of one"], ["two", "other"]]), ("text", "End.")]
    assert list(entries({"a": {"b": [1, 2], "c": {}}, "d": None})) == [("a.b", "1, 2"), ("d", "none")]


# ---- the text ----------------------------------------------------------------------------------


def test_the_text_has_twelve_rows_of_120_columns_and_ends_with_the_verdict():
    shown = report()
    lines = shown.text(120).splitlines()
    assert max(map(len, lines)) <= 120 and not any("\x1b" in line for line in lines)
    assert [line[4:] for line in lines if line[:3].strip().isdigit()] == list(ROWS.values())
    for one in shown.numbers.values():
        (line,) = (line for line in lines if f"{parts.number(one.value)} [{parts.number(one.low)}" in line)
        assert normal(line).startswith(normal(one.label)[:9])
        assert line.split("]")[1].split()[:5] == [parts.number(c.value) for c in one.controls.values()] or not one.controls
    assert normal(" ".join(lines)).endswith(normal(shown.verdict_line())) and "not measured: no latents" in " ".join(lines)


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 119, 120, 200])
def test_no_terminal_breaks_a_number(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    shown = report()
    for key, one in shown.numbers.items():
        values = {name: Measured(-1.23e-05 * i) for i, name in enumerate(one.controls, 1)}
        small = {"value": -5.98e-05, "low": -6.98e-05, "high": -1.98e-105, "controls": values}
        shown.numbers[key] = dataclasses.replace(one, **small)
    text = str(shown)
    assert max(map(len, text.splitlines())) <= min(width, 120) and text.count("-5.98e-05") == len(shown.numbers)
    for figure in ("[-6.98e-05,", "-1.98e-105]"):
        assert text.count(figure) == len(shown.numbers), figure
    seen = [one for one in shown.numbers.values() if one.controls]
    assert all(text.count(f"{-1.23e-05 * i:.3g}") >= len(seen) for i in range(1, 6))
    assert shown.text(120) == shown.text(500)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234.5, "1230"),
        (0.5, "0.5"),
        (-0.012345, "-0.0123"),
        (0, "0"),
        (1e-7, "1e-07"),
        (1e9, "1e+09"),
        (math.nan, "not finite"),
    ],
)
def test_numbers_have_three_digits(value, shown):
    assert parts.number(value) == shown


# ---- the pictures ------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
DOSES = pd.DataFrame(
    [{"setting": s, "seed": 0, "n": n, "step": 7, "diverged": False, "fd_gap": 1 / n} for s in ("1", "2") for n in (10, 99)]
)
POINTS = [
    {"name": "copycat", "quality": 2.0, "near_copies": 1.0, "kind": "control"},
    {"name": "samples", "quality": 9.0, "near_copies": 0.1, "kind": "samples"},
    {"name": "$r_1$", "quality": 500.0, "near_copies": 0.0, "kind": "setting"},
]
EVIDENCE = {  # picture: the evidence that it needs
    "curves": {"history": [{"step": 1, "G/validation_fd": 3.0}, {"step": 2, "G/validation_fd": 2.0}]},
    "distances": {"distances": {"samples": [1.0, 2.0], "copycat": [0.0]}, "threshold": 1.5},
    "logits": {"logits": {"train": [0.0, 1.0], "samples": [-1.0]}},
    "dose": {"dose": DOSES},
    "pairs": {"pairs": {"pixels": (IMAGES[:2], IMAGES[2:4], [2.0, 1.0])}},
    "scatter": {"scatter": POINTS},
    "samples": {"samples": IMAGES},
}
NOTHING = [
    {},
    {"history": [], "distances": {}, "logits": {}, "pairs": {}, "scatter": [], "samples": IMAGES[:0], "dose": DOSES[:0]},
    {
        "history": [{"step": 1, "G/train_fd": math.nan}, {"G/train_fd": 1.0}],
        "distances": {"samples": [math.nan]},
        "logits": {"train": [], "samples": [math.inf]},
        "pairs": {"features": (IMAGES[:0], IMAGES[:0], []), "pixels": (RANDOM.normal(size=(2, 2)),) * 2 + ([0.0, 1.0],)},
        "scatter": [POINTS[0] | {"quality": math.nan}],
        "samples": np.full((3, 2), math.nan),
        "dose": DOSES.assign(fd_gap=math.nan),
    },
]


def pictures(evidence):
    return report_pictures(evidence)


@pytest.mark.filterwarnings("error")
def test_a_picture_is_there_when_its_evidence_is_and_equal_evidence_gives_equal_bytes():
    everything = pictures({key: value for evidence in EVIDENCE.values() for key, value in evidence.items()})
    assert list(everything) == list(EVIDENCE)
    for name, evidence in EVIDENCE.items():
        assert pictures(evidence) == {name: everything[name]}, name
        with Image.open(io.BytesIO(everything[name])) as image:
            image.load()
            assert image.format == "PNG" and everything[name].startswith(PNG), name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("evidence", NOTHING, ids=["missing", "empty", "not finite"])
def test_without_evidence_there_is_no_picture(evidence):
    assert pictures(evidence) == {}


def test_points_are_scattered_and_have_no_pairs():
    points = RANDOM.normal(size=(9, 2)).astype(np.float32)
    assert list(pictures({"samples": points, "pairs": {"features": (points, points, np.zeros(9))}})) == ["samples"]


def test_the_mark_is_at_the_least_distance_to_v():
    rows = [
        {"step": s, "G/train_fd": 9 - s, "G/validation_fd": (s - 3) ** 2, "D/train_validation_auc": 0.5 + s / 20}
        for s in range(6)
    ]
    rows[2]["G/validation_fd"] = math.nan
    axes = overfitting_curves(rows[::-1]).axes
    assert [axis.get_title() for axis in axes] == ["Frechet distance", "The discriminator (0.5: no difference)"]
    marks = [[set(line.get_xdata()) for line in axis.lines if line.get_linestyle() == ":"] for axis in axes]
    assert marks == [[{3}], [{3}]]
    names = axes[0].get_legend_handles_labels()[1]
    assert names[:3] == ["least FD to V: step 3", "to training data T", "to validation data V"]
    assert axes[1].get_legend_handles_labels()[1] == ["D tells T from V"]


def test_distances_are_drawn_as_their_distribution():
    axis = distance_cdfs({"samples": [3.0, 1.0, 2.0, math.nan, 4.0], "held out": [5.0]}, 2.5).axes[0]
    samples = axis.lines[0]
    assert list(samples.get_xdata()) == [1, 1, 2, 3, 4] and np.allclose(samples.get_ydata(), [0, 0.25, 0.5, 0.75, 1])
    assert axis.get_legend_handles_labels()[1][0] == "samples\n(50.0% below the threshold)"
    assert [set(line.get_xdata()) for line in axis.lines][-1] == {2.5}


def test_logits_share_bins_and_integrate_to_one():
    axis = logit_histograms({"train": RANDOM.normal(2, 1, 500), "samples": RANDOM.normal(-2, 1, 300)}).axes[0]
    outlines = [patch.get_data() for patch in axis.patches]
    assert len(outlines) == 4 and all(np.array_equal(outlines[0].edges, one.edges) for one in outlines)
    assert np.allclose([one.values @ np.diff(one.edges) for one in outlines], 1)


def test_doses_are_the_gap_against_n():
    axis = gap_doses(DOSES).axes[0]
    assert any(np.allclose(line.get_xydata(), [[10, 0.1], [99, 1 / 99]]) for line in axis.lines if len(line.get_xdata()) == 2)
    with pytest.raises(UserError, match="finite numbers in the column 'fd_gap'"):
        gap_doses(DOSES.assign(fd_gap=math.nan))


def test_pairs_stand_side_by_side_the_closest_first():
    grey = lambda values: np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 48, 48, 1), np.uint8)
    figure = closest_pairs({"features": (grey([10, 20, 30]), grey([110, 120, 130]), [0.5, 0.1, 0.25])})
    (axis,) = figure.axes
    line = np.asarray(axis.images[0].get_array())[60, :, 0]
    assert [int(v) for v in dict.fromkeys(line.tolist())] == [255, 20, 120, 30, 130, 10, 110]
    assert [text.get_text() for text in axis.texts[1:]] == ["0.1", "0.25", "0.5"]
    with pytest.raises(UserError, match="closest pairs want uint8"):
        closest_pairs({"pixels": (grey([1]), grey([1, 2]), [0.0])})


def test_quality_and_novelty_are_where_they_belong():
    axis = quality_novelty(POINTS).axes[0]
    assert [line.get_xydata()[0].tolist() for line in axis.lines] == [[2, 1], [9, 0.1], [500, 0]]
    assert axis.get_legend_handles_labels()[1] == ["control a: copycat", "samples", r"1: \$r_1\$"]
    assert axis.get_xscale() == "log" and axis.transAxes.inverted().transform(axis.transData.transform((2, 1)))[1] > 0.72


def test_one_outlier_does_not_squash_the_scatter_and_no_mark_covers_another():
    near = [{"name": f"s{i}", "quality": 20 + 0.01 * i, "near_copies": 0.0, "kind": "setting"} for i in range(9)]
    far = {"name": "far", "quality": 900.0, "near_copies": 0.0, "kind": "setting"}
    control = {"name": "blurred", "quality": 400.0, "near_copies": 0.0, "kind": "control"}
    figure = quality_novelty([*near, far, control])
    (axis,) = figure.axes
    assert axis.get_xlim()[1] < 21 and axis.get_xscale() == "linear"
    labels = axis.get_legend_handles_labels()[1]
    assert labels[-2:] == ["10: far (FD 900)", "control a: blurred (FD 400)"]
    assert [line.get_marker() for line in axis.lines[-2:]] == [">", ">"]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axis.texts if text.get_text().isdigit()]
    assert len(boxes) == 10
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])


# ---- files -------------------------------------------------------------------------------------


def test_a_report_in_other_features_is_put_beside_the_one_that_is_there(tmp_path, capsys):
    of = lambda name, digest, phrase: dataclasses.replace(
        report(phrase=phrase), protocol={"features": name, "extractor": digest * 64}
    )
    assert of("classifier", "a", "healthy").save(tmp_path).name == "report.html"
    assert of("classifier", "a", "underfits").save(tmp_path).name == "report.html" and not capsys.readouterr().err
    beside = of("my <features>", "b", "mode loss").save(tmp_path)
    assert beside.name == "report-my-features-bbbbbbbb.html"
    assert "report.html is in classifier features and stays" in capsys.readouterr().err
    verdicts = {path.name: json.loads(path.read_text())["verdict"] for path in tmp_path.glob("*.json")}
    assert verdicts == {"report.json": "underfits", "report-my-features-bbbbbbbb.json": "mode loss"}
    (tmp_path / "report.json").write_text("[]")
    assert of("pixels", "c", "healthy").save(tmp_path).name == "report.html", "a damaged record is made again"


def test_notes_are_in_the_text_the_page_and_the_record():
    shown = dataclasses.replace(report(), notes=("few images <b>",))
    assert "note: few images <b>" in shown.text() and shown.to_json()["notes"] == ["few images <b>"]
    assert "Note: few images <b>." in Page(shown.html()).text
