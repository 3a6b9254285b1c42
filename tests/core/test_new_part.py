"""One new file in a package of parts is enough: a copy of gan_jax with a loss, a penalty, an
augmentation and a network more trains with them, and reads them back by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gan_jax as gan
from gan_jax.core.parts import PARTS, find, name_of, part

NEW = {
    "losses/tilted.py": '''
        from gan_jax.core.parts import part
        from gan_jax.losses.terms import Terms, decides_at

        @part("losses")
        @decides_at(None)
        def tilted(real, fake, batch, *, tilt=2.0) -> Terms:
            return Terms(-tilt * real.logits, tilt * fake.logits, -fake.logits)
        ''',
    "penalties/logit_size.py": '''
        import jax.numpy as jnp
        from gan_jax.core.parts import part

        @part("penalties")
        def logit_size(context, *, weight):
            return weight * jnp.square(context.real.logits)
        ''',
    "augment/shades.py": '''
        from gan_jax.core.parts import part

        @part("augment")
        def darker(images, labels, draws, *, by):
            return images - by
        ''',
    "networks/line.py": '''
        from flax import linen as nn
        from gan_jax.core.parts import part

        @part("networks.line")
        class Generator(nn.Module):
            width: int = 2

            @nn.compact
            def __call__(self, z, labels, mode):
                return nn.Dense(self.width)(z)
        ''',
}  # fmt: skip

SCRIPT = """
import json, sys
import gan_jax as gan

data = gan.load("ring", subset=64)
recipe = gan.recipes.mlp((2,), width=4, depth=1, batch_size=16, loss="tilted")
assert gan.losses.boundary(recipe.loss) is None and gan.losses.LOSSES["tilted"].function is gan.losses.tilted
try:
    gan.recipes.loss("no")
except gan.UserError as error:
    assert "tilted" in str(error)
from gan_jax.networks.line import Generator
penalties = {"size": gan.bind(gan.penalties.logit_size, weight=0.1)}
recipe = recipe.replace(
    generator=recipe.generator.replace(net=gan.Net(Generator())), augment={"shade": gan.bind(gan.augment.darker, by=0.1)},
    discriminator=recipe.discriminator.replace(penalties=penalties),
)
run = gan.fit(recipe, data, steps=2, out=sys.argv[1], log_every=1, checkpoint_every=1, progress=False)
print(json.dumps(run.history[-1]))
"""

READER = """
import sys
import gan_jax as gan

recipe = gan.open_run(sys.argv[1]).recipe
print(recipe.loss, recipe.discriminator.penalties["size"].name, recipe.augment["shade"].name, recipe.generator.net.module)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Runs Python in a copy of the package with the files of NEW."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(gan.__file__).parent, root / "gan_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in NEW.items():
        lines = text.strip("\n").splitlines()
        (root / "gan_jax" / name).write_text("\n".join(line[8:] for line in lines) + "\n")

    def run(script, *arguments):
        environment = os.environ | {"PYTHONPATH": str(root)}
        ran = subprocess.run(
            [sys.executable, "-c", script, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=300
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    return run


def test_a_new_file_in_its_package_is_found_trained_with_and_read_back_by_name(copy, tmp_path):
    last = copy(SCRIPT, str(tmp_path / "run"))
    assert '"discriminator/size"' in last and '"generator/loss"' in last
    record = (tmp_path / "run" / "recipe.json").read_text()
    for name in ("losses.tilted", "penalties.logit_size", "augment.darker", "networks.line.Generator"):
        assert f'"{name}"' in record
    read = copy(READER, str(tmp_path / "run"))
    assert "tilted(tilt=2) logit_size darker Generator" in read
    with pytest.raises(gan.UserError, match="there is no recipe part"):
        gan.open_run(tmp_path / "run")  # this package has not got them


def test_two_parts_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two recipe parts are called losses.hinge"):
        part("losses", "hinge")(lambda real, fake, batch: None)
    assert find("losses.hinge") is gan.losses.hinge


def test_a_part_is_found_by_its_name_and_its_name_by_it():
    for name in ("penalties.r1", "networks.dcgan.Generator", "optax.adam", "dynamics.unrolled", "schedules.cosine"):
        assert name_of(find(name)) == name and PARTS[name] is find(name)
    assert name_of(os.system) is None
    for wrong in ("penalties", "penalties.", "penalties.jax", "os.system", "", "gan.fit", "losses.terms.Terms"):
        with pytest.raises(gan.UserError, match="there is no recipe part"):
            find(wrong)
