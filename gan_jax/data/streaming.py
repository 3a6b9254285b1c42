"""Training images that stay on disk, decoded ahead by grain in threads or in other processes.

A `Stream` takes the place of a training `Split`. Step i takes the examples that data on the device
would have in step i (`order`), so a streamed run equals a resident one. Grain maps a step to its
batch, and a resumed run begins to read at its step: the step alone is the state of the reader.
"""

import hashlib
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, cast

import jax
import numpy as np

from gan_jax.arguments import count
from gan_jax.core.errors import UserError
from gan_jax.data.arrays import as_images, reason
from gan_jax.data.labels import as_numbers
from gan_jax.data.order import MAX_POSITION, HostOrder

TRIES = 100  # examples that are tried in place of a damaged one
AT_ONCE = 64  # examples that one thread reads in turn


class RandomAccess(Protocol):
    """A store of examples: arrays uint8 [h, w, c] or float32 [d], or tuples of array and label.

    It may also have `__getitems__(rows)`, many examples at once; `name(row)` of an example, for
    messages; `labels` of all examples, if they are known without reading; and `identity`, a text
    that identifies the examples.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


class Stream:
    """Training examples read from disk: `dataclasses.replace(data, train=Stream(source))`.

    source:  any `RandomAccess`; picklable where workers > 0
    rows:    which of its examples, in this order; None for all
    damaged: 'refuse' ends the run at an example that cannot be read, with one line that names it.
             'skip' takes the next readable example of this stream in its place, the same one in
             every epoch. The end of a run reports `damaged_examples`, {name: why} of those skipped.
    workers: processes that read and decode, or 0. Each process imports the script, which therefore
             needs the usual `if __name__ == "__main__":`.
    threads: threads of this process that read and decode where workers is 0

    Raises UserError for settings out of range, an empty source, and an unusable first example.
    """

    def __init__(self, source: RandomAccess, rows: Any = None, *, damaged: str = "refuse", workers: int = 0, threads: int = 2):
        if damaged not in ("refuse", "skip"):
            raise UserError(f"damaged={damaged!r}: choose what becomes of unreadable examples: refuse or skip")
        self.source, self.damaged = source, damaged
        self.workers = count(workers, "workers", least=0)
        self.threads = count(threads, "threads", least=1)
        self.rows = np.arange(len(source)) if rows is None else np.asarray(rows, np.int64)
        if not len(self.rows):
            raise UserError("there are no examples to stream: give at least one")
        self.damaged_examples: dict[str, str] = {}
        self._example: tuple | None = None  # shape and dtype of the first one, which all others share
        first, labels = self.read(np.arange(1))
        self._example = first.shape[1:], first.dtype
        self.images = Column(self, 0, *self._example)
        known = getattr(source, "labels", None)
        if labels is None:
            self.labels = None
        elif known is None:
            self.labels = Column(self, 1, (), labels.dtype)
        else:
            self.labels = as_numbers(np.asarray(known)[self.rows], len(self), "streamed examples")

    def __len__(self) -> int:
        return len(self.rows)

    def first(self, n: int) -> "Stream":
        """The stream of its first n examples."""
        fewer = Stream(self.source, self.rows[:n], damaged=self.damaged, workers=self.workers, threads=self.threads)
        fewer.damaged_examples |= self.damaged_examples
        return fewer

    @property
    def hash(self) -> str:
        """sha256 (hex) of the source's identity, the rows, and the examples' shape and dtype."""
        kind = f"{self.images.shape[1:]} {self.images.dtype.str} {self.labels is not None}"
        text = f"{getattr(self.source, 'identity', '')} {len(self.source)} {kind}\n"
        return hashlib.sha256(text.encode() + self.rows.astype("<i8").tobytes()).hexdigest()

    def read(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Images [m, ...], and labels int32 [m] or None, at these places [m] of the stream."""
        if not len(places):
            images, labels = self.read(np.arange(1))
            return images[:0], None if labels is None else labels[:0]
        with ThreadPoolExecutor(self.threads) as pool:
            parts = list(pool.map(self.attempt, np.array_split(places, -(-len(places) // AT_ONCE))))
        images, labels, damaged = zip(*parts, strict=True)
        for skipped in damaged:
            self.damaged_examples |= skipped
        return np.concatenate(images), None if labels[0] is None else np.concatenate(labels)

    def attempt(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, dict[str, str]]:
        """`read`, and the examples that were skipped: {name: why}. Raises UserError for the first
        example that may not be skipped."""
        rows = [int(row) for row in self.rows[places]]
        many = getattr(self.source, "__getitems__", lambda rows: [self.source[row] for row in rows])
        try:
            return *self._checked(list(many(rows))), {}
        except Exception:  # one by one, to find those that are damaged
            damaged: dict[str, str] = {}
            found = [self._one(int(place), damaged) for place in places]
            return *self._checked(found), damaged

    def _one(self, place: int, damaged: dict[str, str]) -> Any:
        """The example at a place, or the next one that can be read."""
        why, name_of = "", getattr(self.source, "name", "example {}".format)
        for other in range(place, place + min(TRIES, len(self.rows))):
            row = int(self.rows[other % len(self.rows)])
            try:
                example = self.source[row]
                self._checked([example])
                return example
            except Exception as error:  # a user's source, and a damaged file, may raise anything
                name = name_of(row)
                text = " ".join(str(error).split()) if isinstance(error, UserError) else f"cannot be read ({reason(error)})"
                why = text if name in text else f"{name}: {text}"
                if self.damaged == "refuse":
                    raise UserError(f"{why}; or stream with damaged='skip'") from error
                damaged[name] = why
        raise UserError(f"{len(damaged)} training examples in a row cannot be read, the last: {why}")

    def _checked(self, examples: list) -> tuple[np.ndarray, np.ndarray | None]:
        """Images [m, ...] and labels of examples. Raises UserError where they differ in kind."""
        labelled = isinstance(examples[0], tuple)
        images = as_images([e[0] if labelled else e for e in examples], "streamed examples")
        if self._example and (images.shape[1:], images.dtype) != self._example:
            shape, dtype = self._example
            raise UserError(f"streamed examples are {dtype} {shape}, one is {images.dtype} {images.shape[1:]}; give a size")
        labels = np.array([e[1] for e in examples]) if labelled else None
        return images, as_numbers(labels, len(images), "streamed examples")


class Column:
    """The images (field 0) or labels (field 1) of a stream, read when they are indexed."""

    def __init__(self, stream: Stream, field: int, shape: tuple[int, ...], dtype: np.dtype):
        self.stream, self.field, self.shape, self.dtype = stream, field, (len(stream), *shape), dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, which: Any) -> np.ndarray:
        places = np.arange(len(self))[which]
        if not np.ndim(places):
            return self[[which]][0]
        return cast(np.ndarray, self.stream.read(places)[self.field])

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def _batch(stream: Stream, order: HostOrder, examples: int, shard: tuple[int, int], step: int) -> dict[str, Any]:
    """One step's element for grain: process k reads the k-th stretch of the batch.

    Where it cannot be read, the element holds the reason, because an exception in a worker would
    show a traceback alone.
    """
    process, processes = shard
    share = examples // processes
    position = step * examples + process * share + np.arange(share)
    try:
        images, labels, damaged = stream.attempt(order(position))
    except UserError as error:
        return {"refused": str(error)}
    element = {"images": images, "labels": labels, "damaged": json.dumps(damaged) if damaged else None}
    return {name: value for name, value in element.items() if value is not None}


def batches(
    stream: Stream, key: jax.Array, examples: int, first: int, last: int, *, ahead: int = 16, shard: tuple[int, int] = (0, 1)
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of the steps `first` to `last` - 1: {"images": [b, ...], "labels": [b] if any}.

    key:      of the order
    examples: of each batch
    ahead:    batches that are decoded in advance
    shard:    (this process, the number of processes); b is examples / processes

    Close the iterator to end its threads or processes. Raises UserError without grain, for a batch
    that does not divide, and as `Stream` for damaged examples.
    """
    if examples % shard[1]:
        raise UserError(f"a batch of {examples} does not divide among {shard[1]} processes: change the batch size")
    if last * examples > MAX_POSITION:
        raise UserError(f"{last} steps of {examples} examples are more than {MAX_POSITION}: take fewer")
    try:
        import grain
    except ImportError:
        raise UserError('streaming reads with grain: pip install "gan-jax[stream]"') from None
    order = HostOrder.between(key, first * examples, last * examples, len(stream))
    source = grain.MapDataset.range(first, last).map(partial(_batch, stream, order, examples, shard))
    if stream.workers:
        from absl import flags

        flags.FLAGS.mark_as_parsed()  # grain's processes ask for flags, which nothing has parsed here
        each = grain.MultiprocessingOptions(stream.workers, per_worker_buffer_size=-(-ahead // stream.workers))
        inline = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        piped = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)  # shared memory could be left behind
        read = grain.experimental.WithOptionsIterDataset(source.to_iter_dataset(inline), piped)
        return _reported(iter(read.mp_prefetch(each, end_with_parent)), stream)
    ahead = max(ahead, stream.threads)
    return _reported(iter(source.to_iter_dataset(grain.ReadOptions(stream.threads, ahead))), stream)


def end_with_parent(*_) -> None:
    """In a worker: leave Ctrl-C to the parent, and end when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _reported(iterator: Any, stream: Stream) -> Iterator[dict[str, np.ndarray]]:
    """The elements, with their damaged examples noted. Raises UserError for whatever goes wrong."""
    try:
        for element in iterator:
            if "refused" in element:
                raise UserError(element["refused"])
            stream.damaged_examples |= json.loads(element.pop("damaged", "{}"))
            yield element
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"reading the training data failed: {reason(error)}") from error
    finally:
        iterator.close()
