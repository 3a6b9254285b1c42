"""MisGAN (Li, Jiang & Marlin, 2019): a GAN of complete examples that is trained on incomplete ones,
with an imputer.

A data generator G_x makes complete examples, and a mask generator G_m makes masks. A critic D_x
compares the masked data with masked examples of G_x, where f(x, m) = m x + (1 - m) tau. A second
critic D_m compares masks. The imputer G_i fills in the data, and a third critic D_i compares the
completed data with examples of G_x. All critics are Wasserstein critics:

    L_x = E D_x(f(x, m)) - E D_x(f(G_x(z), G_m(e)))    D_x: max L_x    G_x: min L_x + beta L_i
    L_m = E D_m(m) - E D_m(G_m(e))                     D_m: max L_m    G_m: min L_m + alpha L_x
    L_i = E D_i(G_x(z)) - E D_i(m x + (1 - m) G_i)     D_i: max L_i    G_i: min L_i + gamma mismatch

Each critic has the gradient penalty gp * (|grad D| - 1)^2 (Gulrajani et al., 2017). The mismatch
is that of the authors' code (steveli/misgan), sum(m (x - G_i)^2) / sum(m) of each row. The masks
are assumed to be independent of the values (MCAR).

`gan.fit(misgan.recipe((28, 28, 1)), data)` and `gan.sweep` train it. See `cells.py` for what an
example is. `fit(...).samples(n)` gives complete examples: uint8 images, or rows in [0, 1].
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, Key

from gan_jax.arguments import count
from gan_jax.core.batch import Batch, split_batch
from gan_jax.core.bind import Bound, resolve, static
from gan_jax.core.errors import UserError
from gan_jax.core.game import Game
from gan_jax.core.net import EVALUATION, Net
from gan_jax.core.parts import part
from gan_jax.core.rng import Draws, named
from gan_jax.games.common import first_players, gradient_step
from gan_jax.games.imputation import misgan_losses as losses
from gan_jax.games.imputation.cells import Cells, Imputing, check, check_sizes, checked, errors_of
from gan_jax.games.imputation.misgan_losses import critic_terms
from gan_jax.gan.game import GAN
from gan_jax.gan.recipe import Side
from gan_jax.gan.state import Player, finish_step, keep_dtypes
from gan_jax.gan.turns import mean_terms, total_loss
from gan_jax.metrics.training import pair_auc
from gan_jax.networks import dcgan, mlp
from gan_jax.optimizers import adam

GENERATORS = ("data_generator", "mask_generator", "imputer")
CRITICS = ("data_critic", "mask_critic", "imputer_critic")


@part("imputation")
class MisGAN(Imputing):
    """A MisGAN, as data. The numbers are those of the authors' code, which has no moving average.

    The networks of the generators and of the imputer return logits of numbers in [0, 1]. An imputer
    takes rows [b, 2 k], values (noise where missing) and mask, and returns [b, k]. Without an
    imputer, both it and its critic are None.

    alpha:     weight of D_x in the mask generator's loss, >= 0. With 0 the masks alone teach it.
    beta:      weight of D_i in the data generator's loss, >= 0, as in the paper. The code trains as
               with 0: its term is the imputer's share of L_i, on which G_x has no influence.
    gamma:     weight of the imputer's error on observed cells, >= 0
    tau:       the value that D_x sees in missing cells, in [0, 1]; any constant in the paper
    gp:        weight of the gradient penalties, >= 0
    noise:     U(0, noise) stands in missing cells for the imputer, >= 0
    temperature, stretch: the logit l of the mask generator becomes sigmoid(l / temperature), is
               stretched to [-stretch, 1 + stretch] and clipped to [0, 1]: .66 (> 0) and .1, their
               "fusion". A stretch of 0 is their "sigmoid".
    ema_decay: of the moving average of the generators and the imputer, in [0, 1)
    d_steps:   turns of the critics for one turn of the generators
    """

    title = "MisGAN"
    shares = ("tau",)
    positive = ("temperature",)
    game = property(lambda knobs: MISGAN)
    features = property(lambda knobs: int(np.prod(knobs.image_shape)))

    data_generator: Side
    mask_generator: Side
    imputer: Side | None
    data_critic: Side
    mask_critic: Side
    imputer_critic: Side | None
    alpha: Any = 0.1
    beta: Any = 0.1
    gamma: Any = 0.0
    tau: Any = 0.0
    gp: Any = 10.0
    noise: Any = 1.0
    temperature: Any = 0.66
    stretch: Any = 0.1
    ema_decay: Any = 0.999
    image_shape: tuple[int, ...] = static(default=())
    latent_dim: int = static(default=128)
    batch_size: int = static(default=64)
    d_steps: int = static(default=5)
    dtype: str = static(default="float32")

    def players(self, names: tuple[str, ...] = GENERATORS + CRITICS) -> list[str]:
        """Those of the names that have a player."""
        return [name for name in names if getattr(self, name) is not None]


def recipe(
    image_shape: tuple[int, ...],
    *,
    width: int | None = None,
    depth: int = 3,
    generator_norm: str | None = None,
    shared_mask: bool = False,
    impute: bool = True,
    imputer: Net | None = None,
    optimizer: Bound | None = None,
    imputer_optimizer: Bound | None = None,
    **fields: Any,
) -> MisGAN:
    """A MisGAN for examples of this shape: images (side, side, 1 or 3) or rows (features,).

    width:          of the networks, which are those of `dcgan` for images (64; the authors' are
                    similar, with one more convolution in the critics) and of `mlp` for rows (128)
    depth:          hidden layers of the networks for rows
    generator_norm: of the hidden layers of both generators: none, as theirs. The critics have none.
    shared_mask:    whether the mask generator makes one channel for all channels of the image (as
                    `data.missing.blocks` makes masks), or as many as the image has
    impute:         False leaves out the imputer and its critic, and learns the distribution alone.
                    The authors' script for that has alpha .2 and stretch 0.
    imputer:        another network (see `MisGAN`), without running statistics. None is a perceptron
                    of 3 hidden layers, as wide as there are cells: the authors' MaskImputer. Their
                    default, ComplementImputer, does not see the mask.
    optimizer:      of the generators and their critics: Adam(1e-4, .5, .9)
    imputer_optimizer: of the imputer and its critic: Adam(2e-4, .5, .9)
    fields:         any other field of `MisGAN`

    Raises UserError for a number out of its range, or a structure that cannot be built.
    """
    image_shape = tuple(int(k) for k in image_shape)
    check_sizes("misgan", fields, width=width)
    count(depth, "misgan: depth", least=0)
    generator, critic = _networks(image_shape, width, depth, generator_norm)
    masks = generator.clone(channels=1) if shared_mask and len(image_shape) == 3 else generator
    cells = int(np.prod(image_shape))
    side = lambda net: Side(net, optimizer or adam(1e-4, 0.5, 0.9))
    extra = lambda net: Side(net, imputer_optimizer or adam(2e-4, 0.5, 0.9)) if impute else None
    imputer = imputer or Net(Cells(cells, cells, 3))
    generators = side(Net(generator)), side(Net(masks)), extra(imputer)
    critics = side(Net(critic)), side(Net(critic)), extra(Net(critic))
    return checked(MisGAN(*generators, *critics, image_shape=image_shape, **fields))


def _networks(image_shape: tuple[int, ...], width: int | None, depth: int, norm: str | None) -> tuple[nn.Module, nn.Module]:
    """(a generator of logits, a critic). Raises UserError for a shape that neither has."""
    if len(image_shape) == 1 and image_shape[0] > 0:
        width = width or 128
        return mlp.Generator(image_shape[0], width, depth, norm), mlp.Discriminator(width, depth)
    if len(image_shape) != 3 or image_shape[0] != image_shape[1] or image_shape[2] not in (1, 3) or image_shape[0] < 1:
        raise UserError(f"misgan: image_shape is {image_shape}: give (side, side, 1 or 3), or (features,) for rows")
    dcgan.stages(image_shape[0])
    width = width or 64
    return dcgan.Generator(image_shape[0], image_shape[2], width, norm, squash=False), dcgan.Discriminator(width)


class MisGANState(struct.PyTreeNode):
    """Everything that changes in training. ema: {"params", "stats"}, of each generator by name."""

    step: Int[Array, ""]
    key: Key[Array, ""]
    data_generator: Player
    mask_generator: Player
    imputer: Player | None
    data_critic: Player
    mask_critic: Player
    imputer_critic: Player | None
    ema: Any


# ---- one step ----------------------------------------------------------------------------------


def critics_turn(resolved: MisGAN, state: MisGANState, batch: Batch, draws: Draws) -> tuple[MisGANState, dict]:
    """Each critic takes one optimizer step, on these examples and the same fresh fakes."""
    draws, axis_name = draws.replace(index=batch.index).named("critics"), batch.axis_name
    x, mask = losses.observed(resolved, batch.images, batch.mask)
    made_by = lambda name: losses.generated(resolved, state, name, getattr(state, name).params, draws, axis_name)[0]
    data, masks = made_by("data_generator"), made_by("mask_generator")
    masked = partial(losses.masked, resolved)
    pairs = {"data_critic": (masked(x, mask), masked(data, masks)), "mask_critic": (mask, masks)}
    if state.imputer is not None:
        made = losses.filled(resolved, state.imputer.params, x, mask, draws, axis_name)
        pairs["imputer_critic"] = (data, jnp.where(mask > 0, x, made))
    terms = {name: partial(critic_terms, resolved, name, pair, draws.named(name)) for name, pair in pairs.items()}
    return _updated(resolved, state, terms, axis_name)


def generators_turn(resolved: MisGAN, state: MisGANState, batch: Batch, draws: Draws) -> tuple[MisGANState, dict]:
    """Each generator, and the imputer, takes one optimizer step from the same state."""
    draws = draws.replace(index=batch.index).named("generators")
    examples = losses.observed(resolved, batch.images, batch.mask)
    terms_of = dict.fromkeys(GENERATORS, losses.generator_terms) | {"imputer": losses.imputer_terms}
    given = lambda name: (resolved, state, name, examples, draws, batch.axis_name)
    terms = {name: partial(terms_of[name], *given(name)) for name in resolved.players(GENERATORS)}
    return _updated(resolved, state, terms, batch.axis_name)


def _updated(resolved: MisGAN, state: MisGANState, terms: dict[str, Callable], axis_name) -> tuple[MisGANState, dict]:
    """One optimizer step of each player; terms: {player: parameters -> ({term: [b]}, stats)}."""
    new, metrics = state, {}
    for name, terms_of in terms.items():

        def loss(params, name=name, terms_of=terms_of):
            values, stats = terms_of(params[name])
            return total_loss(values), ({name: stats}, values)

        new, norms, values = gradient_step(resolved, new, (name,), loss, axis_name)
        metrics |= mean_terms(name, values, axis_name) | norms
    return keep_dtypes(new, state), metrics


def init(knobs: MisGAN, key: Key[Array, ""]) -> MisGANState:
    """A fresh state in `knobs.dtype`. Raises UserError for a critic or an imputer with running
    statistics, and for penalties: no player takes any, since `gp` weighs those of the critics."""
    inputs: dict[str, tuple[int, ...]] = dict.fromkeys(CRITICS, knobs.image_shape)
    inputs |= dict.fromkeys(GENERATORS, (knobs.latent_dim,)) | {"imputer": (2 * knobs.features,)}
    players = first_players("MisGAN", knobs, key, {name: inputs[name] for name in knobs.players()})
    for name, player in players.items():
        if player.stats and (name in CRITICS or name == "imputer"):
            raise UserError(f"misgan: the {name} has running statistics: give a network without batch norm")
    absent: dict[str, Any] = dict.fromkeys(inputs)
    state = MisGANState(jnp.int32(0), key, **absent | players, ema=None)
    return state.replace(ema=jax.tree.map(jnp.copy, _averaged(state)))  # donation: no shared buffers


def step(knobs: MisGAN, state: MisGANState, batch: Batch, axis_name: str | None = None) -> tuple[MisGANState, dict]:
    """`d_steps` turns of the critics, each on its own part of the batch, then one turn of the
    generators on the last part.

    Raises UserError for a batch that does not divide into d_steps equal parts.
    """
    resolved = resolve(knobs, state.step)
    draws = Draws(jax.random.fold_in(state.key, state.step), batch.index)
    parts = split_batch(batch.replace(labels=None, weights=None, axis_name=axis_name), resolved.d_steps)
    new, of_critics = jax.lax.scan(lambda new, part: critics_turn(resolved, new, part, draws), state, parts)
    new, of_generators = generators_turn(resolved, new, jax.tree.map(lambda x: x[-1], parts), draws)
    metrics = jax.tree.map(lambda x: x.mean(0), of_critics) | of_generators
    return finish_step(knobs, resolved, state, new, _averaged(new)), metrics


def _averaged(state: MisGANState) -> dict:
    players = {name: player for name in GENERATORS if (player := getattr(state, name)) is not None}
    return {part: {name: getattr(player, part) for name, player in players.items()} for part in ("params", "stats")}


# ---- what a trained one is for -----------------------------------------------------------------


def sample(
    knobs: MisGAN, state: MisGANState, key: Array, n: int, *, ema: bool = True, first: int = 0, name: str = "data_generator"
) -> Float[Array, "n *shape"]:
    """n complete examples in [0, 1], from the moving average or the raw generator. Example i
    depends on the key and on `first + i` alone. name: of the generator."""
    resolved = resolve(knobs, state.step)
    draws = Draws(named(key, f"{name} latent"), first + jnp.arange(n))
    z = draws.normal((resolved.latent_dim,), jnp.dtype(resolved.dtype))
    source = state.ema if ema else _averaged(state)
    return losses.generate(resolved, name, source["params"][name], source["stats"][name], z, EVALUATION)[0]


def sample_masks(knobs: MisGAN, state: MisGANState, key: Array, n: int, **settings: Any) -> Float[Array, "n *shape"]:
    """n masks in [0, 1], 1 where a cell is observed, drawn as `sample` draws examples, with the
    same settings. They are independent of the examples of the same key."""
    return sample(knobs, state, key, n, name="mask_generator", **settings)


def impute(knobs: MisGAN, params: Any, values: Array, mask: Array, z: Any = None) -> Float[Array, "b d"]:
    """The imputer's answer for every cell of rows [b, cells], observed cells too, in [0, 1].

    params: `state.ema["params"]`, or {"imputer": its parameters}
    values: [b, cells]; those not observed may be NaN
    z:      as of `gain.impute`
    Raises UserError for knobs without an imputer.
    """
    if knobs.imputer is None:
        raise UserError("this MisGAN has no imputer: give misgan.recipe impute=True")
    z = jnp.asarray(0.5 if z is None else z, values.dtype)
    return losses.fill(knobs, params["imputer"], values, mask.astype(values.dtype), z, EVALUATION)


def evaluate(knobs: MisGAN, state: MisGANState, train: tuple, validation: tuple) -> dict[str, Array]:
    """How well D_x separates masked training rows from held-out ones: D/train_validation_auc is
    .5 at chance, and higher where D_x has memorised training rows. And the imputer's errors, see
    `cells.errors_of`."""
    resolved, logits = resolve(knobs, state.step), {}
    for name, (images, _) in {"train": train, "validation": validation}.items():
        examples = losses.masked(resolved, *losses.observed(resolved, images.astype(resolved.dtype), None))
        logits[name] = losses.criticise(resolved, "data_critic", state.data_critic.params, examples, EVALUATION)
    row = {f"D/{name}_logit": values.mean() for name, values in logits.items()}
    row["D/train_validation_auc"] = pair_auc(logits["train"], logits["validation"])
    return row if knobs.imputer is None else row | errors_of(impute, knobs, state, train, validation)


def _shown(knobs: MisGAN, state: MisGANState, key, n: int, labels=None, *, ema: bool = True, first: int = 0) -> Array:
    """`sample` in the scale that `Run.samples` takes: images in [-1, 1], rows as they are."""
    made = sample(knobs, state, key, n, ema=ema, first=first)
    return 2 * made - 1 if made.ndim == 4 else made


MISGAN = part("imputation", "MISGAN")(Game(init, step, GAN.examples, GAN.dtype, check, evaluate, sample=_shown))
