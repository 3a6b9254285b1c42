"""Our convolutions are the library's: values, gradients and the second derivatives that R1 takes,
and slow loops in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.networks import conv as forms
from gan_jax.networks.conv import NHWC, Conv, ConvTranspose, conv, conv_transpose
from tests.tiny_games import assert_close

PADDINGS = ["SAME", "VALID"]
ODD_AND_EVEN = [(7, 6), (8, 5)]
OURS = {"conv": conv, "conv_transpose": conv_transpose}


def lax_conv(x, kernel, stride, padding):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=NHWC)


def lax_conv_transpose(x, kernel, stride, padding):
    return jax.lax.conv_transpose(x, kernel, (stride, stride), padding, dimension_numbers=NHWC)


LIBRARY = {"conv": lax_conv, "conv_transpose": lax_conv_transpose}


def numpy_conv(x, kernel, stride, padding):
    """Each output pixel: the sum of its window times the kernel."""
    k = len(kernel)
    if padding == "SAME":
        pads = [(max((-(-n // stride) - 1) * stride + k - n, 0)) for n in x.shape[1:3]]
        x = np.pad(x, [(0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)])
    rows, columns = ((n - k) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i, j in itertools.product(range(rows), range(columns)):
        window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
        out[:, i, j] = np.einsum("bklc,klco->bo", window, kernel)
    return out


def numpy_conv_transpose(x, kernel, stride, padding):
    """Each input pixel scatters the flipped kernel, times its value, onto the output; 'SAME' crops
    as its convolution pads."""
    k = len(kernel)
    sides = [stride * n + max(k - stride, 0) for n in x.shape[1:3]]
    out = np.zeros((len(x), *sides, kernel.shape[-1]))
    for i, j in itertools.product(*map(range, x.shape[1:3])):
        patch = np.einsum("bc,klco->bklo", x[:, i, j], kernel[::-1, ::-1])
        out[:, i * stride : i * stride + k, j * stride : j * stride + k] += patch
    if padding == "VALID":
        return out
    before = max(k - stride, 0) // 2
    rows, columns = (stride * n for n in x.shape[1:3])
    return out[:, before : before + rows, before : before + columns]


ORACLES = {"conv": numpy_conv, "conv_transpose": numpy_conv_transpose}


def example(k, side, channels=(2, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, *side, channels[0])), rng.normal(size=(k, k, *channels))


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_values_are_the_library_s_and_the_loops(name, k):
    """Strides 1, 2 and 3, odd and even sides, both paddings, in one program per kernel size."""
    cases = list(itertools.product([1, 2, 3], ODD_AND_EVEN, PADDINGS))
    inputs = [example(k, side) for _, side, _ in cases]
    run = lambda f: jax.jit(lambda xs: [f(*x, stride, pad) for x, (stride, _, pad) in zip(xs, cases, strict=True)])
    ours, library = run(OURS[name])(inputs), run(LIBRARY[name])(inputs)
    for case, got, expected, (x, kernel) in zip(cases, ours, library, inputs, strict=True):
        stride, _, padding = case
        assert_close({case: got}, {case: expected}, 1e-5)
        assert_close({case: got}, {case: ORACLES[name](x, kernel, stride, padding)}, 1e-5)


def test_a_convolution_by_hand():
    """Whole numbers worked out on paper: cross-correlation, the kernel is not flipped."""
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    kernel = jnp.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    assert conv(x, kernel, 1, "VALID")[0, :, :, 0].tolist() == [[37, 47], [67, 77]]
    assert conv(x, kernel, 2, "SAME")[0, :, :, 0].tolist() == [[37, 21], [23, 9]]


def test_a_transposed_convolution_by_hand():
    x = jnp.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(1, 2, 2, 1)
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    expected = [[9, 8, 97, 80], [6, 5, 64, 50], [903, 802, 9731, 8020], [600, 500, 6400, 5000]]
    assert conv_transpose(x, kernel, 2, "SAME")[0, :, :, 0].tolist() == expected


def test_a_transposed_convolution_is_the_transpose_of_a_convolution(x64):
    """<conv(y), x> = <y, transpose(x)>, with the kernel flipped and its channels swapped."""

    def products(x, kernel, stride, padding):
        up = conv_transpose(x, kernel, stride, padding)
        y = jnp.sin(jnp.arange(up.size)).reshape(up.shape)
        down = conv(y, kernel[::-1, ::-1].swapaxes(2, 3), stride, padding)
        return (down * x).sum(), (y * up).sum()

    for padding, cases in CASES.items():
        inputs = [example(k, (4, 3)) for k, _ in cases]
        run = jax.jit(lambda xs: [products(*x, s, padding) for x, (_, s) in zip(xs, cases, strict=True)])  # noqa: B023  called in this turn
        for a, b in run(inputs):
            np.testing.assert_allclose(a, b, rtol=1e-10)


# ---- derivatives -------------------------------------------------------------------------------

CASES = {"SAME": [(1, 2), (2, 3), (3, 1), (4, 2), (5, 2)], "VALID": [(2, 1), (3, 2), (5, 3)]}  # kernel sizes and strides


def derivatives(f, x, kernel, stride, padding):
    """Of a smooth critic made of f: its gradients by input and kernel, and R1's by kernel."""
    critic = lambda x, kernel: jnp.square(f(x, kernel, stride, padding)).sum()
    r1 = lambda kernel: jnp.square(jax.grad(critic)(x, kernel)).sum()
    return jax.grad(critic, (0, 1))(x, kernel), jax.grad(r1)(kernel)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_and_the_second_derivatives_of_r1_are_the_library_s(x64, name, padding):
    cases = CASES[padding]
    inputs = [example(k, ODD_AND_EVEN[i % 2]) for i, (k, _) in enumerate(cases)]
    run = lambda f: jax.jit(lambda xs: [derivatives(f, *x, s, padding) for x, (_, s) in zip(xs, cases, strict=True)])
    ours, library = run(OURS[name])(inputs), run(LIBRARY[name])(inputs)
    assert_close(dict(zip(cases, ours, strict=True)), dict(zip(cases, library, strict=True)), 1e-10)


