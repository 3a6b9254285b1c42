"""Noise on a generator's class embeddings, as in NoisyTwins."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from gan_jax.class_weights import checked_counts, effective_number
from gan_jax.core.errors import UserError
from gan_jax.core.net import Mode
from gan_jax.core.parts import part
from gan_jax.networks.layers import normal_like


@part("networks")
@dataclass(frozen=True)
class NoisyLabels:
    """A generator with noisy class embeddings in training: e_k + s_k * N(0, 1).

    s_k = sigma / effective_number(n_k, beta). This is the noise augmentation of NoisyTwins
    (Rangwani et al., 2023, section 4.1). The embedding of a rare class stands for a wider region,
    which keeps G from mapping it to few images. Their second part, a Barlow Twins loss between two
    noisy copies in StyleGAN's w, is not here, because most networks of this library have no w.

    It takes the place of a Net, `NoisyLabels(Net(Generator(...)))`, adds noise to every nn.Embed of
    it, and reads three numbers of the generator's Side:
        label_noise   sigma >= 0, in units of the embedding (N(0, 1) at the start); .75 in the paper
        label_counts  [K] images of each class (`data.class_counts`)
        label_beta    in [0, 1], .99 in the paper: one image has sigma, a thousand have sigma / 100
    Raises UserError without these numbers, and for a network without labels."""

    net: Any

    def init(self, key, inputs, labels, numbers: dict) -> tuple[dict, dict]:
        if labels is None:
            raise UserError("NoisyLabels needs a network that sees labels: give the recipe classes")
        return self.net.init(key, inputs, labels, self._others(numbers))

    def apply(self, params, stats, inputs, labels, mode: Mode, numbers: dict, compute_dtype=None) -> tuple[Any, dict]:
        others = self._others(numbers)
        if not mode.train or mode.draws is None:
            return self.net.apply(params, stats, inputs, labels, mode, others, compute_dtype)
        counts = jnp.asarray(numbers["label_counts"], inputs.dtype)
        spread = jnp.asarray(numbers["label_noise"], inputs.dtype) / effective_number(counts, numbers["label_beta"])
        std, own = spread[labels][:, None], mode.draws.named("label_noise")

        def noisy(call, args, kwargs, context):
            made = call(*args, **kwargs)
            if not isinstance(context.module, nn.Embed) or context.method_name != "__call__":
                return made
            return made + std.astype(made.dtype) * normal_like(made, own.named(*context.module.path))

        with nn.intercept_methods(noisy):
            return self.net.apply(params, stats, inputs, labels, mode, others, compute_dtype)

    def _others(self, numbers: dict) -> dict:
        mine = ("label_noise", "label_counts", "label_beta")
        if missing := [name for name in mine if name not in numbers]:
            raise UserError(f"NoisyLabels wants the number {missing[0]!r} in the generator's Side: see `with_label_noise`")
        return {name: value for name, value in numbers.items() if name not in mine}


def with_label_noise(side: Any, counts: Any, *, sigma=0.75, beta=0.99) -> Any:
    """A generator's Side with `NoisyLabels` and its numbers. counts: [K] images of each class, at
    least 1, otherwise UserError"""
    numbers = {"label_noise": sigma, "label_counts": checked_counts(counts, "label noise"), "label_beta": beta}
    return side.replace(net=NoisyLabels(side.net), numbers=side.numbers | numbers)
