"""Named starting points: the article's DCGAN and toys (`starting.py`), complete published settings
(`published.py`), VAEs."""

from gan_jax.recipes.autoencoders import vae, vae_gan
from gan_jax.recipes.published import biggan, biggan_diffaugment, lecam, r3gan, sngan, stylegan2_ada, wgan_gp
from gan_jax.recipes.starting import assembled, dcgan, dirac, for_data, loss, mlp, pacgan_toy

__all__ = [
    "assembled", "biggan", "biggan_diffaugment", "dcgan", "dirac", "for_data", "lecam", "loss", "mlp", "pacgan_toy", "r3gan",
    "sngan", "stylegan2_ada", "vae", "vae_gan", "wgan_gp",
]  # fmt: skip
