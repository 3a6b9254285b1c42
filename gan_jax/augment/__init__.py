"""Augmentations of what the discriminator sees: functions (images, labels, draws, **numbers) ->
images, the same for reals and fakes. A function marked `@mixes_fakes` is (reals, fakes, draws,
**numbers) -> images instead, and changes the reals that D learns from.

A new augmentation is one new file: a function marked `@part("augment")` becomes `augment.<name>`.
"""

from gan_jax.augment import ada_colour, ada_corruptions, ada_geometry
from gan_jax.augment.ada import ada
from gan_jax.augment.diffaugment import brightness, colour, contrast, cutout, diffaugment, saturation, translation
from gan_jax.augment.mixing import adaptive_pseudo, mixed, mixes_fakes, mixing
from gan_jax.augment.noise import instance_noise
from gan_jax.core.parts import parts_of

__all__ = [
    "ada", "ada_colour", "ada_corruptions", "ada_geometry", "adaptive_pseudo", "brightness", "colour", "contrast", "cutout",
    "diffaugment", "instance_noise", "mixed", "mixes_fakes", "mixing", "saturation", "translation",
]  # fmt: skip

# Also those of files that are not imported above; `ada_colour.hue` and its like stay there.
globals().update({name: found for name, found in parts_of("augment").items() if "." not in name})
