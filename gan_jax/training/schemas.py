"""What stands in each file of a run folder. A file of anything else is refused in one line."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError

Steps = Annotated[list[PositiveInt], Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Open(BaseModel):
    """Fields that came later, or that are for people alone, are not looked at."""

    model_config = ConfigDict(extra="allow")


class Data(_Open):
    """`Splits.describe`."""

    name: str
    seed: int
    sizes: dict[str, NonNegativeInt]
    hashes: dict[str, Sha256]


class Run(_Open):
    """recipe.json."""

    format: Literal[1]
    recipe: Any
    data: Data
    seed: int
    intervals: Steps
    schedule: Annotated[Steps, Field(min_length=4, max_length=4)]  # log_every, checkpoint_every, sample_every, keep
    steps: PositiveInt
    source: dict[str, Any] | None = None
    paths: dict[str, Annotated[list[str], Field(min_length=2, max_length=2)]] = {}  # see `folder.paths_of`
    warm_start: str | None = None
    environment: dict[str, Any] = {}


class Study(_Open):
    """study.json."""

    format: Literal[1]
    options: dict[str, Any]


class Numbers(_Open):
    """A row of a run in metrics.jsonl, and of timings.jsonl."""

    step: NonNegativeInt
    __pydantic_extra__: dict[str, float]


class Members(BaseModel):
    """A row of a part of a sweep in metrics.jsonl: a value for each member."""

    model_config = ConfigDict(extra="forbid")
    step: NonNegativeInt
    diverged: list[NonNegativeInt | None]
    metrics: dict[str, list[float | None]]


class Damaged(_Open):
    """A row of damaged.jsonl."""

    name: str
    why: str


class Status(_Open):
    """status.json: the last step, and why the run ended there early."""

    step: NonNegativeInt
    stopped: str | None


class Leaves(_Open):
    """The item `meta` of a checkpoint. step, run: of which step of which run (`identity_digest`) it
    is; absent in those of earlier versions."""

    leaves: dict[str, tuple[str, list[NonNegativeInt]]]
    keys: dict[str, str]
    meta: dict[str, Any]
    digest: Sha256
    step: NonNegativeInt | None = None
    run: Sha256 | None = None


ANYTHING, RUN, STUDY, STATUS, LEAVES = (TypeAdapter(kind) for kind in (Any, Run, Study, Status, Leaves))
FILES = TypeAdapter(Annotated[dict[str, Sha256], Field(min_length=1)])  # files.json: the digest of each file of a checkpoint
ROWS = {
    "metrics.jsonl": TypeAdapter(Numbers | Members),
    "timings.jsonl": TypeAdapter(Numbers),
    "damaged.jsonl": TypeAdapter(Damaged),
}


def parsed(text: bytes, schema: TypeAdapter) -> Any:
    """The JSON value of UTF-8 text. Raises ValueError, of one line, where the schema is another."""
    try:
        schema.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(": ".join([*filter(None, [".".join(map(str, first["loc"]))]), first["msg"]])) from None
    return json.loads(text)
