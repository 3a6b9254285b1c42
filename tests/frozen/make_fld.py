"""What the reference code of Feature Likelihood Divergence says of small feature sets, in float64.

Package: marcojira/fld at commit ffbbf2041115814fd1074f0117bcb96c5af840b7, torch 2.13 (CPU), NumPy
2.4. Run with that repository on the path: PYTHONPATH=path/to/fld python tests/frozen/make_fld.py It
imports plotting packages that the computation does not use; empty ones stand in for them.
"""

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch

for name in ("matplotlib", "matplotlib.pyplot", "seaborn"):
    sys.modules[name] = MagicMock()

from fld.metrics.FLD import FLD  # noqa: E402
from fld.MoG import MoG, preprocess_feat  # noqa: E402

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(5)
scale = np.array([1, 3, 0.2, 1, 1, 10])
train, held_out, independent = (scale * rng.normal(1, 1, (n, 6)) for n in (120, 100, 90))
generated = {
    "independent": independent,
    "near_copies": train[:90] + 0.05 * scale * rng.normal(size=(90, 6)),
    "wide": 1 + 2 * (independent - 1),
    "one_mode": np.where(independent[:, :1] > 1, independent, independent + [4, 0, 0, 0, 0, 0])[:70],
}

frozen = {"train": train, "held_out": held_out}
for name, features in generated.items():
    sets = [torch.tensor(x) for x in (train, held_out, features)]
    of_train, of_held_out, of_generated = preprocess_feat(*sets)
    torch.manual_seed(0)
    np.random.seed(0)
    mixture = MoG(of_generated)
    log_sigmas, losses = mixture.fit(of_train)
    frozen |= {
        f"{name}_generated": features,
        f"{name}_log_sigmas": log_sigmas.numpy(),
        f"{name}_losses": np.array(losses),
        f"{name}_train_nlls": mixture.get_dim_adjusted_nlls(of_train).numpy(),
        f"{name}_held_out_nlls": mixture.get_dim_adjusted_nlls(of_held_out).numpy(),
        f"{name}_fld": FLD("test", baseline_nll=1.5).compute_metric(*sets),
        f"{name}_gap": FLD("gap").compute_metric(*sets),
    }
    batched = []
    for seed in range(10):  # the order of the examples then matters
        np.random.seed(seed)
        mixture = MoG(of_generated)
        mixture.fit(of_train, batch_size=60)
        batched.append(mixture.get_dim_adjusted_nlls(of_held_out).mean().item())
    frozen[f"{name}_batched"] = np.array(batched)

sets = [torch.tensor(x) for x in (train, held_out)]
baselines = []
for seed in range(30):  # which half of the training set has the centres is random
    np.random.seed(seed)
    baselines.append(FLD().get_baseline_nll(*sets, size=40))
frozen["baselines"] = np.array(baselines)
np.savez_compressed(Path(__file__).with_name("fld.npz"), **frozen)
