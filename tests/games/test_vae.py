"""The VAE against probabilistic PCA's closed form, its likelihoods against SciPy, and the VAE-GAN
against the GAN inside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

import gan_jax as gan
from gan_jax import likelihoods, penalties, recipes
from gan_jax.core.batch import Batch
from gan_jax.core.errors import UserError
from gan_jax.core.rng import Draws
from gan_jax.data.splits import Split
from gan_jax.games import vae, vae_gan
from gan_jax.games.imputation import gain, misgan
from gan_jax.games.imputation import vae as miwae
from gan_jax.gan.game import game_of
from gan_jax.sweeps.grid import grid
from gan_jax.sweeps.population import Member, by_structure

D, LATENT = 5, 2


# ---- likelihoods -------------------------------------------------------------------------------


@pytest.mark.parametrize("log_scale", [-6.0, -3.0, 0.0, 2.0])
@pytest.mark.parametrize("mean", [-1.3, -1.0, 0.1, 0.999])
def test_the_levels_of_a_discretized_logistic_share_out_the_mass_of_its_bins(x64, mean, log_scale):
    levels = jnp.arange(256) / 127.5 - 1
    output = np.asarray(likelihoods.discretized_logistic(jnp.full(256, mean), jnp.float64(log_scale), levels))
    assert np.exp(output).sum() == pytest.approx(1, rel=1e-12)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 127.5 - 1, [np.inf]])
    mass = np.diff(stats.logistic.cdf(edges, mean, np.exp(log_scale)))
    sure = mass > 1e-9  # a difference of two numbers near 1 is not more accurate
    np.testing.assert_allclose(np.exp(output)[sure], mass[sure], rtol=1e-5)


def test_an_unlikely_level_has_a_finite_log_probability_and_gradient():
    far = lambda mean: likelihoods.discretized_logistic(mean, jnp.float32(-7.0), jnp.float32(0.5))
    value, gradient = jax.value_and_grad(far)(jnp.float32(-1.0))
    assert np.isfinite(value) and gradient == pytest.approx(np.exp(7), rel=1e-3)  # the slope of the tail: 1 / scale


def test_the_gaussian_is_scipy_s(x64):
    x, mean = np.random.default_rng(0).normal(size=(2, 7))
    output = likelihoods.gaussian(jnp.asarray(mean), jnp.float64(-0.3), jnp.asarray(x))
    np.testing.assert_allclose(output, stats.norm.logpdf(x, mean, np.exp(-0.3)), rtol=1e-12)


def test_the_kl_is_that_of_two_normal_laws(x64):
    z = np.linspace(-12, 12, 20_001)
    q = vae.Posterior(jnp.array([[0.7, -1.1]]), jnp.array([[0.4, -1.5]]))
    for mean, log_variance, kl in zip(q.mean[0], q.log_variance[0], q.kl()[0], strict=True):
        mine = stats.norm(mean, np.exp(log_variance / 2))
        assert kl == pytest.approx(np.trapezoid(mine.pdf(z) * (mine.logpdf(z) - stats.norm.logpdf(z)), z), rel=1e-8)


# ---- probabilistic PCA -------------------------------------------------------------------------


def linear(sigma=0.5, spread=0.0):
    """(VAE without hidden layers, its state at the posterior of a linear model x = W z + m + sigma
    e, log p(x) as a law).

    The columns of W are orthogonal, so that the posterior's covariance is diagonal. spread: added
    to q's log variance.
    """
    random = np.random.default_rng(1)
    w = np.linalg.qr(random.normal(size=(D, LATENT)))[0] * np.array([2.0, 0.7])
    m = random.normal(size=D)
    recipe = recipes.vae((D,), depth=0, latent_dim=LATENT, batch_size=8, dtype="float64")
    state = vae.init(recipe, jax.random.key(0))
    inner = (w**2).sum(0) + sigma**2
    to_z = w / inner  # of q's mean: (W'W + s^2)^-1 W' (x - m)
    params = state.encoder.params, state.decoder.params
    encoder, decoder = (jax.tree.map(np.zeros_like, p) for p in params)
    (dense,) = [v for v in encoder.values() if v["kernel"].shape == (D, 2 * LATENT)]
    dense["kernel"] = np.concatenate([to_z, np.zeros((D, LATENT))], 1)
    dense["bias"] = np.concatenate([-m @ to_z, np.log(sigma**2 / inner) + spread])
    (out,) = decoder["generator"].values()
    out["kernel"], out["bias"] = w.T, m
    decoder["log_scale"] = np.asarray((np.log(sigma) - recipe.decoder.net.module.start) / 10)
    state = state.replace(encoder=state.encoder.replace(params=encoder), decoder=state.decoder.replace(params=decoder))
    state = state.replace(ema=vae._averaged(state))
    law = stats.multivariate_normal(m, w @ w.T + sigma**2 * np.eye(D))
    return recipe, state, law


def test_with_the_true_posterior_every_draw_weighs_as_probabilistic_pca_says(x64):
    """q(z|x) = p(z|x) makes p(x, z) / q(z|x) = p(x) whatever z is, and the bound an equality
    (Tipping & Bishop, 1999)."""
    recipe, state, law = linear()
    x = law.rvs(6, random_state=0)
    for seed in range(3):
        weights, _ = vae.log_weights(recipe, state, jnp.asarray(x), None, Draws(jax.random.key(seed), jnp.arange(6)))
        np.testing.assert_allclose(weights, law.logpdf(x), rtol=1e-9)
    keys = jax.random.split(jax.random.key(5), 4000)
    bound = jax.vmap(lambda key: vae.log_weights(recipe, state, jnp.asarray(x), None, Draws(key, jnp.arange(6)))[1])(keys)
    error = np.asarray(bound.std(0)) / 4000**0.5
    assert (np.abs(np.asarray(bound.mean(0)) - law.logpdf(x)) < 4.5 * error).all()


def test_more_draws_bound_the_likelihood_more_closely(x64):
    """ELBO <= 10 draws <= 100 draws <= log p(x) in the mean, and far apart for a q that is too
    wide."""
    recipe, state, law = linear(spread=1.5)
    x = law.rvs(4, random_state=0)
    keys = jax.random.split(jax.random.key(2), 400)
    mean = lambda k: float(jax.vmap(lambda key: vae.importance(recipe, state, jnp.asarray(x), None, key, k))(keys).mean())
    one, ten, hundred = map(mean, (1, 10, 100))
    assert one < ten - 0.05 < hundred - 0.05 < law.logpdf(x).mean()
    assert hundred == pytest.approx(law.logpdf(x).mean(), abs=0.02)


def test_a_trained_linear_vae_reaches_the_likelihood_of_probabilistic_pca(x64):
    """The maximum of its ELBO is pPCA's likelihood (Lucas et al., 2019): principal axes, and the
    mean variance of the rest."""
    recipe, state, law = linear()
    x = law.rvs(500, random_state=3)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    rest = values[LATENT:].mean()
    best = -0.5 * (D * np.log(2 * np.pi) + np.log(values[:LATENT]).sum() + (D - LATENT) * np.log(rest) + D)
    recipe = recipe.replace(ema_decay=0.99)
    rate = gan.schedules.cosine(0.03, 0.0, 1500)
    adam = gan.optimizers.adam(rate, 0.9)  # pyright: ignore[reportArgumentType]
    recipe = recipe.replace(encoder=recipe.encoder.replace(optimizer=adam), decoder=recipe.decoder.replace(optimizer=adam))
    batch = Batch(jnp.asarray(x), jnp.arange(len(x)))
    first = vae.init(recipe, jax.random.key(1))
    state = jax.jit(lambda s: jax.lax.scan(lambda s, _: (vae.step(recipe, s, batch)[0], None), s, length=1500)[0])(first)
    found = float(vae.importance(recipe, state, batch.images, None, jax.random.key(0), 20).mean())
    assert found == pytest.approx(best, abs=0.02)


# ---- the game ----------------------------------------------------------------------------------


def small(**fields):
    return recipes.vae((2,), width=8, depth=1, latent_dim=2, batch_size=16, **fields)


def batch_of(n=16):
    return Batch(jax.random.normal(jax.random.key(3), (n, 2)), jnp.arange(n))


def test_free_bits_have_no_gradient():
    """Where every latent has more for nothing than it uses, beta changes nothing."""
    one, hundred = (small(beta=beta, free_bits=1e3) for beta in (1.0, 100.0))
    state = vae.init(one, jax.random.key(0))
    step = jax.jit(vae.step)
    a, b = (step(knobs, state, batch_of())[0] for knobs in (one, hundred))
    jax.tree.map(np.testing.assert_array_equal, a.encoder.params, b.encoder.params)
    paid = step(one.replace(free_bits=jnp.float32(0)), state, batch_of())[0]
    changed = jax.tree.map(lambda x, y: bool((x != y).any()), a.encoder.params, paid.encoder.params)
    assert any(jax.tree.leaves(changed))


@pytest.mark.slow
def test_a_sweep_of_beta_is_one_program_and_its_rows_are_runs():
    data = gan.load("ring", subset=200)
    settings = grid(small(), {"beta": [0.1, 1, 10]})
    assert len(by_structure([Member(name, recipe, 0, 200) for name, recipe in settings.items()])) == 1
    swept = gan.sweep(settings, data, steps=20, seeds=1, log_every=20, rank_by="VAE/elbo_gap", progress=False, devices=1)
    assert {"vae/elbo", "VAE/validation_elbo", "G/validation_fd"} <= set(swept.table.columns)
    name = list(settings)[2]
    alone = gan.fit(settings[name], data, steps=20, log_every=20, checkpoint_every=20, sample_every=20, progress=False)
    mine = swept.table[swept.table["setting"] == name].iloc[0]
    assert mine["vae/elbo"] == pytest.approx(alone.history[0]["vae/elbo"], rel=1e-4)
    assert mine["vae/loss"] != pytest.approx(mine["vae/elbo"], rel=0.1)  # beta counts
    bounds = vae.likelihood(alone, data.validation, draws=2)
    assert bounds.shape == (len(data.validation),) and np.isfinite(bounds).all()
    report = gan.overfitting_report(alone)
    assert {"elbo_auc", "elbo_gap"} <= report.numbers.keys() and "d_auc" not in report.numbers


def test_a_vae_resumes_and_opens_by_the_game_of_its_recipe(tmp_path):
    data = gan.load("ring", subset=200)
    often = {"log_every": 2, "checkpoint_every": 2, "sample_every": 2, "progress": False}
    whole = gan.fit(small(), data, steps=4, **often)
    gan.fit(small(), data, steps=2, out=tmp_path / "run", **often)
    again = gan.resume(tmp_path / "run", steps=4, progress=False)
    jax.tree.map(np.testing.assert_array_equal, again.state.decoder.params, whole.state.decoder.params)
    assert gan.open_run(tmp_path / "run").game == vae.GAME


def test_images_are_discretized_and_points_are_not():
    assert recipes.vae((8, 8, 1), width=4).likelihood.function is likelihoods.discretized_logistic
    assert recipes.vae((2,)).likelihood.function is likelihoods.gaussian
    decoder, encoder = recipes.vae((8, 8, 1), width=4).decoder.net.module, recipes.dcgan((8, 8, 1), width=4)
    assert decoder.generator == encoder.generator.net.module.clone(squash=False, parent=None)


# ---- the VAE-GAN -------------------------------------------------------------------------------


def three(**fields):
    return recipes.vae_gan((2,), width=8, depth=1, latent_dim=2, batch_size=16, **fields)


@pytest.mark.parametrize(
    ("shape", "settings"), [((8, 8, 1), {"discriminator_norm": "batch", "width": 4}), ((2,), {"depth": 1, "width": 4})]
)
def test_the_encoder_of_a_vae_gan_is_its_discriminator_with_other_outputs(shape, settings):
    recipe = recipes.vae_gan(shape, latent_dim=3, classes=5, **settings)
    mirrored = recipe.discriminator.net.module.clone(conditioning="embedding", representation=6, parent=None)
    assert recipe.encoder.net.module == mirrored
    state = jax.eval_shape(lambda key: vae_gan.init(recipe, key), jax.random.key(0))
    assert jax.tree.structure(state.encoder.stats) == jax.tree.structure(state.discriminator.stats)


def test_without_reconstruction_the_generator_of_a_vae_gan_has_the_gan_s_two_losses():
    """And neither beta nor the encoder's loss changes it or the discriminator."""
    critic = {"loss": "wasserstein"}  # whose loss is its mean logit
    state = vae_gan.init(three(**critic), jax.random.key(0))
    step = jax.jit(vae_gan.step)
    (a, output), (b, _) = (step(three(beta=beta, gamma=0.0, **critic), state, batch_of()) for beta in (1.0, 50.0))
    jax.tree.map(np.testing.assert_array_equal, (a.generator, a.discriminator), (b.generator, b.discriminator))
    assert output["generator/reconstruction"] == 0
    logits = {k: float(output[f"discriminator/{k}_logit"]) for k in ("real", "fake", "reconstructed")}
    assert float(output["generator/loss"]) == pytest.approx(-0.5 * logits["fake"], rel=1e-5)
    assert float(output["generator/loss_reconstructed"]) == pytest.approx(-0.5 * logits["reconstructed"], rel=1e-5)
    mean = 0.5 * (logits["fake"] + logits["reconstructed"])
    assert float(output["discriminator/loss"]) == pytest.approx(mean - logits["real"], rel=1e-5)
    c = step(three(beta=1.0, gamma=10.0, **critic), state, batch_of())[0]
    assert any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), a.generator.params, c.generator.params)))
    jax.tree.map(np.testing.assert_array_equal, a.encoder.params, c.encoder.params)


