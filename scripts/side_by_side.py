"""The rows of `benchmark.py` that compare with PyTorch: the same work, from the same weights, in
alternating measurements.

PyTorch plays in its fastest way of eager, channels_last and compiled. Before a game is timed, our
steps and PyTorch's on the same examples and latents must agree: three steps in float64 in losses,
gradients, parameters and moving average, and the losses of one step in float32. Our steps also do
what runs do and PyTorch's do not: metrics, gradient norms, a check for NaN.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gan_jax as gan
from gan_jax import penalties
from gan_jax.core.batch import Batch, to_unit
from gan_jax.core.errors import UserError
from gan_jax.sweeps.population import Member, Population
from gan_jax.training.chunk import compiled_chunk
from gan_jax.training.placement import place

EXAMPLES = 1024


def our_population(recipes: list[Any], feed: gan.Feed, steps: int) -> Callable[[], Any]:
    """A call that trains every member `steps` further, in one program spread over the devices, as
    `sweep` has it."""
    placement = place(min(len(jax.local_devices()), len(recipes)))
    members = [Member("", recipe, seed, EXAMPLES) for seed, recipe in enumerate(recipes)]
    population = Population(gan.GAN, placement, members, placement.replicate(feed))
    programs = population.lower(steps, None).compile()
    state, alive = programs.init(*population.init_arguments()), population.alive

    def advance():
        nonlocal state
        state, good, _ = programs.chunk(population.knobs, state, population.feed, alive)
        return good

    return advance


def our_run(recipe: Any, feed: gan.Feed, steps: int) -> Callable[[], Any]:
    """A call that trains one run `steps` further, as `fit` has it."""
    state, program = jax.jit(gan.init)(recipe, jax.random.key(0)), compiled_chunk(gan.GAN, steps, place(1))

    def advance():
        nonlocal state
        state, metrics = program(recipe, state, feed)
        return metrics

    return advance


# ---- the same start ----------------------------------------------------------------------------


def examples(shape: tuple[int, ...]) -> np.ndarray:
    """Random images of this shape, or random points."""
    rng = np.random.default_rng(0)
    if len(shape) == 3:
        return rng.integers(0, 256, (EXAMPLES, *shape), np.uint8)
    return rng.normal(size=(EXAMPLES, *shape)).astype(np.float32)


def our_feed(images: np.ndarray) -> gan.Feed:
    return gan.Feed(jnp.asarray(images), None, jnp.int32(len(images)), jax.random.key(1))


def named_leaves(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in gan.leaves(tree).items()}


def start(recipe: Any, state: Any, images: np.ndarray) -> Any:
    """What PyTorch needs to play this recipe from this state."""
    import peer

    rates = [{k: float(v) for k, v in side.optimizer.numbers.items()} for side in (recipe.generator, recipe.discriminator)]
    assert rates[0] == rates[1]
    r1 = recipe.discriminator.penalties.get("r1")
    return peer.Start(
        named_leaves(state.generator.params), named_leaves(state.generator.stats.get("batch_stats", {})),
        named_leaves(state.discriminator.params), images, recipe.batch_size, recipe.latent.options["dimension"], rates[0],
        float(recipe.ema_decay), None if r1 is None else float(r1.numbers["gamma"]),
    )  # fmt: skip


def given(draws, labels, dtype, *, d, g):
    """Latents that are given, for D's turn and for G's."""
    return (d if "discriminator" in draws.path else g).astype(dtype)


def in_float64(recipe: Any) -> Any:
    """The recipe whose arithmetic and numbers are float64. Call with x64 enabled.

    Numbers are float32 leaves otherwise, and Adam's corrections, 1 - b2**t, would be float32 too.
    """
    return jax.tree.map(lambda x: np.asarray(x, np.float64), recipe.replace(dtype="float64"))


def differences(recipe: Any, images: np.ndarray, way: Any, steps: int = 3) -> dict[str, float]:
    """The largest relative difference between ours and PyTorch's over some steps on the same
    examples and latents.

    Of losses: each by itself. Of tensors: against the largest value of the same kind, since some
    gradients are zero but for rounding (a bias before batch norm). gradients: Adam's first moments,
    which are their moving averages.
    """
    import peer

    state = jax.jit(gan.init)(recipe, jax.random.key(0))
    other = peer.Game(start(recipe, state, images), way)
    step, rng, worst = jax.jit(gan.train_step), np.random.default_rng(1), {}
    dimension = recipe.latent.options["dimension"]
    for _ in range(steps):
        index = rng.integers(0, len(images), recipe.batch_size)
        z = rng.normal(size=(2, recipe.batch_size, dimension)).astype(np.float32)
        fixed = recipe.replace(latent=gan.bind(given, d=z[0], g=z[1]))
        batch = Batch(to_unit(jnp.asarray(images[index]), recipe.dtype), jnp.arange(recipe.batch_size))
        state, metrics = step(fixed, state, batch)
        numbers = peer.torch.tensor(z).to(other.dtype)
        losses = other.turns(other.take(peer.torch.tensor(index)), numbers[0], numbers[1])
        ours = [metrics["discriminator/loss"] + metrics.get("discriminator/r1", 0), metrics["generator/loss"]]
        for name, a, b in zip(("d_loss", "g_loss"), ours, losses, strict=True):
            worst[name] = max(worst.get(name, 0.0), abs(float(a) - float(b)) / abs(float(a)))
    return worst | tensor_differences(state, other)


def tensor_differences(state: Any, other: Any) -> dict[str, float]:
    import peer

    worst = {}
    for player, name, mine in (("g", "generator", other.g), ("d", "discriminator", other.d)):
        params, moments = getattr(state, name).params, getattr(state, name).opt_state[0].mu
        theirs = [other.adam[player].state[x]["exp_avg"] for x in mine.values()]
        for kind, tree, tensors in (("gradients", moments, theirs), ("parameters", params, mine.values())):
            ported = peer.port(named_leaves(tree), other.way.last, player == "g")
            worst[f"{player}_{kind}"] = apart(ported.values(), tensors)
    average = peer.port(named_leaves(state.ema["params"]), other.way.last, True)
    return worst | {"average": apart(average.values(), other.average[: len(average)])}


def apart(ours, theirs) -> float:
    scale = max(float(a.abs().max()) for a in ours)
    return max(float((a - b.detach()).abs().max()) for a, b in zip(ours, theirs, strict=True)) / scale


# ---- measuring ---------------------------------------------------------------------------------


EXACT = 1e-9  # relative, in float64 after three steps: measured up to 4e-12
TOLERANCE = 1e-4  # relative, of the losses of one step in float32: measured up to 1e-7


def fastest(name: str, recipe: Any, images: np.ndarray) -> tuple[Callable, dict]:
    """(a function of a recipe that gives PyTorch's run of it, in its fastest way; what to report of
    that way).

    Raises UserError where the two sides are not the same game.
    """
    import peer

    state = jax.jit(gan.init)(recipe, jax.random.key(0))
    way, chosen, times, failed = peer.choose(start(recipe, state, images))
    difference = check(name, recipe, images, way)
    game = lambda recipe: peer.Game(start(recipe, state, images), way)
    sizes = [sum(x.size for x in jax.tree.leaves(p.params)) for p in (state.generator, state.discriminator)]
    if sizes != [sum(x.numel() for x in p.values()) for p in (game(recipe).g, game(recipe).d)]:
        raise UserError(f"row {name}: ours and PyTorch's have different numbers of parameters")
    return game, {"peer_way": chosen, "peer_ways_s": times, "failed": failed, "parameters": sizes, "difference": difference}


def check(name: str, recipe: Any, images: np.ndarray, way: Any) -> float:
    """The largest relative difference in float64 after three steps, of losses and tensors.

    The way that will be timed is checked as well, in float32, by the losses of one step: Adam turns
    the rounding of a zero gradient into a whole step, so tensors and later losses say little in
    float32. Raises UserError for a difference above EXACT in float64, or TOLERANCE in float32.
    """
    import peer

    with jax.enable_x64(True):
        plain = peer.Way("eager", images.ndim == 4, "r1" in recipe.discriminator.penalties)
        exact = differences(in_float64(recipe), images, plain)
    once = differences(recipe, images, way, steps=1)
    timed = {f"timed {k}": v for k, v in once.items() if k.endswith("loss")}
    for found, most in ((exact, EXACT), (timed, TOLERANCE)):
        worst = max(found, key=lambda k: found[k])
        if not found[worst] <= most:
            raise UserError(f"row {name}: {worst} of ours and of PyTorch's differ by {found[worst]:.1e} from equal weights")
    return max(exact.values())


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call, until its result is there (PyTorch on a CPU is done when it
    returns)."""
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


