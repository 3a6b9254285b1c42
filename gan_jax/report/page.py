"""The overfitting report as a table for a terminal, a table for a notebook, and a page that holds
everything.

A page loads nothing, and runs nothing but, on a sweep's, the script that sorts a table: pictures
and styles are in it, and its policy forbids the rest (the script is allowed by its hash).
Everything shown (paths, labels, names of settings) is escaped, and characters that could hide or
reorder text are written as \\uXXXX.
"""

import base64
import hashlib
import io
import re
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gan_jax.plots.parts import number as figure
from gan_jax.report import verdict
from gan_jax.report.controls import CONTROLS
from gan_jax.report.number import Number

WIDTH = 120  # columns of a wide terminal
WIDTHS = (35, 24, *[8] * len(CONTROLS), 14)  # of label, value, controls, null, at least; with blanks between them


def table_text(rows: Iterable[tuple[int, str, list[Number], str]], verdict_line: str, width: int | None = None) -> str:
    """The rows (number, title, numbers, why there are none) as plain text, and the verdict last.

    width: of the terminal, by default its own, or 120 columns where there is none. A table is 120
    columns wide; narrower terminals get lines that break at blanks, so that no number is broken.
    """
    width = min(width or shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)
    rows, header = list(rows), ("number", "value [95 % interval]", *CONTROLS, "real data")
    cells = {id(number): _cells(number) for _, _, numbers, _ in rows for number in numbers}
    widest = [max([least, *(len(c[i]) for c in cells.values())]) for i, least in enumerate(WIDTHS[:-1])]
    widths = (WIDTH - sum(widest[1:]) - WIDTHS[-1] - len(WIDTHS) + 1, *widest[1:], WIDTHS[-1])
    console = Console(file=(out := io.StringIO()), width=width, color_system=None, force_terminal=False)

    def line(cells: Sequence[str]) -> None:
        table = Table.grid(padding=(0, 1, 0, 0))
        for i, wide in enumerate(widths):
            table.add_column(width=wide, overflow="fold", justify="right" if 0 < i <= len(CONTROLS) + 1 else "left")
        label, *figures = map(Text, cells)  # Text: a name in square brackets is no markup
        table.add_row(Padding(label, (0, 0, 0, 5)), *figures)
        console.print(table)

    def narrow(cells: Sequence[str]) -> None:
        named = (f"{name} {cell}" for name, cell in zip(header[2:], cells[2:], strict=True) if cell != "-")
        console.print(Padding(Text("; ".join((f"{cells[0]}: {cells[1]}", *named))), (0, 0, 0, 5)))

    show = line if width >= WIDTH else narrow
    if show is line:
        line(header)
    for row, title, numbers, why in rows:
        console.print(Text(f"{row:2}  {title}"))
        if not numbers:
            console.print(Text(f"     not measured: {visible(why or 'nothing was given to measure it with')}"))
        for number in numbers:
            show(cells[id(number)])
            if number.why:
                console.print(Text(f"     -> not informative here: {visible(number.why)}"))
    console.print(Text(f"\n{visible(verdict_line)}"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _cells(number: Number) -> tuple[str, ...]:
    """Label, value, controls and null of a number, as the table shows them."""
    controls = (_control(number, name) for name in CONTROLS)
    return visible(number.label), _interval(number), *controls, visible(number.kind.null)


def render(template: str, **given: Any) -> str:
    """A template of this folder as HTML."""
    return _environment().get_template(template).render(**given)


def visible(value: Any) -> Any:
    """Text with characters that are invisible, reorder it or cannot be encoded (lone surrogates) as
    \\uXXXX; anything else as it is."""
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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    thresholds = {name: value for name, value in vars(verdict).items() if name.isupper() and isinstance(value, (int, float))}
    environment.globals |= {"interval": _interval, "control": _control}
    environment.globals |= {"controls": CONTROLS, "rule": rule(verdict.__doc__ or ""), "thresholds": thresholds}
    script = Path(__file__).with_name("sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {"script": markupsafe.Markup(script), "script_hash": digest}
    environment.globals["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment


def _interval(number: Number) -> str:
    """The value with its interval, in brackets where the number is not informative."""
    value = figure(number.value)
    if number.low is not None and number.high is not None:
        value = f"{value} [{figure(number.low)}, {figure(number.high)}]"
    return value if number.informative else f"({value})"


def _control(number: Number, name: str) -> str:
    return figure(number.controls[name].value) if name in number.controls else "-"
