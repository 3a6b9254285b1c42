"""Prepare mnist, fashion_mnist and cifar10 for `gan_jax.data.load`, with TFDS but without
TensorFlow.

    python scripts/prepare_data.py mnist cifar10 --from originals

Takes about 10 seconds for mnist, 30 for cifar10, and needs no network when the original files are
at hand.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gan_jax.cli.run import run

Name = Literal["mnist", "fashion_mnist", "cifar10"]


def main(
    names: tyro.conf.Positional[tuple[Name, ...]] = ("mnist", "fashion_mnist", "cifar10"),
    /,
    originals: Annotated[Path | None, tyro.conf.arg(name="from")] = None,
    data_dir: Path | None = None,
) -> None:
    """Prepare data sets for `gan_jax.data.load`, as TFDS data sets in array_record, without
    TensorFlow.

    Args:
        names: Data sets to prepare; all three when none is named.
        originals: Folder of original files: DIR/mnist and DIR/fashion_mnist with the four *.gz,
            DIR/cifar10 with cifar-10-binary.tar.gz or its six batches as *.bin or *.bin.xz. Without
            it, the folder in the environment variable GAN_JAX_DATA; without that too, the files are
            downloaded to the data folder.
        data_dir: Folder to prepare in. Without it, TFDS_DATA_DIR in the environment or
            ~/tensorflow_datasets.
    """
    import tensorflow_datasets as tfds

    from gan_jax.data.prepare import prepare

    tfds.disable_progress_bar()
    for name in names:
        done = prepare(name, originals or os.environ.get("GAN_JAX_DATA"), data_dir)
        sizes = ", ".join(f"{split} {n:,}" for split, n in done.sizes.items())
        print(f"{name}: {'already prepared' if done.already else 'prepared'} in {done.folder} ({sizes})", flush=True)


if __name__ == "__main__":
    run(main)
