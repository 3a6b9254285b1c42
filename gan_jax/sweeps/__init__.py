"""Many runs: settings x seeds x sizes as populations, one compiled program for each structure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["executors"])
