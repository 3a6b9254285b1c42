"""What every picture shares: colours, an empty figure, a file that is never half written."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gan_jax.core.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#000000",
)  # Okabe and Ito's, colour-blind safe


def new(panels: int, size: tuple[float, float], columns: int = 1, **settings) -> tuple[Figure, list[Axes]]:
    """A figure of `size` inches and its panels, row by row; settings as for `Figure.subplots`, by
    default sharing x."""
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


def save(path: Path, figure: Figure) -> Path:
    return replace(path, png(figure))


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version in it: equal data, equal bytes
    return buffer.getvalue()


def replace(path: Path, data: bytes) -> Path:
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


def as_image(figure: Figure):
    """A figure as a PIL image, which a notebook shows."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer)
