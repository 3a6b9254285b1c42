"""Records: a recipe as JSON and back, what records cannot name, lacking defaults, formats."""

import importlib
import json
import os
from dataclasses import dataclass
from os import system
from typing import Any

import jax
import numpy as np
import optax
import pytest

import gan_jax as gan
from gan_jax import augment, controllers, penalties
from gan_jax.core import parts
from gan_jax.core.bind import defaults
from gan_jax.optimizers import adam, chain, clip_gradient
from gan_jax.sweeps.executors import inputs, task
from gan_jax.sweeps.folder import SweepFolder
from gan_jax.training.folder import RunFolder
from gan_jax.training.serialization import FORMAT, completed, differences, from_json, to_json
from gan_jax.training.study import StudyFolder
from tests.core.test_bind import assert_same, everything, small
from tests.tiny_games import assert_close

shell = system  # a name in this module for what another one defines


def spring(x, *, stiffness, rest=0.0, degree: int = 1):
    """A user's function."""
    return stiffness * (x - rest) ** degree


@dataclass(frozen=True)
class Knobs:
    """A user's dataclass."""

    rate: float


def round_trip(value, trusted=()):
    """Through JSON text that any reader accepts."""
    return from_json(json.loads(json.dumps(to_json(value), allow_nan=False)), trusted)


# ---- there and back ----------------------------------------------------------------------------