def test_a_vae_gan_takes_what_a_gan_s_recipe_takes():
    """Numbers that are schedules, from the first state on; and reals drawn by their class, which
    the data's labels must fit."""
    fading = three()
    numbers = {"dropout": gan.schedules.linear(0.2, 0.0, 10)}
    fading = fading.replace(generator=fading.generator.replace(numbers=numbers))
    jax.eval_shape(lambda key: vae_gan.init(fading, key), jax.random.key(0))
    assert vae_gan.GAME.sampler is gan.GAN.sampler
    sampled = three(sampling=gan.bind(gan.sampling.class_balanced, strength=1.0, classes=3))
    with pytest.raises(UserError, match="sampling is of 3 classes"):
        gan.fit(sampled, gan.load("ring"), steps=1)


def test_the_encoder_of_a_vae_gan_learns_to_reconstruct():
    """Against a discriminator and a generator at rest, its loss falls."""
    still = gan.optimizers.sgd(0.0)
    recipe = three(beta=0.0)
    rest = {k: getattr(recipe, k).replace(optimizer=still) for k in ("generator", "discriminator")}
    recipe = recipe.replace(**rest, encoder=recipe.encoder.replace(optimizer=gan.optimizers.adam(0.01)))
    body = lambda s, _: (lambda new, output: (new, output["encoder/reconstruction"]))(*vae_gan.step(recipe, s, batch_of()))
    errors = jax.jit(lambda s: jax.lax.scan(body, s, length=150)[1])(vae_gan.init(recipe, jax.random.key(0)))
    assert errors[-10:].mean() < 0.6 * errors[:3].mean()


