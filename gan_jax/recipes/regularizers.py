"""The regularisers that a sweep compares by default."""

from typing import Any

from gan_jax import augment, losses, optimizers
from gan_jax.core.bind import bind
from gan_jax.gan.recipe import Recipe
from gan_jax.recipes.edits import with_fields, with_optimizer, with_penalty, with_side
from gan_jax.recipes.starting import for_data, loss


def regularizers(image_shape: tuple[int, ...], **settings: Any) -> dict[str, Recipe]:
    """{name: recipe}, the baseline "none" first, each other recipe with one regulariser. The
    baseline is `for_data(image_shape, **settings)` with AdamW of weight decay 0 for D, so that the
    first three recipes are one structure, as is R1 at its three strengths: seven programs in all.
    WGAN-GP comes with the Wasserstein loss. Batch norm in D is left out for rows of points."""

    def base(weight_decay: float = 0.0, **changed: Any) -> Recipe:
        made = for_data(image_shape, loss=bind(losses.non_saturating, smoothing=0.0), **settings, **changed)
        return with_optimizer(made, optimizers.adamw(weight_decay=weight_decay), "discriminator")

    plain, images = base(), len(image_shape) == 3
    return {
        "none": plain,
        "label_smoothing": with_fields(plain, loss=bind(losses.non_saturating, smoothing=0.1)),
        "weight_decay": base(weight_decay=0.1),
        "dropout": with_side(plain, numbers={"dropout": 0.3}),
        **({"batch_norm": base(discriminator_norm="batch")} if images else {}),
        "instance_noise": with_fields(plain, augment={"noise": bind(augment.instance_noise, std=0.2)}),
        **{f"r1_{gamma:g}": with_penalty(plain, "r1", gamma=gamma) for gamma in (0.1, 1.0, 10.0)},
        "wgan_gp": with_penalty(with_fields(plain, loss=loss("wasserstein")), "wgan_gp", weight=10.0),
        "dragan": with_penalty(plain, "dragan", weight=10.0),
    }
