"""The folder of a sweep, and what stands in each of its files."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, model_validator

from gan_jax.training import schemas
from gan_jax.training.files import warn, write_atomic, writing
from gan_jax.training.folder import RunFolder


class _Data(schemas.Data):
    hashes: dict[str, str]  # pyright: ignore[reportIncompatibleVariableOverride] # of splits of the user's own kind too


class _Record(BaseModel):
    """sweep.json. Fields that came later, or that are for people alone, are not looked at."""

    model_config = ConfigDict(extra="allow")
    format: Literal[1]
    settings: Annotated[dict[str, Any], Field(min_length=1)]
    names: list[str]
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1)]
    sizes: schemas.Steps
    order: Literal["shared", "own"]
    data: _Data
    intervals: schemas.Steps
    baseline: str
    rank_by: str
    higher_is_better: bool
    steps: PositiveInt
    source: dict[str, Any] | None = None
    warm_start: str | None = None
    environment: dict[str, Any] = {}

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.names != list(self.settings) or self.baseline not in self.settings:
            raise ValueError("names and baseline are not those of the settings")
        return self


class _Task(BaseModel):
    """tasks/<group>.json: where the task of a group runs."""

    node: str
    pid: int
    attempt: NonNegativeInt


RECORD, TASK = TypeAdapter(_Record), TypeAdapter(_Task)
# plan.json and plans/<group>.json: {group: [members in one program, devices that share a batch]}
PLAN = TypeAdapter(dict[Annotated[str, Field(pattern="^[0-9]+$")], tuple[PositiveInt, PositiveInt]])


class PartFolder(RunFolder):
    """The files of one part of a sweep: of the members with these indices."""

    def __init__(self, path: Path, sweep: "SweepFolder", indices: list[int]):
        super().__init__(path)
        self.sweep, self.members = sweep, [int(i) for i in indices]

    def digest(self) -> str:
        """sha256 of what makes these members the same members, for their checkpoints."""
        record = self.sweep.read()
        own = {name: record.get(name) for name in self.sweep.identity} | {"members": self.members}
        return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()

    def intact(self, name: str = "metrics.jsonl") -> tuple[list[dict[str, Any]], str]:
        """See `RunFolder.intact`. A row of other members is damaged too."""
        rows, damaged = super().intact(name)
        if name != "metrics.jsonl":
            return rows, damaged
        lists = lambda row: [row.get("diverged", ()), *row.get("metrics", {}).values()]
        kept = [row for row in rows if all(len(values) == len(self.members) for values in lists(row))]
        wrong = f"{len(rows) - len(kept)} rows are not of {len(self.members)} members" if len(kept) < len(rows) else ""
        return kept, ", ".join(filter(None, [damaged, wrong]))

    def logged(self, log_every: int) -> int:
        """The step up to which no row is missing; -1 for none."""
        last = 0
        for row in self.rows():
            if row["step"] > (last // log_every + 1) * log_every:
                break
            last = row["step"]
        return last or -1


class SweepFolder(RunFolder):
    """A sweep: sweep.json, plan.json, table.csv, ranking.csv, pictures, and the files of a run in
    groups/<group>-<part>/. The plans of tasks are in plans/, their logs and nodes in tasks/."""

    kind, record, inside, schema = "sweep", "sweep.json", "groups", RECORD
    files = (
        *("sweep.json", "plan.json", "table.csv", "ranking.csv", "ranking.txt", "groups", "pictures", "plans", "tasks"),
        *("report.html", "report.json", "report.csv", "rare_classes.csv", "by_class.csv"),
    )
    identity = ("settings", "names", "seeds", "sizes", "order", "data", "intervals", "warm_start")

    def __init__(self, path: Path | str):
        super().__init__(path)
        self._named = set[Path]()  # damaged files that were named

    def part(self, number: int, k: int, indices: list[int]) -> PartFolder:
        """The folder of part k of a group, which has the members with these indices."""
        return PartFolder(self.path / "groups" / f"{number:02d}-{k:02d}", self, indices)

    def plans(self) -> dict[str, list[int]]:
        """{group: [members in one program, devices that share the batch of each]}. Where a plan is
        damaged or missing, the rows of a group show how it was cut."""
        found = dict(self._cuts())
        for path in [*self.path.glob("plan.json"), *sorted(self.path.glob("plans/*.json"))]:
            try:
                found |= schemas.parsed(path.read_bytes(), PLAN)
            except (OSError, ValueError) as error:
                if path not in self._named:
                    warn(f"{path} is damaged ({error}): groups stay cut as their rows show")
                self._named.add(path)
        return found

    def _cuts(self) -> Iterator[tuple[str, list[int]]]:
        for path in sorted(self.path.glob("groups/*-00")):
            rows = RunFolder(path).rows() if path.name[:-3].isdecimal() else []
            if sizes := [len(row["diverged"]) for row in rows if "diverged" in row]:
                yield str(int(path.name[:-3])), [max(sizes, key=sizes.count), 1]

    def write_plan(self, plan: dict[str, list[int]], path: Path) -> None:
        """Write the plan, in place of a damaged one too, which is set aside."""
        with writing(path):
            if path in self._named:
                path.rename(path.with_suffix(".damaged"))
                self._named.discard(path)
            write_atomic(path, json.dumps(plan))

    def task(self, number: int) -> dict[str, Any]:
        """Where the task of a group runs; {} where that cannot be read, or not yet."""
        try:
            return schemas.parsed((self.path / "tasks" / f"{number:02d}.json").read_bytes(), TASK)
        except (OSError, ValueError):
            return {}
