"""Streaming: the order of resident data, the same run, exact resume, shards in place, damaged
examples by policy."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from PIL import Image

import gan_jax as gan
from gan_jax.core import batch as batch_module
from gan_jax.core.rng import named
from gan_jax.data.folders import decoded
from gan_jax.data.order import HostOrder
from gan_jax.data.pixels import to_array
from gan_jax.data.streaming import Stream, batches
from gan_jax.training.chunk import gather_batch
from gan_jax.training.feed import Windows, check_streamed, feed_of
from gan_jax.training.placement import place

SHAPE = (4, 4, 1)
KEY = jax.random.key(3)


def pixels(row):
    """An image that says which row it is."""
    return np.full(SHAPE, row % 251, np.uint8)


class Made:
    """Images made where they are asked for; `broken`: rows that cannot be read."""

    def __init__(self, n, broken=(), labelled=True):
        self.n, self.broken, self.labelled = n, frozenset(broken), labelled

    def __len__(self):
        return self.n

    def name(self, row):
        return f"{row:07d}.png"

    def __getitem__(self, row):
        if row in self.broken:
            raise OSError("image file is truncated\n(12 bytes not processed)")
        return (pixels(row), row % 10) if self.labelled else pixels(row)


def resident(stream):
    return gan.Feed(jnp.asarray(stream.images[:]), jnp.asarray(stream.labels[:]), jnp.int32(len(stream)), KEY)


def refused(function, *args, **kwargs):
    with pytest.raises(gan.UserError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- the order ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "start"), [(1, 0), (2, 3), (7, 11), (1437, 7_000), (1_000_003, 2_000_000), (2**31 - 5, 2**31 - 40)]
)
def test_the_order_on_the_host_is_the_order_on_the_device(n, start):
    places = np.arange(start, start + 33)
    expected = jax.vmap(gan.order, (None, 0, None))(KEY, jnp.asarray(places), jnp.uint32(n))
    np.testing.assert_array_equal(HostOrder.between(KEY, start, start + 33, n)(places), expected)


@pytest.mark.parametrize("shards", [1, 2])
def test_streamed_batches_are_those_of_resident_data_and_shards_hold_their_stretch(shards):
    stream = Stream(Made(37), rows=np.arange(36, 1, -1))
    feed = resident(stream)
    read = [list(batches(stream, KEY, 8, 2, 12, shard=(i, shards))) for i in range(shards)]  # over an epoch's end
    for step, parts in zip(range(2, 12), zip(*read, strict=True), strict=True):
        batch = gather_batch(feed, jnp.int32(step), 8, "float32", place(1))
        images, labels = (np.concatenate([part[name] for part in parts]) for name in ("images", "labels"))
        assert len(parts[0]["images"]) == 8 // shards
        np.testing.assert_array_equal(batch_module.to_unit(jnp.asarray(images)), batch.images)
        np.testing.assert_array_equal(labels, batch.labels)


def test_processes_read_what_threads_read_and_end_with_the_reading():
    rows = np.arange(3, 20)
    threads, processes = (Stream(Made(20, {5}), rows, damaged="skip", workers=n) for n in (0, 1))
    read = batches(processes, KEY, 4, 0, 6, ahead=2)
    for ours, theirs in zip(batches(threads, KEY, 4, 0, 6), read, strict=True):
        np.testing.assert_array_equal(ours["images"], theirs["images"])
        np.testing.assert_array_equal(ours["labels"], theirs["labels"])
    assert threads.damaged_examples == processes.damaged_examples != {}
    assert not multiprocessing.active_children()


# ---- runs --------------------------------------------------------------------------------------


@struct.dataclass
class Sums:
    """What a run saw: sums weighted by step and place, so that no two examples may change
    places."""

    step: jax.Array
    key: jax.Array
    images: jax.Array
    labels: jax.Array


def sums_init(knobs, key):
    return Sums(jnp.int32(0), key, jnp.zeros(SHAPE), jnp.float32(0))


def sums_step(knobs, state, batch, axis_name=None):
    batch, weight = batch.replace(axis_name=axis_name), 1 + batch.index + state.step
    bad = jnp.abs(batch.images[:, 0, 0, 0] + 1 - knobs["bad"]) < 1e-3
    images = batch.mean(weight[:, None, None, None] * batch.images)
    labels = batch.mean(weight * batch.labels)
    new = state.replace(step=state.step + 1, images=state.images + images, labels=state.labels + labels)
    return new, {"loss": jnp.where(batch.all_gather(bad).any(), jnp.nan, labels)}


def eight(knobs):
    return 8


SUMS = gan.Game(sums_init, sums_step, eight)
INTERVALS = {"log_every": 6, "checkpoint_every": 6, "sample_every": 6, "progress": False}


def splits(train):
    few = gan.Split(np.stack([pixels(row) for row in range(8)]), np.arange(8) % 10)
    return gan.Splits("made", 0, train, few, few, few, tuple("0123456789"), {})


def both(**settings):
    """The same data, streamed and resident."""
    stream = Stream(Made(50), **settings)
    return splits(stream), splits(gan.Split(stream.images[:], stream.labels[:]))


def fit(data, steps=12, bad=9.0, **settings):
    return gan.fit({"bad": bad}, data, steps=steps, game=SUMS, **(INTERVALS | settings))


def same(a, b):
    assert a.step == b.step and a.history == b.history
    np.testing.assert_array_equal(a.state.images, b.state.images)
    np.testing.assert_array_equal(a.state.labels, b.state.labels)


@pytest.fixture(scope="module")
def whole():
    """The resident run of 12 steps."""
    return fit(both()[1])


def test_a_streamed_run_is_the_resident_run(whole, monkeypatch):
    monkeypatch.setattr("gan_jax.training.feed.WINDOW_BYTES", 8 * 16 * 4)  # windows of 3 of the chunk's 6 steps
    same(fit(both()[0]), whole)


@pytest.mark.parametrize("style", ["sharding", "pmap"])
def test_devices_share_a_streamed_batch(whole, style):
    shared = fit(both()[0], devices=2, parallel=style)
    np.testing.assert_allclose(shared.state.images, whole.state.images, rtol=1e-5)
    np.testing.assert_allclose(shared.state.labels, whole.state.labels, rtol=1e-5)


GANS = """
import dataclasses
import jax
import numpy as np
import gan_jax as gan
from gan_jax.core import batch as batch_module
from gan_jax.data.streaming import Stream

