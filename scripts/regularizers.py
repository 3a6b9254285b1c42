"""Write docs/regularizers.md: every part that can be added to a recipe, and what each part costs.

    # rewrites the page, with the costs of costs.json
    python scripts/regularizers.py
    # measures all costs: ten minutes on two idle CPU cores
    python scripts/regularizers.py --measure
    python scripts/regularizers.py --measure --missing

Formulae and papers are those of the parts' docstrings; numbers are those of the recipe that a row
of `part_rows.py` makes. A cost is the time of a training step with the part divided by the time of
the plain step. Both are compiled and run in turns in one process; the cost is the median over
rounds of the ratio. The plain step is that of `part_rows.base()`: 16 x 16 RGB, width 16, batch 64.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import re
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_jax.cli.run import run
from gan_jax.training.folder import write_atomic

DOCS = Path(__file__).parent.parent / "docs" / "regularizers.md"
COSTS = Path(__file__).with_name("costs.json")
HEAD = """# Regularizers, and everything else that can be added to a recipe

Each row is a part of a recipe. Formulae and papers come from the docstrings of the parts. Numbers are leaves of the recipe,
with their defaults: each number can be swept in one program, scheduled, or driven by a controller. Cost: the time of a training
step with the part over the time of the plain step ({machine});
the costs of the losses, which change next to nothing, show the error. Complete recipes are other networks, so they have their
numbers of parameters instead. What is no part of any recipe's step has neither. Tests are named by their functions. This page
is written by `python scripts/regularizers.py`.
"""
ROWS = "| Part | Paper | What it is | Numbers | Cost | Test |\n|---|---|---|---|---|---|\n"
RECIPES = "| Recipe | Networks | Paper | Numbers from | Examples | Parameters | Test |\n|---|---|---|---|---|---|---|\n"
NAMED = "| Part | Paper | Where | Published value | Test |\n|---|---|---|---|---|\n"
NAME = r"[A-ZÀ-Þ][\w'-]+"
CITED = re.compile(rf"({NAME}(?:(?:, {NAME})* & {NAME}| et al\.)?),? \(?((?:19|20)\d\d[a-z]?)\b")

Costs = dict[str, dict[str, float]]  # {kind: {row: cost}}


@dataclass
class Options:
    """Write docs/regularizers.md."""

    measure: bool = False
    """Measure the costs; when left out, the costs of scripts/costs.json are kept."""
    missing: bool = False
    """Measure only the rows that have no cost yet."""
    rounds: int = 7
    """Rounds of steps, in which the plain step and that of the row take turns."""
    steps: int = 5
    """Steps in a round."""
    only: tuple[str, ...] = ()
    """Measure these rows only."""
    out: Path = DOCS
    """The page."""


# ---- the page ----------------------------------------------------------------------------------


def paragraphs(thing: Any) -> list[str]:
    """The paragraphs of a docstring, each on one line."""
    return [" ".join(part.split()) for part in (inspect.getdoc(thing) or "").split("\n\n")]


def papers(thing: Any) -> str:
    """The papers that a docstring names in its first paragraph, or else in any: "Authors, year"."""
    found = paragraphs(thing)
    cited = CITED.findall(found[0]) or CITED.findall(" ".join(found))
    return "; ".join(dict.fromkeys(f"{authors}, {year}" for authors, year in cited)) or "-"


def formula(row: Any) -> str:
    """The first paragraph of the docstring of the row's part; of a field of Recipe, what is said of
    that field."""
    if row.part == "gan.recipe:Recipe":
        name = {"moving average": "ema_decay", "compute_dtype": "dtype"}.get(row.name, row.name)
        said = re.search(rf"^{name}: +(.*(?:\n {{4,}}.*)*)", inspect.getdoc(row.source()) or "", re.MULTILINE)
        return " ".join(said[1].split()) if said else "-"
    return paragraphs(row.source())[0].replace("|", "\\|")


def numbers(row: Any, before: Any) -> str:
    """The numbers of a row with their defaults, shortened. Where both players have one optimizer,
    D's numbers are shown."""
    import numpy as np

    shown = lambda value: f"{float(value):g}" if np.ndim(value) == 0 else f"[{np.size(value)}]"
    short = lambda path: path.removeprefix("discriminator.").removeprefix("penalties.")
    found = {path: shown(value) for path, value in row.leaves(before).items()}
    twice = lambda path, value: (
        path.startswith("generator.optimizer") and found.get(path.replace("generator", "discriminator", 1)) == value
    )
    return ", ".join(f"`{short(path)}` {value}" for path, value in found.items() if not twice(path, value))


