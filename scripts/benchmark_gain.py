"""How fast are many GAINs? All repetitions as one population against PyTorch, one after the other,
and against our own in turn.

    # 50 GAINs (10 repetitions x 5 folds), 1,000 steps each
    uv run --extra bench scripts/benchmark_gain.py
    uv run --extra bench scripts/benchmark_gain.py --members 10 --steps 300 --repeats 3 \\
        --json gain.json

Each member has its own 455 of 569 rows of 30 cells, its own mask (20 % missing) and seed, and the
settings of the authors' code. The PyTorch GAIN is written as PyTorch is fastest here: one thread
(its kernels are too small for more), G's forward pass made once for both players, fused Adam. Equal
steps are checked before they are timed: from our weights, on our batch, noise and hint. In turn,
some of the members are run: they cost the same. Each figure is the median of several rounds that
alternate; compilation and PyTorch's first run are apart.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from gan_jax.cli.run import cores, prepare_devices, run
from gan_jax.core.errors import UserError

ROWS, CELLS, TRAINED, RATE = 569, 30, 455, 0.2
STEPS_COMPARED, TOLERANCE = 3, 1e-4


def tables(members: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(values, mask) of each member's training rows, of one table of random numbers."""
    rng = np.random.default_rng(0)
    values = rng.random((ROWS, CELLS), np.float32)
    rows = [rng.permutation(ROWS)[:TRAINED] for _ in range(members)]
    return [(values[chosen], rng.random((TRAINED, CELLS)) >= RATE) for chosen in rows]


# ---- PyTorch -----------------------------------------------------------------------------------


def torch_module() -> Any:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("this needs PyTorch: pip install 'gan-jax[bench]', or uv run --extra bench in a checkout") from None
    torch.set_num_threads(1)
    return torch


def network(torch: Any, weights: dict[str, np.ndarray] | None = None) -> Any:
    """Two hidden layers of CELLS ReLUs, weights N(0, 2 / inputs), or ours."""
    layers = [torch.nn.Linear(2 * CELLS, CELLS), torch.nn.Linear(CELLS, CELLS), torch.nn.Linear(CELLS, CELLS)]
    for i, layer in enumerate(layers):
        with torch.no_grad():
            layer.weight.normal_(0, (2 / layer.in_features) ** 0.5)
            layer.bias.zero_()
            if weights is not None:
                layer.weight.copy_(torch.tensor(weights[f"Dense_{i}.kernel"].T))
                layer.bias.copy_(torch.tensor(weights[f"Dense_{i}.bias"]))
    relu = torch.nn.ReLU()
    return torch.nn.Sequential(layers[0], relu, layers[1], relu, layers[2])


class Players:
    """G, D and their optimizers."""

    def __init__(self, torch: Any, generator: Any = None, discriminator: Any = None):
        self.torch, self.g, self.d = torch, generator or network(torch), discriminator or network(torch)
        adam = lambda net: torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        self.g_adam, self.d_adam = adam(self.g), adam(self.d)

    def step(self, x: Any, mask: Any, noise: Any, hint: Any, alpha: float = 100.0) -> tuple[Any, Any]:
        """D moves, then G; returns their losses."""
        torch, F = self.torch, self.torch.nn.functional
        noisy = torch.where(mask > 0, x, noise)
        made = torch.sigmoid(self.g(torch.cat([noisy, mask], 1)))
        filled = torch.where(mask > 0, x, made)
        d_loss = F.binary_cross_entropy_with_logits(self.d(torch.cat([filled.detach(), hint], 1)), mask)
        self.d_adam.zero_grad()
        d_loss.backward()
        self.d_adam.step()
        logits = self.d(torch.cat([filled, hint], 1))
        error = (mask * (x - made) ** 2).mean() / mask.mean()
        g_loss = -((1 - mask) * F.logsigmoid(logits)).mean() + alpha * error
        self.g_adam.zero_grad()
        for p in self.d.parameters():  # no gradient is needed for them here
            p.requires_grad_(False)
        g_loss.backward()
        for p in self.d.parameters():
            p.requires_grad_(True)
        self.g_adam.step()
        return d_loss.detach(), g_loss.detach()


def torch_run(torch: Any, table: tuple, steps: int) -> float:
    """Seconds of one PyTorch GAIN."""
    x, mask = (torch.tensor(part.astype(np.float32)) for part in table)
    players = Players(torch)
    start = time.perf_counter()
    for _ in range(steps):
        rows = torch.randperm(len(x))[:128]
        shown = mask[rows]
        hint = shown * (torch.rand(128, CELLS) < 0.9)
        players.step(x[rows], shown, 0.01 * torch.rand(128, CELLS), hint)
    return time.perf_counter() - start


