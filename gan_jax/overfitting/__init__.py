"""Is it overfitting? Numbers beside their controls, and a verdict: for a run, or for images from any GAN."""

from gan_jax.overfitting.judge import extractor_of, overfitting_report, references_of
from gan_jax.overfitting.kinds import KINDS, Kind
from gan_jax.overfitting.numbers import Measured, References
from gan_jax.overfitting.report import Number, Report, compare
from gan_jax.overfitting.sweeps import SweepReport, sweep_report
from gan_jax.overfitting.verdict import PHRASES

__all__ = [
    "KINDS",
    "Kind",
    "Measured",
    "Number",
    "PHRASES",
    "References",
    "Report",
    "SweepReport",
    "compare",
    "extractor_of",
    "overfitting_report",
    "references_of",
    "sweep_report",
]
