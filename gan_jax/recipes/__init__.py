"""Named starting points: the article's DCGAN and toys, complete published settings, VAEs, edits of
a recipe, and the regularisers that a sweep compares by default."""

from gan_jax.recipes.autoencoders import vae, vae_gan
from gan_jax.recipes.edits import (
    with_fields,
    with_module,
    with_network,
    with_optimizer,
    with_penalty,
    with_side,
    without_classes,
)
from gan_jax.recipes.published import biggan, biggan_diffaugment, lecam, r3gan, sngan, stylegan2_ada, wgan_gp
from gan_jax.recipes.regularizers import regularizers
from gan_jax.recipes.starting import assembled, dcgan, dirac, for_data, loss, mlp, pacgan_toy

__all__ = [
    "assembled", "biggan", "biggan_diffaugment", "dcgan", "dirac", "for_data", "lecam", "loss", "mlp", "pacgan_toy", "r3gan",
    "regularizers", "sngan", "stylegan2_ada", "vae", "vae_gan", "wgan_gp", "with_fields", "with_module", "with_network",
    "with_optimizer", "with_penalty", "with_side", "without_classes",
]  # fmt: skip
