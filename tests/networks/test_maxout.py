"""PacGAN's toy networks: sizes by hand, the forward pass against NumPy, the first weights, the
recipe's training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Net
from gan_jax.data.toys import ring, toy_splits
from gan_jax.networks import maxout
from tests.networks.test_dcgan import count, made, run, shapes, training
from tests.tiny_games import assert_close

RNG = np.random.default_rng(0)
MODULES = maxout.Generator(width=8), maxout.Discriminator(width=8)


def test_the_published_networks_have_their_numbers_of_parameters():
    """G: 2 x 400 and 3 x 400 x 400 kernels, 4 x 2 x 400 of batch norm, 400 x 2 + 2. D: 1,000 affine
    functions three times."""
    g, d, points, output = shapes(gan.recipes.pacgan_toy())
    assert count(g.params) == 2 * 400 + 3 * 400**2 + 4 * 2 * 400 + (400 * 2 + 2) == 484_802
    assert count(d.params) == (2 + 1) * 1000 + 2 * (200 + 1) * 1000 + 200 + 1 == 405_201
    assert points.shape == (2, 2) and output.logits.shape == (2,) and output.features.shape == (2, 200)
    assert d.stats == {}, "no batch norm in D"


def dense(params, i, x):
    p = {k: np.asarray(v) for k, v in params[f"Dense_{i}"].items()}
    return x @ p["kernel"] + p.get("bias", 0)


def test_the_discriminator_takes_the_largest_of_its_pieces(x64):
    x = RNG.normal(size=(5, 2))
    module = maxout.Discriminator(width=3, depth=2, pieces=4)
    p, _ = made(module, x)
    for i in range(2):
        pieces = dense(p, i, x if i == 0 else hidden)
        hidden = np.stack([[max(row[unit::3]) for unit in range(3)] for row in pieces])
    output, _ = run(module, p, {}, x)
    np.testing.assert_allclose(output.features, hidden, rtol=1e-10)
    np.testing.assert_allclose(output.logits, dense(p, 2, hidden)[:, 0], rtol=1e-10)


def test_the_generator_is_its_formula_in_training_and_evaluation(x64):
    z = RNG.normal(size=(6, 3))
    module = maxout.Generator(2, width=4, depth=2)
    p, stats = made(module, z)

    def forward(moments):
        x = z
        for i in range(2):
            x = dense(p, i, x)
            mean, var = moments(i, x)
            norm = p[f"BatchNorm_{i}"]
            x = np.maximum((x - mean) / np.sqrt(var + 1e-4) * norm["scale"] + norm["bias"], 0)
        return dense(p, 2, x)

    rows, new = run(module, p, stats, z, training(6))
    np.testing.assert_allclose(rows, forward(lambda i, x: (x.mean(0), x.var(0))), rtol=1e-9)
    running = stats["batch_stats"]
    expected = forward(lambda i, x: (running[f"BatchNorm_{i}"]["mean"], running[f"BatchNorm_{i}"]["var"]))
    np.testing.assert_allclose(run(module, p, stats, z)[0], expected, rtol=1e-9)
    expected = 0.95 * running["BatchNorm_0"]["mean"] + 0.05 * dense(p, 0, z).mean(0)
    np.testing.assert_allclose(new["batch_stats"]["BatchNorm_0"]["mean"], expected, rtol=1e-10)


def test_kernels_start_with_the_published_spread_and_biases_at_zero():
    """On 2 features and 2 latents."""
    for module in (maxout.Generator(), maxout.Discriminator()):
        params, _ = jax.jit(lambda key, module=module: Net(module).init(key, jnp.ones((2, 2)), None, {}))(jax.random.key(0))
        layers = [v for name, v in params.items() if name.startswith("Dense")]
        kernels = [np.asarray(layer["kernel"]) for layer in layers]
        for kernel in kernels:
            assert abs(kernel.std() - 0.02) < 4 * 0.02 / np.sqrt(2 * kernel.size)
            assert abs(kernel.mean()) < 4 * 0.02 / np.sqrt(kernel.size)
        assert all(not layer["bias"].any() for layer in layers if "bias" in layer)


@pytest.mark.parametrize(
    "module", [maxout.Generator(width=8), maxout.Discriminator(width=8)], ids=["generator", "discriminator"]
)
def test_dropout_acts_in_training_alone(module):
    x = jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32)
    params, stats = made(module, x, dtype="float32", dropout=0.5)
    answer = lambda mode, **numbers: np.asarray(jax.tree.leaves(run(module, params, stats, x, mode, **numbers)[0])[0])
    np.testing.assert_allclose(answer(EVALUATION, dropout=0.9), answer(EVALUATION), rtol=1e-6)
    np.testing.assert_allclose(answer(training(), dropout=0.0), answer(training()), rtol=1e-6)
    assert not np.allclose(answer(training(), dropout=0.5), answer(training()))


# ---- the recipe --------------------------------------------------------------------------------


def test_the_recipe_has_the_published_numbers():
    recipe = gan.recipes.pacgan_toy()
    for side in (recipe.generator, recipe.discriminator):
        assert side.optimizer.function is optax.adam and side.penalties == {} and side.numbers == {}
        assert {k: round(float(v), 7) for k, v in side.optimizer.numbers.items()} == {
            "learning_rate": 1e-4,
            "b1": 0.8,
            "b2": 0.999,
        }
    assert recipe.batch_size == 100 and recipe.d_steps == 1 and recipe.classes == 0
    assert recipe.loss == gan.recipes.loss("non_saturating")
    assert recipe.play.function is gan.alternating
    assert gan.recipes.pacgan_toy(batch_size=50, play=gan.bind(gan.simultaneous)).batch_size == 50


def test_the_recipe_makes_rows_only():
    assert shapes(gan.recipes.pacgan_toy((7,)))[2].shape == (2, 7)
    with pytest.raises(gan.UserError, match="use recipes.dcgan"):
        gan.recipes.pacgan_toy((8, 8, 1))


def test_the_recipe_refuses_classes():
    with pytest.raises(gan.UserError, match="no classes.*use recipes.mlp"):
        gan.recipes.pacgan_toy(classes=8)
    assert gan.recipes.pacgan_toy(classes=0).classes == 0


@pytest.mark.slow
def test_the_recipe_trains():
    data, recipe = toy_splits("ring", ring(), 0), gan.recipes.pacgan_toy()
    run = gan.fit(recipe, data, steps=20, log_every=10, checkpoint_every=20, sample_every=20, progress=False)
    assert run.stopped is None and run.step == 20
    assert all(np.isfinite(value) for row in run.history for value in row.values())
    assert run.samples(5, ema=False).shape == (5, 2)
    first, last = run.history[0]["discriminator/loss"], run.history[-1]["discriminator/loss"]
    assert first < 1.4 and last < first, "2 log 2 at the start; fakes near the origin are soon distinguished from a ring"


@pytest.mark.parametrize("module", MODULES, ids=["generator", "discriminator"])
def test_a_row_of_a_population_is_a_network_of_its_own(x64, module):
    """In training: answers, running averages, and the gradient by every parameter, of three
    networks on one batch."""
    x = jnp.asarray(RNG.normal(size=(6, 2)))
    params, stats = made(module, x)
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf[::-1], leaf**2]), (params, stats))

    def answer(params, stats):
        output, new = Net(module).apply(params, stats, x, None, training(6), {})
        return sum((leaf**2).sum() for leaf in jax.tree.leaves(output)), (output, new)

    one = jax.value_and_grad(answer, has_aux=True)
    many = jax.jit(jax.vmap(one))(*rows)
    for i in range(3):
        alone = jax.jit(one)(*jax.tree.map(lambda leaf, i=i: leaf[i], rows))
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], many), alone, 1e-12)
