"""The regularisers that a sweep compares by default."""

from typing import Any

from gan_jax import augment, losses, optimizers
from gan_jax.core.bind import bind
from gan_jax.gan.recipe import Recipe
from gan_jax.recipes.edits import with_fields, with_optimizer, with_penalty, with_side
from gan_jax.recipes.starting import for_data


def regularizers(image_shape: tuple[int, ...], **settings: Any) -> dict[str, Recipe]:
    """{name: recipe}, the baseline "none" first, each other recipe with one regulariser. The
    baseline is `for_data(image_shape, **settings)` with AdamW of weight decay 0 for D, so that it
    is one structure with weight decay and label smoothing, as is R1 at its three strengths.

    WGAN-GP has its published numbers (Gulrajani et al., 2017, algorithm 1): the Wasserstein loss,
    weight 10, 5 turns of D a step, Adam 1e-4 with betas (0, .9). DiffAugment translates and cuts
    out (Zhao et al., 2020). It and batch norm in D are left out for rows of points.
    """

    def base(weight_decay: float = 0.0, **changed: Any) -> Recipe:
        made = for_data(image_shape, loss=bind(losses.non_saturating, smoothing=0.0), **settings, **changed)
        return with_optimizer(made, optimizers.adamw(weight_decay=weight_decay), "discriminator")

    plain, images = base(), len(image_shape) == 3
    critic = for_data(image_shape, loss="wasserstein", d_steps=5, **settings)
    of_images = {}
    if images:
        of_images["batch_norm"] = base(discriminator_norm="batch")
        of_images["diffaugment"] = with_fields(plain, augment=augment.diffaugment("translation,cutout"))
    return {
        "none": plain,
        "label_smoothing": with_fields(plain, loss=bind(losses.non_saturating, smoothing=0.1)),
        "weight_decay": base(weight_decay=0.1),
        "dropout": with_side(plain, numbers={"dropout": 0.3}),
        **of_images,
        "instance_noise": with_fields(plain, augment={"noise": bind(augment.instance_noise, std=0.2)}),
        **{f"r1_{gamma:g}": with_penalty(plain, "r1", gamma=gamma) for gamma in (0.1, 1.0, 10.0)},
        "wgan_gp": with_penalty(with_optimizer(critic, optimizers.adam(1e-4, 0.0, 0.9)), "wgan_gp", weight=10.0),
        "dragan": with_penalty(plain, "dragan", weight=10.0),
    }
