"""Makes inception_score.npz: fixed logits, and what torch-fidelity 0.4.0 (PyPI) says of them, with
and without its shuffle.

    python tests/frozen/make_inception_score.py

needs torch, torch-fidelity 0.4.0 and NumPy. The shuffle is NumPy's RandomState(2020).permutation,
stored as `order`.
"""

from pathlib import Path

import numpy as np
import torch
from torch_fidelity.metric_isc import isc_features_to_metric

N, CLASSES, SEED = 203, 7, 2020


def main() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(N, CLASSES)) * 3
    logits[np.arange(N), np.sort(random.integers(0, CLASSES, N))] += 6  # sorted by class, so that the shuffle matters
    logits = logits.astype(np.float32)
    made = {"logits": logits, "order": np.random.RandomState(SEED).permutation(N)}
    for splits in (1, 4, 10):
        for shuffle in (False, True):
            found = isc_features_to_metric(torch.from_numpy(logits), splits, shuffle, SEED)
            name = f"{'shuffled' if shuffle else 'plain'}_{splits}"
            made[name] = np.array([found["inception_score_mean"], found["inception_score_std"]])
            print(name, made[name])
    np.savez(Path(__file__).with_name("inception_score.npz"), **made)


if __name__ == "__main__":
    main()
