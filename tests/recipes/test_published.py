"""Published settings: their numbers are the published ones, and each builds and steps at a small
size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax import penalties
from gan_jax.core.bind import defaults, number, resolve
from gan_jax.core.net import Net
from gan_jax.networks import biggan, dcgan, r3gan, sngan, stylegan2
from gan_jax.networks.spectral import SpectralNorm
from gan_jax.training.serialization import from_json, to_json

SMALL = {
    "wgan_gp": {"width": 4},
    "sngan": {"width": 8, "d_width": 8},
    "biggan": {"width": 4},
    "biggan_diffaugment": {"width": 4, "consistency": 10.0},
    "lecam": {"width": 4},
    "stylegan2_ada": {"channel_base": 64, "channel_max": 8, "group": 4},
    "r3gan": {"width": 16, "batch_size": 8},
}


def small(name, **fields):
    return getattr(gan.recipes, name)((8, 8, 1), **{"batch_size": 4} | SMALL[name] | fields)


def at(recipe, step):
    """{path: number} at a step, schedules evaluated."""
    return {path: float(value) for path, value in gan.leaves(resolve(recipe, jnp.int32(step))).items()}


def batch_of(recipe):
    n = recipe.batch_size * recipe.d_steps
    labels = jnp.zeros(n, jnp.int32) if recipe.classes else None
    return gan.Batch(jnp.zeros((n, 8, 8, 1)), jnp.arange(n), labels)


@pytest.mark.parametrize("classes", [0, 3], ids=["plain", "labelled"])
@pytest.mark.parametrize("name", SMALL)
def test_a_published_recipe_steps_and_is_recorded(name, classes):
    recipe = small(name, classes=classes)
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    after, metrics = jax.eval_shape(gan.train_step, recipe, state, batch_of(recipe))
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
    assert "discriminator/loss" in metrics
    assert jax.tree.structure(from_json(to_json(recipe))) == jax.tree.structure(recipe)


@pytest.mark.parametrize("name", SMALL)
def test_a_published_recipe_takes_another_loss(name):
    assert small(name, loss="relativistic_average").loss.name == "relativistic_average"


# ---- published numbers -------------------------------------------------------------------------


def described(value, path="", whole=True):
    """{dotted path: value} of all that a recipe says: functions by name, numbers to six digits,
    networks as they are.

    whole: with the numbers that a bound function has by itself.
    """
    if isinstance(value, gan.Bound):
        own = {k for k, v in defaults(value.function).items() if not whole and np.array_equal(value.numbers[k], number(v))}
        stated = {k: v for k, v in (value.options | value.numbers).items() if k not in own}
        return {path: value.name} | _inside(stated, path, whole)
    if isinstance(value, (gan.Recipe, gan.Side, penalties.Lazy)):
        return _inside({field.name: getattr(value, field.name) for field in dataclasses.fields(value)}, path, whole)
    if isinstance(value, dict):
        return _inside(value, path, whole)
    if callable(value) and not isinstance(value, (Net, SpectralNorm)):
        return {path: value.__name__}
    if isinstance(value, np.ndarray):
        return {path: float(f"{value:.6g}")}
    return {} if value is None else {path: value}


def _inside(items, path, whole):
    return {k: v for name, x in items.items() for k, v in described(x, f"{path}.{name}".lstrip("."), whole).items()}


def test_a_description_leaves_no_number_out():
    for name in SMALL:
        recipe = getattr(gan.recipes, name)((32, 32, 3))
        assert set(gan.leaves(recipe)) <= set(described(recipe))


def under(path, kind, **values):
    """A bound function and what is bound to it; a tuple is a schedule's name and its numbers."""
    found = {path: kind}
    for name, value in values.items():
        found |= under(f"{path}.{name}", value[0], **value[1]) if isinstance(value, tuple) else {f"{path}.{name}": value}
    return found


def adam(rate, b1, b2):
    """Of both players."""
    of = lambda player: under(f"{player}.optimizer", "adam", learning_rate=rate, b1=b1, b2=b2)
    return of("generator") | of("discriminator")


def penalty(name, **numbers):
    return under(f"discriminator.penalties.{name}", name, **numbers)


def nets(generator, discriminator):
    return {"generator.net": generator, "discriminator.net": discriminator}


