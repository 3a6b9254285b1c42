"""Numbers that change with the step. Each maker returns a `Schedule`, which may stand wherever a leaf may.

Steps count training steps from 0; start, stop and steps are leaves, so schedules can be swept too.
"""

from __future__ import annotations

import jax.numpy as jnp

from gan_jax.recipe import Schedule, schedule


def _progress(step, steps):
    return jnp.clip(step / jnp.maximum(steps, 1), 0.0, 1.0).astype(jnp.float32)


def _linear(step, *, start, stop, steps):
    return start + (stop - start) * _progress(step, steps)


def _cosine(step, *, start, stop, steps):
    return stop + (start - stop) * (1 + jnp.cos(jnp.pi * _progress(step, steps))) / 2


def linear(start: float, stop: float, steps: float) -> Schedule:
    """From `start` at step 0 to `stop` at `steps` in a straight line, `stop` ever after."""
    return schedule(_linear, start=start, stop=stop, steps=steps)


def cosine(start: float, stop: float, steps: float) -> Schedule:
    """From `start` to `stop` over `steps` along half a cosine, `stop` ever after (the form of R3GAN, Huang et al., 2024)."""
    return schedule(_cosine, start=start, stop=stop, steps=steps)
