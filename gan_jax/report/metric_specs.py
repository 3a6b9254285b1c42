"""The numbers of the report: their labels, what real data score, and the controls that each has to
detect.

The rows are the twelve of the report; a row may hold several numbers. T are the training images.
Gaps are held-out minus training, so that positive means overfitting. {H} stands for the held-out
set: the validation split V while choosing, the test split S when it is opened.
"""

import math
from dataclasses import dataclass

from gan_jax.report.controls import BLURRED, COPYCAT, HALF, NOISY

ROWS = {
    1: "quality: Frechet distance to held-out images",
    2: "its gap between held-out and training images",
    3: "kernel distance and its gap",
    4: "fidelity: precision and density",
    5: "diversity: coverage, its gap, what is missing",
    6: "copying as a test: C_T",
    7: "copying: authenticity against real data",
    8: "near-copies of training images",
    9: "two-sample test by nearest neighbour",
    10: "the discriminator, or the likelihood, on training and held-out images",
    11: "latent recovery of training and held-out images",
    12: "usefulness, or distance to a known truth",
}


@dataclass(frozen=True)
class MetricSpec:
    """One number of the report.

    null: what real data score. worse: the direction of worse, "higher" or "lower".
    sees: the controls that must come out worse than real data, or the number is no evidence.
    train: whether the number involves T, so that its protocol names T.
    """

    key: str
    row: int
    label: str
    null: str
    worse: str
    sees: tuple[str, ...] = ()
    train: bool = False
    meaning: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the most that the number can be."""
        return _ENDS.get(self.key, (-math.inf, math.inf))


SHARES: tuple[str, ...] = ("fd_gap_p", "precision", "coverage", "missing", "c_t_share", "near_copies", "near_copies_pixels")
SHARES += ("one_nn_train", "one_nn", "one_nn_generated", "one_nn_real", "d_auc", "d_tpr", "elbo_auc", "recovery_p")
SHARES += ("gan_train", "truth_high_quality", "copies", "copies_p")
_ENDS: dict[str, tuple[float, float]] = {key: (0.0, 1.0) for key in SHARES}
_ENDS |= {key: (0.0, math.inf) for key in ("fd", "density", "truth_modes", "truth_reverse_kl")}
_ENDS |= {key: (-1.0, 1.0) for key in ("coverage_gap", "authenticity_gap", "d_r_t")}
_ENDS |= {key: (-math.inf, 1.0) for key in ("copy_share", "recovery_gap")}

_KINDS = (
    MetricSpec(
        "fd", 1, "FD to {H}", "above 0: see the control", "higher", (HALF, BLURRED), meaning="0: equal laws, endless data"
    ),
    MetricSpec("fd_infinity", 1, "FD to {H}, extrapolated to endless samples", "see the control", "higher", (HALF, BLURRED)),
    MetricSpec("fd_gap", 2, "FD to {H} - FD to T", "0", "higher", (COPYCAT,), True),
    MetricSpec("fd_gap_p", 2, "p of this gap, T and {H} exchanged", "uniform", "lower", train=True),
    MetricSpec("kid", 3, "KID to {H}", "0", "higher", (HALF, BLURRED)),
    MetricSpec("kid_gap", 3, "KID to {H} - KID to T", "0", "higher", (COPYCAT,), True),
    MetricSpec("precision", 4, "precision by {H}", "see the control", "lower", (BLURRED,)),
    MetricSpec("density", 4, "density by {H}", "1", "lower", (BLURRED,)),
    MetricSpec("coverage", 5, "coverage of {H}", "1 - 2^-k", "lower", (HALF,)),
    MetricSpec("coverage_gap", 5, "coverage of T - coverage of {H}", "0", "higher", (COPYCAT,), True),
    MetricSpec("missing", 5, "share of {H} in cells that samples hardly reach", "0", "higher", (HALF,)),
    MetricSpec("c_t", 6, "C_T, all cells together", "0 +- 1", "lower", (COPYCAT, NOISY), True, "far below 0: copying"),
    MetricSpec("c_t_worst", 6, "C_T of the worst cell", "about -1 to -2", "lower", (COPYCAT, NOISY), True),
    MetricSpec("c_t_share", 6, "share of cells with C_T below -3", "0", "higher", (COPYCAT, NOISY), True),
    MetricSpec("authenticity_gap", 7, "authentic share of real data - of samples", "0", "higher", (COPYCAT, NOISY), True),
    MetricSpec("near_copies", 8, "near-copies of T", "the false-positive rate", "higher", (COPYCAT, NOISY), True),
    MetricSpec(
        "near_copies_pixels", 8, "near-copies of T, in pixels", "the false-positive rate", "higher", (COPYCAT, NOISY), True
    ),
    MetricSpec("copies", 8, "copies of T, of all kinds", "0", "higher", train=True, meaning="share of the samples"),
    MetricSpec("copies_p", 8, "p that no sample is a copy", "uniform", "lower", train=True),
    MetricSpec(
        "copy_share", 8, "samples nearest to T, above chance", "0", "higher", (COPYCAT, NOISY), True, "1 when all are copies"
    ),
    MetricSpec("one_nn_train", 9, "1-NN accuracy, samples against T", ".5", "lower", (COPYCAT,), True, "below .5: copying"),
    MetricSpec("one_nn", 9, "1-NN accuracy, samples against {H}", ".5", "higher", (HALF, BLURRED), meaning="above .5: misfit"),
    MetricSpec("one_nn_generated", 9, "1-NN accuracy on the samples alone", ".5", "higher", (BLURRED,)),
    MetricSpec("one_nn_real", 9, "1-NN accuracy on {H} alone", ".5", "higher", (HALF,)),
    MetricSpec("d_auc", 10, "D tells T from {H} (AUC)", ".5", "higher", train=True),
    MetricSpec("d_tpr", 10, "members found at 1 % false positives", ".01", "higher", train=True),
    MetricSpec("d_r_v", 10, "r_v", "0", "higher", train=True, meaning="1 when D takes held-out images for fakes"),
    MetricSpec("d_r_t", 10, "r_t = E sign D(T)", "0", "higher", train=True),
    MetricSpec("elbo_auc", 10, "the evidence bound tells T from {H} (AUC)", ".5", "higher", train=True),
    MetricSpec("elbo_gap", 10, "evidence bound on T - on {H}, nats", "0", "higher", train=True),
    MetricSpec("recovery_gap", 11, "relative gap of median recovery errors", "0", "higher", train=True),
    MetricSpec("recovery_p", 11, "p of equal recovery errors (Kolmogorov-Smirnov)", "uniform", "lower", train=True),
    MetricSpec("gan_train", 12, "accuracy on {H} of a classifier trained on samples", "that of one trained on T", "lower"),
    MetricSpec("truth_log_density", 12, "mean log density of samples under the truth", "minus the entropy", "lower"),
    MetricSpec("truth_modes", 12, "modes reached", "all", "lower"),
    MetricSpec("truth_high_quality", 12, "share of samples within 3 standard deviations of a mode", ".989 in 2-D", "lower"),
    MetricSpec("truth_reverse_kl", 12, "KL of the samples' modes from uniform", "near 0", "higher"),
)
METRIC_SPECS = {kind.key: kind for kind in _KINDS}
