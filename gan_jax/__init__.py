"""gan_jax: train, sweep and judge generative adversarial networks on limited data.

    import gan_jax as gan

    data = gan.load("digits")
    recipe = gan.recipes.dcgan(data.image_shape)
    run = gan.fit(recipe, data, steps=2000, seed=0)
    run.samples(64)
"""

from gan_jax import augment, latents, losses, optimizers, penalties, pictures, recipes, schedules
from gan_jax.data import Split, Splits, from_arrays, load
from gan_jax.draws import Draws, order
from gan_jax.errors import UserError
from gan_jax.game import Batch, Feed, Game
from gan_jax.loop import Run, fit, open_run
from gan_jax.losses import Terms
from gan_jax.networks.net import Judgement, Mode, Net
from gan_jax.penalties import Turn, lazy
from gan_jax.recipe import Bound, Recipe, Side, bind, leaves, schedule, with_leaves
from gan_jax.train import GAN, Player, State, alternating, init, sample, simultaneous, train_step

__all__ = [
    "GAN", "Batch", "Bound", "Draws", "Feed", "Game", "Judgement", "Mode", "Net", "Player", "Recipe", "Run", "Side", "Split",
    "Splits", "State", "Terms", "Turn", "UserError", "alternating", "augment", "bind", "fit", "from_arrays", "init",
    "latents", "lazy", "leaves", "load", "losses", "open_run", "optimizers", "order", "penalties", "pictures", "recipes",
    "sample", "schedule", "schedules", "simultaneous", "train_step", "with_leaves",
]  # fmt: skip
