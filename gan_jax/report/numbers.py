"""Rows 1 to 9 of the report for any set of images (samples and each control alike). T are the
training images."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from gan_jax.arguments import count
from gan_jax.core.errors import UserError
from gan_jax.metrics import frechet, kernels, memorization, neighbours, pairs
from gan_jax.metrics.features import Extractor, check_images
from gan_jax.metrics.features.fixed import pixels
from gan_jax.metrics.halves import SPLITS, Halves
from gan_jax.metrics.pairs import CrossPairs, SelfPairs
from gan_jax.report.controls import CONTROLS, COPYCAT, Sets, controls
from gan_jax.report.copying import Pool
from gan_jax.report.measured import Measured, around, averaged, share_around, share_error, surely_positive, t_quantile
from gan_jax.report.metric_specs import SHARES

Nearest = tuple[np.ndarray, np.ndarray]  # (distance, index) of each sample's nearest

NEIGHBOURS = 5
LARGEST = 10_000  # of a set, in the passes over all pairs
FEW = 1000  # held-out images below which near-copies have 5 % false positives instead of 1 %
PER_CELL = 50  # held-out images for each cell, at least
FEWEST_CELLS, CELLS = 2, 20  # cells: one would not show that half is missing
FITTED = 4000  # images of T that the cells are fitted to, at most
BLOCKS, FEW_BLOCKS, WIDE = 10, 6, 512  # of the jackknife; fewer where there are more than WIDE features
POINTS = 5  # subset sizes of the extrapolated Frechet distance
COPIES = 3.0  # times the false-positive rate: more near-copies than that are no accident
HARDLY = 4  # a cell is missing where samples have less than a quarter of the held-out share


class References:
    """T and the held-out set in the features of one extractor, and everything computed from them,
    once.

    `measure(images)` gives the numbers of any images; `controls` are those of the five controls.
    The distances of rows 1 to 5 and 9 take `n` images each of T, of the held-out set and of the
    samples; the copying scores of rows 6 to 8 use all of them. Where `sets` has folds, all are
    means over the folds. notes: what the reader must know of the features. Raises UserError where n
    is not above k, or a set has fewer images.
    """

    def __init__(
        self,
        sets: Sets,
        extractor: Extractor,
        *,
        n: int | None = None,
        k: int = NEIGHBOURS,
        seed: int = 0,
        notes: tuple[str, ...] = (),
    ):
        self.sets, self.extractor, self.k, self.seed, self.notes = sets, extractor, k, seed, notes
        most = min(len(part) for s in (sets.folds or (sets,)) for part in (s.train, s.held_out, s.control))
        most = min(most, LARGEST)
        self.n = most if n is None else count(n, "n")
        if not k < self.n <= most:
            raise UserError(f"n={self.n} images of each set: there are {most}, and neighbours ask for more than {k}")
        self.rate = 0.01 if len(sets.held_out) >= FEW else 0.05
        self.pixels = pixels(sets.train.images.shape[1:])

    @cached_property
    def folds(self) -> "list[References]":
        """The references whose numbers are averaged: of the folds, or these alone."""
        made = [References(sets, self.extractor, n=self.n, k=self.k, seed=self.seed) for sets in self.sets.folds]
        for i, fold in enumerate(made):  # each takes the next n of T
            vars(fold).update({name: np.roll(getattr(self, name), -i * self.n, 0) for name in ("train", "train_distance")})
            vars(fold).update(train_pixels=self.train_pixels, centres=made[0].centres)
        return made or [self]

    @cached_property
    def train(self) -> np.ndarray:
        return self.extractor(self.sets.train.images)

    @cached_property
    def held_out(self) -> np.ndarray:
        return self.extractor(self.sets.held_out.images)

    @cached_property
    def train_pixels(self) -> np.ndarray:
        return self.pixels(self.sets.train.images)

    @cached_property
    def pool(self) -> Pool:
        """T and all held-out images, among which copies are looked for."""
        held = [self.extractor(self.sets.control.images)] if not self.sets.folds else []
        differ = self.extractor.digest != self.pixels.digest
        return Pool(self.sets, self.extractor, lambda: [self.train, self.held_out, *held], differ, self.seed)

    @cached_property
    def near(self) -> tuple[SelfPairs, SelfPairs]:
        """Neighbours inside the first n of T, and inside the first n held-out images."""
        return pairs.self_pairs(self.train[: self.n], self.k), pairs.self_pairs(self.held_out[: self.n], self.k)

    @cached_property
    def blocks(self) -> tuple[frechet.Blocks, frechet.Blocks]:
        """The first n of T, and the first n held-out images, for Frechet distances."""
        blocks = BLOCKS if self.train.shape[1] <= WIDE else FEW_BLOCKS
        return frechet.Blocks(self.train[: self.n], blocks), frechet.Blocks(self.held_out[: self.n], blocks)

    @cached_property
    def halves(self) -> Halves:
        return Halves(self.train[: self.n], self.held_out[: self.n], self.k, self.seed)

    @cached_property
    def copying(self) -> "_Copying":
        return _Copying(self.train, self.held_out, self.rate)

    @cached_property
    def copying_pixels(self) -> "_Copying":
        return _Copying(self.train_pixels, self.pixels(self.sets.held_out.images), self.rate)

    @cached_property
    def train_distance(self) -> np.ndarray:
        """The distance of each image of T to the nearest other one."""
        return (self.near[0] if self.n == len(self.train) else pairs.self_pairs(self.train, 1)).distance

    @cached_property
    def centres(self) -> np.ndarray:
        """The centres of cells of the feature space (k-means of T)."""
        k = int(np.clip(len(self.held_out) // PER_CELL, FEWEST_CELLS, CELLS))
        return memorization.cells(self.train[:FITTED], k, self.seed)

    def measure(self, images: np.ndarray) -> dict[str, Measured]:
        """Rows 1 to 9 of images like those of T, by the keys of `metric_specs.METRIC_SPECS`. Raises
        UserError where the images do not fit or are fewer than n."""
        images = check_images(images, "generated images")
        shape, real = list(images.shape[1:]), list(self.sets.train.images.shape[1:])
        if shape != real:
            raise UserError(f"generated images have shape {shape}, those of T {real}: resize them as the data were")
        if len(images) < self.n:
            raise UserError(f"{len(images)} generated images: give at least {self.n}, as many as T and held-out images each")
        x = self.extractor(images)
        flat = None if self.extractor.digest == self.pixels.digest else self.pixels(images)
        return averaged([fold._numbers(np.roll(x, -i * self.n, 0), flat) for i, fold in enumerate(self.folds)])

    def _numbers(self, x: np.ndarray, flat: np.ndarray | None) -> dict[str, Measured]:
        """Rows 1 to 9 of one fold, from features x and pixels, where those are others."""
        numbers, passes = self._distances(x[: self.n])
        cells, held_out_cells = (memorization.assign(features, self.centres) for features in (x, self.held_out))
        held, made = (np.bincount(c, minlength=len(self.centres)) / len(c) for c in (held_out_cells, cells))
        numbers["missing"] = Measured(float(held[made < held / HARDLY].sum()))
        numbers |= self._copying(x, *passes, cells, held_out_cells)
        if flat is not None:
            copying = self.copying_pixels
            numbers["near_copies_pixels"] = copying.near_copies(neighbours.nearest(flat, copying.train))
            if numbers["near_copies_pixels"].value > COPIES * self.rate and not surely_positive(numbers["copy_share"]):
                caveat = copying.alike(neighbours.nearest(flat, copying.held_out_features))
                numbers["near_copies_pixels"] = replace(numbers["near_copies_pixels"], caveat=caveat)
        return numbers

    def _distances(self, x: np.ndarray) -> tuple[dict[str, Measured], tuple[CrossPairs, CrossPairs]]:
        """Rows 1 to 5 and 9 of n samples x beside T (t) and held-out images (h), and the passes
        over x's pairs with both. wx, wt, wh: pairs within a set; to_t, to_h: pairs with x."""
        t, h = self.train[: self.n], self.held_out[: self.n]
        wt, wh = self.near
        wx = pairs.self_pairs(x, self.k)
        to_t, to_h = pairs.cross_pairs(x, t, wx, wt), pairs.cross_pairs(x, h, wx, wh)
        passes = wx, wt, wh, to_t, to_h
        shares, errors, sure = _shares(*passes), self.halves.errors(x, _shares), t_quantile(SPLITS)
        beside, found = _errors_beside(shares, to_h.in_y_balls, self.k), {}
        for key, value in shares.items():
            number = share_around(value, errors[key], self.n, sure) if key in SHARES else around(value, errors[key], sure)
            found[key] = replace(number, beside=beside[key])
        return self._frechet(x) | _kernels(*passes) | found, (to_t, to_h)

    def _nearest(self, x: np.ndarray, reals: np.ndarray, seen: CrossPairs) -> Nearest:
        """The nearest of all `reals` to each x, from the pass `seen` where that saw them all."""
        if len(x) == len(reals) == self.n:
            return seen.forward_distance, seen.forward_index
        return neighbours.nearest(x, reals)

    def _frechet(self, x: np.ndarray) -> dict[str, Measured]:
        blocks = self.blocks[0].blocks
        jackknife = frechet.frechet_jackknife(frechet.Blocks(x, blocks), self.blocks)

        def found(of: Callable[[np.ndarray], np.ndarray]) -> Measured:
            """Of columns of distances to T and to held-out images."""
            whole, left, alone = map(of, jackknife)
            error, beside = frechet.frechet_error(whole, left), frechet.jackknife_error(alone)
            return replace(around(float(whole), float(error), t_quantile(blocks - 1)), beside=float(beside))

        try:
            endless = Measured(frechet.fd_infinity(x, self.blocks[1].moments(), points=POINTS, seed=self.seed))
        except UserError as error:
            endless = Measured(math.nan, caveat=f"not available: {error}")
        return {
            "fd": found(lambda to: to[..., 1]),
            "fd_infinity": endless,
            "fd_gap": found(lambda to: to[..., 1] - to[..., 0]),
        }

    def gap_p(self, images: np.ndarray, permutations: int) -> Measured:
        """p of the gap of Frechet distances under random exchanges of T and held-out images.

        One-sided, positive gaps are overfitting: (1 + as large gaps) / (1 + permutations). Exact
        for samples that are independent of T.
        """
        random = np.random.Generator(np.random.PCG64(self.seed))
        own = frechet.moments(self.extractor(images)[: self.n])
        pool = np.concatenate([self.train[: self.n], self.held_out[: self.n]])

        def gap(order: np.ndarray) -> float:
            t, h = (frechet.moments(pool[half]) for half in (order[: self.n], order[self.n :]))
            return frechet.frechet_distance(h, own) - frechet.frechet_distance(t, own)

        observed = gap(np.arange(len(pool)))
        larger = sum(gap(random.permutation(len(pool))) >= observed for _ in range(permutations))
        return Measured((1 + larger) / (1 + permutations))

    def _copying(
        self, x: np.ndarray, to_t: CrossPairs, to_h: CrossPairs, cells: np.ndarray, held_out_cells: np.ndarray
    ) -> dict[str, Measured]:
        """Rows 6 to 8: all samples against all of T, calibrated by all held-out images."""
        to_train, to_held = self._nearest(x, self.train, to_t), self._nearest(x, self.held_out, to_h)
        copying = self.copying
        test = memorization.data_copying(to_train[0], copying.held_out[0], cells, held_out_cells)
        authentic, expected = (
            memorization.authenticity(self.train_distance, index, distance) for distance, index in (to_train, copying.held_out)
        )
        errors = share_error(authentic, len(x)), share_error(expected, len(self.held_out))
        authentic_error = math.hypot(*errors)
        share = _copy_share(to_train, to_held, len(self.train), len(self.held_out))
        numbers = {
            "c_t": around(test.global_z, 1.0),
            "c_t_worst": Measured(test.worst_z),
            "c_t_share": Measured(test.share_below),
            "authenticity_gap": around(expected - authentic, authentic_error),
            "near_copies": copying.near_copies(to_train),
        }
        if not surely_positive(share) and (caveat := copying.alike(to_held)):
            numbers = {key: replace(number, caveat=caveat) for key, number in numbers.items()}
        return numbers | {"copy_share": share}

    @cached_property
    def control_images(self) -> dict[str, np.ndarray]:
        """The controls as images: all of the real control, and as many of the others."""
        cells = memorization.assign(self.extractor(self.sets.control.images), self.centres)
        return controls(self.sets, cells, len(self.sets.control), self.seed)

    @cached_property
    def controls(self) -> dict[str, dict[str, Measured]]:
        """{control: its numbers}."""
        if self.sets.folds:
            return {name: averaged([fold.controls[name] for fold in self.folds]) for name in CONTROLS}
        return {name: self.measure(images) for name, images in self.control_images.items()}

    @cached_property
    def distances(self) -> dict[str, np.ndarray]:
        """Distances to T of held-out images and of copies, for their picture."""
        copies = neighbours.nearest(self.extractor(self.control_images[COPYCAT]), self.train)
        return {"held out": self.copying.held_out[0], COPYCAT: copies[0]}


