"""Train random combinations of remedies for a few steps: do they all go together?

    # 300 combinations, nearly all of it compilation: an hour of CPU time
    python scripts/combine.py
    python scripts/combine.py --number 15 \\
        --seed 1 # 201 s of it with XLA_FLAGS=--xla_backend_optimization_level=0
    # the 51 programs that together hold every pair
    python scripts/combine.py --covering

Each program takes one way to play, an optimizer for each player, some losses, penalties,
augmentations and layers, drawn at random, and trains a population for 3 steps in which every member
has a loss of its own (`losses.blend` makes the loss a number), then for 3 more with other numbers,
which compile nothing. Networks are the smallest there are. Prints what failed (an error, a second
compilation, a number that is not finite), and exits with 1.

`covering()` is a design of programs that together hold every pair of loss, penalty, augmentation,
layer, way to play and optimizer. Not in it: packing, controllers, `judge_together`,
`compute_dtype`, the parts of ADA. All 51 programs train (4 min of CPU on programs partly compiled
before, with the flag above; Python 3.11.7, jax 0.10.2). Random combinations: `--number 60 --seed
30`, none failed, 1,620 of 2,069 pairs (10 minutes of CPU; Python 3.11.7, jax 0.10.2). Before that,
without layers and with LeCam from step 1,000 on, where it did nothing (Python 3.12.1, jax
0.12.0.1): 205 programs, none failed: `--number 160 --seed 3`, and seeds 1, 2 and 20 of 15 each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from part_rows import ROWS

import gan_jax as gan
from gan_jax import losses
from gan_jax.cli.run import run
from gan_jax.core.batch import Feed
from gan_jax.networks.heads import with_label_map
from gan_jax.networks.layers import Norm, embedding, perturbed
from gan_jax.networks.minibatch import minibatch_std
from gan_jax.recipes import with_optimizer, with_penalty
from gan_jax.sweeps.population import Member, Population, population_chunk
from gan_jax.training.placement import place

SHAPE, CLASSES, BATCH, STEPS = (8, 8, 3), 3, 8, 3
SLOTS = {"loss": 5, "penalty": 5, "augmentation": 2, "layer": 4}  # of a program of the covering design
SLOW = ("extragradient", "consensus", "unrolled")  # to compile, with ADA's warp: each meets it once
WITHIN = ("colour", "diffaugment", "lazy", "icr", "blend", "label smoothing", "TTUR")  # made of others, or of another factor
FIELDS = ("judge_together", "compute_dtype")  # of the recipe: no ways to play
UNLABELLED = ("packing",)  # a packet has no label of its own, which losses and layers here ask for
ONE_OF = (("batch norm in D", "layer norm in D", "instance norm in D"), ("projection", "label map"))  # one field: the last wins


class Generator(nn.Module):
    """The smallest: one layer. Numbers: dropout, noise."""

    @nn.compact
    def __call__(self, z, labels, mode, dropout=None, noise=None):
        x = perturbed(nn.tanh(nn.Dense(5, dtype=z.dtype)(z)), mode, dropout, noise)
        return nn.tanh(nn.Dense(math.prod(SHAPE), dtype=z.dtype)(x)).reshape(-1, *SHAPE)


class Discriminator(nn.Module):
    """The smallest with features, a logit and class logits, and what the layers change. Numbers:
    dropout, noise."""

    width: int = 5
    norm: str | None = None
    conditioning: str = "auxiliary"
    group: int = 0

    @nn.compact
    def __call__(self, images, labels, mode, dropout=None, noise=None):
        if self.conditioning == "embedding":
            images = with_label_map(images, labels, CLASSES)
        x = nn.Dense(self.width, name="Conv_0", dtype=images.dtype)(images.reshape(len(images), -1))
        x = perturbed(nn.softplus(Norm(self.norm)(x, mode)), mode, dropout, noise)
        if self.group:
            x = minibatch_std(x[:, None, None], self.group, mode=mode)[:, 0, 0]
        logits = nn.Dense(1, dtype=x.dtype)(x)[:, 0]
        if self.conditioning == "projection":
            logits += (x * embedding(labels, CLASSES, x.shape[-1], x.dtype)).sum(-1)
        return gan.DiscriminatorOutput(logits, nn.Dense(CLASSES, dtype=x.dtype)(x), x)


class Combination(NamedTuple):
    """Names of rows: a way to play, the optimizers of D and G, losses (a member each), penalties,
    augmentations, layers."""

    way: str
    discriminator: str
    generator: str
    losses: tuple[str, ...]
    penalties: tuple[str, ...]
    augmentations: tuple[str, ...]
    layers: tuple[str, ...] = ()

    def pairs(self) -> set[tuple[str, str]]:
        """Every pair of two factors in it."""
        way, optimizers = f"play {self.way}", {f"optimizer {self.discriminator}", f"optimizer {self.generator}"}
        penalties = {f"penalty {name}" for name in self.penalties}
        augmentations = {f"augmentation {name}" for name in self.augmentations}
        layers = {f"layer {name}" for name in self.layers}
        factors = ({way}, optimizers, {f"loss {name}" for name in self.losses}, penalties, augmentations, layers)
        return {pair for a, b in itertools.combinations(factors, 2) for pair in itertools.product(a, b)}


def names(kind: str) -> list[str]:
    """The rows of a kind, but for those made of others (the parts of ADA are within `ada`)."""
    found = [row.name for row in ROWS if row.kind == kind and row.name not in WITHIN + FIELDS + UNLABELLED]
    return [name for name in found if not name.startswith("ada_")]


FACTORS = {kind: names(kind) for kind in ("play", "optimizer", "loss", "penalty", "augmentation", "layer")}


def all_pairs() -> set[tuple[str, str]]:
    everything = [[f"{kind} {name}" for name in found] for kind, found in FACTORS.items()]
    return {pair for a, b in itertools.combinations(everything, 2) for pair in itertools.product(a, b)}


def at_random(rng: np.random.Generator, most: int = 5) -> Combination:
    some = lambda kind, least=0: tuple(rng.permutation(FACTORS[kind])[: rng.integers(least, most + 1)].tolist())
    way, first, second = rng.choice(FACTORS["play"]), *rng.choice(FACTORS["optimizer"], 2, replace=False)
    layers = [name for name in some("layer") if not any(name in one[1:] for one in ONE_OF)]
    return Combination(str(way), str(first), str(second), some("loss", 1), some("penalty"), some("augmentation"), tuple(layers))


def covering(sizes: Mapping[str, int] = SLOTS, tries: int = 8, seed: int = 0) -> list[Combination]:
    """Combinations that hold every pair, greedily: the slots are filled one by one with what brings
    most missing pairs."""
    rng, missing, chosen = np.random.default_rng(seed), all_pairs(), []
    tours = [(p, *pair) for p in FACTORS["play"] for pair in _couples(rng.permutation(FACTORS["optimizer"]).tolist())]
    while missing:
        drawn = [_filled(tours[len(chosen) % len(tours)], sizes, missing, rng) for _ in range(tries)]
        chosen.append(max(drawn, key=lambda c: len(c.pairs() & missing)))
        missing -= chosen[-1].pairs()
    return chosen


def _filled(tour: tuple[str, str, str], sizes: Mapping[str, int], missing: set, rng: np.random.Generator) -> Combination:
    parts: dict[str, tuple[str, ...]] = {kind: () for kind in sizes}
    for kind in rng.permutation([kind for kind, n in sizes.items() for _ in range(n)]):
        enough = {"ada"} if tour[0] in SLOW and (f"play {tour[0]}", "augmentation ada") not in missing else set()
        barred = enough.union(*(one for one in ONE_OF if set(one) & set(parts[kind]) and kind == "layer"), parts[kind])
        news = rng.permutation([name for name in FACTORS[kind] if name not in barred]).tolist()
        grown = [parts | {kind: (*parts[kind], name)} for name in news]
        parts = max(grown, key=lambda p: len(Combination(*tour, *p.values()).pairs() & missing))
    return Combination(*tour, *parts.values())


def _couples(optimizers: list[str]) -> list[tuple[str, str]]:
    return list(zip(optimizers[::2], optimizers[1::2] + optimizers[: len(optimizers) % 2], strict=True))


def plain(loss: Any) -> gan.Recipe:
    """The smallest networks, with this loss and nothing else."""
    sides = [gan.Side(net=gan.Net(m), optimizer=gan.optimizers.adam()) for m in (Generator(), Discriminator())]
    return gan.Recipe(
        generator=sides[0], discriminator=sides[1], loss=loss, latent=gan.bind(gan.latents.normal, dimension=3),
        fake_labels=gan.bind(gan.latents.batch_labels), play=gan.bind(gan.alternating), classes=CLASSES, batch_size=BATCH,
    )  # fmt: skip


def examples(number: int = 8) -> Feed:
    """Random images with labels."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (number, *SHAPE), np.uint8))
    return Feed(images, jnp.asarray(rng.integers(0, CLASSES, number), jnp.int32), jnp.int32(number), jax.random.key(0))


