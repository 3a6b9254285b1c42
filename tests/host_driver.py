"""One process of a job that a test began: `python host_driver.py JSON --coordinator ADDRESS
--processes N --process I`. It trains a tiny game, in one job after the other.

JSON is {"each": devices of a process, "jobs": [{...}, ...]}. A job has the settings of `fit`, and
plain: whether the game is a small one; streamed: whether its data are streamed; save: where process
0 leaves the state (.npz); small: what `sharding.SMALL` is; own: {"i": settings of process i alone};
damaged: rows of the data that cannot be read; die: {"process": i, "at": step, "how": ..., "note": a
file that is made then}, what befalls process i in the chunk after that step, as `dying` says.
"""

import argparse
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

import gan_jax as gan
from gan_jax.cli import run as cli
from gan_jax.core import sharding
from gan_jax.core.errors import UserError
from gan_jax.data.streaming import Stream
from gan_jax.training import distributed, trainer
from tests.tiny_games import everything


class Damaged(list):
    """Rows of which these cannot be read."""

    holes = ()

    def __getitem__(self, row):
        if row in self.holes:
            raise OSError("a hole")
        return super().__getitem__(row)


def data(streamed=False, damaged=()):
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(60, 4)).astype(np.float32), rng.integers(0, 3, 60)
    found = gan.from_arrays(rows, labels, name="rows")
    if not streamed:
        return found
    train = found.train
    assert train.labels is not None
    source = Damaged(zip(train.images, map(int, train.labels), strict=True))
    source.holes = damaged
    return replace(found, train=Stream(source, damaged="skip" if damaged else "refuse"))


def recipe(plain=False):
    return gan.recipes.mlp((4,), width=4, batch_size=8) if plain else everything(flat=True)


def dying(at, how, note=None, **_):
    """Once."""
    advance = trainer.RunTrainer.advance

    def until_then(self, state, feed, step, until):
        if until > at:
            trainer.RunTrainer.advance = advance
            if note:
                Path(note).touch()
            match how:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "freeze":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "terminate":
                    os.kill(os.getpid(), signal.SIGTERM)
                case "raise":
                    raise ArithmeticError("of its own")
                case "refuse":
                    raise UserError("this host has no data")
                case "diverge":
                    state = jax.tree.map(lambda x: x * np.nan if jax.numpy.issubdtype(x.dtype, np.floating) else x, state)
                case "leave":
                    raise SystemExit(0)
        return advance(self, state, feed, step, until)

    trainer.RunTrainer.advance = until_then


def train(plain=False, streamed=False, damaged=(), save=None, die=None, small=sharding.SMALL, own=None, **settings):
    sharding.SMALL = small
    settings |= (own or {}).get(str(job.process), {})
    if die and die["process"] in (job.process, "all"):
        dying(**die)
    run = gan.fit(recipe(plain), data(streamed, damaged), **settings)
    if save and distributed.is_primary():
        np.savez(save, *state_arrays(run.state))
    line = f"process {job.process}: step {run.step}, {len(run.history)} rows, stopped {run.stopped}"
    os.write(1, f"{line}\n".encode())  # in one call, or the lines of processes that share a terminal mix
    if settings.get("shard"):
        leaves = sum(type(x) is np.ndarray for x in jax.tree.leaves(run.state))
        os.write(1, f"{leaves} leaves in the host's memory\n".encode())
    return run.exit_code


def state_arrays(state):
    return [np.asarray(x) for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]


def main() -> int:
    distributed.connect(job.coordinator, job.processes, job.process)
    cli.prepare_devices(told.get("each", 1))
    return max([train(**one) for one in told["jobs"]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("told", type=json.loads)
    parser.add_argument("--coordinator")
    for number in ("--processes", "--process"):
        parser.add_argument(number, type=int)
    job = parser.parse_args()
    told, sys.argv[1:] = job.told, []
    cli.run(main)