@pytest.mark.parametrize("name", OURS)
def test_a_batch_of_kernels_is_each_kernel_by_itself(x64, name):
    """A population trains kernels of its own on shared or own inputs."""
    f = lambda x, kernel: OURS[name](x, kernel, 2)
    x = jnp.asarray(np.stack([example(5, (6, 5), seed=i)[0] for i in range(3)]))
    kernels = jnp.asarray(np.stack([example(5, (6, 5), seed=i)[1] for i in range(3)]))
    loss = lambda x, kernel: jnp.square(f(x, kernel)).sum()
    own, shared = jax.jit(lambda x, k: (jax.vmap(jax.grad(loss, 1))(x, k), jax.vmap(f, (None, 0))(x[0], k)))(x, kernels)
    for i in range(3):
        assert_close((own[i], shared[i]), (jax.grad(loss, 1)(x[i], kernels[i]), f(x[0], kernels[i])), 1e-12)


# ---- forms and transformations -----------------------------------------------------------------


def geometry(k, stride, side, padding):
    """Of a convolution with sides `side`."""
    pads = jax.lax.padtype_to_pads(side, (k, k), (stride, stride), padding)
    small = tuple((n + sum(pad) - k) // stride + 1 for n, pad in zip(side, pads, strict=True))
    return forms.Geometry(k, stride, tuple(int(pad[0]) for pad in pads), side, small)


GEOMETRIES = [
    geometry(k, stride, side, padding)
    for k, stride, side, padding in itertools.product([1, 2, 3, 4, 5], [1, 2, 3], ODD_AND_EVEN, PADDINGS)
]
FORMS = {
    "down": [forms._down_product, forms._down_native, forms._down_cpu],
    "up": [forms._up_product, forms._up_native, forms._up_cpu],
    "weigh": [forms._weigh_product, forms._weigh_turned, forms._weigh_native],
}


def arrays(g, channels, batch=2):
    """What each of the three takes, filled with numbers of their own."""
    i, o = channels
    shapes = (batch, *g.large, i), (batch, *g.small, o), (g.k, g.k, i, o)
    large, small, kernel = (jnp.sin(1 + n + jnp.arange(np.prod(shape))).reshape(shape) for n, shape in enumerate(shapes))
    return {"down": (large, kernel), "up": (small, kernel), "weigh": (large, small)}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_others(name):
    """Kernels 1 to 5, strides 1 to 3, odd and even sides, both paddings; then channels and sides
    for whole vectors."""
    cases = [(g, (2, 3)) for g in GEOMETRIES] + [(geometry(3, s, (12, 11), "SAME"), (9, 10)) for s in (1, 2)]
    inputs = [arrays(g, channels)[name] for g, channels in cases]
    each = lambda xs: [[form(*x, geometry=g) for form in FORMS[name]] for x, (g, _) in zip(xs, cases, strict=True)]
    for (g, channels), (first, *others) in zip(cases, jax.jit(each)(inputs), strict=True):
        for other in others:
            assert_close({(g, channels): other}, {(g, channels): first}, 1e-5)


WIDE = (2, 12, 12, 9), (3, 3, 9, 9)  # channels and a side that take XLA's own convolution


def wide(seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=shape)) for shape in WIDE)


