"""The row of `benchmark.py` that compares single layers with PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from side_by_side import TOLERANCE, alternate

from gan_jax.core.errors import UserError
from gan_jax.networks.conv import conv, conv_transpose

LAYERS = {  # of the two DCGANs: input side, channels in, channels out, transposed
    "conv 32x32x3 to 16x16x64": (32, 3, 64, False),
    "conv 16x16x64 to 8x8x128": (16, 64, 128, False),
    "transposed 4x4x256 to 8x8x128": (4, 256, 128, True),
    "transposed 8x8x128 to 16x16x64": (8, 128, 64, True),
    "transposed 16x16x64 to 32x32x3": (16, 64, 3, True),
}


def layers_row(repeats: int, batch: int = 64, calls: int = 3) -> list[dict]:
    """Each 5x5 stride-2 layer of the two DCGANs at batch 64, alone and for eight members: forward,
    and with both gradients."""
    return [
        layer(name, *plan, gradients, members, repeats, batch, calls)
        for name, plan in LAYERS.items()
        for members in (1, 8)
        for gradients in (False, True)
    ]


def layer(name, side, inputs, outputs, transposed, gradients, members, repeats, batch, calls) -> dict:
    import peer

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=(members, *shape)).astype(np.float32)
    x, kernel = draw(batch, side, side, inputs), draw(5, 5, inputs, outputs)
    ours, ways = our_layer(x, kernel, transposed, gradients), peer.layer(x, kernel, transposed, gradients)
    if not (difference := layer_difference(ours(), ways["contiguous"](), gradients, transposed, members)) <= TOLERANCE:
        raise UserError(f"row layers: ours and PyTorch's {name} differ by {difference:.1e}")
    times = {}
    for way, call in ways.items():
        call()
        times[way] = min(peer.timed(call) for _ in range(2))
    chosen = min(times, key=lambda way: times[way])
    repeat = lambda function: lambda: [function() for _ in range(calls)]
    found = alternate(repeat(ours), repeat(ways[chosen]), repeats, calls * members)
    title = f"{name}, {'both gradients' if gradients else 'forward'}, {members} member{'s' * (members > 1)}"
    report = {"unit": "member-call", "members": members, "peer_way": chosen, "peer_ways_s": times, "difference": difference}
    return {"row": "d", "name": title, **found, **report}


def our_layer(x, kernel, transposed: bool, gradients: bool) -> Callable[[], Any]:
    """A call of our layer for all members, in one program; the gradients are those of
    `peer.layer`."""
    one = conv_transpose if transposed else conv

    def call(x, kernel):
        if not gradients:
            return one(x, kernel, 2)
        y, back = jax.vjp(lambda x, kernel: one(x, kernel, 2), x, kernel)
        return y, back(y)

    # one member is not a population of one: a layer may know whether it is batched
    several = jax.jit(jax.vmap(call) if len(x) > 1 else lambda x, kernel: call(x[0], kernel[0]))
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    return lambda: several(x, kernel)


def layer_difference(ours, theirs, gradients: bool, transposed: bool, members: int) -> float:
    """The largest difference of the first member's output and gradients, each relative to its
    largest value."""
    import peer

    if members > 1:
        ours = jax.tree.map(lambda x: x[0], ours)
    y, (dx, dkernel) = ours if gradients else (ours, (None, None))
    y_peer, (dx_peer, dkernel_peer) = theirs[0] if gradients else (theirs[0], (None, None))
    turn = lambda x: np.asarray(x)[:, ::-1, ::-1].transpose(0, 3, 1, 2)
    pairs = [(turn(y), y_peer)]
    if gradients:
        pairs += [(turn(dx), dx_peer), (peer.turned("Conv", np.asarray(dkernel), None, transposed), dkernel_peer)]
    return max(float(np.abs(a - b.detach().numpy()).max() / np.abs(a).max()) for a, b in pairs)
