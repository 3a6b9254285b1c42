"""Makes fidelity.npz: fixed features, and what torch-fidelity 0.4.0 (PyPI) says of them.

    python tests/frozen/make_fidelity.py

needs torch, torch-fidelity 0.4.0 and NumPy. The features are of ReLU's kind: correlated, not below
0, with a common offset; in sixteenths, of which products are exact, so that ties are ties there,
too. The sets share examples, and a point far from all others that each has five times: its balls
have radius 0.
"""

from pathlib import Path

import numpy as np
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

N, M, D = 150, 120, 24


def features(n: int, seed: int, shift: float) -> np.ndarray:
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(9).normal(size=(6, D))
    made = random.normal(size=(n, 6)) @ mixing + 0.3 * random.normal(size=(n, D)) + shift
    return (np.round(16 * np.maximum(made, 0)) / 16).astype(np.float32)


def main() -> None:
    x, y = features(N, 0, 0.2), features(M, 1, 0.5)
    y[:5] = x[:5]
    x[5:10] = y[5:10] = 9
    tx, ty = torch.from_numpy(x).double(), torch.from_numpy(y).double()
    fid = fid_statistics_to_metric(fid_features_to_statistics(tx), fid_features_to_statistics(ty), verbose=False)
    same = {"kid_subsets": 3, "kid_subset_size": M, "rng_seed": 0, "verbose": False}
    whole = kid_features_to_metric(tx[:M], ty, **same)  # a subset of all examples is one KID
    few = kid_features_to_metric(tx, ty, kid_subsets=2000, kid_subset_size=40, rng_seed=0, verbose=False)
    precision, recall = calculate_precision_recall_full(tx, ty, neighborhood=3)
    np.savez_compressed(
        Path(__file__).parent / "fidelity.npz",
        x=x,
        y=y,
        fid=list(fid.values())[0],
        kid=list(whole.values())[0],
        kid_subsets=list(few.values()),
        precision=float(precision),
        recall=float(recall),
    )
    print(fid, whole, few, precision, recall)


if __name__ == "__main__":
    main()
