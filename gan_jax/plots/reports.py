"""Pictures of the overfitting report.

T are the training images, V the validation images, and D is the discriminator. Each function takes
plain arrays and returns a matplotlib Figure (`as_image` shows it in a notebook). What is not finite
is left out. Where nothing is left a function raises UserError, and `report_pictures` leaves the
picture out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.metrics import ranking
from gan_jax.plots import curves, figures, grids, parts, sweeps
from gan_jax.plots.figures import BLACK, BLUE, GREEN, ORANGE
from gan_jax.plots.parts import GREY, MARK, VERMILION, as_float

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FDS = {"G/train_fd": ("to training data T", BLUE, "-"), "G/validation_fd": ("to validation data V", ORANGE, "--")}
AUC = {"D/train_validation_auc": ("D tells T from V", BLACK, "-")}
PANELS = (  # of the curves: title, label, {metric: (label, colour, style)}, neutral value
    ("Frechet distance", "FD", FDS, None),
    ("Near-copies of training images", "share of samples", {"G/near_copies": ("near-copies of T", GREEN, "-.")}, None),
    ("The discriminator (0.5: no difference)", "AUC, T against V", AUC, 0.5),
)
SETS = {
    "train": ("training data T", BLUE, "-"),
    "held out": ("held-out data", ORANGE, "--"),
    "samples": ("samples", GREEN, "-."),
    "copycat": ("copycat", VERMILION, ":"),
}
MARKERS = "DsPX^vphd"  # of the controls
PAIRS = 5  # in a row
PAIRED = {"copies": "clearest copies", "features": "closest in features", "pixels": "closest in pixels"}
GAP, TEXT, HEAD, LARGEST = 14, 20, 30, 128  # pixels: between pairs, a distance's line, a heading, the largest tile


def report_pictures(found: Mapping[str, Any]) -> dict[str, bytes]:
    """{name: PNG} of a report (of a run or of a sweep), as far as its evidence has the data. Equal
    evidence gives equal bytes.

    found: any of "history" (rows of metrics.jsonl), "distances" and "threshold", "logits",
    "dose" (a table), "pairs", "scatter", "samples" (uint8 [k, h, w, c] or points [k, 2]).
    """
    draw = {
        "curves": lambda: overfitting_curves(found["history"]),
        "distances": lambda: distance_cdfs(found["distances"], found.get("threshold")),
        "logits": lambda: logit_histograms(found["logits"]),
        "dose": lambda: gap_doses(found["dose"]),
        "pairs": lambda: closest_pairs(found["pairs"]),
        "scatter": lambda: quality_novelty(found["scatter"]),
        "samples": lambda: samples_png(found["samples"]),
    }
    pictures = {}
    for name, make in draw.items():
        try:
            picture = make()
        except (UserError, KeyError):  # no evidence, or nothing finite in it
            continue
        pictures[name] = picture if isinstance(picture, bytes) else figures.png(picture)
    return pictures


def overfitting_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Frechet distance to T and V, near-copies, and D's AUC of T against V over the steps, as far
    as they were recorded.

    rows: dicts with "step" and any of "G/train_fd", "G/validation_fd", "G/near_copies" (share of
        samples) and "D/train_validation_auc", in any order. The dotted line is at the step of the
        smallest G/validation_fd. Raises UserError where none of them was recorded.
    """
    seen = lambda row, field: math.isfinite(as_float(row.get(field)))
    shown = sorted((row for row in rows if seen(row, "step")), key=lambda row: float(row["step"]))
    kept = [p for p in PANELS if any(seen(row, field) for row in shown for field in p[2])]
    if not kept:
        known = [field for _, _, fields, _ in PANELS for field in fields]
        raise UserError(f"the curves want rows with a step and one of {known}; got {len(rows)} rows")
    figure, axes = figures.new(len(kept), (7.6, 0.8 + 2.4 * len(kept)))
    measured = (row for row in shown if seen(row, "G/validation_fd"))
    best = min(measured, key=lambda row: float(row["G/validation_fd"]), default=None)
    for axis, (title, label, fields, neutral) in zip(axes, kept, strict=True):
        if best is not None:
            mark = f"least FD to V: step {best['step']:g}" if fields is FDS else None
            axis.axvline(best["step"], color=VERMILION, linewidth=1.3, linestyle=":", label=mark)
        curves.panel(axis, shown, fields, neutral)
        axis.set(title=title, ylabel=label)
    axes[-1].set_xlabel("step (updates of the generator)")
    return figure


