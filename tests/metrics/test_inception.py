"""Inception: every block against torch-fidelity with the same seeded weights, resizing against its
three references, files."""

import importlib
import importlib.util
import os
import pickle
import sys
from functools import partial
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from gan_jax.core.errors import UserError
from gan_jax.metrics.features import weights
from gan_jax.metrics.features.extractor import Extractor
from gan_jax.metrics.features.inception import (
    FID_SHA256,
    activations,
    inception,
    inception_logits,
    layout,
    prepared,
    variables_of,
)
from gan_jax.metrics.features.resize import MODES, SIDE, matrix, resize
from tests.frozen.make_inception import SIZES, file_tensors, images, pixels, seeded_weights, summary

module = importlib.import_module("gan_jax.metrics.features.inception")  # its function may be exported under this name
HERE = Path(__file__).parents[1] / "frozen"
BLOCKS = [f"Conv2d_{i}" for i in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")]
BLOCKS += [f"Mixed_{i}" for i in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]
HEADS = ["pool", "logits_unbiased", "logits"]
TOLERANCE = 1e-4  # of a block's standard deviation
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="PyTorch is not installed: the optional extra gan-jax[inception] reads .pth",
)


@pytest.fixture(scope="module")
def frozen():
    with np.load(HERE / "inception.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def tensors():
    return seeded_weights({name: shape for name, (_, shape) in layout().items()})


@pytest.fixture(scope="module")
def outputs(tensors):
    """Of every block, from uint8 images of 32 x 40 on, in one program."""
    variables = variables_of(tensors, "seeded")
    x = prepared(images("smaller"), "tf1-bilinear")
    return jax.device_get(activations(variables, x, outputs=(*BLOCKS, *HEADS)))


# ---- the network -------------------------------------------------------------------------------


def test_the_tensors_are_those_of_the_state_dict(frozen):
    assert str(frozen["names"]).split("\n") == [f"{name} {list(shape)}" for name, (_, shape) in layout().items()]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_is_torch_fidelitys(block, outputs, frozen):
    made, std = outputs[block], frozen[f"{block}/std"]
    assert made.std() == pytest.approx(std, rel=1e-5) and 0.1 < std < 10
    for found, expected in zip(summary(made), (frozen[f"{block}/some"], frozen[f"{block}/mean"]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * std)


@pytest.mark.parametrize("head", HEADS)
def test_the_pool_and_the_logits_are_torch_fidelitys(head, outputs, frozen):
    expected = frozen[head]
    np.testing.assert_allclose(outputs[head][: len(expected)], expected, rtol=0, atol=TOLERANCE * expected.std())


@pytest.fixture(scope="module")
def weight_file(tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.npz"
    np.savez(path, **tensors, **{"Mixed_5b.branch1x1.bn.num_batches_tracked": np.array(7)})
    return path


def test_from_a_file_and_uint8_images_to_torch_fidelitys_features(weight_file, frozen, outputs, monkeypatch):
    """pool3 and the logits for the inception score, by way of the file, with the program that
    `outputs` compiled."""
    monkeypatch.setattr(module, "OUTPUTS", (*BLOCKS, *HEADS))
    features, logits = inception(weight_file, sha256=None), inception_logits(weight_file, sha256=weights.sha256(weight_file))
    for extractor, head in ((features, "pool"), (logits, "logits_unbiased")):
        expected = frozen[head]
        np.testing.assert_allclose(extractor(images("smaller")), expected, rtol=0, atol=TOLERANCE * expected.std())
    assert features.settings == {"resize": "tf1-bilinear", "weights": weights.sha256(weight_file)}
    assert features.digest != logits.digest

    grey = images("smaller")[..., :1]
    np.testing.assert_array_equal(features(grey), features(np.repeat(grey, 3, -1)))
    clean = inception(weight_file, "clean-bicubic", sha256=None)
    assert clean.digest != features.digest
    change = clean(images("smaller")) - frozen["pool"]
    assert np.abs(change).max() > 100 * TOLERANCE * frozen["pool"].std(), "the way of resizing matters"


def test_images_beyond_a_batch_are_each_their_own(monkeypatch):
    """Five images, two at a time, through a stand-in for the network."""
    monkeypatch.setattr(module, "activations", lambda _, x, outputs: {"pool": x.mean((1, 2))})
    five = (np.arange(5, dtype=np.uint8) * 50).reshape(5, 1, 1, 1) * np.ones((5, 4, 4, 3), np.uint8)
    extractor = Extractor("inception", "", partial(module._features, None, "tf1-bilinear", "pool"), batch=2)
    np.testing.assert_allclose(extractor(five), (np.arange(5) * 50 - 128)[:, None] / 128 * np.ones(3), atol=1e-6)


def test_points_have_no_inception_features():
    points = Extractor("inception", "", partial(module._features, None, "tf1-bilinear", "pool"))
    with pytest.raises(UserError, match=r"not of points \[3, 2\]"):
        points(np.zeros((3, 2), np.float32))


# ---- resizing ----------------------------------------------------------------------------------


def pillow(image, side=SIDE):
    """As clean-fid: float, one channel at a time, no rounding."""
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(image, -1, 0)]
    bicubic = Image.Resampling.BICUBIC
    return np.stack([np.asarray(channel.resize((side, side), bicubic)) for channel in channels], -1).clip(0, 255)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["tf1-bilinear", "pytorch-bilinear"])
def test_bilinear_resizing_is_the_references(mode, size, frozen):
    found = np.asarray(resize(images(size)[:1], mode))[0][pixels()][:, pixels()]
    np.testing.assert_allclose(found, frozen[f"{mode}/{size}"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("size", SIZES)
def test_clean_resizing_is_pillows(size):
    found = np.asarray(resize(images(size), "clean-bicubic"))
    assert found.shape == (len(images(size)), SIDE, SIDE, images(size).shape[-1]) and found.dtype == np.float32
    np.testing.assert_allclose(found, [pillow(image) for image in images(size)], rtol=0, atol=2e-4)


def test_clean_resizing_does_not_overshoot():
    edge = np.zeros((1, 8, 8, 1), np.uint8)
    edge[:, 4:] = 255
    made = np.asarray(resize(edge, "clean-bicubic"))
    assert made.min() == 0 and made.max() == 255 and (matrix("clean-bicubic", 8) < 0).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [1, 2, 32, SIDE, 1024])
def test_resizing_keeps_a_constant_image(mode, size):
    np.testing.assert_allclose(matrix(mode, size).sum(1), 1, atol=1e-6)
    if size == SIDE:
        np.testing.assert_allclose(matrix(mode, size), np.eye(SIDE), atol=1e-6)


def test_pixels_are_scaled_as_in_each_reference():
    ends = np.array([0, 128, 255], np.uint8).reshape(3, 1, 1, 1)
    for mode, scaled in zip(MODES, ([-1, 0, 127 / 128], [-1, 1 / 255, 1], [-1, 0, 127 / 128]), strict=True):
        np.testing.assert_allclose(prepared(ends, mode)[:, 150, 150, 0], scaled, atol=1e-6)


# ---- weights that do not fit -------------------------------------------------------------------


def blank():
    """Zeros of the right shapes, without their memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, (_, shape) in layout().items()}


def test_a_tensor_that_is_missing_is_named():
    given = blank()
    del given["Mixed_6a.branch3x3.conv.weight"], given["fc.bias"]
    with pytest.raises(UserError, match=r"^given: Mixed_6a\.branch3x3\.conv\.weight \[384, 288, 3, 3\] is missing"):
        variables_of(given, "given")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("fc.weight", (1000, 2048), r"fc\.weight has shape \[1000, 2048\], not \[1008, 2048\]"),
        ("AuxLogits.fc.weight", (1, 1), r"AuxLogits\.fc\.weight is no tensor of"),
    ],
)
def test_a_tensor_that_is_not_the_networks_is_named(name, shape, message, monkeypatch):
    monkeypatch.setattr(module.jnp, "asarray", lambda array, _: array)  # no copies of zeros
    with pytest.raises(UserError, match=f"^given: {message}"):
        variables_of(blank() | {name: np.zeros(shape)}, "given")


def test_a_file_of_another_hash_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.zeros(2))
    with pytest.raises(UserError, match=f"sha256 is {weights.sha256(path)}, not {FID_SHA256}: .*sha256=None") as error:
        inception(path)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"Conv2d_1a_3x3\.bn\.bias \[32\] is missing"):
        inception(path, sha256=None)


def test_a_missing_file_is_the_users_to_supply(tmp_path):
    with pytest.raises(UserError, match=f"yours to supply, as pt_inception-2015-12-05-6726825d.pth .*{FID_SHA256}") as error:
        inception(tmp_path / "no.pth")
    assert "\n" not in str(error.value)


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="'bilinear': choose one of tf1-bilinear, pytorch-bilinear, clean-bicubic"):
        inception("no.pth", resize="bilinear")
    with pytest.raises(UserError, match="'bilinear': choose one of"):
        resize(np.zeros((1, 8, 8, 3), np.uint8), "bilinear")


# ---- weight files ------------------------------------------------------------------------------


def check_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].flags.c_contiguous, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@needs_torch
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_pytorchs_files_are_read_as_torch_wrote_them(kind):
    """Ten types, views, a shared storage; nested in the legacy one."""
    check_equal(weights.read(HERE / f"inception_{kind}.pth"), file_tensors())


@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_without_torch_its_file_names_the_install_command(suffix, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes((HERE / "inception_zip.pth").read_bytes())
    message = rf'a \.{suffix} file is read by PyTorch: pip install "gan-jax\[inception\]", or .* \.safetensors$'
    with pytest.raises(UserError, match=message) as error:
        weights.read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_other_files_are_read(kind, tmp_path):
    path, arrays = tmp_path / f"weights.{kind}", {name: np.ascontiguousarray(a) for name, a in file_tensors().items()}
    if kind == "npz":
        np.savez(path, **arrays)
    else:
        arrays = dict(sorted(arrays.items()))
        wide = arrays["bfloat16"].astype(ml_dtypes.bfloat16)
        safetensors.numpy.save_file(arrays | {"bfloat16": wide}, path)
    found = weights.read(path)
    check_equal({name: found[name] for name in arrays}, arrays)


class Exploit:
    """What unpickling would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@needs_torch
@pytest.mark.parametrize("kind", ["zip", "legacy", "bare"])
def test_a_malicious_file_executes_nothing(kind, tmp_path):
    import torch

    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    state = {"fc.weight": Exploit(trace)}
    if kind == "bare":
        path.write_bytes(pickle.dumps(state, 2))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(UserError, match=r"refused, the file asks for \w+\.mkdir; .* nothing was executed") as error:
        weights.read(path)
    assert not trace.exists() and "\n" not in str(error.value)
    pickle.loads(pickle.dumps(state))
    assert trace.exists(), "the attack works where it is let"


@pytest.mark.parametrize("suffix", [pytest.param("pth", marks=needs_torch), "npz", "safetensors"])
@pytest.mark.parametrize("data", [b"", b"hello\n", b"\x80\x02", b"PK\x03\x04" + bytes(60), bytes(range(256)), b"(" * 1000])
def test_garbage_is_one_line(suffix, data, tmp_path):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(data)
    with pytest.raises(UserError) as error:
        weights.read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@needs_torch
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_file_cut_off_anywhere_is_refused(kind, tmp_path):
    whole, path = (HERE / f"inception_{kind}.pth").read_bytes(), tmp_path / "weights.pth"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            weights.read(path)
        assert "\n" not in str(error.value)


@needs_torch
@pytest.mark.parametrize("found", [{"epoch": 3}, [1], 2.0])
def test_a_file_without_a_state_dict_says_so(found, tmp_path):
    import torch

    torch.save(found, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="no state dict"):
        weights.read(tmp_path / "weights.pt")


def test_arrays_of_objects_and_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="allow_pickle=False"):
        weights.read(tmp_path / "a.npz")
    with open(tmp_path / "b.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match="one array without a name"):
        weights.read(tmp_path / "b.npz")
    with pytest.raises(UserError, match=r"weights are read from \.safetensors, \.npz, \.pth, \.pt files"):
        weights.read(tmp_path / "c.pkl")
    with pytest.raises(UserError, match="no such file"):
        weights.read(tmp_path / "c.pth")
