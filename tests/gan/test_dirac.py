"""The Dirac-GAN (Mescheder et al., 2018): every loss, regulariser and play against its theory,
through `train_step`.

The data is the point 0, the generator a point theta, D(x) = psi * x. Near (0, 0) one step is a 2 x
2 matrix, written down here by hand; further out each loss has a law of its own. Numbers that must
be exact in float32 are powers of two.
"""

import csv
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import gan_jax as gan
from experiments import dirac_gan
from gan_jax import penalties
from gan_jax.losses import POINTWISE

PLAYS = {"alternating": gan.alternating, "simultaneous": gan.simultaneous}
START = np.array([1, 0.5])
SMALL = 1e-9  # a start this close to (0, 0) is linear to double precision

# Where D says 0: slope of D's loss on fakes; minus the slope of G's; sum of the curvatures of D's
# on reals and on fakes.
SLOPES = {
    "non_saturating": (1 / 2, 1 / 2, 1 / 2),
    "minimax": (1 / 2, 1 / 2, 1 / 2),
    "least_squares": (0, 1, 2),
    "wasserstein": (1, 1, 0),
    "hinge": (1, 1, 0),
}


class Setting(NamedTuple):
    """The learning rate of both players and the strength of each regulariser."""

    h: float = 1 / 8
    r1: float = 0
    r2: float = 0
    gp: float = 0  # around zero, so smooth: weight * psi^2
    noise: float = 0


SETTINGS = [
    Setting(),
    Setting(r1=1 / 4),
    Setting(r1=1 / 2),
    Setting(r1=1),
    Setting(r1=2),
    Setting(r2=1 / 2),
    Setting(gp=1 / 4),
    Setting(noise=1 / 2),
    Setting(noise=1),
    Setting(r1=1 / 4, r2=1 / 8, gp=1 / 16, noise=1 / 2),
    Setting(h=1 / 4, r1=1 / 16),  # the stability limit h = 4 gamma of the logistic losses in simultaneous play
    Setting(h=1 / 2, r1=1 / 16),
]


def two_points(images, labels, draws, *, std):
    """Instance noise without chance: half of the batch moves up by std, half down."""
    return images + std * jnp.where(draws.index % 2 == 0, 1, -1)[:, None].astype(images.dtype)


def game(loss, play, h=1 / 8, noise=None, **regularisers):
    """The Dirac-GAN with these penalties; `noise` is an augmentation."""
    recipe = gan.recipes.dirac(loss=loss, learning_rate=h, play=gan.bind(PLAYS[play]), dtype="float64")
    augment = {} if noise is None else {"noise": noise}
    return recipe.replace(discriminator=recipe.discriminator.replace(penalties=regularisers), augment=augment)


def regularised(loss, play, setting):
    """The game with every regulariser at the setting's strength, so that all settings share one
    program."""
    return game(
        loss, play, setting.h,
        gan.bind(two_points, std=setting.noise),
        r1=gan.bind(penalties.r1, gamma=setting.r1),
        r2=gan.bind(penalties.r2, gamma=setting.r2),
        gp=gan.bind(penalties.wgan_gp, weight=setting.gp, target=0.0),
    )  # fmt: skip


def path(recipe, start, steps):
    """(theta, psi) [steps + 1, 2] of one run."""
    batch = gan.Batch(jnp.zeros((recipe.batch_size * recipe.d_steps, 1)), jnp.arange(recipe.batch_size * recipe.d_steps))
    state = gan.init(recipe, jax.random.key(0))
    g, d = state.generator.replace(params={"theta": start[0]}), state.discriminator.replace(params={"psi": start[1]})

    def one(state, _):
        state, _ = gan.train_step(recipe, state, batch)
        return state, jnp.stack([state.generator.params["theta"], state.discriminator.params["psi"]])

    _, points = jax.lax.scan(one, state.replace(generator=g, discriminator=d), length=steps)
    return jnp.concatenate([start[None], points])


compiled_paths = jax.jit(jax.vmap(path, (0, 0, None)), static_argnums=2)
compiled_slopes = jax.jit(jax.vmap(jax.jacfwd(lambda start, recipe: path(recipe, start, 1)[1]), (None, 0)))


def stack(recipes):
    return jax.tree.map(lambda *x: jnp.stack(x), *recipes)


def play_out(recipes, starts, steps):
    """The paths [n, steps + 1, 2] of several games of one structure; one start serves all, or each
    has its own."""
    starts = np.broadcast_to(np.asarray(starts, np.float64), (len(recipes), 2))
    return np.asarray(compiled_paths(stack(recipes), starts, steps))