class _Copying:
    """Near-copies of training features, by the distances of held-out features to them."""

    def __init__(self, train: np.ndarray, held_out: np.ndarray, rate: float):
        self.train, self.held_out_features, self.rate = train, held_out, rate
        self.held_out = neighbours.nearest(held_out, train)
        self.threshold = memorization.near_copies(self.held_out[0], self.held_out[0], rate).threshold

    def near_copies(self, to_train: Nearest) -> Measured:
        """The share nearer to T than all but `rate` of held-out images. Its interval is over the
        samples and over the held-out images that the threshold comes from."""
        found = memorization.near_copies(to_train[0], self.held_out[0], self.rate)
        m, n = len(to_train[0]), len(self.held_out[0])
        return share_around(found.rate, math.sqrt(found.rate * (1 - found.rate) * (1 / m + 1 / n)), min(m, n))

    def alike(self, to_held: Nearest) -> str:
        """Why nearness to training features is no sign of copying, or '': more than COPIES times
        `rate` of the samples are as near to held-out features, which copies of T are not. Blurred
        images, and those of one grey, are near to everything."""
        share = float((to_held[0] < self.threshold).mean())
        if share <= COPIES * self.rate:
            return ""
        return f"{share:.0%} of the samples are as near to held-out images: they are blurred or alike, not copies"


