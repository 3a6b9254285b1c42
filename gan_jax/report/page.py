"""How the overfitting report looks: a table for a terminal, one for a notebook, and a page that
holds everything.

A page loads nothing and runs nothing: pictures and styles are in it, and its policy forbids the
rest. Whatever is shown (paths, labels, names of settings) is escaped, and characters that could
hide or reorder text are written as \\uXXXX.
"""

from __future__ import annotations

import base64
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_jax.plots.parts import number as figure
from gan_jax.report import verdict
from gan_jax.report.controls import BLURRED, CONTROLS, COPYCAT, HALF, NOISY, REAL
from gan_jax.report.findings import Findings
from gan_jax.report.number import Number

if TYPE_CHECKING:
    import jinja2
    import pandas as pd


WIDTH = 120  # columns of a terminal
WIDTHS = (35, 24, *[8] * len(CONTROLS), 14)  # of label, value, controls, null; with blanks between them
PLAIN = {
    verdict.HEALTHY: "Nothing here speaks for copying, for an overfitted discriminator, for lost modes or for a bad fit.",
    verdict.D_OVERFITS: "The discriminator knows training images from others: what it teaches is not only about the data.",
    verdict.MEMORISES: "The generator reproduces training images more often than chance explains.",
    verdict.MODE_LOSS: "Part of the data is missing from the samples.",
    verdict.UNDERFITS: "The samples are easily told from real data, without being copies.",
    verdict.DIVERGED: "Training broke down: there is nothing to judge.",
    verdict.CANNOT_TELL: "What could be measured here does not decide.",
}
MEANINGS = {
    REAL: "held-out images in the role of samples: what a perfect generator would score",
    COPYCAT: "training images, drawn again",
    NOISY: "the same, with a little noise",
    HALF: "real images of half of the classes or cells only",
    BLURRED: "real images, blurred",
}
TERMS = {
    "T": "the training images",
    "V": "validation images, for choosing",
    "S": "test images, to be opened once",
    "D": "the discriminator",
    "FD, KID": "Frechet and kernel distance of two sets of images in features",
    "AUC": "how often D gives an image of T a higher logit than a held-out one",
    "r_v": "where D's mean on held-out images lies, from its mean on T (0) to its mean on samples (1)",
}
# name of a picture: (title, how to read it, what is in it for someone who cannot see it); in the
# order of the page
CAPTIONS = {
    "curves": (
        "Over training",
        "A distance to T that goes on falling while the one to V rises, or an AUC that leaves .5, is overfitting; the dotted "
        "line is where the distance to V was smallest.",
        "Curves over the training steps: Frechet distance to T and to V, share of near-copies, and how well D tells T from V.",
    ),
    "distances": (
        "Distance to the nearest training image",
        "Samples that know nothing of T follow the held-out curve; a curve to its left, towards the copycat's, is copying, and "
        "what lies left of the dotted threshold counts as a near-copy.",
        "Cumulative shares of samples, held-out images and copies of T by their distance to the nearest training image.",
    ),
    "logits": (
        "What the discriminator says",
        "A discriminator that has not overfitted gives training and held-out images the same distribution; held-out images "
        "that lie with the samples are taken for fakes.",
        "Histograms of the discriminator's logits of training images, held-out images and samples.",
    ),
    "dose": (
        "Gap against the number of training images",
        "Overfitting falls towards the dashed line at 0 as n grows; a setting that works lies nearer to it at small n.",
        "The gap of the Frechet distance against n, a line for each setting, with intervals over seeds.",
    ),
    "strength": (
        "Gap against the strength of the regularizer",
        "The nearer to the dashed line at 0, the less overfitting; a grey line is the setting without a regularizer.",
        "The gap of the Frechet distance against the regularizer's strength, with intervals over seeds.",
    ),
    "pairs": (
        "Closest pairs",
        "Each sample (left) beside its nearest training image (right), the closest first, with their distance below: look for "
        "the same picture, not for the same kind of picture.",
        "Pairs of a generated and a training image, those that lie closest in features and those that lie closest in pixels.",
    ),
    "scatter": (
        "Quality against novelty",
        "Good generators lie at the lower left, beside the real control; at the upper left, beside the copycat, samples are "
        "good because they are copies.",
        "Frechet distance to held-out data against the share of near-copies, of the samples and of each control.",
    ),
    "samples": ("Samples", "The first samples, none chosen.", "A sheet of generated samples."),
}


