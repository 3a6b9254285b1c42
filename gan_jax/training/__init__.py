"""One run: how it is placed on devices, trained, logged, saved and restored."""

from gan_jax.training import distributed

__all__ = ["distributed"]
