"""MisGAN: the recipe in `recipe.py`, the game in `game.py`."""

from gan_jax.games.imputation.misgan.game import (
    CRITICS,
    GENERATORS,
    MISGAN,
    MisGAN,
    MisGANState,
    check,
    check_knobs,
    critic_terms,
    generators_turn,
    impute,
    init,
    sample,
    sample_masks,
    step,
)
from gan_jax.games.imputation.misgan.recipe import recipe

__all__ = [
    "CRITICS", "GENERATORS", "MISGAN", "MisGAN", "MisGANState", "check", "check_knobs", "critic_terms", "generators_turn",
    "impute", "init", "recipe", "sample", "sample_masks", "step",
]  # fmt: skip
