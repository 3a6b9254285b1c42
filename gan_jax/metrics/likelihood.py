"""The likelihood of held-out data under generated samples, and of samples under a known density."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from gan_jax.core.errors import UserError
from gan_jax.data.splits import Density
from gan_jax.metrics.checks import check_features
from gan_jax.metrics.modes import coverage

NAMES = "training", "held-out", "generated"
RATE, EPOCHS, BATCH = 0.5, 50, 10_000  # of Adam
CENTRES = 10_000  # generated examples at most
CLAMP = 40.0  # of log variances: a copy's would go to minus infinity
SHRINK = 0.9  # of the distances to the origin component
PATIENCE, STILL = 5, 5e-4  # stop once the loss has changed by less than STILL from each of the last PATIENCE epochs
ALIKE = 1e-12  # of the squared size of the features: nearer squared distances are 0
ROWS = 512  # examples at a time: the temporaries are [ROWS, centres]


def fld(
    train: ArrayLike, held_out: ArrayLike, generated: ArrayLike, baseline: float = 0.0, centres: int = CENTRES, seed: int = 0
) -> dict[str, float]:
    """Feature Likelihood Divergence (Jiralerspong et al. 2023), of features [n, d], [s, d], [m, d].

    Features are standardised by the mean and the deviation (ddof 1) of held_out; those that are
    constant there are left out. A mixture of isotropic Gaussians of equal weights, one centred on
    each generated example, has its variances fitted to train (`fit`). NLL is the mean of
    -log p(x) / d in nats.

        train_nll, held_out_nll: NLL of either set under the mixture
        fld: 100 (held_out_nll - baseline): lower is better; copies (without bound), poor samples
          and missing modes all raise it
        gap: 100 (held_out_nll - train_nll): > 0 is overfitting, in the thousands for copies; about
          0 on average for independent samples. The authors' gap has the other sign

    baseline: `baseline_nll`, the held-out NLL of real data in the generator's place for this
    extractor, data and `centres`; 0 only orders generators of one data set. centres: at most so
    many generated examples are used, drawn with `seed`; FLD of different numbers of them does not
    compare.
    Raises UserError where features are not finite, fewer than 2, of different widths, or constant.
    """
    train, held_out, generated = _standardised(train, held_out, generated)
    random = np.random.default_rng(seed)
    if len(generated) > centres:
        generated = generated[random.choice(len(generated), centres, replace=False)]
    log_variance = fit(generated, train, random)
    of_train, of_held_out = (float(mixture_nll(x, generated, log_variance).mean()) for x in (train, held_out))
    return {
        "fld": 100 * (of_held_out - baseline),
        "train_nll": of_train,
        "held_out_nll": of_held_out,
        "gap": 100 * (of_held_out - of_train),
    }


def baseline_nll(train: ArrayLike, held_out: ArrayLike, centres: int = CENTRES, seed: int = 0) -> float:
    """The `baseline` of `fld` by the authors' code; `centres` is the number of generated examples.

    It is the NLL of held_out under a mixture centred on a random half of train (at most `centres`)
    and fitted to the rest. Raises UserError as `fld` does.
    """
    train, held_out, _ = _standardised(train, held_out, train)
    random = np.random.default_rng(seed)
    train = train[random.permutation(len(train))]
    half = min(centres, len(train) // 2)
    return float(mixture_nll(held_out, train[:half], fit(train[:half], train[half:], random)).mean())


def _standardised(*named: ArrayLike) -> list[np.ndarray]:
    """train, held_out and generated, less the mean of held_out, over its deviation."""
    sets = [check_features(x, f"fld: {name} features") for x, name in zip(named, NAMES, strict=True)]
    held_out = sets[1]
    for x, name in zip(sets, NAMES, strict=True):
        if (d := x.shape[1]) != held_out.shape[1]:
            raise UserError(f"fld: {d} {name} features but {held_out.shape[1]} held-out ones: use one extractor")
    spread = held_out.std(0, ddof=1)
    varies = np.ptp(held_out, axis=0) > 0  # of equal numbers the deviation may be rounding
    if not varies.any():
        raise UserError("fld: the held-out features are constant: check the extractor")
    return [((x - held_out.mean(0)) / np.where(varies, spread, 1))[:, varies] for x in sets]


def fit(centres: ArrayLike, train: ArrayLike, random: np.random.Generator) -> np.ndarray:
    """The log variances [m] of equally weighted Gaussians at `centres` [m, d], fitted to `train`.

    They start at log((squared distance to the nearest of train + .001) / d) and take at most 50
    epochs of Adam on the mean of -log p / d. One more Gaussian, of weight 1 and with a variance of
    its own, stands at the mean of train [n, d], at .9 of the true distances: it takes the examples
    far from all centres, which would widen the nearest ones.
    """
    with jax.enable_x64(True):
        at, x = jnp.asarray(centres, jnp.float64), np.asarray(train, np.float64)
        to_train = _to_nearest(_blocks(np.asarray(at))[0], jnp.asarray(x)).reshape(-1)[: len(at)]
        x = x[random.permutation(len(x))]
        origin = jnp.asarray(x.mean(0))
        batches = [_blocks(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
        values = (jnp.log((to_train + 1e-3) / x.shape[1]), jnp.zeros(()))
        state = optax.adam(RATE).init(values)
        losses = []
        for _ in range(EPOCHS):
            of_batches = []
            for rows, real in batches:
                values, state, loss = _adam_step(values, state, rows, real, at, origin)
                of_batches.append(loss)
            losses.append(float(np.mean(of_batches)))
            if len(losses) > PATIENCE + 1 and max(abs(losses[-1] - losses[-j]) for j in range(1, PATIENCE + 1)) < STILL:
                break
        return np.asarray(values[0])


def mixture_nll(points: ArrayLike, centres: ArrayLike, log_variance: ArrayLike) -> np.ndarray:
    """-log p(x) / d in nats, float64 [n], of points [n, d], under equally weighted Gaussians at
    `centres` [m, d] with the log variances [m]."""
    with jax.enable_x64(True):
        at, values = jnp.asarray(centres, jnp.float64), jnp.asarray(log_variance, jnp.float64)
        rows, _ = _blocks(np.asarray(points, np.float64))
        return np.asarray(_nll(rows, at, values)).reshape(-1)[: len(np.asarray(points))]


def _blocks(x: np.ndarray) -> tuple[Array, Array]:
    """`x` [n, d] as equal blocks [b, rows, d], filled up with its first row, and their mask."""
    b = -(-len(x) // ROWS)
    rows = -(-len(x) // b)
    index = np.arange(b * rows)
    filled = x[np.where(index < len(x), index, 0)]
    return jnp.asarray(filled.reshape(b, rows, -1)), jnp.asarray((index < len(x)).reshape(b, rows), jnp.float64)


@jax.jit
def _to_nearest(rows: Array, x: Array) -> Array:
    """The squared distance of each row to the nearest of x."""
    return jax.lax.map(lambda block: _squared(block, x).min(1), rows)


def _squared(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """|x_i - y_j|^2; exactly 0 for equal rows, because a copy's variance has no lower limit."""
    sizes = (x**2).sum(1)[:, None] + (y**2).sum(1)
    squared = sizes - 2 * jnp.dot(x, y.T, precision="highest")
    return jnp.where(squared < ALIKE * sizes, 0, squared)


