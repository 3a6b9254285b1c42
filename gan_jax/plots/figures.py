"""What every picture shares: colours, an empty figure, and a file that is never half written."""

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colour-blind safe palette of Okabe and Ito; `parts` has two more of its colours.
BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#000000"


def new(panels: int, size: tuple[float, float], columns: int = 1, **settings) -> "tuple[Figure, list[Axes]]":
    """A figure of `size` inches and its panels, row by row. The settings are those of
    `Figure.subplots`; by default the panels share x."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(-(-panels // columns), columns, squeeze=False, **{"sharex": True, **settings})
    axes = list(grid.flat)
    for panel in axes[panels:]:
        panel.remove()
    for panel in axes[:panels]:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes[:panels]


def save(path: Path | str, figure: "Figure") -> Path:
    """Writes the figure as a PNG, whole or not at all. Raises UserError where it cannot."""
    return replace(path, png(figure))


def png(figure: "Figure", **settings) -> bytes:
    """The bytes of a PNG, which name no software version: equal data give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, **settings)
    return buffer.getvalue()


def replace(path: Path | str, data: bytes) -> Path:
    """Writes a file under another name and renames it. Raises UserError where it cannot."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({type(error).__name__}: {error}); choose another place") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return path


def as_image(figure: "Figure"):
    """A figure as a PIL image, which a notebook shows."""
    from PIL import Image

    return Image.open(io.BytesIO(png(figure, dpi=100)))
