"""Filling in missing values: GAIN as a game and as a scikit-learn imputer, and what it is compared with."""

from gan_jax.imputation import baselines, gain
from gan_jax.imputation.gain import GAIN, Gain
from gan_jax.imputation.imputer import GAINImputer
from gan_jax.imputation.training import train

__all__ = ["GAIN", "GAINImputer", "Gain", "baselines", "gain", "train"]
