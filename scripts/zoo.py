"""Print the table of every remedy, and measure what each costs.

    python scripts/zoo.py                    # rewrites docs/zoo.md, with the costs that stand in it
    python scripts/zoo.py --measure          # measures all of them again: ten minutes on two CPU cores that do nothing else
    python scripts/zoo.py --measure --missing

A cost is the time of a training step with the item divided by that of the plain step, both
compiled, run in turns in one
process: the median over rounds of the ratio. The plain step is `zoo.base()`: 16 x 16 RGB, width 16,
batch 64.
"""

from __future__ import annotations

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

DOCS = Path(__file__).parent.parent / "docs" / "zoo.md"
HEAD = """# Every remedy

One row for each item of `gan_jax/zoo.py`. Numbers are leaves of the recipe with their defaults: each can be swept in one
program, scheduled, or driven by a controller. Cost: time of a training step with the item over that of the plain
step ({machine}); that of the losses, which change next to nothing, shows the error.
Complete recipes are other networks: they have their numbers of parameters instead; and what is no part of any recipe's step
has neither. This page is written by `python scripts/zoo.py --measure`.
"""
COLUMNS = "| Item | Paper | Numbers | Cost | Test |\n|---|---|---|---|---|\n"
RECIPES = "| Recipe | Networks | Paper | Numbers from | Examples | Parameters | Test |\n|---|---|---|---|---|---|---|\n"
NAMED = "| Item | Paper | Where | Published value | Test |\n|---|---|---|---|---|\n"


@dataclass
class Options:
    """Write docs/zoo.md."""

    measure: bool = False
    """Measure the costs; else those that stand in the page are kept."""
    missing: bool = False
    """Measure only what has no cost yet."""
    rounds: int = 7
    """Rounds of steps, the plain step and the item's in turns."""
    steps: int = 5
    """Steps in a round."""
    only: tuple[str, ...] = ()
    """Measure these items only."""
    out: Path = DOCS
    """The page."""


def row(item: Any, cost: str, before: Any) -> str:
    """One line of the table."""
    import numpy as np

    short = lambda path: path.removeprefix("discriminator.").removeprefix("penalties.")
    shown = lambda value: f"{float(value):g}" if np.ndim(value) == 0 else f"[{np.size(value)}]"
    numbers = {path: shown(value) for path, value in item.leaves(before).items()}
    twice = lambda path, value: (  # both players have one optimizer: D's numbers are shown
        path.startswith("generator.optimizer") and numbers.get(path.replace("generator", "discriminator", 1)) == value
    )
    listed = ", ".join(f"`{short(path)}` {value}" for path, value in numbers.items() if not twice(path, value))
    return f"| {item.name} | {item.paper} | {listed} | {cost} | `{item.test}` |"


def recipe_row(whole: Any) -> str:
    """One line of the table of complete recipes."""
    size = ", ".join(f"{player} {number:,}" for player, number in whole.parameters().items())
    shape = " x ".join(map(str, whole.shape)) if whole.shape else "points"
    return f"| {whole.name} | {whole.networks} | {whole.paper} | {whole.source} | {shape} | {size} | `{whole.test}` |"


def named_row(named: Any) -> str:
    return f"| {named.name} | {named.paper} | `{named.where}` | {named.value} | `{named.test}` |"


def page(costs: dict[tuple[str, str], str], machine: str) -> str:
    from gan_jax import catalogue, zoo

    before, parts = zoo.base(), [HEAD.format(machine=machine)]
    for kind in dict.fromkeys(item.kind for item in zoo.ITEMS):
        lines = [row(i, costs.get((kind, i.name), "-"), before) for i in zoo.ITEMS if i.kind == kind]
        parts.append(f"\n## {kind.capitalize()}\n\n{COLUMNS}" + "\n".join(lines) + "\n")
    parts.append(f"\n## Recipes\n\n{RECIPES}" + "\n".join(map(recipe_row, catalogue.RECIPES)) + "\n")
    for kind in dict.fromkeys(named.kind for named in catalogue.NAMED):
        lines = [named_row(named) for named in catalogue.NAMED if named.kind == kind]
        parts.append(f"\n## {kind.capitalize()}\n\n{NAMED}" + "\n".join(lines) + "\n")
    return "".join(parts)


def standing(path: Path) -> tuple[dict[tuple[str, str], str], str]:
    """({(kind, item): cost}, machine) of the page as it is."""
    text, costs, kind = path.read_text() if path.exists() else "", {}, ""
    for line in text.splitlines():
        if line.startswith("## "):
            kind = line.removeprefix("## ").lower()
        elif line.startswith("| ") and not line.startswith("| Item"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            costs[kind, cells[0]] = cells[3]
    found = re.search(r"plain\s+step \((.*?)\)", text, re.DOTALL)
    return costs, found[1] if found else "not measured"


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


def measure(options: Options, costs: dict[tuple[str, str], str]) -> Iterator[dict[tuple[str, str], str]]:
    """The costs known so far, after each item."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from tqdm import tqdm

    import gan_jax as gan
    from gan_jax import zoo

    def examples(n: int) -> Any:
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.uniform(-1, 1, (n, 16, 16, 3)), jnp.float32)
        return gan.Batch(images, jnp.arange(n), jnp.asarray(rng.integers(0, 10, n), jnp.int32))

    plain = stepper(zoo.base(), examples)
    next(plain)
    chosen = [i for i in zoo.ITEMS if not options.only or i.name in options.only]
    for item in tqdm([i for i in chosen if not options.missing or costs.get((i.kind, i.name), "-") == "-"]):
        mine = stepper(item.add(zoo.base()), examples)
        next(mine)
        ratios = [1 / (plain.send(options.steps) / mine.send(options.steps)) for _ in range(options.rounds)]
        costs[item.kind, item.name] = f"{np.median(ratios):.2f}"
        mine.close()
        jax.clear_caches()  # a hundred programs at once are more mappings than a system may have
        yield costs


def main(options: Options) -> None:
    costs, machine = standing(options.out)
    if options.measure:
        import jax

        device = f"{os.cpu_count()} CPU cores" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
        here = f"{device}, Python {platform.python_version()}, jax {jax.__version__}"
        if not (options.missing or options.only):
            machine = here
        elif here not in machine:
            machine = f"{machine}; rows measured later: {here}"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for known in measure(options, costs) if options.measure else [costs]:
        write_atomic(options.out, page(known, machine))
    print(options.out)


if __name__ == "__main__":
    run(main)
