"""Data sets and their splits."""

from gan_jax.data.imbalance import class_counts, imbalanced
from gan_jax.data.missing import incomplete
from gan_jax.data.sources import from_arrays, load
from gan_jax.data.splits import Split, Splits
from gan_jax.data.toys import Mixture

__all__ = ["Mixture", "Split", "Splits", "class_counts", "from_arrays", "imbalanced", "incomplete", "load"]