def part_line(row: Any, cost: float | None, before: Any) -> str:
    cells = row.name, row.paper or papers(row.source()), formula(row), numbers(row, before)
    return f"| {' | '.join(cells)} | {'-' if cost is None else f'{cost:.2f}'} | `{row.test}` |"


def recipe_line(row: Any) -> str:
    from gan_jax import recipes

    size = ", ".join(f"{player} {number:,}" for player, number in row.parameters().items())
    shape = " x ".join(map(str, row.shape)) if row.shape else "points"
    paper = row.paper or papers(getattr(recipes, row.name))
    return f"| {row.name} | {row.networks()} | {paper} | {row.source} | {shape} | {size} | `{row.test}` |"


def named_line(row: Any) -> str:
    return f"| {row.name} | {row.paper} | `{row.where}` | {row.value} | `{row.test}` |"


def page(costs: Costs, machine: str) -> str:
    import recipe_rows
    from part_rows import ROWS as part_rows
    from part_rows import base

    before, parts = base(), [HEAD.format(machine=machine)]
    table = lambda title, head, lines: f"\n## {title.capitalize()}\n\n{head}" + "\n".join(lines) + "\n"
    for kind in dict.fromkeys(row.kind for row in part_rows):
        lines = [part_line(row, costs.get(kind, {}).get(row.name), before) for row in part_rows if row.kind == kind]
        parts.append(table(kind, ROWS, lines))
    parts.append(table("recipes", RECIPES, map(recipe_line, recipe_rows.RECIPES)))
    for kind in dict.fromkeys(row.kind for row in recipe_rows.NAMED):
        parts.append(table(kind, NAMED, [named_line(row) for row in recipe_rows.NAMED if row.kind == kind]))
    return "".join(parts)


# ---- the costs ---------------------------------------------------------------------------------


def known_costs() -> tuple[Costs, str]:
    """The costs measured so far, and the machine that they were measured on."""
    known = json.loads(COSTS.read_text())
    return known["costs"], known["machine"]


def stepper(recipe: Any, examples: Any) -> Generator[float, int]:
    """Seconds of each further round of steps."""
    import jax

    import gan_jax as gan

    step, state = jax.jit(gan.train_step), jax.jit(gan.init)(recipe, jax.random.key(0))
    batch = examples(recipe.batch_size * recipe.d_steps)
    compiled = step.lower(recipe, state, batch).compile()
    state, _ = compiled(recipe, state, batch)
    steps = yield 0.0
    while True:
        start = time.perf_counter()
        for _ in range(steps):
            state, _ = compiled(recipe, state, batch)
        jax.block_until_ready(state)
        steps = yield time.perf_counter() - start


def measure(options: Options, costs: Costs) -> Iterator[Costs]:
    """The costs known so far, after each row."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from part_rows import ROWS as part_rows
    from part_rows import base

    import gan_jax as gan
    from gan_jax.training.progress import each

    def examples(n: int) -> Any:
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.uniform(-1, 1, (n, 16, 16, 3)), jnp.float32)
        return gan.Batch(images, jnp.arange(n), jnp.asarray(rng.integers(0, 10, n), jnp.int32))

    plain = stepper(base(), examples)
    next(plain)
    chosen = [row for row in part_rows if not options.only or row.name in options.only]
    rows = [row for row in chosen if not options.missing or row.name not in costs.get(row.kind, {})]
    for row in each(rows, "measuring"):
        mine = stepper(row.add(base()), examples)
        next(mine)
        ratios = [1 / (plain.send(options.steps) / mine.send(options.steps)) for _ in range(options.rounds)]
        costs.setdefault(row.kind, {})[row.name] = round(float(np.median(ratios)), 2)
        mine.close()
        jax.clear_caches()  # a hundred programs at once are more mappings than a system may have
        yield costs


def main(options: Options) -> None:
    costs, machine = known_costs()
    if options.measure:
        import jax

        device = f"{os.cpu_count()} CPU cores" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
        here = f"{device}, Python {platform.python_version()}, jax {jax.__version__}"
        if not (options.missing or options.only):
            machine = here
        elif here not in machine:
            machine = f"{machine}; rows measured later: {here}"
        for known in measure(options, costs):
            write_atomic(COSTS, json.dumps({"machine": machine, "costs": known}, indent=1) + "\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, page(costs, machine))
    print(options.out)


if __name__ == "__main__":
    run(main)
