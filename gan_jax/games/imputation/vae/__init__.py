"""The imputing VAE: `recipe.py` puts one together, `game.py` trains it and imputes with it."""

from gan_jax.games.imputation.vae.game import (
    EVALUATION_DRAWS,
    GAME,
    MIWAE,
    cell_densities,
    check,
    check_knobs,
    decode,
    draw,
    encode,
    evaluate,
    impute,
    init,
    log_density,
    log_likelihood,
    observe,
    shown_of,
    step,
    terms,
    weigh,
)
from gan_jax.games.imputation.vae.recipe import Scaled, recipe

__all__ = [
    "EVALUATION_DRAWS", "GAME", "MIWAE", "Scaled", "cell_densities", "check", "check_knobs", "decode", "draw", "encode",
    "evaluate", "impute", "init", "log_density", "log_likelihood", "observe", "recipe", "shown_of", "step", "terms", "weigh",
]  # fmt: skip