def recipe_of(chosen: Combination) -> gan.Recipe:
    """The smallest networks with all that is chosen, and its losses at weight 0."""
    row = {(row.kind, row.name): row for row in ROWS}
    recipe = plain(losses.blend(*(losses.LOSSES[name] for name in chosen.losses)))
    for kind, listed in (("penalty", chosen.penalties), ("augmentation", chosen.augmentations)):
        for name in listed:
            recipe = row[kind, name].add(recipe)
    if "lecam" in chosen.penalties:  # from the first step on, not from the thousandth
        recipe = with_penalty(recipe, "lecam", weight=0.3, start=0)
    for name in sorted(chosen.layers, key=lambda name: name == "spectral norm in D"):  # it wraps the network
        recipe = row["layer", name].add(recipe)
    optimizer = lambda name, player: getattr(row["optimizer", name].add(recipe), player).optimizer
    first, second = optimizer(chosen.discriminator, "discriminator"), optimizer(chosen.generator, "discriminator")
    if chosen.generator == "freeze":  # names a layer of D
        second = optimizer("adam", "generator")
    recipe = with_optimizer(with_optimizer(recipe, first, "discriminator"), second, "generator")
    recipe = row["play", chosen.way].add(recipe)
    # Its published .1 multiplies the curvature of penalties of weight 10: plain descent runs away
    # within three steps.
    return gan.with_leaves(recipe, {"play.weight": 0.001}) if chosen.way == "consensus" else recipe


