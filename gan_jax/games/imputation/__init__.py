"""Imputation: GAIN, MisGAN and a VAE as games, GAIN for scikit-learn, and baselines."""

from gan_jax.games.imputation import baselines, gain, misgan, vae
from gan_jax.games.imputation.gain import GAIN, Gain
from gan_jax.games.imputation.imputer import GAINImputer
from gan_jax.games.imputation.misgan import MISGAN, MisGAN
from gan_jax.games.imputation.training import train
from gan_jax.games.imputation.vae import MIWAE

__all__ = ["GAIN", "GAINImputer", "Gain", "MISGAN", "MIWAE", "MisGAN", "baselines", "gain", "misgan", "train", "vae"]
