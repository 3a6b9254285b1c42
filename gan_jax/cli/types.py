"""Ranges of options. Beside the type of an option they say what may be given, and `cli.run` refuses
the rest in one line before anything is imported, read or written."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1, lt=2**31)]
Few = Annotated[int, Field(ge=1, le=100_000)]  # of what is made or listed one by one
FewOrNone = Annotated[int, Field(ge=0, le=100_000)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # JAX reads 32 bits of a seed
Side = Annotated[int, Field(ge=1, le=4096)]  # of images, in pixels

Finite = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