def radius(points):
    return np.hypot(points[..., 0], points[..., 1])


def jacobian(loss, play, setting, d_steps=1):
    """One step near (0, 0), by hand: how (theta, psi) after it depends on (theta, psi) before
    it."""
    up, down, curvature = SLOPES[loss]
    h, damping = setting.h, setting.r1 + setting.r2 + 2 * setting.gp + curvature * setting.noise**2
    discriminate = np.array([[1, 0], [-h * up, 1 - h * damping]])
    generate = np.array([[1, h * down], [0, 1]])
    if play == "simultaneous":
        return discriminate + generate - np.eye(2)
    return generate @ np.linalg.matrix_power(discriminate, d_steps)


def spectral_radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


@lru_cache
def near_paths(loss, play):
    """Each setting's path, as far as it stays close to (0, 0).

    Noise that cancels leaves 1e-17 behind, so there the path begins further out and is shorter.
    """
    starts = [START * (1e-6 if s.noise else SMALL) for s in SETTINGS]
    paths = play_out([regularised(loss, play, s) for s in SETTINGS], starts, 1000)
    ends = [301 if s.noise else (radius(points) < 1e-6).sum() for s, points in zip(SETTINGS, paths, strict=True)]
    return [points[:end] for points, end in zip(paths, ends, strict=True)]


