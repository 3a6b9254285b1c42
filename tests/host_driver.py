"""One process of a job that a test began: `python host_driver.py JSON`. It trains a tiny game, in
one job after the other.

{"coordinator": ..., "processes": n, "process": i, "lost_after": seconds, "each": devices of a
process, "jobs": [{...}, ...]}; a job has the settings of `fit`, and streamed: whether its data are;
save: where process 0 leaves the state (.npz); small: what `zero.SMALL` is; own: {"i": settings of
process i alone};
damaged: rows of it that cannot be read; die: {"process": i, "at": step, "how": ..., "note": a file
that is made then}, what befalls process i in the chunk after that step, as `dying` says.
"""

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


def recipe():
    return everything(flat=True)


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
                case "leave":
                    raise SystemExit(0)
        return advance(self, state, feed, step, until)

    trainer.RunTrainer.advance = until_then


def train(streamed=False, damaged=(), save=None, die=None, small=sharding.SMALL, own=None, **settings):
    sharding.SMALL = small
    settings |= (own or {}).get(str(told["process"]), {})
    if die and die["process"] == told["process"]:
        dying(**die)
    run = gan.fit(recipe(), data(streamed, damaged), **settings)
    if save and distributed.is_primary():
        np.savez(save, *state_arrays(run.state))
    print(f"process {told['process']}: step {run.step}, {len(run.history)} rows, stopped {run.stopped}", flush=True)
    if settings.get("shard"):
        print(f"{sum(type(x) is np.ndarray for x in jax.tree.leaves(run.state))} leaves in the host's memory", flush=True)
    return run.exit_code


def state_arrays(state):
    return [np.asarray(x) for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]


def main() -> int:
    distributed.connect(told["coordinator"], told["processes"], told["process"], lost_after=told.get("lost_after", 30.0))
    cli.prepare_devices(told.get("each", 1))
    return max([train(**job) for job in told["jobs"]])


if __name__ == "__main__":
    told = json.loads(sys.argv.pop())
    cli.run(main)
