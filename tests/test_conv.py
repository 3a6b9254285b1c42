"""Our convolutions are the library's: values, gradients and the second derivatives that R1 takes, and slow loops in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from games import assert_close

from gan_jax.networks.conv import NHWC, Conv, ConvTranspose, conv, conv_transpose

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
    """Each input pixel scatters the flipped kernel, times its value, onto the output; 'SAME' crops as its convolution pads."""
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


# ---- values ------------------------------------------------------------------------------------------------------------


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
        run = jax.jit(lambda xs: [products(*x, s, padding) for x, (_, s) in zip(xs, cases, strict=True)])  # noqa: B023
        for a, b in run(inputs):
            np.testing.assert_allclose(a, b, rtol=1e-10)


# ---- derivatives -------------------------------------------------------------------------------------------------------

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


# ---- layers ------------------------------------------------------------------------------------------------------------


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
    """Glorot & Bengio (2010): +- sqrt(6 / (fan in + fan out)), fans counting the kernel's pixels."""
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
