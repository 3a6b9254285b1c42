"""The article's DCGAN, its like for points and tables, and toys with a theory.

conditioning: how D knows of classes, one of those in `networks/heads.py`. fields: any of Recipe.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import jax
import numpy as np

from gan_jax import latents, losses, optimizers
from gan_jax.arguments import count
from gan_jax.core.bind import Bound, annotation, bind
from gan_jax.core.errors import UserError
from gan_jax.core.net import Net
from gan_jax.gan import dynamics
from gan_jax.gan.recipe import COUNTS, Recipe, Side
from gan_jax.networks import dcgan as dcgan_networks
from gan_jax.networks import dirac as dirac_networks
from gan_jax.networks import maxout
from gan_jax.networks import mlp as mlp_networks

Make = TypeVar("Make", bound=Callable[..., Any])
LEAST = COUNTS | {"depth": 0}


def checked(make: Make) -> Make:
    """A recipe whose settings are checked by their annotations: whole numbers are at least 1 (or
    as in LEAST), floats are finite, or schedules, and a shape is of whole numbers. Raises
    UserError."""
    parameters = inspect.signature(make).parameters
    kinds = dict.fromkeys(COUNTS, "int") | {name: annotation(p) for name, p in parameters.items()}

    @wraps(make)
    def recipe(*args: Any, **settings: Any) -> Any:
        for name, value in (dict(zip(parameters, args, strict=False)) | settings).items():
            if not (value is None and kinds.get(name, "").endswith("| None")):
                _check_setting(f"{make.__name__}: {name}", name, value, kinds.get(name, "").partition(" ")[0])
        return make(*args, **settings)

    return recipe  # pyright: ignore[reportReturnType]


def _check_setting(what: str, name: str, value: Any, kind: str) -> None:
    if name == "image_shape":
        if not isinstance(value, (tuple, list)):
            raise UserError(f"{what} is {value!r}: give the shape of an example, such as (32, 32, 3) or (2,)")
        for side in value:
            count(side, what, least=1)
    elif kind == "int":
        count(value, what, LEAST.get(name, 1))
    elif kind == "float":
        numbers = jax.tree.leaves(value)  # also those of a schedule
        if isinstance(value, bool) or not numbers or not all(np.asarray(x).dtype.kind in "iuf" for x in numbers):
            raise UserError(f"{what} is {value!r}: it must be a number")


def loss(chosen: str | Bound) -> Bound:
    """A loss by name, or as it is. Raises UserError for an unknown name."""
    if not isinstance(chosen, str):
        return bind(chosen)
    if chosen not in losses.LOSSES:
        raise UserError(f"unknown loss {chosen!r}: use one of {', '.join(losses.LOSSES)}")
    return losses.LOSSES[chosen]


def check_fields(kind: type, given: Iterable[str], taken: Iterable[str] = ()) -> None:
    """Raises UserError for what is no field of this kind of recipe, or is `taken` already."""
    known = [field.name for field in dataclasses.fields(kind) if field.name not in taken]
    if unknown := [name for name in given if name not in known]:
        raise UserError(f"this recipe has no setting {unknown[0]!r}; besides its own it takes {', '.join(known)}")


def side_and_channels(image_shape: tuple[int, ...], what: str, hint: str = "") -> tuple[int, int]:
    """(side, channels) of square grey or RGB images. Raises UserError for another shape."""
    if len(image_shape) != 3 or image_shape[0] != image_shape[1] or image_shape[2] not in (1, 3):
        raise UserError(f"{what} square grey or RGB images, not {image_shape}{hint}")
    return image_shape[0], image_shape[2]


def assembled(sides: list[Side], chosen: str | Bound, latent_dim: int, **fields: Any) -> Recipe:
    """[generator, discriminator] with a loss, normal latents and alternating play, unless `fields`
    give others. Raises UserError for a field that Recipe does not have."""
    check_fields(Recipe, fields, ("generator", "discriminator", "loss"))
    fields = {"play": bind(dynamics.alternating), "fake_labels": bind(latents.batch_labels)} | fields
    latent = fields.pop("latent", bind(latents.normal, dimension=latent_dim))
    generator, discriminator = sides
    return Recipe(generator=generator, discriminator=discriminator, loss=loss(chosen), latent=latent, **fields)


@checked
def dcgan(
    image_shape: tuple[int, ...],
    *,
    width: int = 64,
    latent_dim: int = 100,
    loss: str | Bound = "non_saturating",
    generator_norm: str | None = "batch",
    discriminator_norm: str | None = None,
    classes: int = 0,
    conditioning: str = "projection",
    **fields: Any,
) -> Recipe:
    """The article's DCGAN and training: 100 normal latents, Adam 2e-4 with b1 .5, batches of 64.

    image_shape: (side, side, 1 or 3), side one of those in `networks/dcgan.py`. Raises UserError
    for a shape, loss, conditioning or normalisation that is not there.
    """
    size, channels = side_and_channels(image_shape, "dcgan makes", ": for points and tables use recipes.mlp")
    dcgan_networks.stages(size)
    generator = dcgan_networks.Generator(size, channels, width, generator_norm, classes)
    discriminator = dcgan_networks.Discriminator(width, discriminator_norm, classes, conditioning)
    sides = [Side(net=Net(m), optimizer=optimizers.adam()) for m in (generator, discriminator)]
    return assembled(sides, loss, latent_dim, classes=classes, **fields)


@checked
def mlp(
    image_shape: tuple[int, ...],
    *,
    width: int = 128,
    depth: int = 3,
    latent_dim: int = 2,
    loss: str | Bound = "non_saturating",
    classes: int = 0,
    conditioning: str = "embedding",
    **fields: Any,
) -> Recipe:
    """Two multi-layer perceptrons for rows of points or tables: image_shape is (features,)."""
    if len(image_shape) != 1:
        raise UserError(f"mlp makes rows of numbers, not images of shape {image_shape}: use recipes.dcgan")
    generator = mlp_networks.Generator(image_shape[0], width, depth, classes=classes)
    discriminator = mlp_networks.Discriminator(width, depth, classes=classes, conditioning=conditioning)
    sides = [Side(net=Net(m), optimizer=optimizers.adam(1e-3)) for m in (generator, discriminator)]
    return assembled(sides, loss, latent_dim, classes=classes, **{"batch_size": 256} | fields)


@checked
def pacgan_toy(image_shape: tuple[int, ...] = (2,), *, loss: str | Bound = "non_saturating", **fields: Any) -> Recipe:
    """The GAN of PacGAN's toy experiments (Lin et al., 2018), without packing: Adam 1e-4 with b1
    .8, batches of 100, 2 latents; published on `ring` and `grid` for 400,000 steps.

    Their G's loss adds softplus(-d_r), which has no gradient. Their code takes both gradients at
    one point (`play=bind(dynamics.simultaneous)`) and one batch of z for both; here the players
    alternate, each with its own. Raises UserError for a shape that is not (features,), and for
    classes: neither network sees labels.
    """
    if fields.get("classes"):
        raise UserError("pacgan_toy has no classes: neither of its networks sees labels; use recipes.mlp")
    if len(image_shape) != 1:
        raise UserError(f"pacgan_toy makes rows of numbers, not images of shape {image_shape}: use recipes.dcgan")
    modules = maxout.Generator(image_shape[0]), maxout.Discriminator()
    sides = [Side(net=Net(m), optimizer=optimizers.adam(1e-4, 0.8)) for m in modules]
    return assembled(sides, loss, 2, **{"batch_size": 100} | fields)


@checked
def dirac(
    *, theta: float = 1.0, psi: float = 1.0, learning_rate: float = 0.2, loss: str | Bound = "non_saturating", **fields: Any
) -> Recipe:
    """The Dirac-GAN (Mescheder et al., 2018): data at the point 0, a generator at theta, D(x) = psi
    * x, SGD for both. (Their psi has the opposite sign: their D is high on fakes.) Its batches are
    rows [b, 1] of zeros. theta, psi: the start; it is swept in the state's params."""
    modules = dirac_networks.Generator(theta), dirac_networks.Discriminator(psi)
    sides = [Side(net=Net(m), optimizer=optimizers.sgd(learning_rate)) for m in modules]
    return assembled(sides, loss, 1, **{"batch_size": 2} | fields)


def for_data(image_shape: tuple[int, ...], **settings: Any) -> Recipe:
    """`dcgan` for images, `mlp` for rows."""
    return (dcgan if len(image_shape) == 3 else mlp)(image_shape, **settings)