def along(kind, **numbers):
    return (f"_{kind}", numbers)


PLAIN = {
    "play": "alternating", "fake_labels": "batch_labels", "latent": "normal", "classes": 0, "accumulate": 1,
    "judge_together": False, "dtype": "float32",
}  # fmt: skip

# Gulrajani et al. (2017), algorithm 1; batches of their gan_cifar.py. The network and the average
# are the article's DCGAN's.
WGAN_GP = {
    **PLAIN, **adam(1e-4, 0, 0.9), **penalty("wgan_gp", weight=10), "loss": "wasserstein",
    "d_steps": 5, "batch_size": 64, "latent.dimension": 128, "ema_decay": 0.999,
    **nets(Net(dcgan.Generator(32, 3, 64)), Net(dcgan.Discriminator(64))),
}  # fmt: skip

# Miyato et al. (2018), table 3 and appendix B; the rate falls to 0 over 100,000 steps, as
# mimicry's.
SNGAN = {
    **PLAIN, **adam(along("linear", start=2e-4, stop=0, steps=100_000), 0, 0.9), "loss": "hinge",
    "d_steps": 5, "batch_size": 64, "latent.dimension": 128, "ema_decay": 0.999,
    **nets(Net(sngan.Generator(32, 3)), SpectralNorm(Net(sngan.Discriminator()))),
}  # fmt: skip

# BigGAN-PyTorch, launch_cifar_ema.sh: --num_D_steps 4 --batch_size 50 --G_init N02 --ema_start
# 1000, both rates 2e-4.
BIGGAN = {
    **PLAIN, **adam(2e-4, 0, 0.999), "loss": "hinge", "d_steps": 4, "batch_size": 50, "latent.dimension": 128,
    **under("ema_decay", "_switch", before=0, after=0.9999, at=1000),
    **nets(
        SpectralNorm(Net(biggan.Generator(32, 3, 64, 0, 0, False, start="normal")), epsilon=1e-8),
        SpectralNorm(Net(biggan.Discriminator(64, 0, start="normal")), epsilon=1e-8),
    ),
}  # fmt: skip

# data-efficient-gans, DiffAugment-biggan-cifar10.sh: --DiffAugment translation,cutout;
# DiffAugment-cr-biggan-cifar10.sh: --DiffAugment cutout --CR 10, whose CR_augment is
# flip,translation.
DIFFAUGMENT = BIGGAN | under("augment.diffaugment", "by_policy", policy="translation,cutout", p=1)
CR = {"augment.diffaugment.policy": "cutout"} | penalty("cr", weight=10, flip=True)

# lecam-gan, lc-biggan-cifar10.sh: --LC 0.3; its averages begin at step 1,000, their decay is .99 in
# the paper, .9 in the code.
LECAM = BIGGAN | penalty("lecam", weight=0.3, decay=0.99, start=1000)

# stylegan2-ada-pytorch, train.py `cifar` and training_loop.py: ADA's target .6, interval 4, 500
# kimg; R1 every 16 steps.
STYLEGAN2_ADA = {
    **PLAIN, **adam(0.0025, 0, 0.99), "loss": "non_saturating", "d_steps": 1, "batch_size": 64, "latent.dimension": 512,
    **under("discriminator.penalties.r1.penalty", "r1", gamma=0.01), "discriminator.penalties.r1.every": 16,
    "generator.numbers.noise": 1,
    **under("augment.ada", "ada", p=0, pipe="bgc"),
    **under("controllers.augment.ada.p", "_control", statistic="discriminator/real_sign", target=0.6, every=4,
            horizon=500_000, low=0, high=1, ramp=0, lowers=True, log=False, rule="fixed_steps"),
    **under("ema_decay", "_half_life", images=500_000, batch_size=64, ramp=0.05),
    **nets(Net(stylegan2.Generator(32, 3, mapping=2)), Net(stylegan2.Discriminator("orig", group=32))),
}  # fmt: skip

