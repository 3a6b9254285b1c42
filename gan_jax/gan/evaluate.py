"""What is measured during training: the discriminator on training images (T), validation images (V)
and fakes, and samples beside T and V."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gan_jax import losses
from gan_jax.checks import check_judged
from gan_jax.core.batch import Batch, to_unit
from gan_jax.core.net import EVALUATION, DiscriminatorOutput
from gan_jax.gan.control import resolved
from gan_jax.gan.forward import loss_terms
from gan_jax.gan.recipe import Recipe
from gan_jax.gan.state import State
from gan_jax.gan.step import sample
from gan_jax.metrics.training import pair_auc, training_metrics

EVALUATION_KEY = 20140610  # evaluation draws the same latents at every step, so that curves compare


def discriminator_logits(recipe: Recipe, state: State, images: Array, labels: Array | None) -> Array:
    """[n] logits of images in [-1, 1], in evaluation mode, not augmented."""
    return evaluate_discriminator(recipe, state, images, labels).logits


def evaluate_discriminator(recipe: Recipe, state: State, images: Array, labels: Array | None) -> DiscriminatorOutput:
    """The discriminator's output for images in [-1, 1], in evaluation mode, not augmented."""
    side, player = resolved(recipe, state).discriminator, state.discriminator
    labels = labels if recipe.classes else None
    output, _ = side.net.apply(player.params, player.stats, images, labels, EVALUATION, side.numbers)
    return check_judged(output, len(images), recipe.classes)


def evaluate(recipe: Recipe, state: State, train: tuple, validation: tuple) -> dict[str, Array]:
    """The discriminator (D) on the training split (T), the validation split (V) and fakes.

    train, validation: (images, labels) of T and of V, equally many. Returns {name: scalar}: mean
    logits, accuracies at the decision boundary of the loss, r_v, the gap of D's loss, and the AUC
    of T against V by D's logits (.5 is chance; above it D has memorised). The distances of the
    moving average's samples to T and V (`metrics.training`) show overfitting where T is nearer."""
    live = resolved(recipe, state)
    n, labels = len(train[0]), train[1] if live.classes else None
    fakes = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=False)
    reals, held_out = (to_unit(images, live.dtype) for images in (train[0], validation[0]))
    outputs = {
        "train": evaluate_discriminator(recipe, state, reals, train[1]),
        "validation": evaluate_discriminator(recipe, state, held_out, validation[1]),
        "fake": evaluate_discriminator(recipe, state, fakes, labels),
    }
    row = _gaps(live, outputs, train[1], validation[1])
    samples = sample(recipe, state, jax.random.key(EVALUATION_KEY), n, labels, ema=True)
    return row | training_metrics(samples, reals, held_out)


def _gaps(live: Recipe, outputs: dict[str, DiscriminatorOutput], train_labels, validation_labels) -> dict[str, Array]:
    """The metrics of D's logits. r_v = (mean on T - mean on V) / (mean on T - mean on fakes),
    equation 1 of Karras et al. (2020b)."""
    logits = {name: output.logits for name, output in outputs.items()}
    undecided = losses.boundary(live.loss)
    if undecided is None:
        undecided = (logits["train"].mean() + logits["fake"].mean()) / 2
    row = {f"D/{name}_logit": x.mean() for name, x in logits.items()}
    row |= {f"D/{k}_accuracy": ((x < undecided) if k == "fake" else (x > undecided)).mean() for k, x in logits.items()}
    row["D/train_validation_auc"] = pair_auc(logits["train"], logits["validation"])
    train, validation, fake = (x.mean() for x in logits.values())
    row["D/r_v"] = (train - validation) / jnp.maximum(train - fake, 1e-8)

    def loss_on(name: str, labels) -> Array:
        read = (labels, train_labels) if live.classes else (None, None)  # what a loss may read of a batch
        batch = Batch(jnp.zeros(0), jnp.zeros(0, jnp.int32), read[0], fake_labels=read[1])
        return loss_terms(live, outputs[name], outputs["fake"], batch).real.mean()

    row["D/loss_gap"] = loss_on("validation", validation_labels) - loss_on("train", train_labels)
    return row
