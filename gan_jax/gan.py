"""The GAN as a game for the loop: what is logged besides the losses, and whether a recipe fits its data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gan_jax import losses
from gan_jax.errors import UserError
from gan_jax.game import Game, to_unit
from gan_jax.measure.watch import watch
from gan_jax.networks.net import EVALUATION
from gan_jax.recipe import Recipe, effective
from gan_jax.train import State, init, sample, train_step

EVALUATION_KEY = 20140610  # evaluation draws the same latents at every step, so that curves compare


def discriminator_logits(recipe: Recipe, state: State, images: Array, labels: Array | None) -> Array:
    """[n] logits of images in [-1, 1], in evaluation mode and without augmentation."""
    live = effective(recipe, state.step, state.memory.get("live"))
    side, player = live.discriminator, state.discriminator
    labels = labels if live.classes else None
    return side.net.apply(player.params, player.stats, images, labels, EVALUATION, side.numbers)[0].logits


def evaluate(recipe: Recipe, state: State, train: tuple, validation: tuple) -> dict[str, Array]:
    """What D says, in evaluation mode and without augmentation, of training images, held-out images and fakes.

    train, validation: (images, labels), equally many. Returns mean logits, accuracies (at the loss's boundary), and the AUC
    of telling training images from held-out ones: .5 is chance, above it D has memorised. And how far the moving average's
    samples are from either (see `measure.watch`): nearer to training images than to held-out ones is overfitting.
    """
    live = effective(recipe, state.step, state.memory.get("live"))
    n, labels = len(train[0]), train[1] if live.classes else None
    fakes = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=False)
    reals, held_out = (to_unit(images, live.dtype) for images in (train[0], validation[0]))
    said = {
        "train": discriminator_logits(recipe, state, reals, train[1]),
        "validation": discriminator_logits(recipe, state, held_out, validation[1]),
        "fake": discriminator_logits(recipe, state, fakes, labels),
    }
    undecided = losses.boundary(live.loss)
    if undecided is None:
        undecided = (said["train"].mean() + said["fake"].mean()) / 2
    row = {f"D/{name}_logit": x.mean() for name, x in said.items()}
    row |= {f"D/{k}_accuracy": ((x < undecided) if k == "fake" else (x > undecided)).mean() for k, x in said.items()}
    higher = jnp.sign(said["train"][:, None] - said["validation"][None, :])
    row["D/train_validation_auc"] = (1 + higher.mean()) / 2
    samples = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=True)
    return row | watch(samples, reals, held_out)


def check_data(recipe: Recipe, data) -> None:
    """Refuse a recipe that does not fit the data. Raises UserError naming both sides."""
    made = jax.eval_shape(lambda key: sample(recipe, init(recipe, key), key, 1), jax.random.key(0)).shape[1:]
    if made != tuple(data.image_shape):
        raise UserError(f"the recipe makes images of shape {made}, but {data.name} has {tuple(data.image_shape)}")
    if recipe.classes and recipe.classes != data.classes:
        raise UserError(f"the recipe has {recipe.classes} classes, but {data.name} has {data.classes}")
    if len(data.train.images) < recipe.batch_size:
        raise UserError(
            f"{data.name} has {len(data.train.images)} training images, fewer than the batch of {recipe.batch_size}: "
            "use a smaller batch or more images"
        )


def _examples(recipe: Recipe) -> int:
    return recipe.batch_size * recipe.d_steps


def _dtype(recipe: Recipe) -> str:
    return recipe.dtype


GAN = Game(init, train_step, _examples, _dtype, check_data, evaluate, sample)