def test_penalties_of_the_generator_of_a_vae_gan_change_it_alone_and_remember():
    """By SGD of rate 1 a step differs from one at weight 0 by minus the penalty's gradient."""
    plain, path = three(), gan.bind(penalties.path_length, weight=0.0, decay=0.25)

    def penalised(weight):
        given = {"decay": gan.bind(penalties.l2, weight=weight), "path": path}
        return plain.replace(generator=plain.generator.replace(optimizer=gan.optimizers.sgd(1.0), penalties=given))

    state, step = vae_gan.init(penalised(0.3), jax.random.key(0)), jax.jit(vae_gan.step)
    (after, output), (without, _) = (step(penalised(weight), state, batch_of()) for weight in (0.3, 0.0))
    kernels = lambda params: [p["kernel"] for p in params.values()]
    for before, a, b in zip(*(kernels(s.generator.params) for s in (state, after, without)), strict=True):
        np.testing.assert_allclose(a - b, -0.3 * before, atol=2e-6)
    for name in ("encoder", "discriminator"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(without, name))
    assert output["generator/decay"] > 0 and after.memory["generator"]["path"]["mean"] > 0


@pytest.mark.parametrize(
    ("knobs", "sides"),
    [
        (small(), ("encoder", "decoder")),
        (three(), ("encoder",)),
        (gain.recipe(3), ("generator", "discriminator")),
        (miwae.recipe(3), ("encoder", "decoder")),
        (misgan.recipe((3,)), misgan.recipe((3,)).players()),
    ],
)
def test_penalties_that_would_never_be_taken_are_refused(knobs, sides):
    """A sweep over one would show that it has no effect."""
    init = lambda knobs: jax.eval_shape(lambda key: game_of(knobs).init(knobs, key), jax.random.key(0))
    init(knobs)
    for side in sides:
        penalised = getattr(knobs, side).replace(penalties={"r1": gan.bind(penalties.r1, gamma=1.0)})
        with pytest.raises(UserError, match=f"the {side} of a .* takes no penalties: leave out r1"):
            init(knobs.replace(**{side: penalised}))