# R3GAN, train.py:178-266, CIFAR-10: half a cosine over 2e7 images, which is 39,062.5 batches of
# 512.
_R3 = {"steps": 39_062.5}
R3GAN = {
    **PLAIN, **adam(along("cosine", start=2e-4, stop=5e-5, **_R3), 0, along("cosine", start=0.9, stop=0.99, **_R3)),
    **penalty("r1", gamma=along("cosine", start=0.05, stop=0.005, **_R3)),
    **penalty("r2", gamma=along("cosine", start=0.05, stop=0.005, **_R3)),
    "loss": "rpgan", "d_steps": 1, "batch_size": 512, "latent.dimension": 64,
    **under("augment.bg", "ada", pipe="bg", p=along("cosine", start=0, stop=0.55, **_R3)),
    **under("augment.color", "ada", pipe="color", p=along("cosine", start=0, stop=0.275, **_R3)),
    **under("augment.cutout", "ada", pipe="cutout", p=along("cosine", start=0, stop=0.55, **_R3)),
    **under("ema_decay", "_half_life", images=along("cosine", start=0, stop=5e6, **_R3), batch_size=512),
    **nets(Net(r3gan.Generator(32, 3)), Net(r3gan.Discriminator())),
}  # fmt: skip

# The article's DCGAN, with Radford et al.'s (2016) Adam.
DCGAN = {
    **PLAIN, **adam(2e-4, 0.5, 0.999), "loss": "non_saturating", "d_steps": 1, "batch_size": 64, "latent.dimension": 100,
    "ema_decay": 0.999, **nets(Net(dcgan.Generator(32, 3, 64)), Net(dcgan.Discriminator(64))),
}  # fmt: skip

PUBLISHED = [
    ("dcgan", {}, DCGAN),
    ("wgan_gp", {}, WGAN_GP),
    ("sngan", {}, SNGAN),
    ("biggan", {}, BIGGAN),
    ("biggan_diffaugment", {}, DIFFAUGMENT),
    ("biggan_diffaugment", {"consistency": 10.0}, DIFFAUGMENT | CR),
    ("lecam", {}, LECAM),
    ("lecam", {"decay": 0.9}, LECAM | {"discriminator.penalties.lecam.decay": 0.9}),
    ("stylegan2_ada", {}, STYLEGAN2_ADA),
    ("r3gan", {}, R3GAN),
]


@pytest.mark.parametrize("name, settings, published", PUBLISHED, ids=lambda x: x if isinstance(x, str) else "")
def test_all_that_a_recipe_says_is_what_was_published(name, settings, published):
    """Every number and every choice: none is missing, and none is more, but for what a function has
    by itself."""
    recipe = getattr(gan.recipes, name)((32, 32, 3), **settings)
    assert described(recipe) | published == described(recipe)
    assert published | described(recipe, whole=False) == published


def test_every_published_recipe_is_in_the_table():
    assert {name for name, _, _ in PUBLISHED} >= set(SMALL)


def test_rates_end_where_the_published_run_did():
    recipe = gan.recipes.sngan((32, 32, 3))
    assert [at(recipe, step)["generator.optimizer.learning_rate"] for step in (0, 50_000, 100_000)] == pytest.approx(
        [2e-4, 1e-4, 0]
    )
    biggan_recipe = gan.recipes.biggan((32, 32, 3))
    assert [at(biggan_recipe, step)["ema_decay"] for step in (999, 1000)] == pytest.approx([0, 0.9999])


def test_r3gan_moves_along_its_cosine():
    recipe = gan.recipes.r3gan((32, 32, 3), classes=10)
    end = int(2e7 / 512) + 1
    for path, (first, last) in {
        "generator.optimizer.learning_rate": (2e-4, 5e-5), "discriminator.penalties.r2.gamma": (0.05, 0.005),
        "discriminator.optimizer.b2": (0.9, 0.99), "augment.bg.p": (0, 0.55), "augment.color.p": (0, 0.275),
    }.items():  # fmt: skip
        assert [at(recipe, 0)[path], at(recipe, end)[path]] == pytest.approx([first, last], rel=1e-5)
    assert at(recipe, end)["ema_decay"] == pytest.approx(0.5 ** (512 / 5e6), rel=1e-6)
    assert not gan.recipes.r3gan((32, 32, 3), augmentation=0).augment


@pytest.mark.parametrize("name", SMALL)
def test_what_is_no_image_is_refused(name):
    with pytest.raises(gan.UserError, match="makes square grey or RGB images, not"):
        getattr(gan.recipes, name)((2,))
