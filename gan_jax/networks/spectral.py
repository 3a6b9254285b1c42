"""Spectral normalisation of a whole network (Miyato et al., 2018), as a wrapper of its `Net`."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.core.rng import named
from gan_jax.networks.layers import wide

SPECTRAL = "spectral"
FIRST = 15  # power iterations at the start: for a random pair sigma is near zero, of random sign


@part("networks")
@dataclass(frozen=True)
class SpectralNorm:
    """`net` with every weight divided by an estimate of its largest singular value: W / sigma,
    sigma = u^T W v.

    u and v come from power iteration (algorithm 1): in each training call v <- W^T u / |W^T u| and
    u <- W v / |W v|, `iterations` times. They are constants for the gradient, which flows through W
    and sigma (equation 9). They are statistics, in the collection "spectral", and evaluation does
    not change them. They are normalised when used, because a moving average of unit vectors is
    shorter. The vectors change in the turn of their player alone (in PyTorch, D's also change in
    G's turn); the second training call of a turn (reals, fakes) starts from those of the first.

    Weights are the leaves "kernel" of two dimensions or more, as matrices [inputs, outputs], and
    embedding tables as they are. Biases, norms, gains, R3GAN's bases and StyleGAN2's constant are
    not normalised. A grouped kernel is one matrix of all its outputs, as in PyTorch, whose sigma is
    at least that of each group. A weight of zeros has sigma 1 from its first gradient step on, so
    that a weight that should grow slowly (R3GAN's "contract") is better skipped.

    net:        anything with the `init` and `apply` of `Net`, such as Net(sngan.Discriminator())
    iterations: at least 1, which the paper and every reference use
    epsilon:    least length that a vector is divided by: 1e-12 in PyTorch, 1e-8 in BigGAN-PyTorch,
                which has 1e-6 at 128 pixels
    skip:       names of parameters or modules (any part of the path) that are not normalised
    Raises UserError for iterations < 1, and for a name in `skip` that the network does not have."""

    net: Any
    iterations: int = 1
    epsilon: float = 1e-12
    skip: tuple[str, ...] = ()

    def __post_init__(self):
        if self.iterations < 1:
            raise UserError(f"SpectralNorm takes at least 1 power iteration a call, not {self.iterations}")
        if isinstance(self.skip, str):
            raise UserError(f"SpectralNorm's skip is a tuple of names: write ({self.skip!r},)")
        object.__setattr__(self, "skip", tuple(self.skip))

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        """(params, stats) of the network, with the vectors after 15 iterations from a normal u."""
        params, stats = self.net.init(key, inputs, labels, numbers)
        names = dict.fromkeys(name for path in _flat(params) for name in path)
        if unknown := [name for name in self.skip if name not in names]:
            raise UserError(f"SpectralNorm skips {unknown[0]!r}, which the network does not have; it has {', '.join(names)}")
        pairs = {}
        for path, weight in self._weights(params).items():
            u = jax.random.normal(named(key, "/".join((SPECTRAL, *path))), weight.shape[-1:], weight.dtype)
            iterate = lambda _, pair, weight=weight: self._iterate(weight, pair)
            pairs[path] = jax.lax.fori_loop(0, FIRST, iterate, (u, jnp.zeros_like(weight[:, 0])))
        return params, {**stats, SPECTRAL: _tree(pairs)}

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        """(output, new statistics). sigma is computed before the cast to `compute_dtype`."""
        params, vectors = self.normalised(params, stats[SPECTRAL], mode.train)
        others = {name: value for name, value in stats.items() if name != SPECTRAL}
        output, others = self.net.apply(params, others, inputs, labels, mode, numbers, compute_dtype)
        return output, {**others, SPECTRAL: vectors}

    def normalised(self, params: dict, vectors: dict, train: bool) -> tuple[dict, dict]:
        """(normalised parameters, vectors after this call). Training updates the vectors first."""
        flat, old, pairs = _flat(params), _flat(vectors), {}
        for path, weight in self._weights(params).items():
            pair = tuple(old[*path, name].astype(weight.dtype) for name in "uv")
            for _ in range(self.iterations if train else 0):
                pair = self._iterate(jax.lax.stop_gradient(weight), pair)
            pairs[path] = pair
            u, v = (self._unit(x) for x in pair)
            sigma = _times(_times(v, weight), u)
            factor = 1 / jnp.where(sigma == 0, 1, sigma)
            flat[path] = flat[path] * factor.astype(flat[path].dtype)
        return unflatten_dict(flat), jax.tree.map(lambda new, old: new.astype(old.dtype), _tree(pairs), vectors)

    def _weights(self, params: dict) -> dict:
        """{path: matrix [n, outputs]} of the weights; an embedding's outputs are its rows."""
        found = {}
        for path, weight in _flat(params).items():
            exact = weight.astype(wide(weight.dtype))
            if set(self.skip) & set(path):
                continue
            if path[-1] == "kernel" and weight.ndim >= 2:
                found[path] = exact.reshape(-1, weight.shape[-1])
            elif path[-1] == "embedding":
                found[path] = exact.T
        return found

    def _iterate(self, weight, pair):
        """v from u, then u from v. A weight of zeros keeps u, because no iteration leaves u = 0."""
        v = self._unit(_times(weight, pair[0]))
        u = self._unit(_times(v, weight))
        return jnp.where(u.any(), u, pair[0]), v

    def _unit(self, x):
        return x / jnp.maximum(jnp.sqrt(jnp.square(x).sum()), self.epsilon)


def _times(a, b):
    return jnp.matmul(a, b, precision="highest")  # a GPU's default precision leaves three digits of sigma


def _flat(tree: Any) -> dict[tuple[str, ...], Any]:
    return flatten_dict(tree)  # pyright: ignore[reportReturnType]


def _tree(pairs: dict) -> dict:
    return unflatten_dict({(*path, name): x for path, pair in pairs.items() for name, x in zip("uv", pair, strict=True)})
