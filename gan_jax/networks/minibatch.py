"""Minibatch standard deviation: a layer with which a discriminator compares examples of a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gan_jax.core.batch import all_gather
from gan_jax.core.errors import UserError
from gan_jax.core.net import EVALUATION, Mode

EPSILON = 1e-8  # inside the square root: its derivative at zero is infinite


def minibatch_std(
    x: Float[Array, "b h w c"], group: int, channels: int = 1, mode: Mode = EVALUATION
) -> Float[Array, "b h w d"]:
    """x with `channels` feature maps appended: how much the example's group varies.

    A map is constant over an example: sqrt(variance over the group + 1e-8), averaged over positions
    and over one of `channels` equal parts of the features (Karras et al., 2018, section 3). group:
    4 in StyleGAN2, 32 in StyleGAN2-ADA's CIFAR-10; channels: 1 in both.

    A group is `group` consecutive examples of the whole batch. NVIDIA's groups are strided (example
    i is in group i mod b / group), which only permutes the batch. Where a device's shard holds no
    whole number of groups, the devices of `mode.axis_name` exchange x. With `judge_together` a
    group may hold both reals and fakes, unless its size divides the number of reals. In evaluation
    the examples beyond the last whole group take the value of the last `group` examples; a batch
    smaller than a group is one group.

    Raises UserError for a group that does not divide the batch in training, and for channels that
    do not divide the features."""
    if x.shape[-1] % channels:
        raise UserError(f"minibatch std of {channels} channels does not divide {x.shape[-1]} features: give a divisor")
    devices = 1 if mode.axis_name is None else jax.lax.axis_size(mode.axis_name)
    n = len(x)
    if mode.train and (n * devices) % group:
        raise UserError(f"minibatch std's group is {group}: D sees {n * devices} examples at once; give a divisor of that")
    if devices == 1 or n // mode.passes % group == 0:
        spread = _spread(x, group, channels)
    else:
        spread = _spread_over_devices(x, group, channels, mode)
    return jnp.concatenate([x, jnp.broadcast_to(spread[:, None, None], (*x.shape[:3], channels))], -1)


def _spread_over_devices(x, group: int, channels: int, mode: Mode) -> Float[Array, "b channels"]:
    """`_spread` of this shard, in groups of the whole batch in the order of its indices."""
    n, every = len(x), all_gather(x, mode.axis_name)
    places = jnp.arange(len(every))
    if mode.draws is not None and len(mode.draws.index) == n:  # a device holds both reals and fakes
        places = all_gather(mode.draws.index, mode.axis_name)
    order = jnp.argsort(places)
    whole = _spread(every[order], group, channels)[jnp.argsort(order)]
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(mode.axis_name) * n, n)


def _spread(x, group: int, channels: int) -> Float[Array, "b channels"]:
    """The values of each example."""
    n, group = len(x), min(group, len(x))
    whole = n - n % group

    def of_groups(x, times: int):
        _, h, w, c = x.shape
        x = x.reshape(-1, group, h, w, channels, c // channels)
        return jnp.repeat(jnp.sqrt(x.var(1) + EPSILON).mean((1, 2, 4)), times, 0)

    values = of_groups(x[:whole], group)
    return values if whole == n else jnp.concatenate([values, of_groups(x[n - group :], n - whole)])