data = gan.load("digits").subset(60)
stream = Stream(list(zip(data.train.images, data.train.labels, strict=True)))
recipe = gan.recipes.dcgan(data.image_shape, width=4, latent_dim=8, batch_size=8)
intervals = {"log_every": 4, "checkpoint_every": 4, "sample_every": 4, "progress": False}
runs = [gan.fit(recipe, each, steps=4, **intervals) for each in (data, dataclasses.replace(data, train=stream))]
assert runs[0].history == runs[1].history
jax.tree.map(np.testing.assert_array_equal, *(run.state.replace(key=0) for run in runs))
"""


def test_a_streamed_gan_is_the_resident_gan_bit_for_bit():
    """As users compile it: these are two programs, and older emitters (see conftest.py) round the
    same sums differently."""
    variables = os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.run([sys.executable, "-c", GANS], env=variables, capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr[-3000:]


def test_resuming_a_streamed_run_equals_not_stopping(whole, tmp_path):
    fit(both()[0], steps=6, out=tmp_path / "run")
    same(fit(both()[0], out=tmp_path / "run", resume=True), whole)


def test_a_streamed_run_that_is_not_finite_stops_at_the_last_good_state():
    streamed, resident = both()
    grey = int(HostOrder.between(named(jax.random.key(0), "order"), 24, 25, 50)(np.arange(24, 25))[0])  # first met in step 3
    ours, theirs = (fit(data, 24, grey / 127.5, checkpoint_every=24, sample_every=24) for data in (streamed, resident))
    assert ours.stopped == theirs.stopped and "not finite at step 3" in ours.stopped
    same(ours, theirs)


# ---- damaged examples --------------------------------------------------------------------------


class Names(Made):
    """A synthetic index of a million names: all are made when read, but for one, which is a file
    cut in half."""

    def __init__(self, file, row):
        super().__init__(1_000_000, labelled=False)
        self.file, self.row = file, row

    def name(self, row):
        return str(self.file) if row == self.row else super().name(row)

    def __getitem__(self, row):
        if row == self.row:
            return decoded(self.file, lambda image: to_array(image, None, 1))
        return super().__getitem__(row)


@pytest.fixture
def million(tmp_path):
    """A million names, of which the 13th that is drawn is damaged; its row."""
    path = tmp_path / "0000777.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    row = int(HostOrder.between(KEY, 0, 32, 1_000_000)(np.arange(32))[12])
    return Names(path, row)


def test_a_damaged_file_among_a_million_names_is_refused_by_name(million):
    read = batches(Stream(million), KEY, 8, 0, 4)
    next(read)
    message = refused(next, read)
    assert str(million.file) in message and "not a readable PNG" in message and "damaged='skip'" in message


def test_a_damaged_file_is_skipped_named_and_counted(million, capsys):
    stream = Stream(million, damaged="skip")
    notes = []
    for _ in range(2):  # the same again
        with Windows(stream, KEY, 8, place(1), 4, notes.append, [note["name"] for note in notes]) as windows:
            (window,) = windows.upto(0, 4)
        rows = HostOrder.between(KEY, 0, 32, 1_000_000)(np.arange(32))
        assert rows[12] == million.row
        rows[12] += 1  # its neighbour
        np.testing.assert_array_equal(np.asarray(window.images).reshape(32, -1)[:, 0], rows % 251)
    assert list(stream.damaged_examples) == [str(million.file)] == [note["name"] for note in notes]
    line = capsys.readouterr().err.splitlines()[0]
    assert line.startswith("skipped 1 damaged example,") and str(million.file) in line


def test_the_folder_keeps_the_names_of_what_was_skipped(tmp_path, capsys):
    data = splits(Stream(Made(50, {7, 9}), damaged="skip"))
    fit(data, steps=6, out=tmp_path / "run")
    fit(splits(Stream(Made(50, {7, 9}), damaged="skip")), out=tmp_path / "run", resume=True)
    rows = [json.loads(row) for row in (tmp_path / "run/damaged.jsonl").read_text().splitlines()]
    assert sorted(row["name"] for row in rows) == ["0000007.png", "0000009.png"]
    assert all("truncated" in row["why"] for row in rows)
    assert "skipped 2 damaged examples" in capsys.readouterr().err


def test_a_source_that_is_damaged_throughout_is_refused_even_where_it_may_skip():
    assert "50 training examples in a row" in refused(Stream, Made(50, range(50)), damaged="skip")


# ---- sets by name ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, grey in {"cats": 10, "dogs": 100}.items():
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.full((4, 4), grey + i, np.uint8)).save(tmp_path / f"pets/{name}/{i:02d}.png")
    return tmp_path / "pets"


def test_a_streamed_folder_has_the_splits_of_the_folder(folder):
    ours, theirs = (gan.load(f"folder:{folder}", seed=1, stream=stream) for stream in (True, False))
    for part in ("train", "validation", "test", "extractor"):
        np.testing.assert_array_equal(getattr(ours, part).images, getattr(theirs, part).images)
        np.testing.assert_array_equal(getattr(ours, part).labels, getattr(theirs, part).labels)
    assert (ours.image_shape, ours.class_names) == (theirs.image_shape, theirs.class_names)
    np.testing.assert_array_equal(ours.subset(5).train.images[:], theirs.subset(5).train.images)
    again = gan.load(**ours.subset(5).source)
    assert again.hashes == ours.subset(5).hashes != ours.hashes


# ---- mistakes ----------------------------------------------------------------------------------


class Uneven(Made):
    """Its first image is smaller than all others."""

    def __getitem__(self, row):
        return (np.zeros((5, 5, 1), np.uint8), 0) if row else super().__getitem__(row)


def test_mistakes_are_one_line(folder, monkeypatch):
    stream = Stream(Made(50))
    assert "refuse or skip" in refused(Stream, Made(50), damaged="drop")
    assert "workers=-1" in refused(Stream, Made(50), workers=-1)
    assert "no examples" in refused(Stream, Made(0))
    assert "does not divide among 3" in refused(lambda: batches(stream, KEY, 8, 0, 1, shard=(0, 3)))
    message = refused(list, batches(Stream(Uneven(50)), KEY, 8, 0, 2))
    assert "(5, 5, 1)" in message and ".png" in message
    assert "cannot be streamed" in refused(gan.load, "digits", stream=True)
    assert "no setting wrokers" in refused(gan.load, f"folder:{folder}", stream={"wrokers": 2})
    assert "imbalanced" in refused(gan.load, f"folder:{folder}", stream=True, imbalance={"ratio": 2})
    monkeypatch.setitem(sys.modules, "grain", None)
    assert 'pip install "gan-jax[stream]"' in refused(lambda: batches(stream, KEY, 8, 0, 1))


def test_only_a_run_of_its_own_is_streamed():
    data = splits(Stream(Made(50)))
    assert "a run of its own" in refused(feed_of, data, KEY, place(1))
    recipe = SimpleNamespace(sampling=gan.bind(gan.sampling.class_balanced, strength=1.0, classes=10))
    assert "draws reals by their class" in refused(check_streamed, recipe, data)
