"""What the discriminator sees: functions (images, labels, draws, **numbers) -> images, the same on reals and fakes."""

from gan_jax.augment.noise import instance_noise

__all__ = ["instance_noise"]
