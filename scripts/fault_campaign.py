"""What does a fault cost? Kills, damaged files and mistakes, drawn from a seed and counted.

    # a small one
    python scripts/fault_campaign.py --kills 20 --limits 5 --damages 30 --inputs 60
    # the figures of docs/faults.md
    python scripts/fault_campaign.py --kills 200 --limits 60 --damages 200 --inputs 380

Every case is drawn from `--seed` and its own number, so that kinds can be tried one by one:
`--only damage:17 kill:3` tries these two cases alone.
A case ends in one of these ways:

    held       the result has the same bits as without the fault
    refused    one line says what is wrong, and nothing but logs and a record's `steps` changed
    warned     the result is another one, and a line says so
    silent     the result is another one, or a mistake was accepted, and nothing says so
    stuck      after a kill or a limit the work cannot go on
    traceback  an exception that is no UserError
    hang       no end within the time limit

The last four are faults of the software. The program prints each of them, and exits with 1 if
there is one.
"""

from __future__ import annotations

import collections
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fault_damages
import fault_inputs
import fault_kills
import fault_limits
from fault_children import FAULTS, HELD, REFUSED, WARNED, Outcome

from gan_jax.cli.run import run

KINDS = {
    "kill": fault_kills.attempt,
    "limit": fault_limits.attempt,
    "damage": fault_damages.attempt,
    "input": fault_inputs.attempt,
}


@dataclass
class Options:
    """Count what faults cost."""

    kills: int = 20
    """Processes ended at random moments, once or twice."""
    limits: int = 5
    """Full disks, small files, few open files, a closed or full stderr."""
    damages: int = 30
    """Files of finished folders damaged at random."""
    inputs: int = 60
    """Calls and command lines with an argument that cannot be meant, at most all that there are."""
    seed: int = 0
    """Of every draw."""
    all: bool = False
    """Print each case, and not only faults."""
    only: tuple[str, ...] = ()
    """These cases again: kill:3 damage:17."""


def main(options: Options) -> int:
    cases = [(kind, i) for kind in KINDS for i in range(getattr(options, f"{kind}s"))]
    if options.only:
        cases = [(kind, int(number)) for kind, _, number in (case.partition(":") for case in options.only)]
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        for kind, i in cases:
            draw = random.Random(f"{options.seed} {kind} {i}")
            outcome = KINDS[kind](Path(folder), i, draw)
            if outcome is None:  # there are no more of this kind, or this machine has no such limit
                continue
            outcomes.append((kind, outcome))
            if outcome.how in FAULTS or options.only or options.all:
                print(f"{kind}:{i} {outcome.group}, {outcome.case}: {outcome.how}: {outcome.detail}", flush=True)
    print(table(outcomes))
    return int(any(outcome.how in FAULTS for _, outcome in outcomes))


def table(outcomes: list[tuple[str, Outcome]]) -> str:
    """One row a group, one column an ending."""
    import pandas as pd

    counts = collections.Counter((kind, outcome.group, outcome.how) for kind, outcome in outcomes)
    groups = dict.fromkeys((kind, outcome.group) for kind, outcome in outcomes)
    columns = (HELD, REFUSED, WARNED, *FAULTS)
    rows = {(kind, group): [counts[kind, group, how] for how in columns] for kind, group in groups}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    frame.loc["all"] = frame.sum()
    frame.index = [" ".join(i) if isinstance(i, tuple) else i for i in frame.index]
    return frame.to_string()


if __name__ == "__main__":
    run(main)
