"""No spreadsheet runs what a table's text says, and what is read is what was written."""

import pandas as pd
import pytest

from gan_jax.tables import read_csv, to_csv

NAMES = ["=cmd|' /C calc'!A0", "+1+2", "-2+3", "@SUM(A1)", "\t=1", "'quoted'", "''=1", "plain", "a=1", "lr=[0.1], -r1", ""]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_harmless_and_read_back_the_same(tmp_path, name):
    table = pd.DataFrame({"setting": [name, "b"], "rate": [-0.5, 2.0], name or "x": [1, 2]})
    (tmp_path / "table.csv").write_text(to_csv(table))
    raw = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    for text in (*raw["setting"], *raw.columns):
        assert not text.startswith(("=", "+", "-", "@", "\t"))
    pd.testing.assert_frame_equal(read_csv(tmp_path / "table.csv", keep_default_na=False), table)


def test_a_table_of_harmless_names_is_written_as_ever():
    table = pd.DataFrame({"setting": ["none", "r1, gamma=1"], "G/fd": [-1.5, None], "diverged_step": [None, None]})
    assert to_csv(table) == table.to_csv(index=False)
