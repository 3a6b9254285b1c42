"""MisGAN: `recipe.py` puts one together, `game.py` trains it, `losses.py` has its losses."""

from gan_jax.games.imputation.misgan.game import (
    CRITICS,
    GENERATORS,
    MISGAN,
    MisGAN,
    MisGANState,
    check,
    check_knobs,
    generators_turn,
    impute,
    init,
    sample,
    sample_masks,
    step,
)
from gan_jax.games.imputation.misgan.losses import critic_terms
from gan_jax.games.imputation.misgan.recipe import recipe

__all__ = [
    "CRITICS", "GENERATORS", "MISGAN", "MisGAN", "MisGANState", "check", "check_knobs", "critic_terms", "generators_turn",
    "impute", "init", "recipe", "sample", "sample_masks", "step",
]  # fmt: skip
