"""StyleGAN2 against NVIDIA's PyTorch code (sizes, layers, blocks, whole networks, second
derivatives) and by its own laws."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gan_jax as gan
from gan_jax.core.net import EVALUATION, Net
from gan_jax.networks import stylegan2, stylegan2_parts
from gan_jax.networks.minibatch import minibatch_std
from tests.frozen import make_stylegan2 as made
from tests.networks.test_dcgan import count, training

FROZEN = np.load(Path(__file__).parents[1] / "frozen" / "stylegan2.npz")
RNG = np.random.default_rng(0)
LABELS = made.labels()
TINY = {"channel_base": 16, "channel_max": 4, "mapping": 2, "style": 5}


def assert_same(found, name, rtol=1e-4):
    """Within 1e-4 of the frozen array's scale."""
    expected = FROZEN[name]
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def their_name(path):
    """PyTorch's name of a parameter or a statistic."""
    *modules, last = path
    name = ".".join(["mapping" if m == "map" else m for m in modules if m not in ("noise", "averages")])
    theirs = {"kernel": "weight", "fixed": "noise_const", "style": "mapping.w_avg"}.get(last, last)
    return f"{name}.{theirs}" if name else theirs


def ported(name, shape, generator):
    """PyTorch's seeded tensor of this name, in the layout of ours."""
    if name.endswith("fc.weight"):  # the image's features in one row, as (channel, row, column)
        n, features = shape
        return made.weight(name, (features, n)).reshape(features, n // 16, 4, 4).transpose(2, 3, 1, 0).reshape(shape)
    if name.endswith("noise_const"):
        return made.weight(name, shape[:2])[..., None]
    if order := {2: (1, 0), 3: (1, 2, 0), 4: (2, 3, 1, 0)}.get(len(shape)):
        kernel = made.weight(name, tuple(np.array(shape)[np.argsort(order)])).transpose(order)
        return kernel[::-1, ::-1] if generator and name.endswith("conv0.weight") else kernel
    return made.weight(name, shape)


def variables(module, *inputs, prefix="", generator=False, **numbers):
    """The module's parameters and statistics as in the reference. Nothing is compiled."""
    shapes = jax.eval_shape(partial(module.init, {"params": jax.random.key(0)}, **numbers), *inputs)
    flat, tree = jax.tree_util.tree_flatten_with_path(shapes)
    names = [prefix + their_name([k.key for k in path if k.key != "params"]) for path, _ in flat]
    arrays = [ported(name, leaf.shape, generator) for name, (_, leaf) in zip(names, flat, strict=True)]
    return jax.tree_util.tree_unflatten(tree, arrays)


# ---- sizes -------------------------------------------------------------------------------------


def networks(name):
    size, base, layers, architecture, group, classes = made.PUBLISHED[name]
    g = stylegan2.Generator(size, 3, channel_base=base, mapping=layers, classes=classes)
    return g, stylegan2.Discriminator(architecture, base, group=group, classes=classes)


@pytest.mark.parametrize("name", made.PUBLISHED)
def test_published_configurations_have_pytorch_s_numbers_of_parameters(name):
    g, d = networks(name)
    z, labels, images = jnp.zeros((2, 512)), jnp.zeros(2, jnp.int32), jnp.zeros((2, g.size, g.size, 3))
    init = lambda net, x, numbers: jax.eval_shape(Net(net).init, jax.random.key(0), x, labels, numbers)[0]
    assert [count(init(g, z, {"noise": 1.0})), count(init(d, images, {}))] == list(FROZEN[f"sizes/{name}"])


# ---- layers against PyTorch --------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_modulated_convolutions_are_pytorch_s(k):
    names = [name for name in FROZEN.files if name.startswith(f"modulated/{k}")]
    kernel = made.given(f"kernel{k}").transpose(2, 3, 1, 0)

    def every(x, styles):
        for name in names:
            _, _, resample, demodulate = name.split("/")
            turned = kernel[::-1, ::-1] if resample == "up" else kernel
            yield stylegan2_parts.modulated_conv(x, turned, styles, demodulate == "True", resample or None)

    found = jax.jit(lambda *args: list(every(*args)))(made.given("x"), made.given("styles"))
    assert len(names) == 6
    for name, y in zip(names, found, strict=True):
        assert_same(y, name)


def test_the_mapping_network_its_average_and_truncation_are_pytorch_s():
    module, z = stylegan2_parts.Mapping(made.STYLE, made.LAYERS, made.CLASSES), made.given("z")
    params = variables(module, z, LABELS, prefix="mapping.")
    assert_same(module.apply(params, z, LABELS), "mapping")
    g = stylegan2.Generator(8, 3, **TINY | {"style": made.STYLE, "classes": made.CLASSES})
    own = {"params": {"map": params["params"]}, "averages": {"style": made.weight("mapping.w_avg", (made.STYLE,))}}
    styles = partial(g.apply, own, z, LABELS, method="styles")
    assert_same(styles(EVALUATION, truncation=made.PSI)[:, 0], "truncated")
    ws, new = styles(training(), truncation=made.PSI, mutable=["averages"])
    assert_same(ws[:, -1], "mapping")  # truncation is for evaluation
    assert_same(new["averages"]["style"], "tracked")


def test_blocks_are_pytorch_s():
    module = stylegan2.SynthesisBlock(4, 3, last=False)
    args = made.given("features"), made.given("image"), made.given("ws"), EVALUATION, 1.0
    x, image = jax.jit(module.apply)(variables(module, *args, generator=True), *args)
    assert_same(x, "synthesis/x")
    assert_same(image, "synthesis/image")
    module = stylegan2.DiscriminatorBlock(6, 5)
    args = made.given("large"), None
    assert_same(jax.jit(module.apply)(variables(module, *args), *args)[0], "discriminator")


def test_the_epilogue_is_pytorch_s():
    module = stylegan2.Epilogue(made.GROUP, classes=3)
    order = strided(4, made.GROUP)
    args = made.given("last")[order], None, training(), made.given("cmap")[order]
    output = module.apply(variables(module, *args), *args)
    assert_same(output.logits[np.argsort(order), None], "epilogue")


# ---- whole networks against PyTorch ------------------------------------------------------------


@pytest.mark.parametrize("architecture", made.ARCHITECTURES)
def test_generators_and_their_slopes_in_w_are_pytorch_s(architecture):
    options = made.ARCHITECTURES[architecture] | {"mapping": made.LAYERS, "style": made.STYLE} | made.CHANNELS
    g, z = stylegan2.Generator(made.SIZE, 3, architecture, **options), made.given("z")
    weights = variables(g, z, LABELS, EVALUATION, generator=True, noise=1.0)

    def weighed(shift):
        images = g.apply(weights, z, LABELS, EVALUATION, noise=1.0, shift=shift)
        return (images * made.given("pixels")).sum(), images

    slope, images = jax.jit(jax.grad(weighed, has_aux=True))(jnp.zeros((4, *g.style_shape)))
    assert_same(images, f"{architecture}/images")
    assert_same(slope, f"{architecture}/slope")


def discriminator(architecture):
    """(D's logits of parameters and images, parameters, images, the order that makes our groups
    theirs)."""
    options = made.ARCHITECTURES[architecture] | {"mapping": made.LAYERS, "group": made.GROUP} | made.CHANNELS
    order = strided(4, made.GROUP)
    d, reals = stylegan2.Discriminator(architecture, **options), made.given("images")[order]
    logits = lambda params, x: d.apply({"params": params}, x, LABELS[order], training()).logits
    return logits, variables(d, reals, LABELS, EVALUATION)["params"], reals, order


@pytest.mark.parametrize("architecture", made.ARCHITECTURES)
def test_discriminators_are_pytorch_s(architecture):
    logits, params, reals, order = discriminator(architecture)
    assert_same(jax.jit(logits)(params, reals)[np.argsort(order)], f"{architecture}/logits")


def test_r1_and_its_gradient_in_a_strided_kernel_are_pytorch_s():
    logits, params, reals, order = discriminator("resnet")

    def r1(kernel):
        block = params["b8"] | {"conv1": params["b8"]["conv1"] | {"kernel": kernel}}
        slope = jax.grad(lambda x: logits(params | {"b8": block}, x).sum())(reals)
        return jnp.square(slope).sum(), jnp.square(slope).sum((1, 2, 3))

    updated, norms = jax.jit(jax.grad(r1, has_aux=True))(params["b8"]["conv1"]["kernel"])
    assert_same(norms[np.argsort(order)], "norm")
    assert_same(updated, "moved")


# ---- minibatch standard deviation --------------------------------------------------------------


def strided(n, group):
    """NVIDIA's groups one after the other: example i is in group i mod n / group."""
    return np.arange(n).reshape(group, -1).T.ravel()


@pytest.mark.parametrize("channels", [1, 2])
def test_minibatch_std_is_pytorch_s_but_for_the_order_of_the_batch(channels):
    x, order = made.given("std"), strided(8, 4)
    assert_same(minibatch_std(x[order], 4, channels, training(8))[np.argsort(order)], f"std/{channels}")


def test_minibatch_std_of_left_over_examples_is_that_of_the_last_whole_group():
    x = RNG.normal(size=(7, 2, 2, 3)).astype(np.float32)
    value = lambda group: np.sqrt(group.var(0) + 1e-8).mean()
    found = minibatch_std(x, 3)[:, 0, 0, -1]
    np.testing.assert_allclose(found, [value(x[:3])] * 3 + [value(x[3:6])] * 3 + [value(x[4:])], rtol=1e-5)
    np.testing.assert_allclose(minibatch_std(x, 32)[..., -1], value(x), rtol=1e-5)  # fewer than a group are one group


def test_minibatch_std_asks_for_a_group_that_divides_the_batch():
    x = jnp.zeros((6, 2, 2, 3))
    for group in (4, 12):
        with pytest.raises(gan.UserError, match=f"group is {group}: D sees 6 examples"):
            minibatch_std(x, group, mode=training(6))
    with pytest.raises(gan.UserError, match="2 channels does not divide 3 features"):
        minibatch_std(x, 3, 2)


@pytest.mark.parametrize("group", [2, 4])
def test_minibatch_std_and_its_gradient_do_not_depend_on_the_number_of_devices(group):
    """A group of 4 spans two devices' shares of 2, which are then exchanged."""
    x, weights = (RNG.normal(size=(8, 2, 2, 3)).astype(np.float32) for _ in range(2))

    def slope(x, weights, mode):
        return jax.grad(lambda x: jnp.square(minibatch_std(x, group, mode=mode)[..., -1:] * weights).sum())(x)

    share = lambda a: a.reshape(4, 2, *a.shape[1:])
    shared = jax.pmap(partial(slope, mode=gan.Mode(train=True, axis_name="d")), axis_name="d")(share(x), share(weights))
    np.testing.assert_allclose(shared.reshape(x.shape), slope(x, weights, training(8)), rtol=1e-4, atol=1e-6)


# ---- the numbers of the generator --------------------------------------------------------------


def tiny(classes=0, **numbers):
    """(module, variables with every number at random, z)."""
    g, z = stylegan2.Generator(8, 1, classes=classes, **TINY), made.given("z")
    return g, variables(g, z, LABELS, EVALUATION, generator=True, **numbers), z


def test_each_example_s_later_layers_may_come_from_a_second_z():
    g, weights, z = tiny(classes=3)
    z = np.repeat(z, 16, 0)
    styles = partial(g.apply, weights, z, np.repeat(LABELS, 16), method="styles", mutable=["averages"])
    every = jax.jit(lambda *probabilities: [styles(training(64), mixing=p) for p in (None, *probabilities)])
    (plain, _), (never, _), (always, new), (half, _) = jax.tree.map(np.asarray, every(0.0, 1.0, 0.5))
    np.testing.assert_array_equal(never, plain)
    changed = np.any(always != plain, -1)  # [example, layer]
    first = changed.argmax(1)
    assert changed.any(1).all() and set(first.tolist()) == {1, 2, 3}, "from any layer but the first on"
    assert (changed == (np.arange(4) >= first[:, None])).all(), "and to the end"
    for example, layer in enumerate(first):
        np.testing.assert_array_equal(always[example, layer:], np.repeat(always[example, -1:], 4 - layer, 0))
    assert 0.25 < np.any(half != plain, (1, 2)).mean() < 0.75
    old, latest = weights["averages"]["style"], plain[:, 0].mean(0)
    np.testing.assert_allclose(new["averages"]["style"], latest + 0.995 * (old - latest), rtol=1e-4)  # the first z's alone


def test_the_average_w_is_of_the_whole_batch_on_every_device():
    g, weights, z = tiny()
    run = lambda z, mode: g.apply(weights, z, None, mode, method="styles", mutable=["averages"])[1]["averages"]["style"]
    mode = gan.Mode(train=True, axis_name="d")
    shared = jax.pmap(partial(run, mode=mode), axis_name="d")(z[:, None])
    np.testing.assert_allclose(shared, np.broadcast_to(run(z, training()), shared.shape), rtol=1e-5)


def test_styles_are_not_mixed_in_evaluation():
    g, weights, z = tiny()
    styles = partial(g.apply, weights, z, None, training().replace(train=False), method="styles")
    np.testing.assert_array_equal(styles(mixing=1.0), styles())


def test_truncation_to_nothing_gives_the_average_image():
    g, weights, z = tiny(noise=1.0)
    average = jnp.broadcast_to(weights["averages"]["style"], (4, *g.style_shape))
    plain = g.apply(weights, z, None, EVALUATION, method="styles")
    draw = jax.jit(lambda psi: g.apply(weights, z, None, EVALUATION, noise=1.0, truncation=psi))
    synthesis = jax.jit(lambda ws: g.bind(weights).synthesis(ws, EVALUATION, 1.0))
    for psi, ws in ((0.0, average), (1.0, plain)):
        np.testing.assert_allclose(draw(psi), synthesis(ws), rtol=1e-4, atol=1e-4)


def test_noise_is_each_example_s_own_in_training_and_one_in_evaluation():
    g, weights, z = tiny(noise=1.0)
    same = np.repeat(z[:1], 4, 0)

    @jax.jit
    def run(index, noise):
        mode = training().replace(draws=gan.Draws(jax.random.key(0), index))
        images, _ = g.apply(weights, same, None, mode, noise=noise, mutable=["averages", "noise"])
        return images

    images = run(jnp.arange(4), 1.0)
    assert np.ptp(images, 0).min() > 0, "the same z, four images"
    np.testing.assert_allclose(run(jnp.arange(2, 6), 1.0)[:2], images[2:], rtol=1e-4, atol=1e-5)
    still = jax.jit(partial(g.apply, weights, same, None, training().replace(train=False)))
    np.testing.assert_allclose(run(jnp.arange(4), 0.0), still(), rtol=1e-4, atol=1e-5)  # 0 is absence
    fixed = still(noise=1.0)
    np.testing.assert_array_equal(fixed, np.repeat(fixed[:1], 4, 0))
    assert np.abs(fixed - still()).max() > 0.1


def test_a_shift_moves_the_styles_and_may_be_one_for_all():
    g, weights, z = tiny()
    assert g.style_shape == (4, 5) and stylegan2.Generator(256, 3).style_shape == (14, 512)
    styles = partial(g.apply, weights, z, None, EVALUATION, method="styles")
    shift = RNG.normal(size=(4, 5)).astype(np.float32)
    np.testing.assert_allclose(styles(shift=shift), styles() + shift, rtol=1e-6)


# ---- dtypes, members, the game, mistakes -------------------------------------------------------


def game(**fields):
    g = gan.Side(
        net=Net(stylegan2.Generator(8, 1, classes=3, **TINY)), optimizer=gan.recipes.dcgan((8, 8, 1)).generator.optimizer
    )
    g = g.replace(numbers={"noise": 1.0, "mixing": 0.9})
    d = stylegan2.Discriminator("orig", 16, 4, group=2, mapping=1, classes=3)
    r1 = {"r1": gan.lazy(gan.bind(gan.penalties.r1, gamma=0.01), 16)}
    recipe = gan.recipes.dcgan((8, 8, 1), latent_dim=6, classes=3, batch_size=4, **fields)
    return recipe.replace(generator=g, discriminator=recipe.discriminator.replace(net=Net(d), penalties=r1, numbers={}))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_game_keeps_its_dtype(dtype, x64):
    """Traced, not run. bfloat16 is the networks' arithmetic alone."""
    recipe = game(dtype="float64") if dtype == "float64" else game(compute_dtype=dtype)

    def run(key):
        state = gan.init(recipe, key)
        batch = gan.Batch(jnp.zeros((4, 8, 8, 1), recipe.dtype), jnp.arange(4), jnp.zeros(4, jnp.int32))
        return state, gan.train_step(recipe, state, batch)[0], gan.sample(recipe, state, key, 3)

    before, after, images = jax.eval_shape(run, jax.random.key(0))
    assert jax.tree.map(lambda x: x.dtype, before) == jax.tree.map(lambda x: x.dtype, after)
    assert images.shape == (3, 8, 8, 1) and images.dtype == recipe.dtype
    assert {x.dtype for x in jax.tree.leaves(before.generator.stats)} == {jnp.dtype(recipe.dtype)}


def test_members_of_a_population_are_each_their_own(x64):
    d = Net(stylegan2.Discriminator("resnet", 16, 4, group=2))
    images = RNG.normal(size=(2, 4, 8, 8, 1))
    shapes, _ = jax.eval_shape(d.init, jax.random.key(0), images[0], None, {})
    params = jax.tree.map(lambda x: jnp.asarray(RNG.normal(size=(2, *x.shape))), shapes)

    def logits(p, x):
        return d.apply(p, {}, x, None, EVALUATION, {})[0].logits

    alone = lambda i: logits(jax.tree.map(lambda x: x[i], params), images[i])
    together, apart = jax.jit(lambda: (jax.vmap(logits)(params, images), jnp.stack([alone(0), alone(1)])))()
    np.testing.assert_allclose(together, apart, rtol=1e-9)


def test_equalised_layers_begin_with_variance_one_whatever_their_rate():
    x = jnp.asarray(RNG.normal(size=(400, 50)), jnp.float32)
    for rate in (1.0, 0.01):
        y, made_of = stylegan2_parts.Dense(60, rate).init_with_output(jax.random.key(0), x)
        np.testing.assert_allclose(np.std(y), 1, rtol=0.1)
        np.testing.assert_allclose(np.std(made_of["params"]["kernel"]), 1 / rate, rtol=0.1)


@pytest.mark.parametrize("size", [4, 24])
def test_sizes_are_powers_of_two(size):
    with pytest.raises(gan.UserError, match=f"image size {size} is not supported by stylegan2"):
        jax.eval_shape(Net(stylegan2.Discriminator()).init, jax.random.key(0), jnp.zeros((2, size, size, 3)), None, {})


def test_mistakes_are_named():
    init = lambda module, x: jax.eval_shape(Net(module).init, jax.random.key(0), x, None, {})
    with pytest.raises(gan.UserError, match="unknown architecture 'resid' of stylegan2"):
        init(stylegan2.Generator(8, 3, "resid", **TINY), jnp.zeros((2, 6)))
    with pytest.raises(gan.UserError, match="channel_base 4 leaves no features at side 8"):
        init(stylegan2.Discriminator(channel_base=4), jnp.zeros((2, 8, 8, 3)))
    with pytest.raises(gan.UserError, match="images of 8 x 16 are not supported"):
        init(stylegan2.Discriminator(), jnp.zeros((2, 8, 16, 3)))