def distance_cdfs(distances: Mapping[str, np.ndarray], threshold: float | None = None) -> Figure:
    """The distribution function of each set's distances to the nearest training image.

    distances: {"samples", "held out" or "copycat": [n]}, in the extractor's features.
    threshold: below it a sample counts as a near-copy. It is a dotted line, and the legend has the
        shares below it.

    Raises UserError where no distance is finite.
    """
    shown = _finite(distances, ("samples", "held out", "copycat"))
    threshold = None if threshold is None or not math.isfinite(threshold) else float(threshold)
    figure, (axis,) = figures.new(1, (6, 5))
    for name, values in shown.items():
        label, color, style = SETS[name]
        below = "" if threshold is None else f"\n({np.mean((values < threshold) | (values == 0)):.1%} below the threshold)"
        axis.ecdf(values, linestyle=style, color=color, linewidth=1.8, label=label + below)
    right = max(float(np.quantile(values, 0.995)) for values in shown.values())
    right = max(right, 0.0 if threshold is None else 1.5 * threshold) or 1.0
    if threshold is not None:
        axis.axvline(threshold, color=MARK, linewidth=1.2, linestyle=(0, (1, 2)), label=f"threshold {parts.number(threshold)}")
    axis.set(xlim=(-0.02 * right, 1.02 * right), ylim=(-0.02, 1.02))
    axis.set(xlabel="distance to the nearest training image, in features", ylabel="share of images at most so far")
    _legend(axis)
    return figure


def logit_histograms(logits: Mapping[str, np.ndarray]) -> Figure:
    """Densities of D's logits of {"train", "held out" or "samples": [n]} in common bins. Raises
    UserError without any."""
    shown = _finite(logits, ("train", "held out", "samples"))
    everything = np.concatenate(list(shown.values()))
    low, high = np.quantile(everything, [0.001, 0.999])
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 51)
    figure, (axis,) = figures.new(1, (6, 4.6))
    for name, values in shown.items():
        label, color, style = SETS[name]
        label += f"\n(mean {parts.number(values.mean())})"
        density = np.histogram(np.clip(values, low, high), edges, density=True)[0]
        axis.stairs(density, edges, fill=True, color=color, alpha=0.18)
        axis.stairs(density, edges, color=color, linewidth=1.6, linestyle=style, label=label)
    if low < 0 < high:
        axis.axvline(0, color=MARK, linewidth=0.9, zorder=0.9)
    beyond = int(((everything < low) | (everything > high)).sum())
    note = f"\n({beyond} beyond the ends are in the outermost bins)" if beyond else ""
    axis.set(xlabel=f"logit of D (above 0: taken for real){note}", ylabel="density")
    _legend(axis)
    return figure


def gap_doses(table: pd.DataFrame) -> Figure:
    """`dose_figure` of the FD gap (held-out minus training: 0 without overfitting) against n.

    table: that of a sweep, with the column "fd_gap". Raises UserError where the gap has no finite
        value, and as `dose_figure`.
    """
    ranking.check(table, "fd_gap")
    if not np.isfinite(np.asarray(table["fd_gap"], np.float64)).any():
        raise UserError("doses want finite numbers in the column 'fd_gap'; the table has none")
    return sweeps.dose_figure(table, "fd_gap", "FD gap (held-out - training)", reference=0.0)


