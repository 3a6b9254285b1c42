"""How long do the distribution and neighbour metrics take, and how much memory? Ours against prdc,
SciPy and scikit-learn.

    python scripts/benchmark_metrics.py  # 1,000 to 10,000 features of 2,048 numbers: an hour
    python scripts/benchmark_metrics.py --sizes 1000,2000 --peer-up-to 0  # ours alone
    python scripts/benchmark_metrics.py --sizes 10000,20000 --peer-up-to 10000 --json metrics.json

Four random sets of n features each (correlated, ReLU-like): generated G, train T, validation V,
test S. Of G, of the real control V and of a copycat (T drawn anew, with replacement) in its place:
FD to S and to T with a jackknife of 10 blocks, FD-infinity, KID, precision, recall, density and
coverage, the 1-NN test, and distances to the nearest example of T. Each side computes all of them
in a process of its own, and the numbers must agree. "report" is the same and more through the
overfitting report: its rows 1 to 9 (also C_T in cells, authenticity, near-copies, errors of KID).
The other side's FD is by SciPy's eigenvalues of symmetric matrices, with one root for each
reference; with `sqrtm` or `eigvals`, as packages have it, it takes far longer. Most of the report
looks at 10,000 examples of a set at most, so above that its numbers are not compared.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

from gan_jax.cli.run import run
from gan_jax.core.errors import UserError

K, BLOCKS, POINTS = 5, 10, 15
TOLERANCE = 1e-5  # of each number, or of 1 where it is smaller
Numbers = dict[str, float]


def features(n: int, width: int) -> dict[str, Any]:
    """{g, t, v, s} [n, width], float32. G is a little off, and a twentieth of it are copies of
    T."""
    import numpy as np

    random = np.random.default_rng(0)
    mixing = random.normal(size=(64, width)).astype(np.float32) / 8

    def draw(shift: float) -> np.ndarray:
        latent, noise = (random.standard_normal((n, d), np.float32) for d in (64, width))
        return np.maximum(latent @ mixing + 0.5 * noise + np.float32(shift), 0)

    made = {"t": draw(0.2), "v": draw(0.2), "s": draw(0.2), "g": draw(0.3)}
    copies = n // 20
    made["g"][:copies] = made["t"][:copies]
    made["g"] = made["g"][random.permutation(n)]
    return made


def roles(g: Any, t: Any, v: Any) -> dict[str, Any]:
    import numpy as np

    return {"generated": g, "real": v, "copycat": t[np.random.default_rng(1).integers(0, len(t), len(t))]}


def least(n: int) -> int:
    """The smallest subset of an extrapolation, as published."""
    return max(2, min(5000, n // 10))


# ---- ours --------------------------------------------------------------------------------------


def ours(g: Any, t: Any, v: Any, s: Any) -> Numbers:
    """All numbers, by gan_jax."""
    from gan_jax.metrics.frechet import Blocks
    from gan_jax.metrics.pairs import cross_pairs, self_pairs

    numbers: Numbers = {}
    refs = {"s": (s, Blocks(s, BLOCKS), self_pairs(s, K)), "t": (t, Blocks(t, BLOCKS), self_pairs(t, K))}
    numbers["s to t"] = float(cross_pairs(s, t).forward_distance.mean())
    numbers["t to t"] = float(refs["t"][2].distance.mean())
    for role, x in roles(g, t, v).items():
        own = our_frechet(x, refs["s"][1], refs["t"][1]) | our_pairs(x, refs)
        numbers |= {f"{role} {name}": value for name, value in own.items()}
    return numbers


def our_frechet(x: Any, s: Any, t: Any) -> Numbers:
    from gan_jax.metrics.frechet import fd_infinity, frechet_jackknife, jackknife_error

    values, _, alone = frechet_jackknife(x, [s, t], BLOCKS)
    errors = jackknife_error(alone)
    gap = jackknife_error(alone[:, 0] - alone[:, 1])
    fd = {"fd_s": values[0], "fd_t": values[1], "fd_s_error": errors[0], "fd_t_error": errors[1], "fd_gap_error": gap}
    numbers = {name: float(value) for name, value in fd.items()}
    return numbers | {"fd_infinity": fd_infinity(x, s.moments(), POINTS, least(len(x)))}


def our_pairs(x: Any, refs: dict[str, Any]) -> Numbers:
    from gan_jax.metrics.kernels import kid_from
    from gan_jax.metrics.neighbours import one_nn_from, prdc_from
    from gan_jax.metrics.pairs import cross_pairs, self_pairs

    wx, numbers = self_pairs(x, K), {}
    for name, (reference, _, wr) in refs.items():
        pairs = cross_pairs(x, reference, wx, wr)
        made = {"kid": kid_from(wx, wr, pairs)} | prdc_from(wr, wx, pairs) | one_nn_from(wx, wr, pairs)
        made["nearest"] = float(pairs.forward_distance.mean())
        numbers |= {f"{key}_{name}": value for key, value in made.items()}
    return numbers


def report(g: Any, t: Any, v: Any, s: Any) -> Numbers:
    """Rows 1 to 9 of the overfitting report, of G, the real control and the copycat, under its
    names."""
    from gan_jax.data import Split
    from gan_jax.metrics.features import pixels
    from gan_jax.report import References
    from gan_jax.report.controls import Sets

    references = References(Sets(Split(t), Split(s), Split(v), "S"), pixels(t.shape[1:]), k=K)
    measured = {role: references.measure(x) for role, x in roles(g, t, v).items()}
    return {f"{role} {name}": number.value for role, numbers in measured.items() for name, number in numbers.items()}


SAME = {"fd": "fd_s", "kid": "kid_s", "coverage": "coverage_s", "one_nn": "accuracy_s"}  # of the report, of `ours`


# ---- the packages ------------------------------------------------------------------------------


def theirs(g: Any, t: Any, v: Any, s: Any) -> Numbers:
    """The same numbers, by NumPy, SciPy, scikit-learn and prdc."""
    import numpy as np
    from sklearn.metrics import pairwise_distances_argmin_min
    from sklearn.neighbors import NearestNeighbors

    g, t, v, s = (np.asarray(x, np.float64) for x in (g, t, v, s))
    numbers: Numbers = {}
    references = {name: (y, their_reference(y)) for name, y in (("s", s), ("t", t))}
    numbers["s to t"] = float(pairwise_distances_argmin_min(s, t)[1].mean())
    numbers["t to t"] = float(NearestNeighbors(n_neighbors=1).fit(t).kneighbors()[0].mean())
    for role, x in roles(g, t, v).items():
        own = their_frechet(x, references["s"][1], references["t"][1]) | their_pairs(x, references)
        numbers |= {f"{role} {name}": value for name, value in own.items()}
    return numbers


def their_reference(y: Any) -> tuple[Any, Any, Any]:
    """Mean, covariance and its root."""
    import numpy as np
    import scipy.linalg

    covariance = np.cov(y.T)
    values, vectors = scipy.linalg.eigh(covariance, driver="evd")
    return y.mean(0), covariance, (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def their_fd(x: Any, reference: tuple[Any, Any, Any]) -> float:
    import numpy as np
    import scipy.linalg

    mean, covariance, root = reference
    own = np.cov(x.T)
    values = scipy.linalg.eigh(root @ own @ root, eigvals_only=True, driver="evd")
    roots = np.sqrt(np.maximum(values, 0)).sum()
    return float(((x.mean(0) - mean) ** 2).sum() + np.trace(own) + np.trace(covariance) - 2 * roots)


def their_frechet(x: Any, s: Any, t: Any) -> Numbers:
    import numpy as np
    from scipy.stats import linregress

    edges = np.linspace(0, len(x), BLOCKS + 1).astype(int)
    left = [np.delete(x, slice(a, b), 0) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    replicates = np.array([[their_fd(rest, s), their_fd(rest, t)] for rest in left])
    error = lambda values: math.sqrt((BLOCKS - 1) * values.var())
    sizes = np.linspace(least(len(x)), len(x), POINTS).astype(int)
    random = np.random.default_rng(0)  # the subsets that ours draws
    values = [their_fd(x[random.permutation(len(x))[:size]], s) for size in sizes]
    return {
        "fd_s": their_fd(x, s),
        "fd_t": their_fd(x, t),
        "fd_s_error": error(replicates[:, 0]),
        "fd_t_error": error(replicates[:, 1]),
        "fd_gap_error": error(replicates[:, 0] - replicates[:, 1]),
        "fd_infinity": float(linregress(1 / sizes, values).intercept),  # pyright: ignore[reportAttributeAccessIssue]
    }


def their_pairs(x: Any, references: dict[str, Any]) -> Numbers:
    import contextlib
    import io

    import numpy as np
    from prdc import compute_prdc
    from sklearn.metrics import pairwise_distances_argmin_min

    numbers = {}
    for name, (y, _) in references.items():
        with contextlib.redirect_stdout(io.StringIO()):
            made = compute_prdc(y, x, nearest_k=K)
        made |= {"kid": their_kid(x, y)} | their_one_nn(x, y)
        made["nearest"] = pairwise_distances_argmin_min(x, y)[1].mean()
        numbers |= {f"{key}_{name}": float(np.asarray(value)) for key, value in made.items()}
    return numbers


def their_kid(x: Any, y: Any) -> float:
    from sklearn.metrics.pairwise import polynomial_kernel

    n, m = len(x), len(y)
    own = 0.0
    for a in (x, y):
        kernel = polynomial_kernel(a, degree=3, coef0=1)
        own += (kernel.sum() - kernel.trace()) / (len(a) * (len(a) - 1))
    return own - 2 * float(polynomial_kernel(x, y, degree=3, coef0=1).sum()) / (n * m)


def their_one_nn(x: Any, y: Any) -> Numbers:
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    n = len(x)
    found = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.concatenate([x, y])).kneighbors(return_distance=False)
    same = (found[:, 0] >= n) == (np.arange(2 * n) >= n)
    x_accuracy, y_accuracy = float(same[:n].mean()), float(same[n:].mean())
    return {"accuracy": (x_accuracy + y_accuracy) / 2, "x_accuracy": x_accuracy, "y_accuracy": y_accuracy}


# ---- measuring ---------------------------------------------------------------------------------

SIDES: dict[str, Callable[..., Numbers]] = {"ours": ours, "theirs": theirs, "report": report}
CHILD = """
import json, resource, sys, time
sys.path[:0] = sys.argv[1:3]
import jax, scipy.linalg, sklearn.cluster, sklearn.neighbors, prdc  # not what is timed
import benchmark_metrics as b
sets = b.features(int(sys.argv[4]), int(sys.argv[5]))
before, start = time.process_time(), time.perf_counter()
numbers = b.SIDES[sys.argv[3]](**sets)
seconds, cpu = time.perf_counter() - start, time.process_time() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak, "numbers": numbers}))
"""


def measured(side: str, n: int, width: int) -> dict[str, Any]:
    """Wall and processor seconds, peak resident memory in MiB and the numbers of one side, in a
    fresh process."""
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", CHILD, str(here), str(here.parent), side, str(n), str(width)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the process of {side} at n = {n} failed: {(done.stderr.strip().splitlines() or ['killed'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def disagreement(a: Numbers, b: Numbers) -> tuple[str, float]:
    """The number that differs most, and by how much of itself (of 1 where it is smaller).

    Where copies of T are as near as T's own examples, theirs leaves ties to rounding: balls and
    halves there are not compared.
    Raises UserError where a number is missing or differs by more than it may.
    """
    if a.keys() != b.keys():
        raise UserError(f"the sides have other numbers: {sorted(a.keys() ^ b.keys())}")
    off = {name: abs(a[name] - b[name]) / max(1, abs(b[name])) for name in a}
    tied = {name for name in off if name.endswith("_t") and not name.startswith("real") and not ("fd" in name or "kid" in name)}
    worst = max(off.keys() - tied, key=lambda name: off[name])
    if not off[worst] <= TOLERANCE:
        raise UserError(f"{worst}: ours is {a[worst]:.9g}, theirs {b[worst]:.9g}")
    return worst, off[worst]


def growth(rows: list[dict[str, Any]], key: str) -> float:
    """The exponent p in seconds ~ n^p, by least squares over all sizes."""
    import numpy as np

    sizes, seconds = (np.log([row[name] for row in rows]) for name in ("n", key))
    return float(np.polyfit(sizes, seconds, 1)[0])


def row(n: int, width: int, peer: bool) -> dict[str, Any]:
    mine, whole = measured("ours", n, width), measured("report", n, width)
    from gan_jax.report.numbers import LARGEST

    for role in ("generated", "real", "copycat") if n <= LARGEST else ():
        for name, ours_name in SAME.items():
            one, other = whole["numbers"][f"{role} {name}"], mine["numbers"][f"{role} {ours_name}"]
            if not abs(one - other) <= TOLERANCE * max(1, abs(other)):
                raise UserError(f"{role} {name}: the report has {one:.9g}, the metrics {other:.9g}")
    made = {"n": n, "ours_s": mine["seconds"], "ours_cpu_s": mine["cpu_seconds"], "ours_mib": mine["peak_mib"]}
    made |= {"report_s": whole["seconds"], "report_mib": whole["peak_mib"]}
    if peer:
        other = measured("theirs", n, width)
        name, off = disagreement(mine["numbers"], other["numbers"])
        made |= {"peer_s": other["seconds"], "peer_cpu_s": other["cpu_seconds"], "peer_mib": other["peak_mib"]}
        made |= {"ratio": other["seconds"] / mine["seconds"], "worst": name, "off": off}
    return made


def show(made: dict[str, Any]) -> None:
    text = f"n {made['n']:>6}  report {made['report_s']:7.1f} s {made['report_mib']:6.0f} MiB"
    text += f"   ours {made['ours_s']:7.1f} s ({made['ours_cpu_s']:.0f} s of CPU) {made['ours_mib']:6.0f} MiB"
    if "peer_s" in made:
        text += f"   packages {made['peer_s']:8.1f} s ({made['peer_cpu_s']:.0f} s of CPU) {made['peer_mib']:7.0f} MiB"
        text += f"   ratio {made['ratio']:.1f}   largest difference {made['off']:.1e} ({made['worst']})"
    print(text, flush=True)


def main(
    sizes: str = "1000,2000,5000,10000",
    peer_up_to: int = 5000,
    width: int = 2048,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Measure, and print a line for each size.

    Args: sizes: numbers of examples in each set, separated by commas. peer_up_to: compare with the
        packages at sizes up to this. width: numbers in a feature. json_file: also write the figures
        there: a list of {"n", "ours_s", "ours_mib", "peer_s", "ratio", ...}.
    """
    try:
        counts = [int(size) for size in sizes.split(",")]
    except ValueError:
        raise UserError(f"sizes is {sizes!r}: give whole numbers, separated by commas") from None
    if min(counts) < 40 or width < 1:
        raise UserError(f"sizes start at 40 and widths at 1, not {min(counts)} and {width}")
    rows = []
    start = time.perf_counter()
    for n in counts:
        rows.append(row(n, width, n <= peer_up_to))
        show(rows[-1])
    if len(rows) > 1:
        print(f"the report grows as n^{growth(rows, 'report_s'):.2f}")
        print(f"ours grows as n^{growth(rows, 'ours_s'):.2f}")
    if len(both := [each for each in rows if "peer_s" in each]) > 1:
        print(f"the packages grow as n^{growth(both, 'peer_s'):.2f}")
    print(f"measured in {time.perf_counter() - start:.0f} s")
    if json_file:
        json_file.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    run(main)
