from . import (
    augment,
    controllers,
    data,
    executors,
    hosts,
    imputation,
    latents,
    likelihoods,
    losses,
    measure,
    optimizers,
    overfitting,
    penalties,
    pictures,
    play,
    ranking,
    recipes,
    sampling,
    schedules,
    settings,
    vae,
    vae_gan,
    zoo,
)
from .data import Split, Splits, from_arrays, load
from .draws import Draws, order
from .errors import UserError
from .game import Batch, Feed, Game
from .gan import GAN
from .loop import fit, resume
from .losses import Terms
from .networks.net import Judgement, Mode, Net
from .overfitting import Report, compare, overfitting_report, sweep_report
from .penalties import Turn, lazy, remembers
from .play import alternating, simultaneous
from .recipe import Bound, Recipe, Side, bind, leaves, schedule, with_leaves
from .run import Run, open_run
from .settings import Range, draw, grid
from .sweeps import Sweep, open_sweep, sweep
from .train import Player, State, init, sample, train_step

__all__ = [
    "Batch", "Bound", "Draws", "Feed", "GAN", "Game", "Judgement", "Mode", "Net", "Player", "Range", "Recipe", "Report",
    "Run", "Side", "Split", "Splits", "State", "Sweep", "Terms", "Turn", "UserError", "alternating", "augment", "bind",
    "compare", "controllers", "data", "draw", "executors", "fit", "from_arrays", "grid", "hosts", "imputation", "init",
    "latents", "lazy", "leaves", "likelihoods", "load", "losses", "measure", "open_run", "open_sweep", "optimizers", "order",
    "overfitting", "overfitting_report", "penalties", "pictures", "play", "ranking", "recipes", "remembers", "resume",
    "sample", "sampling", "schedule", "schedules", "settings", "simultaneous", "sweep", "sweep_report", "train_step", "vae",
    "vae_gan", "with_leaves", "zoo",
]  # fmt: skip