def table_text(report: Findings) -> str:
    """The twelve rows as plain text of 120 columns: each number beside its controls, and the
    verdict last."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=(out := io.StringIO()), width=WIDTH, color_system=None, force_terminal=False)

    def line(*cells: str) -> None:
        table = Table.grid(padding=(0, 1, 0, 0))
        for i, width in enumerate(WIDTHS):
            table.add_column(width=width, overflow="fold", justify="right" if 0 < i <= len(CONTROLS) + 1 else "left")
        label, *figures = map(Text, cells)  # Text: a name in square brackets is no markup
        table.add_row(Padding(label, (0, 0, 0, 5)), *figures)
        console.print(table)

    line("number", "value [95 % interval]", *CONTROLS, "real data")
    for row, title, numbers, why in report.rows():
        console.print(Text(f"{row:2}  {title}"))
        if not numbers:
            console.print(Text(f"     not measured: {visible(why or 'nothing was given to measure it with')}"))
        for number in numbers:
            value = _interval(number) if number.informative else f"({_interval(number)})"
            controls = (_control(number, name) for name in CONTROLS)
            line(visible(number.label), value, *controls, visible(number.kind.null))
            if number.why:
                console.print(Text(f"     -> not informative here: {visible(number.why)}"))
    console.print(Text(f"\n{visible(report.verdict_line())}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def table_html(report: Findings) -> str:
    """The same as an HTML fragment for notebooks."""
    return _environment().get_template("table.html").render(report=report, fragment=True)


def page_html(report: Findings, pictures: Mapping[str, bytes]) -> str:
    """The report and its pictures ({name: PNG}) as one page that holds everything and loads
    nothing: verdict, table, pictures, rule and protocol."""
    settings = {key: value for key, value in report.about.items() if key != "openings"}
    return _environment().get_template("page.html").render(
        title=f"Overfitting report: {report.verdict}",
        report=report,
        about=list(entries(settings)),
        protocol=list(entries(report.protocol)),
        pictures=_pictures(pictures),
    )  # fmt: skip


def sweep_page_html(
    title: str, ranking_text: str, table: pd.DataFrame, reports: Mapping[str, Findings], pictures: Mapping[str, bytes]
) -> str:
    """The page of a sweep: ranking, table of settings, pictures ({name: PNG}), and each setting's
    verdict with its table."""
    import pandas as pd

    shown = table if isinstance(table.index, pd.RangeIndex) else table.rename_axis(table.index.name or "setting").reset_index()
    return _environment().get_template("sweep.html").render(
        title=title,
        ranking=ranking_text,
        columns=[(str(name), not pd.api.types.is_numeric_dtype(shown[name])) for name in shown.columns],
        rows=[[_cell(value) for value in row] for row in shown.to_numpy(object).tolist()],
        reports=reports,
        pictures=_pictures(pictures),
    )  # fmt: skip


def visible(value: Any) -> Any:
    """A string with what is invisible, reorders text or cannot be written (lone surrogates) as
    \\uXXXX; others as they are."""
    import markupsafe

    if not isinstance(value, str) or isinstance(value, markupsafe.Markup):
        return value
    hidden = lambda c: c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(f"\\u{ord(c):04x}" if hidden(c) else c for c in value)


def entries(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """(key, text) of everything in nested mappings, keys joined by dots."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from entries(value, f"{name}.")
        elif isinstance(value, (list, tuple)):
            yield name, ", ".join(map(str, value)) or "none"
        else:
            yield name, "none" if value is None else str(value)


def rule(text: str) -> list[tuple[str, Any]]:
    """A docstring as ("text", paragraph) and ("list", [(term, meaning), ...]); indented lines are
    terms and meanings."""
    blocks: list[tuple[str, Any]] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        items: list[list[str]] = []
        for line in block.split("\n"):
            if found := re.match(r" {4}(\S.*?) {2,}(.*)", line):
                items.append(list(found.groups()))
            elif items:
                items[-1][1] += " " + line.strip()
        blocks.append(("list", items) if items else ("text", " ".join(block.split())))
    return blocks


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    thresholds = {name: value for name, value in vars(verdict).items() if name.isupper() and isinstance(value, (int, float))}
    environment.globals |= {
        "rows": Findings.rows, "interval": _interval, "control": _control, "reading": _reading, "controls": CONTROLS,
        "plain": PLAIN, "meanings": MEANINGS, "terms": TERMS, "rule": rule(verdict.__doc__ or ""), "thresholds": thresholds,
    }  # fmt: skip
    return environment


def _pictures(pictures: Mapping[str, bytes]) -> list[tuple[str, ...]]:
    """(title, caption, alternative text, PNG in base 64) of each, those with a caption first and in
    its order."""
    order: Sequence[str] = list(CAPTIONS)
    ranked = sorted(pictures, key=lambda name: order.index(name) if name in order else len(order))
    captioned = ((name, *CAPTIONS.get(name, (name, "", f"picture: {name}"))) for name in ranked)
    return [(*words, base64.b64encode(pictures[name]).decode("ascii")) for name, *words in captioned]


def _interval(number: Number) -> str:
    value = figure(number.value)
    return value if number.low is None or number.high is None else f"{value} [{figure(number.low)}, {figure(number.high)}]"


def _control(number: Number, name: str) -> str:
    return figure(number.controls[name].value) if name in number.controls else "-"


def _reading(number: Number) -> str:
    """What a number means, in words."""
    kind = number.kind
    meaning = f"{kind.meaning[:1].upper()}{kind.meaning[1:]}. " if kind.meaning else ""
    return f"{meaning}Real data: {kind.null}. {kind.worse.capitalize()} is worse."


def _cell(value: Any) -> str:
    return figure(value) if isinstance(value, float) else str(value)
