"""Networks: linen modules, one family a file, behind `Net`.

A new network is one new file here. A class marked `@part("networks.<file>")` is found by the name
that a record gives it.
"""

from gan_jax.networks.nnx import from_nnx

__all__ = ["from_nnx"]
