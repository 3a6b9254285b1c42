"""gan_jax: train, sweep and judge generative adversarial networks on limited data.

    import gan_jax as gan

    data = gan.load("digits")
    recipe = gan.recipes.dcgan(data.image_shape)
    run = gan.fit(recipe, data, steps=2000, seed=0)
    run.samples(64)

Each name of `__init__.pyi` is imported when first used, so that `--help` need not wait for JAX.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
