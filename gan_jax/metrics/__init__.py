"""How good samples are: pure functions of points, images, features or tables."""

import lazy_loader

_SUBMODULES = [
    *("alignment", "choice", "convergence", "copies"),
    *("discriminator", "distances", "features", "frechet", "kernels", "labelled", "likelihood", "memorization", "modes"),
    *("neighbours", "pairs", "per_class", "ranking", "sweep_table", "training"),
]
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=_SUBMODULES)
