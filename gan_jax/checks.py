"""What users' networks, losses and penalties return, and what stands in a recipe: checked by shapes
alone, where it comes in. Each check raises UserError with one line."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from gan_jax.core.bind import Bound, check_bound
from gan_jax.core.errors import UserError
from gan_jax.core.net import DiscriminatorOutput
from gan_jax.core.parts import name_of
from gan_jax.text import described


def check_floats(values: Any, fits: Callable[[tuple[int, ...]], bool], what: str, must: str) -> None:
    """Raises UserError unless `values` are floats of a shape that fits: '<what> returns ..., it
    must return <must>'."""
    is_array = hasattr(values, "shape") and hasattr(values, "dtype")
    if not is_array or not jnp.issubdtype(values.dtype, jnp.floating) or not fits(values.shape):
        raise UserError(f"{what} returns {described(values)}: it must return {must}")


def check_rows(values: Any, counts: Iterable[int], what: str, must: str) -> None:
    """Raises UserError unless `values` are floats [n], with n one of the counts."""
    check_floats(values, lambda shape: len(shape) == 1 and shape[0] in tuple(counts), what, must)


def check_judged(output: Any, examples: int, classes: int) -> DiscriminatorOutput:
    """What a discriminator returns for so many examples. Raises UserError unless it has one logit
    for each example (or for each packet of several), and class logits and features to match."""
    must = "a DiscriminatorOutput with logits [b], one for each example, such as dense(x)[:, 0]"
    if not isinstance(output, DiscriminatorOutput):
        raise UserError(f"the discriminator returns {described(output)}: it must return {must}")
    alone = lambda shape: len(shape) == 1 and (shape[0] == examples or 0 < 2 * shape[0] <= examples)
    check_floats(output.logits, alone, f"the discriminator, for {examples} examples,", must)
    n, rows = len(output.logits), lambda shape: len(shape) > 1 and shape[0] == n
    if output.features is not None:
        check_floats(output.features, rows, f"the discriminator with {n} logits", f"features [{n}, d] or None")
    if output.classes is not None:
        fits = lambda shape: rows(shape) and len(shape) == 2 and shape[1] >= classes
        check_floats(output.classes, fits, f"the discriminator of {classes} classes", f"class logits [{n}, classes] or None")
    return output


def check_encoded(output: Any, examples: int) -> None:
    """Raises UserError unless an encoder returns the means and log variances of latents, as
    features."""
    must = f"a DiscriminatorOutput with features [{examples}, 2 d]: the means, then the log variances, of d latents"
    if not isinstance(output, DiscriminatorOutput):
        raise UserError(f"the encoder returns {described(output)}: it must return {must}")
    fits = lambda shape: len(shape) == 2 and shape[0] == examples and shape[1] % 2 == 0
    check_floats(output.features, fits, f"the features of the encoder, for {examples} examples,", must)


def check_decoded(law: Any, latents: int) -> None:
    """Raises UserError unless a decoder returns (one mean for each latent, log of a scale)."""
    must = "(means [b, ...], the logarithm of their scale), as networks.decoder.Decoder does"
    if not isinstance(law, tuple) or len(law) != 2:
        raise UserError(f"the decoder returns {described(law)}: it must return {must}")
    check_floats(law[0], lambda shape: len(shape) > 1 and shape[0] == latents, f"the decoder, for {latents} latents,", must)


SLOTS = {
    "loss": ("real", "fake", "batch"),
    "latent": ("draws", "labels", "dtype"),
    "fake_labels": ("draws", "batch", "classes"),
    "play": ("recipe", "state", "batch", "draws", "axis_name"),
}
"""What the functions of a recipe are called with; those of its dicts below."""
PENALTY, AUGMENTATION, CONTROLLER = ("context",), ("images", "labels", "draws"), ("value", "measured", "images", "seen")


def check_parts(recipe: Any) -> None:
    """Raises UserError for a part of the recipe that is no bound function, or takes other inputs
    than it is called with."""
    if recipe.ema_decay is None:
        raise UserError("the recipe's ema_decay is None: give a number in [0, 1), 0 for no average")
    for name, inputs in SLOTS.items():
        check_bound(getattr(recipe, name), f"the recipe's {name}", inputs)
    sides = {"generator": recipe.generator, "discriminator": recipe.discriminator}
    for player, side in sides.items():
        check_bound(side.optimizer, f"{player}.optimizer", ())
    entries = {f"{player}.penalties": (side.penalties, PENALTY) for player, side in sides.items()}
    entries |= {"augment": (recipe.augment, AUGMENTATION), "controllers": (recipe.controllers, CONTROLLER)}
    for where, (held, inputs) in entries.items():
        if not isinstance(held, dict):
            raise UserError(f"{where} is {described(held)}: it must be a dict {{name: bound function}}")
        for name, function in held.items():
            check_bound(function, f"{where}.{name}", inputs)


def has_own(recipe: Any) -> bool:
    """Whether a network or a function of the recipe is the user's, which was never tried."""

    def functions(tree: Any):
        for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, Bound)):
            if isinstance(x, Bound):
                yield x.function
                yield from functions((x.parts, x.numbers))

    players = (recipe.generator, recipe.discriminator, getattr(recipe, "encoder", None))
    nets = [player.net for player in players if player is not None]
    while any(hasattr(net, "net") for net in nets):  # wrappers of another network
        nets = [getattr(net, "net", net) for net in nets]
    return any(name_of(thing) is None for thing in (*functions(recipe), *(type(getattr(net, "module", net)) for net in nets)))