def closest_pairs(pairs: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Samples beside their nearest training images, the closest first, the distance below each
    pair.

    pairs: {a key of PAIRED: (samples, training images, distances [k])}, images uint8 [k, h, w, 1 or
        3]; of copies the distance in parts of that to the next real image. Raises UserError for no
        pair, or no images (such as 2-D points).
    """
    blocks = {space: _pairs_of(*pairs[space]) for space in PAIRED if space in pairs and len(pairs[space][0])}
    if not blocks:
        raise UserError(f"closest pairs want images under {', '.join(PAIRED)}; got {sorted(pairs) or 'none'}")
    height, width = next(iter(blocks.values()))[0].shape[1:3]
    wide = 2 * width + 2 + GAP
    rows = {space: -(-len(samples) // PAIRS) for space, (samples, _, _) in blocks.items()}
    size = sum(HEAD + count * (height + TEXT) for count in rows.values()), max(PAIRS * wide, 460) + GAP
    canvas = np.full((*size, 3), 255, np.uint8)
    figure, (axis,) = figures.new(1, (size[1] / 110, size[0] / 110))
    figure.set_layout_engine("none")
    axis.set_position((0, 0, 1, 1))
    axis.axis("off")
    top = 0
    for space, (samples, nearest, distances) in blocks.items():
        axis.text(GAP, top + HEAD / 2, f"{PAIRED[space]}: sample | training image", va="center", fontsize=9.5, weight="bold")
        for i, distance in enumerate(distances):
            y, x = top + HEAD + i // PAIRS * (height + TEXT), GAP + i % PAIRS * wide
            canvas[y : y + height, x : x + width] = samples[i]
            canvas[y : y + height, x + width + 2 : x + 2 * width + 2] = nearest[i]
            axis.text(x + width + 1, y + height + TEXT / 2 - 1, parts.number(distance), ha="center", va="center", fontsize=8)
        top += HEAD + rows[space] * (height + TEXT)
    axis.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, size[1], size[0], 0))
    return figure


def quality_novelty(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Frechet distance to held-out data (left: better) against the share of near-copies (low:
    novel); copies fill the corner.

    points: dicts with "name", "quality", "near_copies" (in [0, 1]) and "kind": "samples", "control"
        or "setting". Settings are numbered, and controls have letters. A point that would squash
        the axis is a triangle at its end, and the legend has its distance. Raises UserError where
        no point has two finite numbers.
    """
    number = lambda point, key: as_float(point.get(key))
    seen = [point for point in points if math.isfinite(number(point, "quality") + number(point, "near_copies"))]
    if not seen:
        raise UserError(f"the scatter wants points with a finite quality and near_copies; got {len(points)} points")
    figure, (axis,) = figures.new(1, (6, 4.4 + 0.14 * len(seen)))
    axis.set_yscale("symlog", linthresh=0.01, linscale=0.6)
    axis.set(ylim=(-0.0008, 1.7), xlabel="FD to held-out data (left: better)", ylabel="near-copies of T (share of samples)")
    axis.set_yticks([0, 0.01, 0.1, 1], ["0", "1 %", "10 %", "100 %"])
    axis.set_yticks([], minor=True)
    qualities = [number(point, "quality") for point in seen]
    left, right = _ends(seen, qualities)
    if left > 0 and right > 30 * left:
        axis.set_xscale("log")
        edge = right * 1.4
        axis.set_xlim(left / 1.5, edge * 1.1)
    else:
        margin = 0.08 * max(right - left, 1e-3 * abs(right), 1e-9)
        edge = right + margin
        axis.set_xlim(left - margin, edge + margin / 3)
    corner = {"transform": axis.transAxes, "color": VERMILION}
    axis.fill_between([0, 0.34], 0.72, 1, alpha=0.1, linewidth=0, zorder=0, **corner)
    axis.text(0.01, 0.73, "copycat corner", fontsize=8.5, va="bottom", **corner)
    controls = [point["name"] for point in seen if point["kind"] == "control"]
    settings = [point["name"] for point in seen if point["kind"] == "setting"]
    marks = []
    for point, quality in zip(seen, qualities, strict=True):
        name, y = parts.text(ranking.shorten(point["name"], 50)), number(point, "near_copies")
        x = edge if quality > right else quality
        style: dict[str, Any] = {"linestyle": "", "zorder": 3 + (point["kind"] == "setting")}
        beyond = f" (FD {parts.number(quality)})" if quality > right else ""
        if point["kind"] == "control":
            i = controls.index(point["name"])
            marker, mark = ">" if beyond else MARKERS[i % len(MARKERS)], chr(ord("a") + i % 26)
            label = f"control {mark}: {name}{beyond}"
            axis.plot(x, y, marker, color=GREY, markeredgecolor=BLACK, markersize=8, label=label, **style)
            marks.append((mark, x, y))
        elif point["kind"] == "setting":
            mark = str(settings.index(point["name"]) + 1)
            axis.plot(x, y, ">" if beyond else "o", color=BLUE, markersize=5, label=f"{mark}: {name}{beyond}", **style)
            marks.append((mark, x, y))
        else:
            axis.plot(x, y, "*", color=GREEN, markeredgecolor=BLACK, markersize=16, label=name + beyond, **style)
    parts.grid(axis, "both")
    _legend(axis)
    _marked(figure, axis, marks)
    return figure


def _ends(points: Sequence[Mapping[str, Any]], qualities: Sequence[float]) -> tuple[float, float]:
    """The ends of the axis: it shows the settings or samples, less outliers, and the controls that
    are not far worse than these."""
    means = {i: x for i, x in enumerate(qualities) if points[i]["kind"] != "control"} or dict(enumerate(qualities))
    gone = parts.apart(means)
    most = max(x for i, x in means.items() if i not in gone)
    left = min(qualities)
    return left, max(x for x in qualities if x <= max(most, left + 1.5 * (most - left)))


def _marked(figure: Figure, axis: Axes, marks: Sequence[tuple[str, float, float]]) -> None:
    """Marks (text, x, y) beside their points, each with a line to it, none over another."""
    figure.draw_without_rendering()  # the layout is settled, and so are pixels
    places, box = np.array([(x, y) for _, x, y in marks]).reshape(-1, 2), axis.bbox
    widest = max((len(text) for text, _, _ in marks), default=1)
    points = axis.transData.transform(places) if marks else places
    moved = parts.offsets(points, (3 + 7 * widest, 13), (box.x0, box.y0, box.x1, box.y1))
    for (text, x, y), offset in zip(marks, moved * 72 / figure.dpi, strict=True):
        color = BLUE if text.isdigit() else BLACK
        arrow = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        style = {"ha": "center", "va": "center", "fontsize": 8.5, "color": color, "zorder": 5}
        axis.annotate(text, (x, y), offset, textcoords="offset points", arrowprops=arrow, **style)


def samples_png(samples: np.ndarray) -> bytes:
    """Images uint8 [k, h, w, 1 or 3] as a sheet, or points [k, 2] as a scatter plot. Raises
    UserError for anything else."""
    samples = np.asarray(samples)
    if samples.ndim == 2 and samples.shape[1] == 2 and np.isfinite(samples).all(1).any():
        return figures.png(sweeps.scatter_sheet({f"{len(samples)} samples": samples.astype(np.float64)}))
    return grids.png(grids.sample_grid(samples, columns=8))


def _finite(sets: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The finite values of each set, sorted."""
    flat = {name: np.ravel(np.asarray(sets[name], np.float64)) for name in names if name in sets}
    kept = {name: np.sort(values[np.isfinite(values)]) for name, values in flat.items()}
    kept = {name: values for name, values in kept.items() if len(values)}
    if not kept:
        raise UserError(f"the picture wants finite numbers under {', '.join(names)}; got {sorted(sets) or 'none'}")
    return kept


def _pairs_of(samples: np.ndarray, nearest: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs in the order of their distances, as tiles that are large enough to see."""
    samples, nearest, distances = np.asarray(samples), np.asarray(nearest), np.asarray(distances)
    if samples.dtype != np.uint8 or samples.ndim != 4 or samples.shape != nearest.shape or len(samples) != len(distances):
        found = f"{samples.dtype} {list(samples.shape)}, {list(nearest.shape)} and {list(distances.shape)}"
        raise UserError(f"closest pairs want uint8 images [k, h, w, c] twice and k distances, not {found}")
    order = np.argsort(distances, kind="stable")
    return _tiles(samples[order]), _tiles(nearest[order]), distances[order]


def _tiles(images: np.ndarray) -> np.ndarray:
    """Images enlarged to at least 48 pixels, or made smaller than 128 by leaving pixels out."""
    scale, step = -(-sweeps.SHEET_TILE // min(images.shape[1:3])), -(-max(images.shape[1:3]) // LARGEST)
    return images[:, ::step, ::step].repeat(scale, 1).repeat(scale, 2)


def _legend(axis: Axes) -> None:
    """Above the panel, in two columns where the names are short enough."""
    long = any(len(line) > 34 for name in axis.get_legend_handles_labels()[1] for line in name.split("\n"))
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1 if long else 2, frameon=False, fontsize=9)