@pytest.mark.parametrize("name", OURS)
def test_forward_mode_is_the_library_s(x64, name):
    """Tangents, a linearisation, and forward over reverse."""

    def modes(f, x, kernel):
        f = lambda x, kernel, f=f: jnp.tanh(f(x, kernel, 2, "SAME"))
        critic = lambda x, kernel: jnp.square(f(x, kernel)).sum()
        tangents = jnp.cos(x), jnp.cos(kernel)
        out, linear = jax.linearize(f, x, kernel)
        forward = jax.jvp(jax.grad(critic, (0, 1)), (x, kernel), tangents)
        return jax.jvp(f, (x, kernel), tangents), (out, linear(*tangents)), forward

    small = tuple(jnp.asarray(a) for a in example(3, (5, 4)))
    run = lambda f: jax.jit(lambda xs: [modes(f, *x) for x in xs])([small, wide()])
    assert_close(run(OURS[name]), run(LIBRARY[name]), 1e-10)
    x, kernel = small
    hessian = lambda f: jax.jit(jax.hessian(lambda kernel: jnp.square(f(x[:1], kernel, 2, "SAME")).sum()))(kernel)
    assert_close(hessian(OURS[name]), hessian(LIBRARY[name]), 1e-10)


@pytest.mark.parametrize("name", OURS)
def test_examples_are_one_larger_batch(x64, name):
    f = lambda x, kernel: OURS[name](x, kernel, 2)
    kernel = wide()[1]
    x = jnp.stack([wide(i)[0] for i in range(3)])
    text = jax.jit(jax.vmap(f, (0, None))).lower(x, kernel).as_text()
    assert "while" not in text and "case" not in text
    np.testing.assert_allclose(jax.vmap(f, (0, None))(x, kernel), [f(one, kernel) for one in x], rtol=1e-12, atol=1e-12)


def loss(f):
    return lambda x, kernel: jnp.square(jnp.tanh(f(x, kernel, 2, "SAME"))).sum()


@pytest.mark.parametrize("name", OURS)
def test_kernels_of_a_population_are_each_kernel_by_itself(x64, name):
    """Nested, differentiated inside and outside of the vmap, in a scan, under a checkpoint, in
    forward mode."""
    one, pairs = loss(OURS[name]), [[wide(2 * i + j) for j in range(2)] for i in range(2)]
    x, kernels = (jnp.stack([jnp.stack([pair[k] for pair in row]) for row in pairs]) for k in range(2))

    def together(x, kernels):
        nested = jax.vmap(jax.vmap(jax.value_and_grad(one, (0, 1))))(x, kernels)
        outside = jax.grad(lambda k: jax.vmap(jax.vmap(one))(x, k).sum())(kernels)
        shared = jax.vmap(jax.grad(one, 1), (None, 0))(x[0, 0], kernels[0])
        saved = jax.grad(lambda k: jax.vmap(jax.checkpoint(one))(x[0], k).sum())(kernels[0])
        scanned = jax.lax.scan(lambda k, _: (k - 0.1 * jax.vmap(jax.grad(one, 1))(x[0], k), None), kernels[0], length=2)[0]
        tangents = jax.vmap(lambda x, k: jax.jvp(jax.grad(one, 1), (x, k), (x, k)))(x[0], kernels[0])
        return nested, outside, shared, saved, scanned, tangents

    def alone(x, shared_x, kernel):
        gradient = jax.grad(one, 1)
        first = kernel - 0.1 * gradient(x, kernel)
        return (
            jax.value_and_grad(one, (0, 1))(x, kernel), gradient(x, kernel), gradient(shared_x, kernel), gradient(x, kernel),
            first - 0.1 * gradient(x, first), jax.jvp(gradient, (x, kernel), (x, kernel)),
        )  # fmt: skip

    together, alone = jax.jit(together)(x, kernels), jax.jit(alone)
    for i, j in itertools.product(range(2), range(2)):
        pick = lambda tree: jax.tree.map(lambda a: a[i, j], tree)  # noqa: B023  called in this turn
        assert_close(pick(together[:2]), alone(x[i, j], x[0, 0], kernels[i, j])[:2], 1e-12)
    for j in range(2):
        row = jax.tree.map(lambda a: a[j], together[2:])  # noqa: B023  called in this turn
        assert_close(row, alone(x[0, j], x[0, 0], kernels[0, j])[2:], 1e-12)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_one_kernel_and_many_are_exported_for_other_platforms(platform):
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in WIDE)
    many = jax.ShapeDtypeStruct((3, *kernel.shape), jnp.float32)

    def step(x, kernel, many):
        alone = [jax.grad(loss(f), (0, 1))(x, kernel) for f in OURS.values()]
        return alone, [jax.vmap(jax.grad(loss(f), (0, 1)), (None, 0))(x, many) for f in OURS.values()]

    exported = jax.export.export(jax.jit(step), platforms=[platform])(x, kernel, many)
    text = exported.mlir_module()
    assert "stablehlo.convolution" in text and "while" not in text, "one kernel: the library's; many: products, no loop"


