"""What the discriminator sees: functions (images, labels, draws, **numbers) -> images, the same on
reals and fakes.

One marked `@mixes_fakes` is (reals, fakes, draws, **numbers) -> images instead, and changes the
reals that D learns from.
"""

from gan_jax.augment import ada_colour, ada_corruptions, ada_geometry
from gan_jax.augment.ada import ada
from gan_jax.augment.diffaugment import brightness, colour, contrast, cutout, diffaugment, saturation, translation
from gan_jax.augment.mixing import adaptive_pseudo, mixed, mixes_fakes, mixing
from gan_jax.augment.noise import instance_noise

__all__ = [
    "ada",
    "ada_colour",
    "ada_corruptions",
    "ada_geometry",
    "adaptive_pseudo",
    "brightness",
    "colour",
    "contrast",
    "cutout",
    "diffaugment",
    "instance_noise",
    "mixed",
    "mixes_fakes",
    "mixing",
    "saturation",
    "translation",
]
