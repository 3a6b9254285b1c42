"""What lies in a folder of images: which files, of which split and which class.

The rules. Each folder is read once, wherever links lead. Folders named train, val or test (any
case; training, validation, valid, testing) are splits. A lone folder named images or data, or one
that holds nothing but several folders, is looked into. Folders beside one named images that hold
masks or other annotations are left out. StyleGAN's chunks (00000, 00001, ...) are no classes: its
dataset.json has the labels. Other folders are classes, in sorted order. Hidden files are ignored.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from gan_jax.core.errors import UserError, say
from gan_jax.data.arrays import reason

# Formats of Pillow that are no pictures of pixels alone, or that other programs decode.
NO_IMAGES = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS", "PCD", "IPTC"}
IMAGES = {"images", "image", "imgs", "img", "jpegimages"}
CONTAINERS = IMAGES | {"data", "dataset"}
COMPANIONS = {"mask", "masks", "annotation", "annotations", "label", "labels", "gt", "groundtruth", "ground_truth"}
COMPANIONS |= {
    "segmentationclass",
    "segmentationobject",
    "segmentation",
    "segmentations",
    "depth",
    "edges",
    "thumbs",
    "thumbnails",
}
SPLIT = re.compile(r"(train|training|val|valid|validation|test|testing)(?:[ _-]?(?:set|split|data|images?|imgs?|\d+|[ab]))?")
ROLES = {"train": "train", "training": "train", "test": "test", "testing": "test"}  # others are validation


@lru_cache(maxsize=1)
def formats() -> dict[str, str]:
    """{ending of a file: format} of the images that Pillow reads here."""
    endings = Image.registered_extensions()
    return {end: kind for end, kind in endings.items() if kind in Image.OPEN and kind not in NO_IMAGES}


def find(root: Path) -> dict[str, tuple[list[str], list | None]]:
    """{"train", and "validation" and "test" where they are: (sorted paths below `root`, labels)}.

    labels: a class name, or number of a dataset.json, for each path; None where there are none.
    Says on stderr what was skipped. Raises UserError where there are no images, or their folders
    can be understood in several ways.
    """
    names = _images(root)
    prefix, tops = _inner(names)
    roles = {top: role for top in tops if (role := _role(top))}
    if not roles and len(tops) > 1:  # such as seg_train and seg_test
        loose = {top: _role(re.sub("^.*[ _-](?=train|test|val)", "", top.lower())) for top in tops}
        roles = {top: role for top, role in loose.items() if role and all(loose.values())}
    if roles and (set(roles.values()) != {"train"} or len(roles) == len(tops)):
        if len(roles) < len(tops) or len(set(roles.values())) < len(roles) or "train" not in roles.values():
            named = ", ".join(sorted(tops))
            raise UserError(f"folder {root}: {named} are splits, not classes; give one: {root / prefix / sorted(roles)[-1]}")
        roles = dict(sorted(roles.items(), key=lambda item: item[1] != "train"))  # its classes are those of all
        parts = {role: f"{prefix}{top}/" for top, role in roles.items()}
    else:
        parts = {"train": ""}
    found = {role: [name for name in names if name.startswith(folder)] for role, folder in parts.items()}
    if len(found) > 1:
        say(f"folder {root}: {', '.join(f'{len(found[role])} images in {parts[role]} ({role})' for role in parts)}")
    return {role: (found[role], _labels(root, found[role], folder)) for role, folder in parts.items()}


def _role(name: str) -> str | None:
    """Which split a folder of this name is."""
    match = SPLIT.fullmatch(name.lower())
    return match and ROLES.get(match[1], "validation")


def _inner(names: Sequence[str], prefix: str = "") -> tuple[str, list[str]]:
    """The folder, "" or ending in "/", below which classes or splits lie, and the folders there.
    prefix: the folder of all `names`."""
    while True:
        rest = [name[len(prefix) :].split("/") for name in names]
        tops = sorted({parts[0] for parts in rest if len(parts) > 1})
        if len(tops) != 1 or any(len(parts) == 1 for parts in rest):
            return prefix, tops
        below = {parts[1].lower() for parts in rest} if all(len(parts) > 2 for parts in rest) else set[str]()
        nested = len(below) > 1 or any(name in CONTAINERS or _role(name) for name in below)
        role, own = _role(tops[0]), _role(prefix.rstrip("/").rpartition("/")[2])
        if role in ("validation", "test") and role != own:
            return prefix, tops
        if not (role or nested or tops[0].lower() in CONTAINERS):
            return prefix, tops
        prefix += tops[0] + "/"


def _images(root: Path) -> list[str]:
    """The sorted paths of the images. Says what else is there."""
    known, files = formats(), _files(root)
    images = sorted(name for name in files if PurePosixPath(name).suffix.lower() in known)
    if not images:
        raise UserError(f"folder {root}: no image file in it ({len(files)} other files ignored); check the path")
    parted = [PurePosixPath(name).parts for name in images]
    beside = {parts[:i] for parts in parted for i, part in enumerate(parts[:-1]) if part.lower() in IMAGES or _role(part)}
    companion = lambda parts: any(part.lower() in COMPANIONS and parts[:i] in beside for i, part in enumerate(parts[:-1]))
    kept = [name for name, parts in zip(images, parted, strict=True) if not companion(parts)]
    if dropped := len(images) - len(kept):
        say(f"folder {root}: {dropped} images of folders such as masks beside images were left out")
    others = [path for path in map(PurePosixPath, set(files) - set(images)) if path.name != "dataset.json"]
    if others:
        endings = Counter(path.suffix.lower() or "no ending" for path in others)
        listed = ", ".join(f"{count} {end}" for end, count in sorted(endings.items(), key=lambda item: (-item[1], item))[:5])
        say(f"folder {root}: {len(others)} files that are no images were skipped ({listed})")
    return kept


def _files(root: Path) -> list[str]:
    """The paths, below `root`, of all files; each folder is entered once, by its own name first."""
    if not os.path.isdir(root):
        raise UserError(f"folder {root}: no such folder; check the path")
    real_root, files, again = os.path.realpath(root), [], []
    entered, folders, links = set[str](), [str(root)], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in entered or (real != real_root and f"{real_root}/".startswith(real.rstrip("/") + "/")):
            again.append(folder)
            continue
        entered.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"folder {error.filename}: cannot be read ({error.strerror}); check its permissions") from None
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):
                (links if entry.is_symlink() else folders).append(entry.path)
            elif os.path.isfile(entry.path) or not os.path.exists(entry.path):  # a broken link is refused when it is read
                files.append(Path(entry.path).relative_to(root).as_posix())
    if again:
        say(f"folder {root}: {len(again)} links to folders that are read already were skipped ({again[0]})")
    return files


def _labels(root: Path, names: list[str], outer: str) -> list | None:
    """The label of each of one split's images, in the folder `outer`: by its dataset.json, or the
    first folder."""
    prefix, tops = _inner(names, outer)
    for folder in dict.fromkeys((outer, prefix)):
        if (file := root / folder / "dataset.json").is_file():
            known = _dataset_json(file)
            if known is not None:
                return _given(file, known, [name[len(folder) :] for name in names])
    if not tops or _chunks(names, tops, prefix):
        return None
    where, nested = root / prefix, [name for name in names if "/" in name[len(prefix) :]]
    if flat := len(names) - len(nested):
        raise UserError(f"folder {where}: {flat} images beside class folders of images; move them into one or away")
    if len(tops) > 1 and (images := [top for top in tops if top.lower() in IMAGES]):
        raise UserError(
            f"folder {where}: {', '.join(tops)} are classes, or {images[0]} holds them all? give {where / images[0]}"
        )
    inside = {(parts[0], _role(parts[1])) for name in names if len(parts := name[len(prefix) :].split("/")) > 2}
    if {"train"} < {role for top, role in inside if role} and len(tops) > 1:
        raise UserError(f"folder {where}: splits inside of classes ({tops[0]}); put classes into splits, as in train/{tops[0]}")
    if prefix != outer:
        listed = ", ".join(tops[:5]) + ", ..." * (len(tops) > 5)
        say(f"folder {root}: the {len(tops)} folders in {prefix} are the classes ({listed})")
    return [name[len(prefix) :].partition("/")[0] for name in names]


def _chunks(names: list[str], tops: list[str], prefix: str) -> bool:
    """Whether folders of five digits hold images that are numbered through all of them."""
    stems = [re.fullmatch(r"(?:img)?(\d+)", PurePosixPath(name).stem) for name in names]
    if not all(re.fullmatch(r"\d{5}", top) for top in tops) or not all(stems):
        return False
    numbers = [int(stem[1]) for stem in stems if stem]
    return all(a < b for a, b in zip(numbers, numbers[1:], strict=False))


def _dataset_json(file: Path) -> dict[str, object] | None:
    """{path: label} of a StyleGAN dataset.json; None where it is of something else or has none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        pairs = content.get("labels") if isinstance(content, dict) else None
        return {str(path): label for path, label in pairs} if pairs else None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file}: its labels cannot be read ({reason(error)}); repair or remove it") from None


def _given(file: Path, known: dict[str, object], names: list[str]) -> list:
    if missing := [name for name in names if name not in known]:
        raise UserError(f"{file}: no label for {len(missing)} images, the first {missing[0]}; add them or remove the file")
    if len(known) > len(names):
        say(f"{file}: {len(known) - len(names)} labels are of images that are not there")
    return [known[name] for name in names]
