"""Frozen: a run folder, a sweep folder and the run folder of a VAE, of record format 1, and what
was found in them.

    JAX_PLATFORMS=cpu python tests/frozen/make_folders.py

writes folders/run, folders/sweep, folders/vae and folders/expected.json beside itself. They are not
to be made anew while the format stays: every later version has to open the same files, to go on
with them and to report the same of them (`tests/training/test_frozen_folders.py`). Pictures and
timings are left out. Each folder is under 300 kB.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

import gan_jax as gan
from gan_jax.networks.spectral import SpectralNorm

FOLDERS = Path(__file__).parent / "folders"
STEPS, MORE = 20, 4
INTERVALS = {"log_every": 4, "checkpoint_every": 20}
LEFT_OUT = ("*.png", "timings.jsonl", "pictures", "samples", "ranking.txt")


# ---- what was trained --------------------------------------------------------------------------


def run_recipe():
    """A DCGAN with many parts of other kinds: a wrapped network, wrapped losses and optimizers,
    penalties (one lazy, one that remembers), augmentations, a controller, schedules."""
    loss = gan.losses.top_k(gan.losses.blend(gan.losses.hinge, gan.losses.rpgan, hinge=0.75, rpgan=0.25), 0.75)
    recipe = gan.recipes.dcgan(
        (8, 8, 1), width=2, latent_dim=4, batch_size=16, loss=loss, ema_decay=gan.schedules.half_life(200, 16, 0.5),
        augment=gan.augment.diffaugment("translation", p=0.5) | {"noise": gan.bind(gan.augment.instance_noise, std=0.1)},
        controllers={"augment.diffaugment.p": gan.controllers.ada(horizon=5000, statistic="D/r_v", target=0.5)},
    )  # fmt: skip
    penalties = {
        "r1": gan.lazy(gan.bind(gan.penalties.r1, gamma=1.0), 4),
        "lecam": gan.bind(gan.penalties.lecam, weight=0.1, start=5.0),
    }
    optimizer = gan.optimizers.lookahead(gan.optimizers.chain(gan.optimizers.clip_gradient(1.0), gan.optimizers.sgd(0.01)), 5)
    d = recipe.discriminator.replace(net=SpectralNorm(recipe.discriminator.net), penalties=penalties, optimizer=optimizer)
    rate = gan.schedules.linear(2e-3, 0.0, 100)
    return recipe.replace(discriminator=d, generator=recipe.generator.replace(optimizer=gan.optimizers.momentum(rate)))


def sweep_settings():
    """Two structures: settings that differ by a number, and one that has a penalty more."""
    recipe = gan.recipes.mlp((2,), width=4, depth=1, batch_size=16, loss="non_saturating")
    side = recipe.discriminator.replace(optimizer=gan.optimizers.sgd(0.05))
    plain = recipe.replace(discriminator=side, generator=recipe.generator.replace(optimizer=gan.optimizers.sgd(0.05)))
    gp = side.replace(penalties={"gp": gan.bind(gan.penalties.wgan_gp, weight=1.0)})
    smooth = gan.with_leaves(plain, {"loss.smoothing": 0.25})
    return {"plain": plain, "smooth": smooth, "penalty": plain.replace(discriminator=gp)}


def vae_recipe():
    return gan.recipes.vae((8, 8, 1), width=2, latent_dim=3, batch_size=16)


def make():
    digits, ring = gan.load("digits", subset=64), gan.load("ring", subset=128)
    settings = {"steps": STEPS, "progress": False, "command": "tests/frozen/make_folders.py"} | INTERVALS
    made = Path(tempfile.gettempdir()) / "frozen"  # Orbax writes down where a checkpoint was made
    for folder in (made, FOLDERS):
        shutil.rmtree(folder, ignore_errors=True)
    gan.fit(run_recipe(), digits, out=made / "run", keep=1, **settings)
    gan.fit(vae_recipe(), digits, out=made / "vae", keep=1, **settings)
    gan.sweep(sweep_settings(), ring, seeds=2, out=made / "sweep", **settings)
    shutil.copytree(made, FOLDERS)
    for pattern in LEFT_OUT:
        for path in list(FOLDERS.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in ("run", "sweep", "vae"):
        size = sum(path.stat().st_size for path in (FOLDERS / name).rglob("*") if path.is_file())
        print(f"{name}: {size / 1000:.0f} kB in {sum(1 for _ in (FOLDERS / name).rglob('*'))} files")
        assert size < 300_000


# ---- what is found in them ---------------------------------------------------------------------


def numbers(row):
    return {name: float(value) for name, value in row.items() if isinstance(value, (int, float))}


def of_run(folder, scratch):
    """{what: numbers} of a copy of a run folder, before and after it went on."""
    copy = shutil.copytree(folder, Path(scratch) / folder.name)
    run = gan.open_run(copy)
    further = gan.resume(copy, steps=STEPS + MORE, progress=False)
    found = {"leaves": {k: float(np.mean(v)) for k, v in gan.leaves(run.recipe).items()}, "last": numbers(run.history[-1])}
    samples = run.samples(32).astype(float) / 255
    found |= {"samples": {"mean": samples.mean(), "deviation": samples.std()}, "further": numbers(further.history[-1])}
    if isinstance(run.recipe, gan.Recipe):
        report = gan.overfitting_report(run, features="pixels", n=50)
        found["report"] = {name: float(number.value) for name, number in report.numbers.items() if number.value is not None}
    return found


def of_sweep(folder, scratch):
    """{what: numbers} of a copy of a sweep folder: one of its members, and its ranking before and
    after it went on."""
    copy = shutil.copytree(folder, Path(scratch) / folder.name)
    sweep = gan.open_sweep(copy)
    settings = {name: sweep.run(name, seed=0).recipe for name in sweep.settings}
    further = gan.sweep(settings, sweep.data, seeds=2, out=copy, resume=True, steps=STEPS + MORE, progress=False, **INTERVALS)
    ranks = lambda sweep: {row["setting"]: numbers(row) for row in sweep.ranking().to_dict("records")}
    found = {f"ranking {name}": row for name, row in ranks(sweep).items()}
    found |= {f"further {name}": row for name, row in ranks(further).items()}
    samples = sweep.run("smooth", seed=1).samples(32)
    return found | {"samples": {"mean": float(samples.mean()), "deviation": float(samples.std())}}


FIND = {"run": of_run, "sweep": of_sweep, "vae": of_run}


if __name__ == "__main__":
    make()
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: find(FOLDERS / name, scratch) for name, find in FIND.items()}
    (FOLDERS / "expected.json").write_text(json.dumps(found, indent=1) + "\n")
