"""The same games in PyTorch, for `benchmark.py` to measure against: the DCGAN and the MLP pair,
from our own first weights.

PyTorch pads both sides alike, 'SAME' pads one pixel more after than before. Turned by half a turn
(images, kernels and the dense layers' features) the two agree: padding 2 is then 'SAME'. So the
whole game runs turned, and nothing is ever padded by a copy. Each game is written as PyTorch is
fastest: no graph where no gradient is taken, fused Adam, one call for the average.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError

try:
    import torch  # pyright: ignore[reportMissingImports]
except ImportError:
    raise UserError(
        "this row needs PyTorch: pip install 'gan-jax[bench]', or in a checkout uv run --extra bench scripts/benchmark.py"
    ) from None

F = torch.nn.functional
EPSILON, MOMENTUM = 1e-3, 0.01  # of batch norm: Keras' .99 is PyTorch's 1 - .99
WAYS = {"eager": (False, False), "channels_last": (True, False), "compiled": (True, True)}


# ---- networks: pure functions of {name: tensor}, the names being ours --------------------------


def norm(x, p, stats, i: int):
    """Batch norm by the batch's statistics; the running ones, where they are given, move in
    place."""
    name = f"Norm_{i}.BatchNorm_0"
    mean, var = (None, None) if stats is None else (stats[f"{name}.mean"], stats[f"{name}.var"])
    return F.batch_norm(x, mean, var, p[f"{name}.scale"], p[f"{name}.bias"], True, MOMENTUM, EPSILON)


def dcgan_generator(p, stats, z, last: bool):
    x = F.leaky_relu(norm(F.linear(z, p["Dense_0.kernel"]), p, stats, 0), 0.3)
    features = p["Conv_0.kernel"].shape[0]
    side = int((x.shape[1] // features) ** 0.5)
    x = x.view(-1, side, side, features).permute(0, 3, 1, 2) if last else x.view(-1, features, side, side)
    final = max(int(name[5]) for name in p if name.startswith("Conv"))
    for i in range(final + 1):
        x = F.conv_transpose2d(x, p[f"Conv_{i}.kernel"], p[f"Conv_{i}.bias"], 2, padding=2, output_padding=1)
        x = torch.tanh(x) if i == final else F.leaky_relu(norm(x, p, stats, i + 1), 0.3)
    return x


def dcgan_discriminator(p, x, last: bool):
    for i in range(sum(name.startswith("Conv") for name in p) // 2):
        x = F.leaky_relu(F.conv2d(x, p[f"Conv_{i}.kernel"], p[f"Conv_{i}.bias"], 2, padding=2), 0.3)
    x = x.permute(0, 2, 3, 1) if last else x
    return F.linear(x.flatten(1), p["Dense_0.kernel"])[:, 0]


def dense_layers(p, x, activation):
    final = len(p) // 2 - 1
    for i in range(final):
        x = activation(F.linear(x, p[f"Dense_{i}.kernel"], p[f"Dense_{i}.bias"]))
    return F.linear(x, p[f"Dense_{final}.kernel"], p[f"Dense_{final}.bias"])


def mlp_generator(p, stats, z, last: bool):
    return dense_layers(p, z, torch.relu)


def mlp_discriminator(p, x, last: bool):
    return dense_layers(p, x, lambda x: F.leaky_relu(x, 0.2))[:, 0]


# ---- our weights, turned -----------------------------------------------------------------------


def turned(name: str, x: np.ndarray, order: np.ndarray | None, transposed: bool) -> np.ndarray:
    """One of our leaves as PyTorch wants it. `order`: where each of PyTorch's flattened features is
    among ours."""
    if name.startswith("Conv") and x.ndim == 4:  # [k, k, in, out]; a transposed one is turned already: it scatters
        return x.transpose(2, 3, 0, 1) if transposed else x[::-1, ::-1].transpose(3, 2, 0, 1)
    if order is not None and name == "Dense_0.kernel":
        x = x[:, order] if transposed else x[order]
    if order is not None and name.startswith("Norm_0"):
        x = x[order]
    return x.T


def port(leaves: dict[str, np.ndarray], last: bool, transposed: bool, kernels: dict | None = None) -> dict[str, Any]:
    """{name: our leaf} of one player as {name: tensor}. transposed: the generator. kernels: its
    params, given its stats."""
    kernels = kernels or leaves
    order = None
    if "Conv_0.kernel" in kernels:
        convs = [x.shape for name, x in sorted(kernels.items()) if name.startswith("Conv") and x.ndim == 4]
        features = convs[0][2] if transposed else convs[-1][3]
        side = int((kernels["Dense_0.kernel"].shape[1 if transposed else 0] // features) ** 0.5)
        order = np.arange(side * side * features).reshape(side, side, features)[::-1, ::-1]
        order = (order if last else order.transpose(2, 0, 1)).reshape(-1)
    tensors = {name: torch.tensor(np.ascontiguousarray(turned(name, x, order, transposed))) for name, x in leaves.items()}
    return {name: x.to(memory_format=layout(last)) if x.ndim == 4 else x for name, x in tensors.items()}


def layout(last: bool):
    return torch.channels_last if last else torch.contiguous_format


# ---- the game ----------------------------------------------------------------------------------


class Way:
    """A way to run PyTorch, by its name in WAYS: the three functions of a step, compiled or not,
    shared by all members."""

    def __init__(self, name: str, images: bool, penalised: bool):
        self.last, compiled = WAYS[name]
        last = self.last
        generator, discriminator = (dcgan_generator, dcgan_discriminator) if images else (mlp_generator, mlp_discriminator)

        def fakes(g, z):
            return generator(g, None, z, last)

        def d_loss(d, reals, fakes, gamma):
            logits, slope = sloped(d, reals) if penalised else (discriminator(d, reals, last), None)
            loss = F.softplus(-logits).mean() + F.softplus(discriminator(d, fakes, last)).mean()
            return loss if slope is None else loss + gamma / 2 * slope.square().sum(1).mean()

        def sloped(d, reals):
            """Logits, and their slopes for R1. A compiled function is not differentiated twice, but
            may hold a derivative."""
            if compiled:
                aux = lambda x: (lambda logits: (logits.sum(), logits))(discriminator(d, x, last))
                slope, logits = torch.func.grad(aux, has_aux=True)(reals)
                return logits, slope
            logits = discriminator(d, reals.requires_grad_(), last)
            return logits, torch.autograd.grad(logits.sum(), reals, create_graph=True)[0]

        def g_loss(g, stats, d, z):
            return F.softplus(-discriminator(d, generator(g, stats, z, last), last)).mean()

        wrap = torch.compile if compiled else lambda f: f
        self.fakes, self.d_loss, self.g_loss = wrap(fakes), wrap(d_loss), wrap(g_loss)


@dataclass
class Start:
    """A run's beginning as NumPy: leaves by name, numbers, and uint8 images [N, h, w, c] or rows
    [N, d]."""

    generator: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    discriminator: dict[str, np.ndarray]
    images: np.ndarray
    batch: int
    latent: int
    rates: dict[str, float]
    ema: float
    gamma: float | None = None


class Game:
    """One run: `step()` is a discriminator turn and a generator turn, each with latents of its
    own."""

    def __init__(self, start: Start, way: Way):
        self.start, self.way, self.t = start, way, 0
        self.g = port(start.generator, way.last, True)
        self.d = port(start.discriminator, way.last, False)
        self.stats = port(start.stats, way.last, True, start.generator)
        self.images = torch.tensor(np.ascontiguousarray(start.images[:, ::-1, ::-1] if self.pictures else start.images))
        if self.pictures and not way.last:
            self.images = self.images.permute(0, 3, 1, 2).contiguous()
        self.dtype = self.g["Dense_0.kernel"].dtype
        self.gamma = torch.tensor(start.gamma or 0.0, dtype=self.dtype)
        self.average = [x.clone() for x in (*self.g.values(), *self.stats.values())]
        for x in (*self.g.values(), *self.d.values()):
            x.requires_grad_()
        adam = lambda p: torch.optim.Adam(
            list(p.values()), start.rates["learning_rate"], (start.rates["b1"], start.rates["b2"]), 1e-8, fused=True
        )
        self.adam = {"g": adam(self.g), "d": adam(self.d)}

    @property
    def pictures(self) -> bool:
        return self.start.images.ndim == 4

    def take(self, index):
        """These examples as floats: pictures in [-1, 1], rows as they are."""
        x = self.images[index]
        if not self.pictures:
            return x.to(self.dtype)
        x = x.to(self.dtype).div_(127.5).sub_(1)
        return x.permute(0, 3, 1, 2) if self.way.last else x

    def latents(self):
        return torch.randn(self.start.batch, self.start.latent, dtype=self.dtype)

    def step(self):
        index = torch.randint(len(self.images), (self.start.batch,))
        return self.turns(self.take(index), self.latents(), self.latents())

    def turns(self, reals, z_d, z_g):
        """(D's loss, G's loss) of one step on these examples and latents."""
        with torch.no_grad():
            fakes = self.way.fakes(self.g, z_d)
        d_loss = self.way.d_loss(self.d, reals, fakes, self.gamma)
        self.move("d", d_loss)
        still = {name: x.detach() for name, x in self.d.items()}  # no gradient is taken of a player who does not move
        g_loss = self.way.g_loss(self.g, self.stats, still, z_g)
        self.move("g", g_loss)
        decay = min(self.start.ema, (1 + self.t) / (10 + self.t))
        with torch.no_grad():
            live = [*self.g.values(), *self.stats.values()]
            torch._foreach_lerp_(self.average, live, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        self.t += 1
        return d_loss.detach(), g_loss.detach()

    def move(self, player: str, loss):
        params = list(getattr(self, player).values())
        for x, gradient in zip(params, torch.autograd.grad(loss, params), strict=True):
            x.grad = gradient
        self.adam[player].step()

    def run(self, steps: int):
        for _ in range(steps):
            losses = self.step()
        return losses


def choose(start: Start, steps: int = 5, rounds: int = 5) -> tuple[Way, str, dict[str, float], list[str]]:
    """The fastest way for this game, its name, seconds per step of each way (best of rounds), lines
    for those that failed."""
    ways, games, failed = {}, {}, []
    torch.compiler.reset()
    for name in WAYS:
        if name == "channels_last" and start.images.ndim != 4:
            continue
        ways[name] = Way(name, start.images.ndim == 4, start.gamma is not None)
        game = Game(start, ways[name])
        try:
            game.run(2)
            games[name] = game
        except Exception as error:  # torch.compile needs a C++ compiler, and fails in many ways of its own
            failed.append(f"{name} failed: {first_line(error)}")
    times = {name: [] for name in games}
    for _ in range(rounds):
        for name, game in games.items():
            times[name].append(timed(lambda game=game: game.run(steps)) / steps)
    best = {name: min(found) for name, found in times.items()}
    name = min(best, key=lambda name: best[name])
    return ways[name], name, best, failed


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def timed(function: Callable) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# ---- single layers -----------------------------------------------------------------------------


def layer(x: np.ndarray, kernel: np.ndarray, transposed: bool, gradients: bool) -> dict[str, Callable]:
    """{way: a call of one stride-2 'SAME' layer for every member}; x [m, b, h, w, i], kernel [m, 5,
    5, i, o].

    With `gradients` also those to the input and the kernel, of the sum of outputs times themselves.
    """

    def one(x, w, groups):
        if transposed:
            return F.conv_transpose2d(x, w, stride=2, padding=2, output_padding=1, groups=groups)
        return F.conv2d(x, w, stride=2, padding=2, groups=groups)

    def call(x, w, groups=1):
        y = one(x, w, groups)  # without gradients x and w ask for none, and no graph is made
        return (y, torch.autograd.grad(y, (x, w), y.detach())) if gradients else y

    def leaf(array, last):
        return torch.tensor(np.ascontiguousarray(array)).to(memory_format=layout(last)).requires_grad_(gradients)

    images = x[:, :, ::-1, ::-1].transpose(0, 1, 4, 2, 3)
    kernels = np.stack([turned("Conv", k, None, transposed) for k in kernel])
    ways = {}
    for name, last in (("contiguous", False), ("channels_last", True)):
        members = [(leaf(a, last), leaf(b, last)) for a, b in zip(images, kernels, strict=True)]
        ways[name] = lambda members=members: [call(a, b) for a, b in members]
        if len(x) > 1:
            m, b, channels, *sides = images.shape
            grouped = leaf(images.swapaxes(0, 1).reshape(b, m * channels, *sides), last)
            weights = leaf(kernels.reshape(-1, *kernels.shape[2:]), last)
            ways[f"grouped, {name}"] = lambda a=grouped, b=weights: call(a, b, len(kernels))
    return ways
