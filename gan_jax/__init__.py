"""gan_jax."""
