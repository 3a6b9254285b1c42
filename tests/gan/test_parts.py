"""What users' networks, losses and penalties return, and what stands in a recipe's fields, is
checked once, by shapes alone, and refused in one line."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

import gan_jax as gan
from gan_jax import optimizers, penalties
from gan_jax.gan.game import check_data
from gan_jax.losses import Terms
from gan_jax.networks.packing import Packed

N = 8
RECIPE = gan.recipes.mlp((2,), width=4, depth=1, batch_size=N)


def step(recipe):
    """What `init`, `sample` and a step do, by shapes alone."""
    state = jax.eval_shape(gan.init, recipe, jax.random.key(0))
    jax.eval_shape(lambda state: gan.sample(recipe, state, jax.random.key(0), 2), state)
    batch = gan.Batch(jnp.zeros((N, 2)), jnp.arange(N))
    return jax.eval_shape(gan.train_step, recipe, state, batch)


def refused(said, call, *args, **kwargs):
    with pytest.raises(gan.UserError, match=said) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)


# ---- networks ----------------------------------------------------------------------------------


class Judge(nn.Module):
    """A discriminator that returns what `ending` makes of its layer."""

    ending: str = "fine"

    @nn.compact
    def __call__(self, rows, labels, mode):
        x = nn.Dense(1)(rows)
        output = gan.DiscriminatorOutput
        return {
            "fine": lambda: output(x[:, 0]), "column": lambda: output(x), "array": lambda: x[:, 0], "tuple": lambda: (x, None),
            "mean": lambda: output(x.mean()), "nothing": lambda: None, "dict": lambda: {"logits": x[:, 0]},
            "integers": lambda: output((x[:, 0] > 0).astype(int)), "patches": lambda: output(nn.Dense(3)(x).reshape(-1)),
            "features": lambda: output(x[:, 0], features=x.mean(0)), "classes": lambda: output(x[:, 0], x[:, 0]),
            "dropout": lambda: output(nn.Dropout(0.5, deterministic=not mode.train)(x)[:, 0]),
        }[self.ending]()  # fmt: skip


class Maker(nn.Module):
    ending: str = "fine"

    @nn.compact
    def __call__(self, z, labels, mode):
        x = nn.Dense(2)(z)
        return {
            "fine": lambda: x, "integers": lambda: x.astype(int), "bytes": lambda: x.astype("uint8"), "nothing": lambda: None,
            "tuple": lambda: (x, None), "mean": lambda: x.mean(0), "one": lambda: x[:1], "complex": lambda: x * 1j,
            "half": lambda: x.astype("float16"), "output": lambda: gan.DiscriminatorOutput(x[:, 0]),
        }[self.ending]()  # fmt: skip


class OneInput(nn.Module):
    @nn.compact
    def __call__(self, rows):
        return gan.DiscriminatorOutput(nn.Dense(1)(rows)[:, 0])


class Keyword(nn.Module):
    @nn.compact
    def __call__(self, rows, *, train=True):
        return gan.DiscriminatorOutput(nn.Dense(1)(rows)[:, 0])


def with_net(player, net):
    return gan.recipes.with_side(RECIPE, player, net=net)


def test_networks_that_return_what_they_must_are_taken():
    step(with_net("discriminator", gan.Net(Judge())))
    step(with_net("discriminator", Packed(gan.Net(Judge()), 4)))
    recipe = with_net("generator", gan.Net(Maker("half")))
    made = jax.eval_shape(lambda: gan.sample(recipe, gan.init(recipe, jax.random.key(0)), jax.random.key(1), 3))
    assert made.shape == (3, 2) and made.dtype == "float32", "the dtype is the recipe's, whatever computes it"


@pytest.mark.parametrize(
    "ending, said",
    [
        ("column", rf"for {N} examples, returns float32 of shape \[{N}, 1\]: .* logits \[b\]"),
        ("patches", r"returns float32 of shape \[24\]"),
        ("mean", r"returns float32 of shape \[\]"),
        ("integers", r"returns int32 of shape \[8\]"),
        ("array", r"returns float32 of shape \[8\]: it must return a DiscriminatorOutput"),
        ("tuple", "returns a tuple"),
        ("nothing", "returns None"),
        ("dict", "returns a dict"),
        ("features", r"with 8 logits returns float32 of shape \[1\]: it must return features \[8, d\] or None"),
        ("classes", r"class logits \[8, classes\] or None"),
        ("dropout", 'the network Judge fails .* needs PRNG for "dropout"; .*networks.layers.Dropout'),
    ],
)
def test_a_discriminator_that_returns_something_else_is_refused(ending, said):
    refused(said, step, with_net("discriminator", gan.Net(Judge(ending))))


@pytest.mark.parametrize("ending", ["integers", "bytes", "tuple", "nothing", "mean", "one", "complex", "output"])
def test_a_generator_that_returns_something_else_is_refused(ending):
    refused(
        r"the generator, for \d latents, returns .*: it must return one image for each",
        step,
        with_net("generator", gan.Net(Maker(ending))),
    )


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: with_net("discriminator", Judge()), "a player's net is a Judge: a network is Net"),
        (lambda: with_net("discriminator", Judge), "a player's net is <class .*Judge'>"),
        (lambda: with_net("discriminator", None), "a player's net is None"),
        (lambda: with_net("discriminator", jnp.tanh), "a player's net is"),
        (lambda: gan.Net(Judge), "Net takes a linen module, .* not <class"),
        (lambda: gan.Net(OneInput()), r"the network OneInput takes \(self, rows\): a network is Net"),
        (lambda: gan.Net(Keyword()), r"the network Keyword takes \(self, rows, \*, train=True\)"),
        (lambda: step(with_net("discriminator", gan.Net(nn.Sequential([nn.Dense(1)])))), "the network Sequential fails"),
    ],
)
def test_what_is_no_network_is_refused_and_told_what_one_is(make, said):
    refused(said, make)


# ---- losses ------------------------------------------------------------------------------------


def fine_loss(real, fake, batch):
    return Terms(-real.logits, fake.logits, -fake.logits)


def plain_tuple(real, fake, batch):
    return -real.logits, fake.logits, -fake.logits


def one_mean(real, fake, batch):
    return fake.logits.mean()


def means(real, fake, batch):
    return Terms(-real.logits.mean(), fake.logits.mean(), -fake.logits.mean())


def columns(real, fake, batch):
    return Terms(*(x[:, None] for x in (real.logits, fake.logits, -fake.logits)))


def generator_mean(real, fake, batch):
    return Terms(-real.logits, fake.logits, -fake.logits.mean())


def counts(real, fake, batch):
    return Terms(*(3 * (jnp.ones(N, int),)))


def two_inputs(real, fake):
    return fine_loss(real, fake, None)


@pytest.mark.parametrize(
    "loss, said",
    [
        (plain_tuple, r"the loss plain_tuple returns a tuple: it must return losses.Terms\(real, fake, generator\)"),
        (one_mean, r"the loss one_mean returns float32 of shape \[\]"),
        (means, r"the loss means, for 8 logits, returns float32 of shape \[\]: it must return real terms \[8\]"),
        (columns, r"returns float32 of shape \[8, 1\]: it must return real terms \[8\]"),
        (generator_mean, r"returns float32 of shape \[\]: it must return generator terms \[8\]"),
        (counts, r"returns int32 of shape \[8\]"),
        (two_inputs, r"two_inputs\(real, fake\) is called with \(real, fake, batch\): too many"),
    ],
)
def test_a_loss_that_is_not_one_value_per_example_is_refused(loss, said):
    step(RECIPE.replace(loss=gan.bind(fine_loss)))
    refused(said, step, RECIPE.replace(loss=gan.bind(loss)))


# ---- penalties, and other parts ----------------------------------------------------------------


def fine_penalty(context, *, weight=1.0):
    return weight * jnp.square(context.real.logits)


def mean_penalty(context):
    return jnp.square(context.real.logits).mean()


def column_penalty(context):
    return jnp.square(context.real.logits)[:, None]


def of_pixels(context):
    return jnp.square(context.reals)


def with_memory(context):
    return jnp.square(context.real.logits), {}


@penalties.remembers(mean=0.0)
def forgets(context):
    return jnp.square(context.real.logits)


def number_penalty(context):
    return 1.0


def with_penalty(penalty, player="discriminator"):
    return gan.recipes.with_side(RECIPE, player, penalties={"mine": penalty})


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize(
    "penalty, said",
    [
        (mean_penalty, r"the penalty mean_penalty returns float32 of shape \[\]: .* one value per example"),
        (column_penalty, r"returns float32 of shape \[8, 1\]"),
        (of_pixels, r"returns float32 of shape \[8, 2\]"),
        (number_penalty, "returns 1.0"),
        (with_memory, "returns a tuple: it must return values alone: mark it @remembers"),
        (forgets, r"returns float32 of shape \[8\]: it must return \(values, new memory\)"),
    ],
)
def test_a_penalty_that_is_not_one_value_per_example_is_refused(penalty, said, lazily):
    bound = gan.lazy(gan.bind(penalty), 4) if lazily else gan.bind(penalty)
    for player in ("generator", "discriminator"):
        step(with_penalty(gan.bind(fine_penalty), player))
        refused(said, step, with_penalty(bound, player))


@pytest.mark.parametrize("every", [0, -1, 2.5, "4", None, float("nan")])
def test_a_lazy_penalty_comes_every_whole_number_of_steps(every):
    refused("lazy: every=.*an integer of at least 1", gan.lazy, gan.bind(penalties.r1, gamma=1.0), every)
    refused("lazy: every=", penalties.Lazy(gan.bind(penalties.r1, gamma=1.0)).replace, every=every)


@pytest.mark.parametrize(
    "recipe, said",
    [
        (with_penalty(penalties.r1), r"discriminator.penalties.mine is r1: .*gan.bind\(r1\)"),
        (with_penalty(fine_penalty), "discriminator.penalties.mine is fine_penalty"),
        (with_penalty("r1"), "discriminator.penalties.mine is 'r1'"),
        (with_penalty(5), "discriminator.penalties.mine is 5"),
        (RECIPE.replace(generator=RECIPE.generator.replace(penalties=[1])), "generator.penalties is a list: .* dict"),
        (RECIPE.replace(augment={"a": gan.augment.cutout}), "augment.a is cutout"),
        (RECIPE.replace(augment={"a": gan.bind(fine_penalty)}), r"fine_penalty.* is called with \(images, labels, draws\)"),
        (RECIPE.replace(controllers={"ema_decay": 1.0}), "controllers.ema_decay is 1.0"),
        (RECIPE.replace(play=5), "the recipe's play is 5"),
        (RECIPE.replace(latent=None), "the recipe's latent is None"),
        (RECIPE.replace(ema_decay=None), "the recipe's ema_decay is None"),
        (gan.recipes.with_optimizer(RECIPE, optimizers.adam), "generator.optimizer is adam"),
        (gan.recipes.with_optimizer(RECIPE, 1e-3), "generator.optimizer is 0.001"),
    ],
)  # fmt: skip
def test_a_field_of_a_recipe_that_is_no_bound_function_is_refused(recipe, said):
    refused(said, jax.eval_shape, lambda key: gan.init(recipe, key), jax.random.key(0))


def test_what_a_step_would_refuse_is_refused_before_anything_is_written(tmp_path):
    data = gan.load("ring")
    check_data(RECIPE.replace(loss=gan.bind(fine_loss)), data)
    refused("the loss means", check_data, RECIPE.replace(loss=gan.bind(means)), data)
    refused("the penalty mean_penalty", gan.fit, with_penalty(gan.bind(mean_penalty)), data, steps=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["hinge", fine_loss])
def test_what_is_to_be_bound_is_named_as_a_function(value):
    name = value if isinstance(value, str) else value.__name__
    refused(rf"loss is '?{name}'?: .* by gan.bind\({'function' if isinstance(value, str) else name}, ...\)",
            gan.fit, RECIPE.replace(loss=value), gan.load("ring"), steps=1)  # fmt: skip


@pytest.mark.parametrize("side", ["generator", "both"])
def test_what_a_generator_makes_is_compared_with_the_data_before_a_discriminator_sees_it(side):
    """A perceptron makes rows, at which a convolution fails with a message of its own."""
    recipe = gan.recipes.dcgan((8, 8, 1), width=4)
    recipe = gan.recipes.with_side(recipe, "generator", net=gan.Net(Maker()))
    if side == "both":
        recipe = gan.recipes.with_side(recipe, "discriminator", net=gan.Net(Judge()))
    refused(r"makes images of shape \(2,\), but digits has \(8, 8, 1\)", check_data, recipe, gan.load("digits"))
