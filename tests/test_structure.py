"""The rules of the house, checked: sizes of files and functions, the direction of imports, where
tests lie."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("gan_jax", "experiments", "scripts")
FILES = sorted(path for place in PLACES for path in (ROOT / place).rglob("*.py"))
LINES = 350  # of a file
BODY = 50  # lines of a function, without its docstring
CORE = 1800  # lines of core/ and gan/ together

# What may be longer, and why. Nothing else may.
LONGER_FILES: dict[str, str] = {}
LONGER_FUNCTIONS: dict[str, str] = {}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def lines_of(path):
    return len(path.read_text().splitlines())


def bodies(path):
    """(name, lines) of each function: from its first statement after the docstring to its last
    line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            yield f"{name_of(path)}:{node.name}", node.end_lineno - first.lineno + 1


def test_no_file_is_long():
    long = {name_of(path): lines_of(path) for path in FILES if lines_of(path) > LINES}
    assert long.keys() == LONGER_FILES.keys(), long


def test_no_function_is_long():
    long = {name: lines for path in FILES for name, lines in bodies(path) if lines > BODY}
    assert long.keys() == LONGER_FUNCTIONS.keys(), long


def test_the_core_is_read_in_ten_minutes():
    core = {name_of(path): lines_of(path) for path in FILES if name_of(path).startswith(("gan_jax/core/", "gan_jax/gan/"))}
    assert sum(core.values()) <= CORE, core


def test_tests_lie_beside_their_packages():
    """tests/metrics tests gan_jax/metrics, and so on; the other folders test scripts or hold what
    tests share."""
    packages = {path.parent.name for path in (ROOT / "gan_jax").glob("*/__init__.py")} | {"experiments", "scripts", "frozen"}
    assert {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")} <= packages


def lint(folder):
    command = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copied(tmp_path):
    """A copy of the package, to plant imports in."""
    pytest.importorskip("importlinter")
    shutil.copytree(ROOT / "gan_jax", tmp_path / "gan_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "file, planted, broken",
    [
        ("core/rng.py", "", None),
        ("core/rng.py", "from gan_jax.gan.step import init\n", "imports go down"),
        ("metrics/kernels.py", "def later():\n    from gan_jax.training.fit import fit\n", "imports go down"),
        ("gan/state.py", "def later():\n    from gan_jax.gan.step import init\n", "circles"),
    ],
    ids=["as it is", "upward", "upward and lazy", "a circle inside a package"],
)
def test_an_import_that_goes_up_or_round_is_found(copied, file, planted, broken):
    path = copied / "gan_jax" / file
    path.write_text(path.read_text() + "\n\n" + planted)
    code, text = lint(copied)
    assert (code == 0) == (broken is None), text
    assert broken is None or any(broken in line and "BROKEN" in line for line in text.splitlines()), text
