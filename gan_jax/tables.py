"""Tables as CSV files that a spreadsheet may open: text that it would run as a formula, such as the
name `=cmd|...`, is written with an apostrophe before it, and read back without."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "'")  # the apostrophe, so that what is read is what was written


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def _original(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and value.startswith("'") else value


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV without its index, every text harmless. `read_csv` is the inverse."""
    return table.map(_harmless).rename(columns=_harmless).to_csv(index=False)


def read_csv(path: str | Path, **settings: Any) -> pd.DataFrame:
    """The table of a file that `to_csv` made. settings: of `pandas.read_csv`."""
    import pandas as pd

    return pd.read_csv(path, **settings).map(_original).rename(columns=_original)