def difference(torch: Any) -> float:
    """The largest difference of losses and weights after a few steps from the same weights, on the
    same batch and draws."""
    import jax
    import jax.numpy as jnp

    import gan_jax as gan
    from gan_jax.core.rng import Draws
    from gan_jax.games.imputation import gain

    knobs = gain.recipe(CELLS)
    state = jax.jit(gain.init)(knobs, jax.random.key(0))
    named = lambda tree: {name: np.asarray(leaf) for name, leaf in gan.leaves(tree).items()}
    players = Players(torch, *(network(torch, named(p.params)) for p in (state.generator, state.discriminator)))
    values, mask = (jnp.asarray(part[:128]) for part in tables(1)[0])
    batch, worst = gan.Batch(values, jnp.arange(128), mask=mask), 0.0
    for _ in range(STEPS_COMPARED):
        seen = gain.view(knobs, batch, Draws(jax.random.fold_in(state.key, state.step), batch.index))
        state, metrics = jax.jit(gain.step)(knobs, state, batch)
        losses = players.step(*(torch.tensor(np.asarray(part)) for part in (seen.x, seen.shown, seen.noisy, seen.hint)))
        for theirs, name in zip(losses, ("discriminator", "generator"), strict=True):
            worst = max(worst, abs(float(theirs) / float(metrics[f"{name}/loss"]) - 1))
    for player, theirs in ((state.generator, players.g), (state.discriminator, players.d)):
        ours = named(player.params)
        for i, layer in enumerate(theirs[::2]):
            gap = np.abs(layer.weight.detach().numpy().T - ours[f"Dense_{i}.kernel"]).max()
            worst = max(worst, float(gap / np.abs(ours[f"Dense_{i}.kernel"]).max()))
    return worst


# ---- what is measured --------------------------------------------------------------------------


def our_seconds(each: list, seeds: list[int], steps: int, devices: int) -> float:
    """Seconds of one population of these members."""
    import jax

    from gan_jax.games.imputation import gain, training

    start = time.perf_counter()
    jax.block_until_ready(training.train([gain.recipe(CELLS)], each, seeds, steps=steps, devices=devices))
    return time.perf_counter() - start


def main(
    members: int = 50,
    steps: int = 1000,
    repeats: int = 3,
    sampled: int = 3,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
) -> None:
    """Measure, and print the ratios.

    Args:
        members: GAINs in the population.
        steps: of each.
        repeats: rounds, of which the median is printed.
        sampled: GAINs that are run in turn, by PyTorch and by ourselves, in each round.
        json_file: also write the figures there.
    """
    if min(members, steps, repeats, sampled) < 1:
        raise UserError("members, steps, repeats and sampled must be at least 1")
    torch, devices = torch_module(), cores()
    prepare_devices(devices, collectives=False)
    off = difference(torch)
    if off > TOLERANCE:
        raise UserError(f"PyTorch's GAIN differs from ours by {off:.1e}: nothing is timed")
    each, seeds = tables(members), list(range(members))
    start = time.perf_counter()
    our_seconds(each, seeds, steps, devices)
    our_seconds(each[:1], [0], steps, 1)
    torch_run(torch, each[0], 20)
    first = time.perf_counter() - start
    found: dict[str, list[float]] = {"population": [], "ours in turn": [], "PyTorch in turn": []}
    sampled = min(sampled, members)
    for _ in range(repeats):
        found["population"].append(our_seconds(each, seeds, steps, devices) / members)
        turns = [our_seconds([table], [seed], steps, 1) for table, seed in zip(each[:sampled], seeds, strict=False)]
        found["ours in turn"].append(float(np.mean(turns)))
        found["PyTorch in turn"].append(float(np.mean([torch_run(torch, table, steps) for table in each[:sampled]])))
    middle = {name: float(np.median(values)) for name, values in found.items()}
    print(
        f"{members} GAINs of {steps} steps, {devices} devices; ours and PyTorch's agree to {off:.1e}; warming up: {first:.1f} s"
    )
    for name, values in found.items():
        ratio = middle[name] / middle["population"]
        spread = f"({min(values) / steps * 1e6:.0f} to {max(values) / steps * 1e6:.0f})"
        print(f"{name:16} {middle[name] / steps * 1e6:8.0f} us a step and member {spread:18} {ratio:5.1f} x the population")
    if json_file:
        json_file.write_text(json.dumps({"members": members, "steps": steps, "seconds_per_member": found}, indent=1))


if __name__ == "__main__":
    run(main)
