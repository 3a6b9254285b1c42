"""Other methods that train in the same loop: the VAE, the VAE-GAN, and imputation of missing
values."""

from gan_jax.games import imputation, vae, vae_gan

__all__ = ["imputation", "vae", "vae_gan"]