def _copy_share(to_train: Nearest, to_held: Nearest, n_train: int, n_held: int) -> Measured:
    """Share of samples whose nearest real image is in T, above chance: (share - p) / (1 - p), p =
    |T| / (|T| + |held|), which is 0 for samples that are independent of T.

    The interval has the width that it has where which of the N real images are in T is drawn anew:
    p (1 - p) N / (N - 1) (sum c^2 / m^2 - 1 / N), c being how many of the m samples are nearest to
    an image. Where all are nearest to one image (a hub), it says nothing.
    """
    nearer, real = to_train[0] < to_held[0], n_train + n_held
    chance = n_train / real
    counts = np.bincount(np.where(nearer, to_train[1], n_train + to_held[1])).astype(float)
    spread = (counts**2).sum() / len(nearer) ** 2 - 1 / real
    error = math.sqrt(chance * (1 - chance) * real / (real - 1) * max(spread, 0))
    return around((nearer.mean() - chance) / (1 - chance), error / (1 - chance))


def _kernels(wx: SelfPairs, wt: SelfPairs, wh: SelfPairs, to_t: CrossPairs, to_h: CrossPairs) -> dict[str, Measured]:
    return {
        "kid": around(kernels.kid_from(wx, wh, to_h), kernels.kid_error(wx, wh, to_h)),
        "kid_gap": around(*kernels.kid_gap(wh, to_h, wt, to_t)),
    }


