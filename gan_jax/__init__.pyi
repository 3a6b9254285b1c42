from . import (
    augment,
    controllers,
    data,
    latents,
    likelihoods,
    losses,
    metrics,
    optimizers,
    penalties,
    plots,
    recipes,
    report,
    sampling,
    schedules,
)
from .core.batch import Batch, Feed
from .core.bind import Bound, bind, leaves, schedule, with_leaves
from .core.errors import UserError
from .core.game import Game
from .core.net import DiscriminatorOutput, Mode, Net
from .core.rng import Draws
from .data import Split, Splits, from_arrays, load
from .data.order import order
from .games import imputation, vae, vae_gan
from .gan import dynamics
from .gan.dynamics import alternating, simultaneous
from .gan.game import GAN
from .gan.recipe import Recipe, Side
from .gan.state import Player, State
from .gan.step import init, sample, train_step
from .losses import Terms
from .metrics import ranking
from .penalties import PenaltyContext, lazy, remembers
from .report import Report, compare, overfitting_report, sweep_report
from .sweeps import executors
from .sweeps.api import open_sweep, sweep
from .sweeps.grid import Range, draw, grid
from .sweeps.result import Sweep
from .training import distributed
from .training.fit import fit, resume
from .training.run import Run, open_run

__version__: str

__all__ = [
    "Batch", "Bound", "DiscriminatorOutput", "Draws", "Feed", "GAN", "Game", "Mode", "Net",
    "PenaltyContext", "Player", "Range", "Recipe", "Report", "Run", "Side", "Split", "Splits",
    "State", "Sweep", "Terms", "UserError", "alternating", "augment", "bind", "compare",
    "controllers", "data", "distributed", "draw", "dynamics", "executors", "fit", "from_arrays",
    "grid", "imputation", "init", "latents", "lazy", "leaves", "likelihoods", "load", "losses",
    "metrics", "open_run", "open_sweep", "optimizers", "order", "overfitting_report",
    "penalties", "plots", "ranking", "recipes", "remembers", "report", "resume", "sample",
    "sampling", "schedule", "schedules", "simultaneous", "sweep", "sweep_report", "train_step",
    "vae", "vae_gan", "with_leaves",
]  # fmt: skip
