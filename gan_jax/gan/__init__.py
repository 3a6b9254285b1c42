"""The algorithm: what a recipe is, what a state is, and the step that trains both players."""

from gan_jax.gan import dynamics

__all__ = ["dynamics"]