# ---- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipes.vae((8, 8, 1), likelihood="bernoulli"), "unknown likelihood 'bernoulli'"),
        (lambda: recipes.vae((8, 4, 1)), "square grey or RGB images"),
        (lambda: recipes.vae((2, 2)), "square grey or RGB images"),
        (lambda: recipes.vae((8, 8, 1), latent_dim=0), "vae: latent_dim=0"),
        (lambda: recipes.vae((8, 8, 1), width=-1), "vae: width=-1"),
        (lambda: recipes.vae((2,), width=0), "vae: width=0"),
        (lambda: recipes.vae((2,), depth=-1), "vae: depth=-1"),
        (lambda: recipes.vae((2,), batch_size=0), "vae: batch_size=0"),
        (lambda: recipes.vae_gan((8, 8, 1), latent_dim=0), "vae_gan: latent_dim=0"),
        (lambda: recipes.vae_gan((2,), width=0), "mlp: width=0: must be an integer of at least 1"),
        (lambda: gan.fit(small(), gan.load("digits"), steps=1), "makes images of shape"),
        (lambda: vae_gan.init(three(d_steps=2), jax.random.key(0)), "plays simultaneously"),
        (lambda: vae.likelihood(gan.Run(recipes.mlp((2,)), None, None), None), "has no likelihood"),
        (lambda: gan.fit("recipe", gan.load("digits"), steps=1), "does not say of which game"),
    ],
)
def test_a_mistake_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("split", "draws", "message"),
    [
        (Split(np.zeros((4, 2), np.float32)), 1, "no labels"),
        (Split(np.zeros((4, 2), np.float32), np.array([0, 1, 2, 3])), 1, "labels lie in 0 to 3: expected 0 to 2"),
        (Split(np.zeros((0, 2), np.float32), np.zeros(0, int)), 1, r"of images \(2,\), and the split has \(0, 2\)"),
        (Split(np.zeros((4, 3), np.float32), np.zeros(4, int)), 1, r"of images \(2,\), and the split has \(4, 3\)"),
        (Split(np.zeros((4, 2), np.float32), np.zeros(4, int)), 0, "draws=0"),
    ],
)
def test_a_split_that_has_no_likelihood_is_refused_in_one_line(split, draws, message):
    knobs = small(classes=3)
    run = gan.Run(knobs, jax.eval_shape(lambda key: vae.init(knobs, key), jax.random.key(0)), None)
    with pytest.raises(UserError, match=message) as raised:
        vae.likelihood(run, split, draws)
    assert "\n" not in str(raised.value)


