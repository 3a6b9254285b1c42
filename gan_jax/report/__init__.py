"""Is it overfitting? Numbers beside their controls, and a verdict: for a run, or for images from
any GAN."""

from gan_jax.report.build import extractor_of, overfitting_report, references_of
from gan_jax.report.expectation import expectation
from gan_jax.report.metric_specs import METRIC_SPECS, MetricSpec
from gan_jax.report.number import Number
from gan_jax.report.numbers import Measured, References
from gan_jax.report.rejection import rejection_samples
from gan_jax.report.report import Report, compare
from gan_jax.report.sweeps import SweepReport, sweep_report
from gan_jax.report.verdict import PHRASES

__all__ = ["METRIC_SPECS", "PHRASES", "Measured", "MetricSpec", "Number", "References", "Report", "SweepReport"]
__all__ += ["compare", "expectation", "extractor_of", "overfitting_report", "references_of", "rejection_samples"]
__all__ += ["sweep_report"]