def settings_of(recipe: gan.Recipe) -> dict[str, gan.Recipe]:
    """{loss: the recipe with that loss at weight 1}"""
    return {part.name: gan.with_leaves(recipe, {f"loss.{part.name}": 1.0}) for part in recipe.loss.parts}


def other_numbers(recipe: gan.Recipe) -> gan.Recipe:
    """The same idea with half of every number: no other program."""
    return gan.with_leaves(recipe, {path: 0.5 * value for path, value in gan.leaves(recipe).items()})


def train(chosen: Combination) -> tuple[dict[str, Any], int]:
    """({loss: what each step logged}, programs compiled) of one population, trained on with other
    numbers.

    Those further steps are not judged: after three, consensus with momentum runs away. One program
    means: what it returns may be put in again, and no number shapes it. Compiled as fast as can be.
    """
    settings = settings_of(recipe_of(chosen))
    members = [Member(name, recipe, seed, 8) for seed, (name, recipe) in enumerate(settings.items())]
    population = Population(gan.GAN, place(1), members, examples())
    others = [replace(member, recipe=other_numbers(member.recipe)) for member in members]
    fast = {"xla_backend_optimization_level": 0}
    step = partial(population_chunk, gan.GAN, STEPS, population.placement)
    chunk = jax.jit(step, donate_argnums=1, compiler_options=fast)
    state, rows = jax.jit(population._init)(*population.init_arguments()), []
    for knobs in (population.knobs, Population(gan.GAN, place(1), others, examples()).knobs):
        state, good, metrics = chunk(knobs, state, population.feed, population.alive)
        rows.append(metrics | {"good": good})
    return {m.setting: {k: v[i] for k, v in rows[0].items()} for i, m in enumerate(members)}, chunk._cache_size()  # pyright: ignore


def wrong(chosen: Combination) -> list[str]:
    """What is not finite: 'loss: metric'; and a second compilation."""
    rows, programs = train(chosen)
    bad = lambda values, row: not np.isfinite(values).all() or not row["good"].all()
    found = [f"{loss}: {name}" for loss, row in rows.items() for name, values in row.items() if bad(values, row)]
    return found + (["a second compilation"] if programs > 1 else [])


@dataclass
class Options:
    """Train random combinations of remedies."""

    number: int = 300
    """How many programs."""
    seed: int = 0
    """Of the draws."""
    covering: bool = False
    """The covering design instead of random combinations."""


def failures(combinations: Iterable[Combination]) -> dict[Combination, str]:
    from gan_jax.training.progress import each

    found = {}
    for chosen in each(list(combinations), "combinations"):
        try:
            bad = wrong(chosen)
        except Exception as error:  # whatever it is, it is the finding
            bad = [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
        if bad:
            found[chosen] = "; ".join(bad[:3])
    return found


def main(options: Options) -> int:
    rng = np.random.default_rng(options.seed)
    combinations = covering() if options.covering else [at_random(rng) for _ in range(options.number)]
    found = failures(combinations)
    for chosen, why in found.items():
        print(f"{chosen}: {why}")
    pairs = set().union(*(c.pairs() for c in combinations)) & all_pairs()
    print(f"{len(found)} of {len(combinations)} programs failed; "
          f"{len(pairs)} of {len(all_pairs())} pairs were in them")  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    run(main)
