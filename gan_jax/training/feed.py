"""The training set on the devices: whole, or streamed from disk in windows of a few steps."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.core.batch import Feed, Window
from gan_jax.core.errors import UserError, say
from gan_jax.data.splits import Splits
from gan_jax.data.streaming import Stream, batches
from gan_jax.training import distributed
from gan_jax.training.placement import Placement
from gan_jax.training.run import EVALUATED

WINDOW_BYTES = 2**28  # of one window; memory holds about three: one on the device, one being filled, one read ahead
AHEAD = 50  # batches that are read ahead at most: those of the default interval between logs


class Windows:
    """A context with a run's streamed batches on the devices. Its end prints the skipped examples.

    examples: of a batch. last: the step that the run ends with. note: is called with {"name": ...,
    "why": ...} for each damaged example whose name is not in `noted`.
    """

    def __init__(
        self, stream: Stream, key: jax.Array, examples: int, placement: Placement, last: int,
        note: Callable[[dict], None] | None = None, noted: Iterable[str] = (),
    ):  # fmt: skip
        self.stream, self.key, self.examples, self.placement, self.last = stream, key, examples, placement, last
        self.note, self.noted = note or (lambda row: None), set(noted)
        self.reading: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        if self.reading is not None:
            self.reading.close()
        if (damaged := self.stream.damaged_examples) and distributed.is_primary():
            names = ", ".join(list(damaged)[:10]) + (", ..." if len(damaged) > 10 else "")
            count = f"{len(damaged)} damaged example{'s'[: len(damaged) > 1]}"
            say(f"skipped {count}, others took their place: {names}")

    def upto(self, step: int, until: int) -> Iterator[Window]:
        """Windows of equal length from `step`, where the last call ended, to `until`."""
        share = (jax.process_index(), jax.process_count())
        images = self.stream.images
        most = max(1, WINDOW_BYTES * share[1] // (self.examples * images.nbytes // len(images)))
        length = max(k for k in range(1, until - step + 1) if (until - step) % k == 0 and k <= most)
        if self.reading is None:
            self.reading = batches(self.stream, self.key, self.examples, step, self.last, ahead=min(most, AHEAD), shard=share)
        for first in range(step, until, length):
            yield self._window(first, length)

    def _window(self, first: int, length: int) -> Window:
        whole: dict[str, np.ndarray] = {}
        for i in range(length):
            for name, values in next(self.reading).items():
                whole.setdefault(name, np.empty((length, *values.shape), values.dtype))[i] = values
        for name in self.stream.damaged_examples.keys() - self.noted:
            self.note({"name": name, "why": self.stream.damaged_examples[name]})
            self.noted.add(name)
        images, labels = (jax.tree.map(self.placement.shard_batches, whole.get(name)) for name in ("images", "labels"))
        return Window(images, labels, self.placement.replicate(jnp.int32(first)))


def check_streamed(recipe: Any, data: Splits) -> None:
    """Raises UserError where streamed data meet a recipe that draws its examples by class."""
    if isinstance(data.train, Stream) and getattr(recipe, "sampling", None) is not None:
        raise UserError(f"the recipe draws reals by their class, which needs {data.name} on the device: load it without stream")


def feed_of(data: Splits, key: jax.Array, placement: Placement) -> Feed:
    """The training set on every device, in the order of `key`. Raises UserError where the set does
    not fit, or is streamed."""
    if isinstance(data.train, Stream):
        raise UserError(f"{data.name} is streamed, which only a run of its own can be: load it without stream")
    train, room = data.train, (placement.local_devices[0].memory_stats() or {}).get("bytes_limit", float("inf"))
    if train.images.nbytes > 0.8 * room:
        raise UserError(
            f"{train.images.nbytes / 2**30:.1f} GiB of training images do not fit on a device of {room / 2**30:.1f} GiB: "
            "take a subset or a smaller size, or stream them from disk: load(..., stream=True)"
        )
    labels = None if train.labels is None else np.asarray(train.labels, np.int32)
    put = placement.replicate if placement.spans_hosts else lambda tree: placement.replicate(jax.tree.map(jnp.asarray, tree))
    return put(Feed(train.images, labels, jnp.int32(len(train)), key))  # pyright: ignore[reportArgumentType] # NumPy arrays


def evaluation_sets(data: Splits, most: int) -> tuple | None:
    """(images, labels) of the training and of the validation split, equally many: at most EVALUATED
    and `most`. None where there are fewer than 2."""
    n = min(EVALUATED, most, len(data.validation))
    pick = lambda s: (jnp.asarray(s.images[:n]), None if s.labels is None else jnp.asarray(s.labels[:n], jnp.int32))
    return (pick(data.train), pick(data.validation)) if n > 1 else None