def alternate(ours: Callable, theirs: Callable, repeats: int, units: int, their_units: int = 0) -> dict:
    """Seconds per unit of work of the two, in turn after a warm-up, and the ratio of each pair.
    Units: those of one call."""
    for warm_up in (ours, theirs):
        seconds(warm_up)
    times = [(seconds(ours) / units, seconds(theirs) / (their_units or units)) for _ in range(repeats)]
    spreads = {"ours": [a for a, _ in times], "peer": [b for _, b in times], "ratio": [b / a for a, b in times]}
    spreads = {k: summary(v) for k, v in spreads.items()}
    medians = {"ours_s": spreads["ours"]["median"], "peer_s": spreads["peer"]["median"], "ratio": spreads["ratio"]["median"]}
    return medians | {f"{k}_spread": v for k, v in spreads.items()}


def summary(values: list[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": min(values), "max": max(values), "n": len(values)}


# ---- rows --------------------------------------------------------------------------------------


def dcgan_row(repeats: int, steps: int = 50) -> list[dict]:
    """The article's DCGAN, 32x32x3, batch 64: seconds per step of one run."""
    shape = (32, 32, 3)
    recipe, images = gan.recipes.dcgan(shape), examples(shape)
    game, report = fastest("dcgan", recipe, images)
    ours, theirs = our_run(recipe, our_feed(images), steps), game(recipe)
    found = alternate(ours, lambda: theirs.run(steps), repeats, steps)
    return [{"row": "a", "name": "article's DCGAN, 32x32x3, one run", "unit": "step", **found, **report}]


def small(shape=(16, 16, 1)) -> tuple[Any, np.ndarray]:
    """A DCGAN of a population's size, 16x16 grey at width 32, and images for it."""
    return gan.recipes.dcgan(shape, width=32), examples(shape)


def population_row(repeats: int, members: int = 16, steps: int = 10) -> list[dict]:
    """Sixteen DCGANs, 16x16 grey at width 32, batch 64: one program against PyTorch's runs in turn,
    per member-step."""
    recipe, images = small()
    game, report = fastest("population", recipe, images)
    ours, theirs = our_population([recipe] * members, our_feed(images), steps), [game(recipe) for _ in range(members)]
    found = alternate(ours, lambda: [one.run(steps) for one in theirs], repeats, members * steps)
    return [
        {
            "row": "b",
            "name": f"{members} members, DCGAN 16x16x1, width 32",
            "unit": "member-step",
            "members": members,
            **found,
            **report,
        }
    ]


def toy_row(repeats: int, members: int = 64, steps: int = 10) -> list[dict]:
    """64 strengths of R1 for the MLP pair (3x128, batch 256): one program against 64 runs in turn,
    per member-step."""
    images, r1 = examples((2,)), gan.bind(penalties.r1, gamma=1.0)
    recipe = gan.recipes.mlp((2,))
    recipe = recipe.replace(discriminator=recipe.discriminator.replace(penalties={"r1": r1}))
    gammas = np.logspace(-3, 2, members).astype(np.float32)
    swept = lambda gamma: gan.with_leaves(recipe, {"discriminator.penalties.r1.gamma": gamma})
    game, report = fastest("toy", recipe, images)
    ours = our_population([swept(gamma) for gamma in gammas], our_feed(images), steps)
    theirs = [game(swept(gamma)) for gamma in gammas]
    found = alternate(ours, lambda: [one.run(steps) for one in theirs], repeats, members * steps)
    return [
        {"row": "c", "name": f"{members} settings of R1, 2-D MLP", "unit": "member-step", "members": members, **found, **report}
    ]


def members_row(repeats: int, most: int = 64, steps: int = 5) -> list[dict]:
    """The population row's network: ours per member-step against the number of members, PyTorch's
    with one member beside it."""
    recipe, images = small()
    game, report = fastest("members", recipe, images)
    theirs, rows = game(recipe), []
    for members in [2**i for i in range(most.bit_length())]:
        ours = our_population([recipe] * members, our_feed(images), steps)
        rounds = max(1, 32 // members)  # calls of one measurement: short ones are at the mercy of the machine
        ours_rounds = lambda ours=ours, rounds=rounds: [ours() for _ in range(rounds)]
        found = alternate(ours_rounds, lambda: theirs.run(8 * steps), repeats, rounds * members * steps, 8 * steps)
        rows.append(
            {
                "row": "e",
                "name": f"{members} members of row b's network",
                "unit": "member-step",
                "members": members,
                **found,
                **report,
            }
        )
    return rows


ROWS = {"dcgan": dcgan_row, "population": population_row, "toy": toy_row, "members": members_row}