# ---- what users' own parts return -------------------------------------------------------------


class Own(nn.Module):
    """A network of one layer that returns what `ending` makes of it."""

    ending: str

    @nn.compact
    def __call__(self, x, labels, mode):
        output = gan.DiscriminatorOutput
        return {
            "array": lambda: nn.Dense(4)(x), "tuple": lambda: (x, x, x),
            "odd": lambda: output(x[:, 0], features=nn.Dense(3)(x)),
            "none": lambda: output(nn.Dense(1)(x)[:, 0]), "mean": lambda: (nn.Dense(2)(x).mean(0), jnp.zeros(2)),
            "more": lambda: output(x[:, 0], features=nn.Dense(6)(x)),
        }[self.ending]()  # fmt: skip


@pytest.mark.parametrize(
    ("game", "player", "ending", "message"),
    [
        *[(game, "encoder", "array", r"the encoder returns float32 of shape \[\d+, 4\]") for game in ("vae", "vae_gan")],
        *[(game, "encoder", "odd", r"features of the encoder.*shape \[\d+, 3\]") for game in ("vae", "vae_gan")],
        *[(game, "encoder", "none", "features of the encoder.*returns None") for game in ("vae", "vae_gan")],
        ("vae_gan", "encoder", "more", "the encoder knows 3 latents, the generator 2: its features are 2 numbers for each"),
        ("vae_gan", "discriminator", "none", r"the discriminator of a VAE-GAN returns features too, \[b, d\]"),
        ("vae", "decoder", "array", r"the decoder returns float32 of shape \[\d, 4\]: it must return \(means"),
        ("vae", "decoder", "tuple", "the decoder returns a tuple: it must"),
        ("vae", "decoder", "mean", r"the decoder, for \d latents, returns float32 of shape \[2\]"),
    ],
)
def test_what_own_networks_return_is_refused_before_anything_is_written(game, player, ending, message, tmp_path):
    knobs = small() if game == "vae" else three()
    knobs = knobs.replace(**{player: getattr(knobs, player).replace(net=gan.Net(Own(ending)))})
    with pytest.raises(UserError, match=message) as raised:
        gan.fit(knobs, gan.load("ring"), steps=1, out=tmp_path / "run", progress=False)
    assert "\n" not in str(raised.value) and not (tmp_path / "run").exists()


def mean_terms(real, fake, batch):
    return gan.Terms(-real.logits.mean(), fake.logits.mean(), -fake.logits.mean())


def test_the_loss_of_a_vae_gan_has_one_value_per_example():
    knobs = three(loss=gan.bind(mean_terms))
    state = jax.eval_shape(lambda key: vae_gan.init(knobs, key), jax.random.key(0))
    batch = gan.Batch(jnp.zeros((knobs.batch_size, 2)), jnp.arange(knobs.batch_size))
    with pytest.raises(UserError, match="the loss mean_terms, for .* it must return real terms .*, one value per example"):
        jax.eval_shape(lambda state: vae_gan.step(knobs, state, batch), state)
