"""The benchmark compares like with like: PyTorch's games, from our weights, take our steps."""

import importlib.util
import inspect
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import gan_jax as gan
from gan_jax import penalties
from gan_jax.core.errors import UserError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import benchmark  # noqa: E402  its folder is on the path only now

MISSING = importlib.util.find_spec("torch") is None
needs_torch = pytest.mark.skipif(MISSING, reason="PyTorch is not installed: it is the optional extra gan-jax[bench]")


def r1_recipe(**fields):
    recipe = gan.recipes.mlp((2,), batch_size=32, **fields)
    penalised = recipe.discriminator.replace(penalties={"r1": gan.bind(penalties.r1, gamma=20.0)})
    return recipe.replace(discriminator=penalised)


def dcgan_recipe(shape, **fields):
    return gan.recipes.dcgan(shape, width=4, batch_size=8, **fields)


GAMES = {
    "DCGAN of the article, narrow": (dcgan_recipe, (32, 32, 3)),
    "DCGAN of the populations, narrow": (dcgan_recipe, (16, 16, 1)),
    "MLP with R1": (lambda shape, **fields: r1_recipe(**fields), (2,)),
}


@needs_torch
@pytest.mark.parametrize("way", ["eager", pytest.param("channels_last", marks=pytest.mark.slow)])
@pytest.mark.parametrize("game", GAMES)
def test_three_steps_agree_in_losses_gradients_parameters_and_average(game, way, x64):
    import peer
    import side_by_side

    make, shape = GAMES[game]
    recipe, images = side_by_side.in_float64(make(shape)), side_by_side.examples(shape)
    found = side_by_side.differences(recipe, images, peer.Way(way, len(shape) == 3, len(shape) == 1))
    assert len(found) == 7
    assert max(found.values()) < side_by_side.EXACT, found


@needs_torch
def test_the_check_sees_another_game(x64):
    import peer
    import side_by_side

    recipe, images = r1_recipe(dtype="float64"), side_by_side.examples((2,))
    with pytest.raises(UserError, match="row toy: .* differ by .* from equal weights"):
        side_by_side.check("toy", recipe, images, Unpenalised("eager", False, True))
    assert side_by_side.check("toy", recipe, images, peer.Way("eager", False, True)) < side_by_side.EXACT


def Unpenalised(*plan):
    """A way that forgets R1."""
    import peer

    way = peer.Way(*plan)
    penalised = way.d_loss
    way.d_loss = lambda d, reals, fakes, gamma: penalised(d, reals, fakes, 0 * gamma)
    return way


@needs_torch
def test_both_have_the_articles_numbers_of_parameters_and_the_same_adam():
    import peer
    import side_by_side

    recipe = gan.recipes.dcgan((32, 32, 3))
    state = jax.jit(gan.init)(recipe, jax.random.key(0))
    game = peer.Game(side_by_side.start(recipe, state, side_by_side.examples((32, 32, 3))), peer.Way("eager", True, False))
    assert [sum(x.numel() for x in p.values()) for p in (game.g, game.d)] == [1_447_171, 217_984]
    adam = game.adam["d"].defaults
    assert inspect.signature(optax.adam).parameters["eps"].default == adam["eps"]
    np.testing.assert_allclose([adam["lr"], *adam["betas"]], [2e-4, 0.5, 0.999], rtol=1e-6)


@needs_torch
@pytest.mark.parametrize("members", [1, 2])
def test_layers_agree_with_their_gradients(members):
    import peer
    import side_by_side_layers

    rng = np.random.default_rng(0)
    for transposed in (False, True):
        x = rng.normal(size=(members, 2, 8, 8, 3)).astype(np.float32)
        kernel = rng.normal(size=(members, 5, 5, 3, 4)).astype(np.float32)
        ours = side_by_side_layers.our_layer(x, kernel, transposed, True)()
        theirs = peer.layer(x, kernel, transposed, True)
        assert side_by_side_layers.layer_difference(ours, theirs["contiguous"](), True, transposed, members) < 1e-5
        if members > 1:
            each = np.stack([y.detach().numpy() for y, _ in theirs["contiguous"]()], 1)
            together = theirs["grouped, contiguous"]()[0].detach().numpy()
            np.testing.assert_allclose(together.reshape(each.shape), each, rtol=1e-4, atol=1e-4)


@needs_torch
def test_a_way_that_fails_is_reported_and_left_out(monkeypatch):
    import peer
    import side_by_side

    def no_compiler(function):
        def call(*args):
            raise RuntimeError("No working C++ compiler found\nmore")

        return call

    monkeypatch.setattr(peer.torch, "compile", no_compiler)
    recipe, images = r1_recipe(), side_by_side.examples((2,))
    start = side_by_side.start(recipe, jax.jit(gan.init)(recipe, jax.random.key(0)), images)
    _, name, times, failed = peer.choose(start, steps=1)
    assert name == "eager" and list(times) == ["eager"]
    assert failed == ["compiled failed: No working C++ compiler found"]


@needs_torch
def test_a_population_of_ours_trains_every_member_with_its_own_number():
    import side_by_side

    recipe, images = r1_recipe(), side_by_side.examples((2,))
    swept = [gan.with_leaves(recipe, {"discriminator.penalties.r1.gamma": gamma}) for gamma in (0.1, 10)]
    advance = side_by_side.our_population(swept, side_by_side.our_feed(images), 2)
    assert np.asarray(advance()).all() and np.asarray(advance()).all()


def test_rows_are_known_by_name_and_letter():
    assert benchmark.chosen("step, memory") == ["step", "memory"]
    with pytest.raises(UserError, match=r"unknown row 'f': use some of step, .*dcgan \(a\), .*members \(e\)"):
        benchmark.chosen("step,f")
    if not MISSING:
        assert benchmark.chosen("a,layers") == ["dcgan", "layers"]


def test_without_pytorch_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "peer", raising=False)
    with pytest.raises(
        UserError, match=r"^this row needs PyTorch: pip install 'gan-jax\[bench\]'.* uv run --extra bench"
    ) as said:
        benchmark.chosen("step,a")
    assert "\n" not in str(said.value)