@pytest.mark.parametrize("name", OURS)
def test_the_extra_memory_is_bounded(name):
    """Of the convolution and either gradient: 1 + 2 (k / stride)^2 times the larger image."""
    for channels, k, stride in [((3, 16), 5, 2), ((16, 16), 5, 2), ((16, 3), 4, 2), ((16, 16), 3, 1), ((2, 3), 5, 1)]:
        x, kernel = jnp.zeros((8, 16, 16, channels[0])), jnp.zeros((k, k, *channels))
        f = lambda x, kernel: OURS[name](x, kernel, stride)  # noqa: B023  called in this turn
        y = jax.eval_shape(f, x, kernel)
        gradient = lambda i: lambda x, kernel, y: jax.vjp(f, x, kernel)[1](y)[i]  # noqa: B023  called in this turn
        programs = [jax.jit(g).lower(x, kernel, jnp.zeros(y.shape)) for g in (lambda *a: f(*a[:2]), gradient(0), gradient(1))]  # noqa: B023  called in this turn
        extra = [program.compile().memory_analysis().temp_size_in_bytes for program in programs]
        assert max(extra) <= (1 + 2 * (k / stride) ** 2) * 4 * max(x.size, y.size), (channels, k, stride)


@pytest.mark.parametrize("name", OURS)
def test_narrow_floats_and_eager_calls(name):
    """bfloat16 to its eight bits; outside of jit, and with a kernel in another precision than the
    image."""
    x, kernel = (a.astype(jnp.bfloat16) for a in wide())
    for f in (lambda x, k: OURS[name](x, k, 2), jax.grad(lambda x, k: OURS[name](x, k, 2).astype("float32").sum(), (0, 1))):
        narrow, exact = f(x, kernel), f(x.astype("float32"), kernel.astype("float32"))
        assert {a.dtype for a in jax.tree.leaves(narrow)} == {jnp.dtype("bfloat16")}
        assert_close(narrow, exact, 0.02)
    mixed = OURS[name](x, kernel.astype("float32"), 2)
    assert mixed.dtype == jnp.float32
    assert_close(mixed, OURS[name](x.astype("float32"), kernel.astype("float32"), 2), 1e-6)


# ---- layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer, function", [(Conv, conv), (ConvTranspose, conv_transpose)], ids=OURS)
def test_a_layer_is_its_function_plus_a_bias(layer, function):
    x = jnp.asarray(example(3, (4, 4))[0], jnp.float32)
    variables = layer(3, 5, 2).init(jax.random.key(0), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (5, 5, 2, 3) and bias.shape == (3,) and not bias.any()
    bias = jnp.array([1.0, -2.0, 3.0])
    with_bias = layer(3, 5, 2).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    assert_close(with_bias, function(x, kernel, 2) + bias, 1e-6)
    without = layer(3, 5, 2, use_bias=False)
    assert set(without.init(jax.random.key(0), x)["params"]) == {"kernel"}


def test_kernels_start_uniform_in_glorot_s_range():
    """Glorot & Bengio (2010): +- sqrt(6 / (fan in + fan out)), fans counting the kernel's
    pixels."""
    kernel = Conv(32, 5).init(jax.random.key(0), jnp.zeros((1, 5, 5, 16)))["params"]["kernel"]
    limit = np.sqrt(6 / (25 * (16 + 32)))
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.02)


@pytest.mark.parametrize("name", OURS)
def test_the_dtype_of_the_input_is_kept(x64, name):
    layer = Conv(3, 3, transpose=name == "conv_transpose")
    for dtype in ("bfloat16", "float32", "float64"):
        x, kernel = (jnp.asarray(a, dtype) for a in example(3, (4, 4)))
        assert jax.eval_shape(lambda x, k: OURS[name](x, k, 2), x, kernel).dtype == jnp.dtype(dtype)
        assert jax.eval_shape(layer.init_with_output, jax.random.key(0), x)[0].dtype == jnp.dtype(dtype)


@pytest.mark.parametrize("name", OURS)
def test_a_convolution_alone_is_computed_where_jit_is_disabled(name):
    x, kernel = (jnp.asarray(a, jnp.float32) for a in example(3, (4, 4)))
    wanted = OURS[name](x, kernel, 2)
    with jax.disable_jit():
        np.testing.assert_array_equal(OURS[name](x, kernel, 2), wanted)
