"""An order of examples that depends on what they are, not on how they were stored."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike

from gan_jax.data.splits import stratified_order


def content_order(examples: np.ndarray, labels: ArrayLike | None = None, seed: int = 0) -> np.ndarray:
    """A seeded order int64 [n] of examples [n, ...], the same for the same examples in any order.

    The examples are sorted by label and by a digest of their bytes, and the result is permuted, so
    that "the first n" is a random subset and a function of the set. With labels [n] each prefix
    holds every label in proportion, see `splits.stratified_order`. Equal examples of one label are
    interchangeable.

        >>> x = x[content_order(x)]
    """
    n = len(examples)
    kinds = np.zeros(n, np.int64) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    digests = [hashlib.blake2b(row, digest_size=16).digest() for row in map(memoryview, np.ascontiguousarray(examples))]
    by_content = np.array(sorted(range(n), key=lambda i: (kinds[i], digests[i])), np.int64)
    return by_content[stratified_order(None if labels is None else kinds[by_content], n, seed, "given order")]


def labels_in_shares(counts: ArrayLike, n: int) -> np.ndarray:
    """Labels int32 [n] as frequent as `counts` [K], in each prefix as nearly as it can; every class
    in turn where all counts are equal."""
    counts = np.asarray(counts, np.float64)
    ranks = [np.arange(np.ceil(n * share) + 1) for share in counts / counts.sum()]
    labels = np.repeat(np.arange(len(counts)), [len(rank) * (count > 0) for rank, count in zip(ranks, counts, strict=True)])
    places = np.concatenate([(rank + 0.5) / count for rank, count in zip(ranks, counts, strict=True) if count])
    return labels[np.lexsort((labels, places))][:n].astype(np.int32)
