"""Known answers: every loss against SciPy, the best discriminator, the way that its gradients
point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_expit

import gan_jax as gan
from gan_jax.losses import LOSSES, POINTWISE, boundary

REALS = np.array([-30.0, -2.0, -0.5, 0.0, 0.3, 1.0, 2.5, 30.0])
FAKES = np.array([12.0, 1.5, 1.0, 0.2, 0.0, -0.7, -3.0, -25.0])

EXPECTED = {
    "non_saturating": lambda r, f: (-log_expit(r), -log_expit(-f), -log_expit(f)),
    "minimax": lambda r, f: (-log_expit(r), -log_expit(-f), log_expit(-f)),
    "least_squares": lambda r, f: ((r - 1) ** 2 / 2, f**2 / 2, (f - 1) ** 2 / 2),
    "wasserstein": lambda r, f: (-r, f, -f),
    "hinge": lambda r, f: (np.maximum(0, 1 - r), np.maximum(0, 1 + f), -f),
}
CROSS_ENTROPIES = ["non_saturating", "minimax"]


def terms(loss, reals, fakes, **numbers):
    """The loss of these logits; `loss` is a name."""
    judgements = (gan.DiscriminatorOutput(jnp.asarray(x)) for x in (reals, fakes))
    return LOSSES[loss].replace(**numbers)(*judgements, None)


def slopes(loss, real, fake, **numbers):
    """(dD/d real, dD/d fake, dG/d fake) of one logit each."""
    term = lambda i: lambda r, f: terms(loss, r, f, **numbers)[i]
    args = jnp.asarray(real, jnp.float64), jnp.asarray(fake, jnp.float64)
    return jax.grad(term(0))(*args), jax.grad(term(1), 1)(*args), jax.grad(term(2), 1)(*args)


def test_every_loss_of_one_logit_has_a_known_answer():
    assert set(POINTWISE) == set(EXPECTED)
    assert all(LOSSES[name] is loss for name, loss in POINTWISE.items())


@pytest.mark.parametrize("loss", EXPECTED)
def test_values_are_the_formulae(x64, loss):
    for got, expected in zip(terms(loss, REALS, FAKES), EXPECTED[loss](REALS, FAKES), strict=True):
        assert got.shape == REALS.shape
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("loss", CROSS_ENTROPIES)
@pytest.mark.parametrize("smoothing", [0.0, 0.125, 0.5])
def test_smoothing_is_cross_entropy_with_a_lower_target_on_reals_alone(x64, loss, smoothing):
    plain, smooth = terms(loss, REALS, FAKES), terms(loss, REALS, FAKES, smoothing=smoothing)
    expected = -(1 - smoothing) * log_expit(REALS) - smoothing * log_expit(-REALS)
    np.testing.assert_allclose(smooth.real, expected, rtol=1e-12)
    np.testing.assert_array_equal(smooth.fake, plain.fake)
    np.testing.assert_array_equal(smooth.generator, plain.generator)


def test_smoothing_moves_the_target_of_least_squares(x64):
    plain, smooth = (terms("least_squares", REALS, FAKES, smoothing=s) for s in (0.0, 0.25))
    np.testing.assert_allclose(smooth.real, (REALS - 0.75) ** 2 / 2, rtol=1e-12)
    np.testing.assert_array_equal(smooth.fake, plain.fake)
    np.testing.assert_array_equal(smooth.generator, plain.generator)


@pytest.mark.parametrize("loss", EXPECTED)
def test_minimising_moves_the_logits_the_right_way(x64, loss):
    for logit in (-0.9, 0.1, 0.6):
        real, fake, generator = slopes(loss, logit, logit)
        assert real < 0, "D raises the logits of reals"
        assert fake > 0 or (loss == "least_squares" and logit <= 0), "D lowers the logits of fakes (least squares: to 0)"
        assert generator < 0, "G raises the logits of fakes"


def test_the_two_ways_to_train_a_generator_point_the_same_way(x64):
    """Saturating: -D(G(z)); non-saturating: -(1 - D(G(z))). Equal where D is undecided; their ratio
    is the odds."""
    for fake in FAKES:
        saturating, non_saturating = slopes("minimax", 0.0, fake)[2], slopes("non_saturating", 0.0, fake)[2]
        np.testing.assert_allclose(saturating, -expit(fake), rtol=1e-12)
        np.testing.assert_allclose(non_saturating, -expit(-fake), rtol=1e-12)
        np.testing.assert_allclose(saturating, np.exp(fake) * non_saturating, rtol=1e-12)


def test_minimax_is_a_zero_sum_game_on_fakes():
    result = terms("minimax", REALS, FAKES)
    np.testing.assert_array_equal(result.generator, -result.fake)


@pytest.mark.parametrize(
    "loss, best",
    [
        ("non_saturating", lambda p, q: np.log(p / q)),
        ("minimax", lambda p, q: np.log(p / q)),
        ("least_squares", lambda p, q: p / (p + q)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_best_discriminator_tells_the_ratio_of_the_densities(x64, loss, best):
    """At a point with density p of reals and q of fakes the logit's gradient vanishes exactly
    there."""
    for p, q in [(0.5, 0.5), (0.9, 0.1), (0.2, 0.7)]:
        real, fake, _ = slopes(loss, best(p, q), best(p, q))
        np.testing.assert_allclose(p * real + q * fake, 0, atol=1e-12)


@pytest.mark.parametrize("loss", [*CROSS_ENTROPIES, "least_squares"])
def test_the_best_smoothed_logit_of_pure_reals_is_finite(x64, loss):
    best = 0.9 if loss == "least_squares" else np.log(0.9 / 0.1)
    np.testing.assert_allclose(slopes(loss, best, 0.0, smoothing=0.1)[0], 0, atol=1e-7)  # the number is a float32


def test_the_boundary_is_the_best_logit_where_reals_and_fakes_are_equally_dense(x64):
    for loss in [*CROSS_ENTROPIES, "least_squares"]:
        logit = boundary(LOSSES[loss])
        real, fake, _ = slopes(loss, logit, logit)
        np.testing.assert_allclose(real + fake, 0, atol=1e-12)
    assert boundary(LOSSES["hinge"]) == 0
    assert boundary(LOSSES["wasserstein"]) is None, "a Wasserstein critic has no zero of its own"
    assert boundary(LOSSES["least_squares"].replace(smoothing=0.1)) == 0.5


def test_only_losses_with_a_zero_of_their_own_have_a_boundary():
    without = {name for name, loss in LOSSES.items() if boundary(loss) is None}
    assert without == {
        "wasserstein", "rpgan", "relativistic_average", "relativistic_average_least_squares", "relativistic_average_hinge",
        "mmd", "dual_contrastive",
    }  # fmt: skip
    wrapped = gan.losses.top_k(gan.losses.auxiliary_classifier(gan.losses.least_squares), 0.5)
    assert boundary(wrapped) == 0.5, "a loss around another has that one's boundary"


def test_every_loss_is_known_by_its_function_s_name():
    assert set(LOSSES) - {"auxiliary_classifier", "top_k"} == {loss.name for loss in LOSSES.values() if not loss.parts}
    assert all(gan.recipes.loss(name) is loss for name, loss in LOSSES.items())


def test_hinge_is_indifferent_beyond_the_margin():
    result = terms("hinge", np.array([1.5, 0.5], np.float32), np.array([-1.5, -0.5], np.float32))
    np.testing.assert_array_equal(result.real, [0, 0.5])
    np.testing.assert_array_equal(result.fake, [0, 0.5])


@pytest.mark.parametrize("loss", EXPECTED)
def test_huge_logits_stay_finite_and_so_do_their_gradients(loss):
    logits = jnp.array([-1e4, -100.0, 100.0, 1e4], jnp.float32)
    total = lambda x: sum(t.sum() for t in terms(loss, x, x[::-1]))
    value, gradient = jax.value_and_grad(total)(logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", EXPECTED)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_terms_have_the_dtype_of_the_logits(x64, loss, dtype):
    numbers = {"smoothing": 0.1} if loss not in ("wasserstein", "hinge") else {}
    logits = jnp.ones(2, dtype)
    assert {x.dtype for x in terms(loss, logits, logits, **numbers)} == {jnp.dtype(dtype)}


# ---- blends ------------------------------------------------------------------------------------


def test_a_blend_is_the_weighted_sum_and_its_weights_are_leaves(x64):
    rng = np.random.default_rng(0)
    real, fake = (gan.DiscriminatorOutput(jnp.asarray(rng.normal(size=6))) for _ in range(2))
    blend = gan.losses.blend(gan.losses.hinge, gan.bind(gan.losses.non_saturating, smoothing=0.1), hinge=2.0)
    both = gan.with_leaves(blend, {"non_saturating": 0.5})(real, fake, None)
    parts = [part(real, fake, None) for part in blend.parts]
    for got, a, b in zip(both, *parts, strict=True):
        np.testing.assert_allclose(got, 2 * a + 0.5 * b, rtol=1e-6)
    assert {"hinge", "non_saturating", "1.smoothing"} == set(gan.leaves(blend))
    assert gan.losses.boundary(blend) is None


def test_a_blend_that_cannot_be_named_is_refused():
    with pytest.raises(gan.UserError, match="cannot blend hinge, hinge: two losses of one name"):
        gan.losses.blend(gan.losses.hinge, gan.losses.hinge)
    with pytest.raises(gan.UserError, match="cannot blend hinge: no loss 'hindge' in it"):
        gan.losses.blend(gan.losses.hinge, hindge=1.0)