def whole_periods(eigenvalues, steps):
    """Two steps between which the radius has turned a whole number of times, or the slow eigenvalue
    is alone."""
    angle = abs(np.angle(eigenvalues[0]))
    if angle == 0:
        return steps // 2, steps
    turns = np.arange(steps // 2, steps + 1) * angle / np.pi  # the radius looks the same after half a turn
    return 0, steps // 2 + np.abs(turns - np.round(turns)).argmin()


every_game = pytest.mark.parametrize(("loss", "play"), [(x, y) for x in SLOPES for y in PLAYS])


# ---- near the equilibrium ----------------------------------------------------------------------


def test_the_recipe_begins_where_it_is_told():
    recipe = gan.recipes.dirac(theta=0.5, psi=-2)
    state = gan.init(recipe, jax.random.key(0))
    assert (state.generator.params["theta"], state.discriminator.params["psi"]) == (0.5, -2)
    np.testing.assert_array_equal(gan.sample(recipe, state, jax.random.key(1), 3), np.full((3, 1), 0.5))


def test_every_loss_has_its_theory():
    assert set(POINTWISE) == set(SLOPES), "a new loss wants its slopes and its law here"


@every_game
def test_the_slope_of_one_step_is_the_matrix(x64, loss, play):
    recipes = stack([regularised(loss, play, s) for s in SETTINGS])
    expected = [jacobian(loss, play, s) for s in SETTINGS]
    np.testing.assert_allclose(compiled_slopes(np.zeros(2), recipes), expected, rtol=0, atol=1e-12)


@every_game
def test_a_run_near_the_equilibrium_is_the_linear_recursion(x64, loss, play):
    """At every step and for every regulariser, defective matrices (R1 at its critical strength)
    included."""
    for setting, points in zip(SETTINGS, near_paths(loss, play), strict=True):
        matrix, expected = jacobian(loss, play, setting), points[0]
        for n, point in enumerate(points):
            rounding = 1e-15 if setting.noise else 0
            assert radius(point - expected) <= 1e-9 * radius(expected) + rounding, (setting, n)
            expected = matrix @ expected


@every_game
def test_the_radius_contracts_by_the_spectral_radius(x64, loss, play):
    compared = 0
    for setting, points in zip(SETTINGS, near_paths(loss, play), strict=True):
        eigenvalues = np.linalg.eigvals(jacobian(loss, play, setting))
        expected = np.log(np.abs(eigenvalues).max())
        if abs(eigenvalues[0] - eigenvalues[1]) < 1e-6:
            continue  # defective: no single rate
        first, last = whole_periods(eigenvalues, len(points) - 1)
        slope = np.log(radius(points[last]) / radius(points[first])) / (last - first)
        assert abs(slope - expected) <= max(0.01 * abs(expected), 1e-5), (setting, slope, expected)
        compared += abs(expected) > 1e-3
    assert compared >= 6 or loss == "least_squares"  # whose spectral radius is 1: theta stays where it is


@pytest.mark.parametrize("loss", ["minimax", "wasserstein"])
def test_alternating_play_is_stable_up_to_its_step_size(x64, loss):
    """h f'(0) = 2 (Mescheder et al., 2018, lemma 2.4): on the unit circle below, off it above."""
    limit = 2 / SLOPES[loss][0]
    settings = [Setting(h=limit * 15 / 16), Setting(h=limit * 17 / 16)]
    below, above = play_out([game(loss, "alternating", s.h) for s in settings], 1e-30 * START, 60)
    assert spectral_radius(jacobian(loss, "alternating", settings[0])) == pytest.approx(1, abs=1e-12)
    assert radius(below).max() < 10 * radius(below[0])
    rate = spectral_radius(jacobian(loss, "alternating", settings[1]))
    assert rate > 1.5 and radius(above[60]) / radius(above[40]) == pytest.approx(rate**20, rel=1e-6)


@pytest.mark.parametrize("play", PLAYS)
def test_r1_has_a_best_strength(x64, play):
    """gamma = 2 f'(0) = 1 in the flow and in simultaneous play; taking turns moves it to 1 - h /
    4."""
    h, best = 1 / 8, {"simultaneous": 1.0, "alternating": 1 - 1 / 32}[play]
    strengths = best + np.arange(-4, 5) / 8
    run = [game("minimax", play, h, r1=gan.bind(penalties.r1, gamma=g)) for g in strengths]
    points = play_out(run, SMALL * START, 2000)
    assert strengths[radius(points[:, 2000]).argmin()] == best
    rate = np.log(spectral_radius(jacobian("minimax", play, Setting(h, r1=best))))
    slope = np.log(radius(points[4, 2000]) / radius(points[4, 1000])) / 1000
    assert slope - np.log(2) / 1000 == pytest.approx(rate, rel=1e-3)  # a double eigenvalue: n * rate^n


def test_more_discriminator_turns_are_a_power(x64):
    recipe = game("minimax", "alternating", 1 / 8, r1=gan.bind(penalties.r1, gamma=1 / 2)).replace(d_steps=3)
    expected = jacobian("minimax", "alternating", Setting(r1=1 / 2), d_steps=3)
    np.testing.assert_allclose(compiled_slopes(np.zeros(2), stack([recipe]))[0], expected, rtol=0, atol=1e-12)


def test_a_lazy_penalty_is_a_stronger_one_now_and_then(x64):
    lazy = gan.lazy(gan.bind(penalties.r1, gamma=1 / 2), 4)
    points = play_out([game("minimax", "alternating", r1=lazy)], SMALL * START, 400)[0]
    strong, none = (jacobian("minimax", "alternating", Setting(r1=g)) for g in (2, 0))
    cycle = np.linalg.matrix_power(none, 3) @ strong
    expected = np.linalg.matrix_power(cycle, 100) @ points[0]
    np.testing.assert_allclose(points[400], expected, rtol=0, atol=1e-9 * radius(expected))


@pytest.mark.parametrize("loss", ["non_saturating", "least_squares", "wasserstein"])
def test_instance_noise_damps_by_its_variance(x64, loss, play="alternating"):
    """Gaussian noise in the mean of a large batch: -2 f''(0) std^2. It does nothing for a loss
    without curvature."""
    n, std, h = 4000, 1 / 2, 1 / 8
    recipe = game(loss, play, h, gan.bind(gan.augment.instance_noise, std=std)).replace(batch_size=n)
    measured = compiled_slopes(np.zeros(2), stack([recipe]))[0]
    expected = jacobian(loss, play, Setting(h, noise=std))
    error = h * SLOPES[loss][2] * std**2 * np.sqrt(2 / (2 * n))  # of the mean of 2 n squares, one standard error
    np.testing.assert_allclose(measured, expected, rtol=0, atol=4 * error + 1e-12)


# ---- far from it -------------------------------------------------------------------------------

R1 = lambda gamma: {"r1": gan.bind(penalties.r1, gamma=gamma)}
# Mescheder's game, as in their code: radius after 500 steps of .2 from (1, -1), simultaneous and
# with G moving first. Their penalty's coefficient .7 multiplies the gradient, so it is twice our
# weight.
KNOWN = {
    "minimax": ("minimax", {}, 3.10, 1.42),
    "non_saturating": ("non_saturating", {}, 0.640, 0.284),
    "wasserstein": ("wasserstein", {}, 2.56e4, 1.40),
    "wgan_gp": ("wasserstein", {"gp": gan.bind(penalties.wgan_gp, weight=0.35, target=1.0)}, 1.80, 1.22),
    "r1 .3": ("minimax", R1(0.3), 2.64e-6, 2.30e-7),
    "r1 1": ("minimax", R1(1.0), 9.53e-22, 7.48e-17),
    "r1 2": ("minimax", R1(2.0), 1.33e-6, 1.93e-6),
    "non_saturating r1 .3": ("non_saturating", R1(0.3), 2.21e-6, 1.50e-7),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_radii(x64, name):
    """G first is D first seen half a step later: begin with G's move made, end with D's."""
    loss, regularisers, simultaneous, alternating = KNOWN[name]
    together = play_out([game(loss, "simultaneous", 0.2, **regularisers)], (1, -1), 500)[0]
    in_turns = play_out([game(loss, "alternating", 0.2, **regularisers)], (together[1, 0], -1), 500)[0]
    assert radius(together[500]) == pytest.approx(simultaneous, rel=0.005)
    assert np.hypot(in_turns[499, 0], in_turns[500, 1]) == pytest.approx(alternating, rel=0.005)


def test_simultaneous_minimax_spirals_out_at_every_step(x64):
    run = [game("minimax", "simultaneous", h) for h in (1 / 64, 1 / 8, 1 / 2)]
    assert (np.diff(radius(play_out(run, (1, -1), 1000))) > 0).all()


def test_alternating_minimax_stays_in_a_ring(x64):
    points = play_out([game("minimax", "alternating", 0.2)], (1, -1), 10000)[0]
    assert 1.2 < radius(points).min() and radius(points).max() < 1.6


def test_wasserstein_spirals_out_or_keeps_its_ellipse(x64):
    h = 1 / 8
    spiral, ellipse = (play_out([game("wasserstein", play, h)], (1, -0.5), 1000)[0] for play in ("simultaneous", "alternating"))
    np.testing.assert_allclose(radius(spiral), radius(spiral[0]) * (1 + h * h) ** (np.arange(1001) / 2), rtol=1e-10)
    theta, psi = ellipse.T
    kept = theta**2 + psi**2 - h * theta * psi  # with G first the last term would be added
    np.testing.assert_allclose(kept, kept[0], rtol=1e-10)


def test_alternating_non_saturating_falls_as_one_over_the_root_of_time(x64):
    """1 / r^2 grows by 1 / 8 per unit of time: no linear rate."""
    h, steps = 1 / 16, 40000
    r = radius(play_out([game("non_saturating", "alternating", h)], (0.5, 0), steps)[0])
    late = np.arange(steps // 8, steps + 1)
    assert np.polyfit(h * late, 1 / r[late] ** 2, 1)[0] == pytest.approx(1 / 8, rel=0.01)
    assert np.polyfit(np.log(late), np.log(r[late]), 1)[0] == pytest.approx(-1 / 2, rel=0.05)


def test_simultaneous_non_saturating_keeps_a_cycle(x64):
    """Its radius is sqrt(2 h), from inside and from outside."""
    rates = np.array([0.05, 0.1, 0.2])
    run = [game("non_saturating", "simultaneous", h) for h in rates for _ in "io"]
    starts = [(share * np.sqrt(2 * h), 0) for h in rates for share in (0.5, 2)]
    r = radius(play_out(run, starts, 20000))[:, -2000:]
    np.testing.assert_allclose(r.mean(1).reshape(3, 2), np.repeat([[0.3162], [0.4471], [0.632]], 2, 1), rtol=0.002)
    assert (np.ptp(r, 1) < 0.15 * r.mean(1)).all()


@pytest.mark.parametrize("play", PLAYS)
def test_wgan_gp_does_not_converge(x64, play):
    """It pushes psi towards +-1 as it crosses 0: a cycle whose amplitude follows from the energy's
    balance."""
    h, weight = 1 / 64, 1 / 16
    amplitude = 4 / np.pi / (1 - (h / (2 * weight) if play == "simultaneous" else 0))
    run = [game("wasserstein", play, h, gp=gan.bind(penalties.wgan_gp, weight=weight, target=1.0)) for _ in "io"]
    r = radius(play_out(run, [(0.1, 0), (3, 0)], 10000))[:, -2000:]
    np.testing.assert_allclose(r.mean(1), amplitude, rtol=0.02)
    assert (r > 0.8 * amplitude).all()


def test_penalties_that_are_one_for_a_linear_critic(x64):
    """R2 is R1, DRAGAN is WGAN-GP, and the one-sided penalty is none where |psi| < 1."""

    def run(start=(0.5, -0.5), **regularisers):
        return play_out([game("hinge", "alternating", **regularisers)], start, 20)[0]

    gp = gan.bind(penalties.wgan_gp, weight=1 / 4)
    pairs = [
        (R1(1 / 2), {"r2": gan.bind(penalties.r2, gamma=1 / 2)}),
        ({"gp": gp}, {"dragan": gan.bind(penalties.dragan, weight=1 / 4)}),
    ]
    for one, other in pairs:
        np.testing.assert_allclose(run(**one), run(**other), rtol=1e-12, atol=1e-12)
    one_sided = {"gp": gp.replace(one_sided=True)}
    assert np.abs(run()).max() < 1
    np.testing.assert_array_equal(run(**one_sided), run())
    np.testing.assert_array_equal(run(start=(0, -3), **one_sided)[:5], run(start=(0, -3), gp=gp)[:5])


@pytest.mark.parametrize("play", PLAYS)
def test_least_squares_stops_off_target(x64, play):
    """D without a bias is content with psi = 0 wherever theta is: psi shrinks by 1 - h (theta^2 +
    gamma), theta stays.

    Without a penalty psi + theta^3 / 3 is kept while psi * theta is small.
    """
    h, psi = 1 / 32, 0.002
    free = play_out([game("least_squares", play, h)], (0, psi), 40000)[0]
    theta = free[-1, 0]
    assert theta == pytest.approx((3 * psi) ** (1 / 3), rel=0.002) and abs(free[-1, 1]) < 1e-6
    points = play_out([game("least_squares", play, h, **R1(g)) for g in (0, 1 / 4)], (1 / 2, 1e-6), 200)
    rates = (points[:, 200, 1] / points[:, 0, 1]) ** (1 / 200)
    np.testing.assert_allclose(1 - rates, h * (1 / 4 + np.array([0, 1 / 4])), rtol=1e-3)
    np.testing.assert_allclose(points[:, -1, 0], 1 / 2, atol=1e-5)


def test_hinge_is_wasserstein_within_the_margin(x64):
    hinge, wasserstein = (play_out([game(loss, "alternating")], (0.6, -0.6), 1000)[0] for loss in ("hinge", "wasserstein"))
    assert np.abs(hinge).max() < 1
    np.testing.assert_array_equal(hinge, wasserstein)


def test_hinge_rests_beyond_the_margin(x64):
    """D stops where it says less than -1 of the fakes, so even simultaneous play stays bounded."""
    points = play_out([game("hinge", "simultaneous")], (0.6, -0.6), 2000)[0]
    said, moved = points[:-1].prod(1), np.diff(points[:, 1]) != 0
    assert (moved == (said > -1)).all() and 0.01 < (~moved).mean() < 0.5
    assert radius(points).max() < 2.5  # Wasserstein's would be 4e6


# ---- the experiment ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_experiment_finds_what_theory_says(tmp_path, capsys):
    options = dirac_gan.Options(steps=300, gammas=(0.3,), play="alternating", out=tmp_path)
    dirac_gan.main(options)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == [loss for loss in POINTWISE for _ in range(4)]
    compared = [row for row in rows if row["theory"] and row["measured"]]
    assert len(compared) >= 3 * len(POINTWISE) - 1
    for row in compared:
        assert float(row["measured"]) == pytest.approx(float(row["theory"]), abs=2e-3), row
    outcomes = {(row["loss"], row["regulariser"]): row["outcome"] for row in rows}
    assert outcomes["minimax", "none"] == "keeps moving" and outcomes["minimax", "R1 0.3"] == "converges"
    assert outcomes["least_squares", "none"] == "stops off target"
    assert min(Image.open(tmp_path / "trajectories.png").size) > 500
    assert "stops off target" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["--steps 0", "--learning-rate -0.1", "--learning-rate nan", "--gammas 1 -1"])
def test_the_experiment_refuses(tmp_path, mistake, wrong):
    assert (
        wrong.split()[0] in mistake(dirac_gan, "--out", tmp_path / "none", *wrong.split()) and not (tmp_path / "none").exists()
    )


def test_a_mistake_is_one_line():
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "experiments/dirac_gan.py"), "--learning-rate", "-1"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.splitlines() == [done.stderr.strip()], done.stderr
    assert "--learning-rate -1.0: it must be greater than 0" in done.stderr
