"""Other methods that the same loop trains: VAE, VAE-GAN, and imputation of missing values."""

from gan_jax.games import imputation, vae, vae_gan

__all__ = ["imputation", "vae", "vae_gan"]