RECIPES = {
    "everything": everything,
    "mlp": lambda: small(ema_decay=gan.schedules.cosine(0.1, 0.9, 7), classes=2, compute_dtype="bfloat16"),
    "chain": lambda: small(latent=gan.bind(gan.latents.uniform, dimension=2)).replace(
        generator=small().generator.replace(optimizer=chain(clip_gradient(0.3), adam(1 / 3)))
    ),
    "optax": lambda: small().replace(
        discriminator=small().discriminator.replace(
            optimizer=gan.bind(optax.rmsprop, learning_rate=1e-3, decay=0.9, centered=True)
        )
    ),
    "dcgan": lambda: gan.recipes.dcgan((28, 28, 1), loss="hinge", play=gan.bind(gan.simultaneous), generator_norm=None),
    "vae": lambda: gan.recipes.vae((8, 8, 1), width=4),
    "vae_gan": lambda: gan.recipes.vae_gan((8, 8, 1), width=4),
    "gain": lambda: gan.imputation.gain.recipe(3),
    "misgan": lambda: gan.imputation.misgan.recipe((8, 8, 1)),
    "miwae": lambda: gan.imputation.vae.recipe(3),
    "a rule": lambda: controllers.drive("x", 0.5, rule=controllers.proportional),
    "another rule": lambda: controllers.drive("x", 0.5, rule=controllers.fixed_steps),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_record(name):
    recipe = RECIPES[name]()
    assert_same(round_trip(recipe), recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_a_record_names_public_names_alone(name):
    text = json.dumps(to_json(RECIPES[name]()))
    assert ":" not in "".join(named(json.loads(text))) and "gan_jax" not in text


def named(record):
    """Every name in a record."""
    if isinstance(record, list):
        return [name for value in record for name in named(value)]
    if not isinstance(record, dict):
        return []
    own = [record[kind] for kind in ("class", "function", "schedule", "name") if isinstance(record.get(kind), str)]
    return own + [name for value in record.values() for name in named(value)]


def test_the_game_of_a_method_is_recorded_by_its_name():
    games = [gan.GAN, gan.vae.GAME, gan.vae_gan.GAME, gan.imputation.gain.GAIN, gan.imputation.vae.GAME]
    assert all(round_trip(game) is game for game in games)


def test_a_recorded_recipe_trains_as_the_original():
    recipe = RECIPES["chain"]()
    states = [gan.init(r, jax.random.key(0)) for r in (recipe, round_trip(recipe))]
    assert_close(*states, 0)


def test_what_cannot_be_recorded_is_refused():
    with pytest.raises(gan.UserError, match="cannot record"):
        to_json({"thing": {1, 2}})


def test_differences_name_the_path_and_both_values():
    before = to_json(everything())
    after = to_json(gan.with_leaves(everything(d_steps=2), {"discriminator.penalties.r1.penalty.gamma": 8.0}))
    assert differences(before, before) == []
    lines = differences(before, after)
    assert len(lines) == 2
    assert "d_steps: 1, not 2" in lines
    assert any("penalties.r1" in line and line.endswith("gamma: 1.0, not 8.0") for line in lines)
    assert differences({"a": 1}, {}) == ["a: 1, not absent"]


# ---- what a record can name --------------------------------------------------------------------


def test_a_game_of_the_user_s_with_every_default_is_read_back():
    game = gan.Game(init=spring, step=spring, examples=spring)
    assert round_trip(game, trusted=[__name__]) == game


def test_parts_of_a_script_are_to_be_given_there():
    with pytest.raises(
        gan.UserError, match=r"'__main__:mine', .* of a script: give the recipe itself \(recipe=\), in that script"
    ):
        from_json({"function": "__main__:mine", "with": {}})


def test_a_function_or_class_of_the_user_s_is_read_back_only_if_its_module_is_trusted():
    for mine in (gan.bind(spring, stiffness=0.1, degree=3), Knobs(0.5), spring):
        again = round_trip(mine, trusted=[__name__])
        assert again == mine or to_json(again) == to_json(mine)
        assert to_json(round_trip(mine, trusted=__name__)) == to_json(mine), "one name may stand alone"
        for no in ([], f"{__name__}_and_more"):
            with pytest.raises(gan.UserError, match=f"no recipe part of gan_jax.*or trust '{__name__}'"):
                round_trip(mine, no)


SWEPT_RECORD = {
    "settings": {"a": {}}, "names": ["a"], "seeds": [0], "sizes": [10], "order": "shared", "intervals": [1], "baseline": "a",
    "rank_by": "D/loss_gap", "higher_is_better": False, "steps": 1,
}  # fmt: skip
SWEPT = {"number": [0.1, 0.2], "dtype": "float32"}


@pytest.mark.parametrize(
    "record, message",
    [
        ({"name": "os:system"}, "no recipe part of gan_jax"),
        ({"function": "subprocess:run", "with": {}}, "no recipe part of gan_jax"),
        ({"class": "pathlib:Path", "fields": {}}, "no recipe part of gan_jax"),
        ({"name": "gan_jaxious:evil"}, "no recipe part of gan_jax"),
        ({"name": "gan_jax.training.serialization:importlib"}, "no recipe part of gan_jax"),
        ({"name": "gan_jax.losses.pointwise:hinge"}, "no recipe part of gan_jax"),
        ({"function": "gan_jax.training.run:open_run", "with": {}}, "no recipe part of gan_jax"),
        ({"name": "losses.softplus"}, "no recipe part 'losses.softplus'"),
        ({"name": "losses.perceptual"}, "no recipe part 'losses.perceptual'"),
        ({"function": "training.open_run", "with": {}}, "no recipe part 'training.open_run'"),
        ({"function": "gan.open_run", "with": {}}, "no recipe part 'gan.open_run'"),
        ({"function": "nowhere.f", "with": {}}, "no recipe part 'nowhere.f'"),
        ({"function": ["losses.hinge"], "with": {}}, "no recipe part"),
        ({"schedule": "schedules.square", "with": {"steps": SWEPT}}, "no recipe part 'schedules.square'"),
        ({"class": "losses.hinge", "fields": {"real": 1, "fake": 2, "batch": 3}}, "as a class of its own"),
        ({"class": "gan.Net", "fields": {"command": 1}}, "a field 'command', which it has not"),
        ({"function": "losses.hinge"}, "not the record of a recipe"),
        ({"shape": [1, 2]}, "not the record of a recipe"),
        ({}, "not the record of a recipe"),
    ],
)
def test_a_record_that_cannot_be_trusted_or_read_is_refused(record, message):
    with pytest.raises(gan.UserError, match=message) as error:
        from_json({"dict": {"inside": [record]}})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["shell", "jax", "os", "Any", "FORMAT", "round_trip.trusted", "absent", "test_absent:f"])
def test_a_trusted_module_names_only_what_it_defines_itself(name):
    with pytest.raises(gan.UserError, match="defines|not there"):
        from_json({"name": f"{__name__}:{name}"}, [__name__])


def test_a_trusted_module_of_commands_names_no_command():
    """The caller's word covers functions and dataclasses of a module, not what C defines."""
    with pytest.raises(gan.UserError, match="no function or dataclass that posix defines"):
        from_json({"function": "posix:system", "with": {}}, ["posix"])


def test_every_part_is_of_the_packages_that_a_recipe_is_made_of():
    """Nothing that reads or writes files, or that starts processes, can have become a part."""
    for kind in parts.PACKAGES:
        assert parts.parts_of(kind), kind
    known = (
        "augment",
        "controllers",
        "gan",
        "games",
        "latents",
        "likelihoods",
        "losses",
        "networks",
        "optimizers",
        "penalties",
    )
    homes = [f"gan_jax.{home}" for home in (*known, "sampling", "schedules", "core.net", "core.game")] + ["optax"]
    for name, thing in parts.PARTS.items():
        home = type(thing).__module__ if isinstance(thing, gan.Game) else thing.__module__
        assert any(f"{home}.".startswith(f"{allowed}.") for allowed in homes), name
        assert not {"subprocess", "shutil", "os", "sys"} & set(vars(importlib.import_module(home))), name
        assert parts.name_of(thing) is not None and parts.find(name) is thing


# ---- the attack --------------------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """{how: a record that would run a command, itself or by opening a folder that would}; and a
    check that nothing was run or opened."""
    mark, inner = tmp_path / "executed", tmp_path / "inner"
    command = f"touch {mark}"
    deeper = {"function": "posix:system", "with": {"command": command}}
    inner.mkdir()
    (inner / "recipe.json").write_text(json.dumps({"format": FORMAT, "recipe": deeper, "seed": 0, "trusted": ["posix"]}))
    opened = {"folder": str(inner), "data": 1, "trusted": ["posix"]}
    made = {name: {"function": name, "with": opened} for name in OPENERS}
    made |= {f"{name} by class": {"class": name, "fields": opened} for name in OPENERS}
    made |= {
        "command": deeper, "command by name": {"name": "posix:system"}, "os": deeper | {"function": "os:system"},
        "subprocess": {"function": "subprocess:run", "with": {"args": ["touch", str(mark)]}},
        "subprocess by class": {"class": "subprocess:Popen", "fields": {"args": ["touch", str(mark)]}},
        "exec": {"function": "builtins:exec", "with": {"source": f"import os; os.system({command!r})"}},
        "schedule": {"schedule": "posix:system", "with": {"command": command}},
        "within a part": {"function": "optimizers.chain", "parts": [deeper], "with": {}},
        "shutil": {"function": "gan_jax.training.folder:shutil.rmtree", "with": {"path": str(inner)}},
    }  # fmt: skip
    called, read = [], RunFolder.read

    def spy(module, name):
        real = getattr(importlib.import_module(module), name)
        note = lambda *a, **k: called.append((a, k)) if str(mark) in repr((a, k)) else real(*a, **k)
        monkeypatch.setattr(importlib.import_module(module), name, note)

    for module, name in (("os", "system"), ("posix", "system"), ("subprocess", "run")):
        spy(module, name)
    monkeypatch.setattr(RunFolder, "read", lambda self: called.append(self) if self.path == inner else read(self))
    yield made
    assert not called and not mark.exists() and (inner / "recipe.json").exists()


OPENERS = (
    "gan_jax.training.run:open_run", "gan_jax.training.fit:resume", "gan_jax.sweeps.api:open_sweep", "gan_jax:open_run",
    "training.open_run", "gan.open_run", "run.open_run", "open_run", "sweeps.open_sweep", "optax.open_run",
)  # fmt: skip


def as_an_optimizer(attack):
    """The record of a recipe whose optimizer, which is called when training begins, is the
    attack."""
    record = json.loads(json.dumps(to_json(small(batch_size=8))))
    record["fields"]["generator"]["fields"]["optimizer"] = attack
    return record


def test_a_record_calls_nothing_that_is_not_a_recipe_part(planted, tmp_path):
    """By run folders (opened, resumed, begun from), by sweep folders, and by what a task is
    sent."""
    attacks = planted
    data = gan.from_arrays(np.arange(200, dtype=np.float32).reshape(100, 2), name="points")
    about = {"data": data.describe(), "seed": 0, "schedule": [1, 1, 1, 1], "steps": 1, "source": None, "trusted": ["posix"]}
    about["intervals"] = [1]
    for i, attack in enumerate(attacks.values()):
        recipe = as_an_optimizer(attack)
        run, sweep = RunFolder(tmp_path / f"run{i}"), SweepFolder(tmp_path / f"sweep{i}")
        run.start(about | {"recipe": recipe}, False, False)
        sweep.start(about | SWEPT_RECORD | {"settings": {"a": recipe}}, False, False)
        tries = {
            "open": lambda run=run: gan.open_run(run.path, data=data),
            "resume": lambda run=run: gan.resume(run.path, data=data, progress=False),
            "begin": lambda run=run: gan.fit(small(batch_size=8), data, steps=1, warm_start=run.path, progress=False),
            "sweep": lambda sweep=sweep: gan.open_sweep(sweep.path, data=data),
            "game": lambda attack=attack: from_json({"class": "gan.Game", "fields": {"init": attack}}, []),
        }
        for way in tries.values():
            with pytest.raises(gan.UserError, match="no recipe part"):
                way()


def test_a_task_trusts_what_its_caller_trusts_and_nothing_that_a_record_says(planted, tmp_path, monkeypatch):
    """The task's own words come from the driver; the sweep's folder, which anyone may have written,
    adds none."""
    attacks = planted
    data = gan.from_arrays(np.arange(200, dtype=np.float32).reshape(100, 2), name="points")
    files = SweepFolder(tmp_path / "sweep")
    record = SWEPT_RECORD | {"data": data.describe(), "source": {"name": "ring"}}
    files.start(record | {"settings": {"a": as_an_optimizer(attacks["command"])}, "trusted": ["posix"]}, False, False)
    (files.path / "tasks").mkdir()
    monkeypatch.setattr("gan_jax.training.run.load_again", lambda record, folder: data)
    spec = {"folder": str(files.path), "group": 0, "attempt": 0, "game": None, "trusted": [], "class_names": []}
    spec |= {"environment": {}, "path": [], "directory": os.getcwd()}
    ended = task.train_group(spec)
    assert "no recipe part of gan_jax" in str(ended["refused"])
    ended = task.train_group(spec | {"game": {"class": "gan.Game", "fields": {"init": {"name": "posix:system"}}}})
    assert "no recipe part of gan_jax" in str(ended["refused"])
    with pytest.raises(gan.UserError, match="no recipe part of gan_jax"):
        inputs.check_tasks({"a": small(loss=gan.bind(spring, stiffness=1.0))}, None, data, [], None)


# ---- formats -----------------------------------------------------------------------------------


EMPTY = {"name": "none", "seed": 0, "sizes": {}, "hashes": {}}


@pytest.mark.parametrize("kind", [RunFolder, SweepFolder, StudyFolder])
@pytest.mark.parametrize(
    "version, message", [(None, "no format version"), (0, "format 0"), (FORMAT + 1, f"format {FORMAT + 1}")]
)
def test_a_folder_of_another_format_is_refused_in_one_line(tmp_path, kind, version, message):
    files = kind(tmp_path / "old")
    whole = SWEPT_RECORD | {"steps": 1, "recipe": {}, "data": EMPTY, "seed": 0, "intervals": [1], "schedule": [1, 1, 1, 1]}
    whole |= {"options": {}}
    files.start(whole, False, False)
    path = files.path / files.record
    record = json.loads(path.read_text())
    assert record["format"] == FORMAT
    path.write_text(json.dumps({"steps": 1} if version is None else record | {"format": version}))
    openers = {RunFolder: gan.open_run, SweepFolder: gan.open_sweep, StudyFolder: lambda path: StudyFolder(path).read()}
    for way in (lambda: openers[kind](files.path), lambda: files.start(whole, True, False)):
        with pytest.raises(gan.UserError, match=f"{message}, and this gan_jax reads format {FORMAT}") as error:
            way()
        assert "\n" not in str(error.value)
    files.start(whole | {"steps": 2}, False, True)
    assert files.read()["steps"] == 2, "it can be overwritten"


def test_a_record_that_is_no_object_is_refused_in_one_line(tmp_path):
    (tmp_path / "recipe.json").write_text("[1]")
    with pytest.raises(gan.UserError, match="no format version"):
        gan.open_run(tmp_path)


# ---- defaults that a record lacks --------------------------------------------------------------


def recipe(**numbers):
    made = gan.recipes.mlp((2,), width=4, depth=1, augment={"ada": gan.bind(augment.ada, p=0.1)})
    lecam = {"lecam": gan.lazy(gan.bind(penalties.lecam, weight=0.3), 2)}
    return gan.with_leaves(made.replace(discriminator=made.discriminator.replace(penalties=lecam)), numbers)


def without_defaults(record: Any) -> Any:
    """As it would be if these numbers had come to the functions later."""
    if isinstance(record, list):
        return [without_defaults(x) for x in record]
    if not isinstance(record, dict):
        return record
    lost = {"smoothing", "decay", "start", *defaults(augment.ada)}
    return {k: without_defaults(v) for k, v in record.items() if k not in lost}


def test_a_record_has_the_defaults_and_one_without_them_reads_as_if_it_had():
    record = json.loads(json.dumps(to_json(recipe())))
    old = without_defaults(record)
    assert "smoothing" in json.dumps(record) and "smoothing" not in json.dumps(old)
    again = from_json(old)
    assert jax.tree.structure(again) == jax.tree.structure(recipe()) and gan.leaves(again) == gan.leaves(recipe())
    assert completed(old) == record and completed(record) == record
    assert completed({"function": "nowhere:f", "with": {}}) == {"function": "nowhere:f", "with": {}}


def test_a_folder_from_before_resumes_with_the_defaults_and_refuses_another_number(tmp_path):
    about = {"data": EMPTY, "seed": 0, "intervals": [1], "schedule": [1, 1, 1, 1], "steps": 1}
    entry = lambda made: about | {"recipe": to_json(made)}
    folder = RunFolder(tmp_path / "run")
    folder.start(without_defaults(entry(recipe())), False, False)
    folder.start(entry(recipe()), True, False)
    with pytest.raises(gan.UserError, match=r"lecam.*decay: 0.99.*, not 0.5"):
        folder.start(entry(recipe(**{"discriminator.penalties.lecam.penalty.decay": 0.5})), True, False)
    assert differences(completed(folder.read()["recipe"]), to_json(recipe())) == []
