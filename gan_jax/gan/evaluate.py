from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gan_jax import losses
from gan_jax.core.batch import Batch, to_unit
from gan_jax.core.bind import resolve
from gan_jax.core.net import EVALUATION, DiscriminatorOutput
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.step import State, sample
from gan_jax.metrics.training import training_metrics

EVALUATION_KEY = 20140610  # evaluation draws the same latents at every step, so that curves compare


def discriminator_logits(recipe: Recipe, state: State, images: Array, labels: Array | None) -> Array:
    """[n] logits of images in [-1, 1], in evaluation mode and without augmentation."""
    return evaluate_discriminator(recipe, state, images, labels).logits


def evaluate_discriminator(recipe: Recipe, state: State, images: Array, labels: Array | None) -> DiscriminatorOutput:
    """What D says of images in [-1, 1], in evaluation mode and without augmentation."""
    live = resolve(recipe, state.step, state.memory.get("live"))
    side, player = live.discriminator, state.discriminator
    labels = labels if live.classes else None
    return side.net.apply(player.params, player.stats, images, labels, EVALUATION, side.numbers)[0]


def evaluate(recipe: Recipe, state: State, train: tuple, validation: tuple) -> dict[str, Array]:
    """What D says, in evaluation mode and without augmentation, of training images, held-out images
    and fakes.

    train, validation: (images, labels), equally many. Returns mean logits, accuracies (at the
    loss's boundary), the AUC of telling training images from held-out ones (.5 is chance, above it
    D has memorised), r_v and the gap of D's loss. And how far the moving average's samples are from
    either (see `measure.training_metrics`): nearer to training images is overfitting.
    """
    live = resolve(recipe, state.step, state.memory.get("live"))
    n, labels = len(train[0]), train[1] if live.classes else None
    fakes = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=False)
    reals, held_out = (to_unit(images, live.dtype) for images in (train[0], validation[0]))
    said = {
        "train": evaluate_discriminator(recipe, state, reals, train[1]),
        "validation": evaluate_discriminator(recipe, state, held_out, validation[1]),
        "fake": evaluate_discriminator(recipe, state, fakes, labels),
    }
    row = _gaps(live, said, train[1], validation[1])
    samples = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=True)
    return row | training_metrics(samples, reals, held_out)


def _gaps(live: Recipe, said: dict[str, DiscriminatorOutput], train_labels, validation_labels) -> dict[str, Array]:
    """D's mean logits and accuracies, AUC of T against V, r_v (Karras et al., 2020, equation 1),
    and its loss on V - on T."""
    logits = {name: judged.logits for name, judged in said.items()}
    undecided = losses.boundary(live.loss)
    if undecided is None:
        undecided = (logits["train"].mean() + logits["fake"].mean()) / 2
    row = {f"D/{name}_logit": x.mean() for name, x in logits.items()}
    row |= {f"D/{k}_accuracy": ((x < undecided) if k == "fake" else (x > undecided)).mean() for k, x in logits.items()}
    higher = jnp.sign(logits["train"][:, None] - logits["validation"][None, :])
    row["D/train_validation_auc"] = (1 + higher.mean()) / 2
    train, validation, fake = (x.mean() for x in logits.values())
    row["D/r_v"] = (train - validation) / jnp.maximum(train - fake, 1e-8)
    on = lambda name, labels: live.loss(said[name], said["fake"], _batch(live, labels, train_labels)).real.mean()
    row["D/loss_gap"] = on("validation", validation_labels) - on("train", train_labels)
    return row


def _batch(live: Recipe, labels, fake_labels) -> Batch:
    """What a loss may ask of evaluated examples: their labels."""
    labels, fake_labels = (x if live.classes else None for x in (labels, fake_labels))
    return Batch(jnp.zeros(0), jnp.zeros(0, jnp.int32), labels, fake_labels=fake_labels)
