"""Schedules: numbers that change with the training step, counted from 0. A `Schedule` may take the
place of any leaf; its own numbers are leaves too, which can be swept.
"""

from typing import Any

import jax.numpy as jnp

from gan_jax.core.bind import Schedule, schedule
from gan_jax.core.parts import part

FLOAT = float  # float64 where JAX has it: in float32, programs differ in how they round the last bit


def _progress(step, steps):
    return jnp.clip(jnp.asarray(step, FLOAT) / jnp.maximum(steps, 1), 0.0, 1.0)


@part("schedules")
def _linear(step, *, start, stop, steps):
    return start + (stop - start) * _progress(step, steps)


@part("schedules")
def _cosine(step, *, start, stop, steps):
    return stop + (start - stop) * (1 + jnp.cos(jnp.pi * _progress(step, steps))) / 2


@part("schedules")
def _switch(step, *, before, after, at):
    return jnp.where(step < at, before, after)


@part("schedules")
def _half_life(step, *, images, batch_size, ramp: Any):
    images = images(step) if isinstance(images, Schedule) else images
    if ramp is not None:
        images = jnp.minimum(images, jnp.asarray(step, FLOAT) * batch_size * ramp)
    return 0.5 ** (batch_size / jnp.maximum(images, 1e-8))


def linear(start: float, stop: float, steps: float) -> Schedule:
    """From `start` at step 0 to `stop` at `steps` in a straight line, then constant: SNGAN's rate
    falls to 0 so (mimicry's settings; Miyato et al., 2018)."""
    return schedule(_linear, start=start, stop=stop, steps=steps)


def cosine(start: float, stop: float, steps: float) -> Schedule:
    """From `start` to `stop` in `steps` along half a cosine, then constant (Huang et al., 2024)."""
    return schedule(_cosine, start=start, stop=stop, steps=steps)


def switch(before: float, after: float, at: float) -> Schedule:
    """`before` until step `at`, `after` from then on. `switch(0.0, 0.9999, 1000)` is the moving
    average of BigGAN's CIFAR-10 (Brock et al., 2019, the authors' script)."""
    return schedule(_switch, before=before, after=after, at=at)


def half_life(images: float | Schedule, batch_size: int, ramp: float | None = None) -> Schedule:
    """The decay of a moving average of half-life h images: .5 ** (batch_size / max(h, 1e-8)).

    images: h, at least 0 (0 is no average), or a Schedule of it. batch_size: of the recipe.
    ramp: h is at most this share of the images seen before the step; None sets no such limit.

    StyleGAN2-ADA's code (Karras et al., 2020b) has h = 500,000 and ramp .05 for CIFAR-10, and
    20,000 without ramp for 256 pixels. R3GAN's (Huang et al., 2024) has h = cosine(0, 5e6, 2e7 /
    batch_size) without ramp for CIFAR-10.
    """
    return schedule(_half_life, images=images, batch_size=float(batch_size), ramp=ramp)


@part("schedules")
def _geometric(step, *, start, factor, every, floor):
    # Half a step is added, so that a division that rounds down does not delay the change.
    power = jnp.floor((jnp.asarray(step, FLOAT) + 0.5) / jnp.maximum(every, 1))
    return jnp.maximum(start * jnp.asarray(factor, FLOAT) ** power, floor)


def geometric(start: float, factor: float, every: float, floor: float = 0.0) -> Schedule:
    """`start`, multiplied by `factor` every so many steps, at least `floor`. The share of top-k
    training (Sinha et al., 2020) is geometric(1, 0.99, steps of an epoch, 0.5)."""
    return schedule(_geometric, start=start, factor=factor, every=every, floor=floor)
