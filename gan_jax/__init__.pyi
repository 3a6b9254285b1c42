from . import augment, data, latents, losses, optimizers, penalties, pictures, recipes, schedules
from .data import Split, Splits, from_arrays, load
from .draws import Draws, order
from .errors import UserError
from .game import Batch, Feed, Game
from .gan import GAN
from .loop import fit, resume
from .losses import Terms
from .networks.net import Judgement, Mode, Net
from .penalties import Turn, lazy, remembers
from .recipe import Bound, Recipe, Side, bind, leaves, schedule, with_leaves
from .run import Run, open_run
from .train import Player, State, alternating, init, sample, simultaneous, train_step

__all__ = [
    "Batch", "Bound", "Draws", "Feed", "GAN", "Game", "Judgement", "Mode", "Net", "Player", "Recipe", "Run", "Side", "Split",
    "Splits", "State", "Terms", "Turn", "UserError", "alternating", "augment", "bind", "data", "fit", "from_arrays", "init",
    "latents", "lazy", "leaves", "load", "losses", "open_run", "optimizers", "order", "penalties", "pictures", "recipes",
    "remembers", "resume", "sample", "schedule", "schedules", "simultaneous", "train_step", "with_leaves",
]  # fmt: skip
