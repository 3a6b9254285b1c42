"""Data sets and their splits."""

from gan_jax.data.sources import from_arrays, load
from gan_jax.data.splits import Split, Splits
from gan_jax.data.toys import Mixture

__all__ = ["Mixture", "Split", "Splits", "from_arrays", "load"]