def _shares(wx: SelfPairs, wt: SelfPairs, wh: SelfPairs, to_t: CrossPairs, to_h: CrossPairs) -> dict[str, float]:
    """Rows 4, 5 and 9 of samples, T and held-out images, equally many of each."""
    by_t, by_h = neighbours.prdc_from(wt, wx, to_t), neighbours.prdc_from(wh, wx, to_h)
    to_train, to_held = neighbours.one_nn_from(wx, wt, to_t), neighbours.one_nn_from(wx, wh, to_h)
    return {
        **{key: by_h[key] for key in ("precision", "density", "coverage")},
        "coverage_gap": by_t["coverage"] - by_h["coverage"],
        "one_nn_train": to_train["accuracy"],
        "one_nn": to_held["accuracy"],
        "one_nn_generated": to_held["x_accuracy"],
        "one_nn_real": to_held["y_accuracy"],
    }


def _errors_beside(shares: Mapping[str, float], balls: np.ndarray, k: int) -> dict[str, float]:
    """The standard errors of `_shares` over draws of the n samples alone, as of independent ones.
    balls [n]: how many balls of radius k of held-out images each sample is in."""
    n, covered = len(balls), shares["coverage"]
    of_both = [share_error(share, n) for share in (covered, covered + shares["coverage_gap"])]
    errors = {"density": balls.std() / k / n**0.5, "coverage_gap": math.hypot(*of_both)}
    sizes = {key: 2 * n if key in ("one_nn", "one_nn_train") else n for key in shares if key not in errors}
    return errors | {key: share_error(shares[key], size) for key, size in sizes.items()}