def _log_normal(squared: Array, log_variance: Array, d: int) -> Array:
    return -(squared / jnp.exp(log_variance) + d * (log_variance + jnp.log(2 * jnp.pi))) / 2


@jax.jit
def _nll(rows: Array, at: Array, log_variance: Array) -> Array:
    m, d = at.shape

    def block(x):
        return -jax.nn.logsumexp(_log_normal(_squared(x, at), log_variance, d) - jnp.log(m), axis=1) / d

    return jax.lax.map(block, rows)


@jax.jit
def _adam_step(values: Any, state: Any, rows: Array, real: Array, at: Array, origin: Array):
    """One step of Adam on one batch: the values, Adam's state, and the loss before the step."""
    m, d = at.shape

    def block(log_variances, x, is_real):
        centred = _log_normal(_squared(x, at), log_variances[0], d) - jnp.log(m)
        far = _log_normal(SHRINK**2 * _squared(x, origin[None]), log_variances[1], d)
        return -(jax.nn.logsumexp(jnp.concatenate([centred, far], 1), axis=1) * is_real).sum() / (real.sum() * d)

    def add(total, part):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(block)(values, *part)), None

    zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, values))
    (loss, gradient), _ = jax.lax.scan(add, zero, (rows, real))
    change, state = optax.adam(RATE).update(gradient, state)
    updated: Any = optax.apply_updates(values, change)
    return (jnp.clip(updated[0], -CLAMP, CLAMP), updated[1]), state, loss


def mixture_report(points: ArrayLike, mixture: Density) -> dict[str, float]:
    """What the true density shows of samples `points` [n, d] of a toy (`gan_jax.data.toys`).

        log_likelihood: mean log p(x) in nats; -inf if a point is not finite. Exact samples of modes
          far apart have -log k - d / 2 log(2 pi e sigma^2) on average, with the standard error
          sqrt(d / (2 n)); more means modes that have shrunk. It is blind to missing modes
        modes, high_quality, reverse_kl: of `gan_jax.metrics.modes.coverage`

    Raises UserError where shapes do not fit or without points.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or not len(points) or points.shape[1] != mixture.modes.shape[1]:
        raise UserError(f"mixture_report wants points [n, {mixture.modes.shape[1]}], not {list(points.shape)}")
    finite = np.isfinite(points).all(1)
    likely = mixture.log_density(points[finite]).mean() if finite.all() else -np.inf
    reached = coverage(points, mixture.modes, mixture.sigma)
    return {"log_likelihood": float(likely), **{name: float(x) for name, x in reached.items()}}
