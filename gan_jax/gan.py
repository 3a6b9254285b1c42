"""The GAN as a game for the loop: what is logged besides the losses, and whether a recipe fits its data."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gan_jax import controllers, losses
from gan_jax.draws import Draws
from gan_jax.errors import UserError
from gan_jax.game import Batch, Feed, Game, check_fit, to_unit
from gan_jax.measure.watch import watch
from gan_jax.networks.net import EVALUATION, Judgement
from gan_jax.recipe import Recipe, effective
from gan_jax.sampling import class_table
from gan_jax.train import State, init, sample, train_step

EVALUATION_KEY = 20140610  # evaluation draws the same latents at every step, so that curves compare


def discriminator_logits(recipe: Recipe, state: State, images: Array, labels: Array | None) -> Array:
    """[n] logits of images in [-1, 1], in evaluation mode and without augmentation."""
    return judgement(recipe, state, images, labels).logits


def judgement(recipe: Recipe, state: State, images: Array, labels: Array | None) -> Judgement:
    """What D says of images in [-1, 1], in evaluation mode and without augmentation."""
    live = effective(recipe, state.step, state.memory.get("live"))
    side, player = live.discriminator, state.discriminator
    labels = labels if live.classes else None
    return side.net.apply(player.params, player.stats, images, labels, EVALUATION, side.numbers)[0]


def evaluate(recipe: Recipe, state: State, train: tuple, validation: tuple) -> dict[str, Array]:
    """What D says, in evaluation mode and without augmentation, of training images, held-out images and fakes.

    train, validation: (images, labels), equally many. Returns mean logits, accuracies (at the loss's boundary), the AUC of
    telling training images from held-out ones (.5 is chance, above it D has memorised), r_v and the gap of D's loss. And how
    far the moving average's samples are from either (see `measure.watch`): nearer to training images is overfitting.
    """
    live = effective(recipe, state.step, state.memory.get("live"))
    n, labels = len(train[0]), train[1] if live.classes else None
    fakes = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=False)
    reals, held_out = (to_unit(images, live.dtype) for images in (train[0], validation[0]))
    said = {
        "train": judgement(recipe, state, reals, train[1]),
        "validation": judgement(recipe, state, held_out, validation[1]),
        "fake": judgement(recipe, state, fakes, labels),
    }
    row = _gaps(live, said, train[1], validation[1])
    samples = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=True)
    return row | watch(samples, reals, held_out)


def _gaps(live: Recipe, said: dict[str, Judgement], train_labels, validation_labels) -> dict[str, Array]:
    """D's mean logits and accuracies, AUC of T against V, r_v (Karras et al., 2020, equation 1), and its loss on V - on T."""
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


def observe(recipe: Recipe, state: State, row: dict[str, Array], steps) -> dict:
    """What an evaluation changes: the numbers that controllers drive by it."""
    return {"memory": controllers.observe(recipe, state, row, steps)} if recipe.controllers else {}


def check_data(recipe: Recipe, data) -> None:
    """Refuse a recipe that does not fit the data. Raises UserError naming both sides."""
    made = jax.eval_shape(lambda key: sample(recipe, init(recipe, key), key, 1), jax.random.key(0)).shape[1:]
    check_fit("recipe", recipe, made, data)
    check_sampling(recipe, data)
    if recipe.controllers:
        controllers.check_statistics(recipe, _logged(recipe, data))


def sampler(recipe: Recipe, feed: Feed) -> Any:
    """The recipe's `sampling` for these data; None where it has none."""
    if recipe.sampling is None or feed.labels is None:
        return None
    table = class_table(feed.labels, feed.size, recipe.sampling.options["classes"])

    def choose(state: State, draws: Draws, rows: Array) -> Array:
        live = effective(recipe, state.step, state.memory.get("live"))
        return live.sampling(draws, rows, feed.labels, table)

    return choose


def check_sampling(recipe: Recipe, data) -> None:
    """Refuse a sampling of reals by classes that the data do not have. Raises UserError."""
    if recipe.sampling is None:
        return
    if data.train.labels is None:
        raise UserError(f"the recipe draws reals by their class, but {data.name} has no labels")
    if (classes := recipe.sampling.options.get("classes")) != data.classes:
        raise UserError(f"the recipe's sampling is of {classes} classes, but {data.name} has {data.classes}")


def _logged(recipe: Recipe, data) -> set[str]:
    """The names of all that training logs."""
    judged = lambda split, n: (jnp.asarray(split.images[:n]), None if split.labels is None else jnp.asarray(split.labels[:n]))
    examples, rows = _examples(recipe), judged(data.validation, 2)

    def names(key):
        state = init(recipe, key)
        images = jnp.zeros((examples, *rows[0].shape[1:]), recipe.dtype)
        batch = Batch(images, jnp.arange(examples), None if rows[1] is None else jnp.zeros(examples, jnp.int32))
        return train_step(recipe, state, batch)[1] | evaluate(recipe, state, rows, rows)

    return set(jax.eval_shape(names, jax.random.key(0)))


def _examples(recipe: Recipe) -> int:
    return recipe.batch_size * recipe.d_steps


def _dtype(recipe: Recipe) -> str:
    return recipe.dtype


GAN = Game(init, train_step, _examples, _dtype, check_data, evaluate, observe, sample, sampler=sampler)
