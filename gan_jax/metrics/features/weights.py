"""Weight files as arrays, without running anything that is in them: .safetensors, .npz and
PyTorch's state dicts (.pth, .pt).

A PyTorch file is a pickle, which is a program: unpickling it may run any code. Here its opcodes are
read instead, by a small stack machine which knows dicts, tensors and storages, as inert records,
and refuses everything else by name.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.core.errors import UserError

MAGIC = 0x1950A86A20F9469CFC6C  # what a file of PyTorch before 1.6 starts with
DTYPES = {  # little-endian; BFloat16 is widened when it is read
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": "<u2",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}
STORAGES = {f"torch.{name}Storage": name for name in DTYPES}
DICT, TENSOR, PARAMETER = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
KNOWN = {*STORAGES, DICT, TENSOR, PARAMETER}


def sha256(path: str | Path) -> str:
    """The file's sha256 (hex)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path) -> dict[str, np.ndarray]:
    """{name: array} of a weight file: .safetensors, .npz, or a PyTorch state dict (.pth or .pt, of
    any version since 0.4).

    Nothing in the file is executed. A state dict may be the file's object, or its entry
    "state_dict"; entries that are not tensors are left out. Arrays are contiguous and have the
    file's dtype, except that bfloat16 becomes float32. Reads the whole file into memory.
    Raises UserError where the file is missing, damaged or of another kind, or holds anything but
    tensors in plain containers.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], dict[str, np.ndarray]]]
    readers = {".safetensors": _safetensors, ".npz": _npz, ".pth": _torch, ".pt": _torch}
    if path.suffix not in readers:
        raise UserError(f"{path}: weights are read from {', '.join(readers)} files: convert them, or rename the file")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # a damaged file can fail anywhere in three readers, which share no class of error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: damaged, or no {path.suffix} weight file ({reason}): get the file again") from error


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    found = load_file(path)
    return {name: a.astype(np.float32) if a.dtype.name == "bfloat16" else a for name, a in found.items()}


def _npz(path: Path) -> dict[str, np.ndarray]:
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise UserError(f"{path}: holds one array without a name, not an .npz of several: write it with numpy.savez")
    with found:
        return dict(found)


# ---- PyTorch's two formats ---------------------------------------------------------------------


@dataclass(frozen=True)
class Global:
    """A known function or class, by name."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A tensor's memory: an entry of the file."""

    key: str
    kind: str
    numel: int

    def nbytes(self) -> int:
        return self.numel * np.dtype(DTYPES[self.kind]).itemsize

    def array(self, raw: bytes | memoryview) -> np.ndarray:
        """Flat, from the entry's bytes."""
        if len(raw) != self.nbytes():
            raise ValueError(f"storage {self.key} has {len(raw)} bytes, not {self.nbytes()}")
        array = np.frombuffer(raw, DTYPES[self.kind])
        return (array.astype(np.uint32) << 16).view(np.float32) if self.kind == "BFloat16" else array


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, flat: np.ndarray) -> np.ndarray:
        """A copy, out of the flat storage. The checks keep a false view from reading other memory,
        or from filling it."""
        numbers = (self.offset, *self.size, *self.stride)
        if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(self.size) != len(self.stride):
            raise ValueError("a tensor's size, stride or offset is false")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if math.prod(self.size) > len(flat) or (math.prod(self.size) and last >= len(flat)):
            raise ValueError("a tensor exceeds its storage")
        strides = tuple(step * flat.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.size, strides).copy()


def _torch(path: Path) -> dict[str, np.ndarray]:
    return _torch_zip(path) if zipfile.is_zipfile(path) else _torch_legacy(path)


def _torch_zip(path: Path) -> dict[str, np.ndarray]:
    """PyTorch 1.6 and later: NAME/data.pkl and one entry NAME/data/KEY for each storage, in an
    uncompressed zip."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        root = next(
            (name.removesuffix("data.pkl") for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")), None
        )
        if root is None:
            raise UserError(f"{path}: a zip without data.pkl, so no PyTorch state dict: write it with torch.save")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise UserError(f"{path}: a compressed zip, which torch.save does not write: save the state dict again")
        if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
            raise UserError(f"{path}: its numbers are big-endian: save the state dict on a little-endian machine")
        tensors = _state(interpret(io.BytesIO(archive.read(f"{root}data.pkl")), str(path)), path)
        storages = {tensor.storage for tensor in tensors.values()}
        flat = {storage: storage.array(archive.read(f"{root}data/{storage.key}")) for storage in storages}
    return {name: tensor.array(flat[tensor.storage]) for name, tensor in tensors.items()}


def _torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """Before 1.6: pickles of a magic number, a version, the machine, the object and its storages'
    keys; then their bytes."""
    raw = path.read_bytes()
    file = io.BytesIO(raw)
    if interpret(file, str(path)) != MAGIC:
        raise UserError(f"{path}: a pickle, but no PyTorch state dict: write it with torch.save(model.state_dict(), ...)")
    interpret(file, str(path))
    if not interpret(file, str(path))["little_endian"]:
        raise UserError(f"{path}: its numbers are big-endian: save the state dict on a little-endian machine")
    storages: dict[str, Storage] = {}
    tensors = _state(interpret(file, str(path), storages), path)
    flat, at = {}, 0
    keys, at = interpret(file, str(path)), file.tell()
    for key in keys:
        storage = storages[key]
        if int.from_bytes(raw[at : at + 8], "little") != storage.numel:
            raise ValueError(f"storage {key} is cut off, or has another length than its {storage.numel} elements")
        flat[storage] = storage.array(memoryview(raw)[at + 8 : at + 8 + storage.nbytes()])
        at += 8 + storage.nbytes()
    return {name: tensor.array(flat[tensor.storage]) for name, tensor in tensors.items()}


def _state(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    tensors = {}
    if isinstance(found, dict):
        tensors = {name: tensor for name, tensor in found.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if not tensors:
        raise UserError(f"{path}: no state dict: save it with torch.save(model.state_dict(), ...)")
    return tensors


# ---- the stack machine -------------------------------------------------------------------------


class Mark:
    """Where a tuple, or a run of items, begins on the stack."""


LITERALS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"}
LITERALS |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING"}
EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def interpret(file: io.BytesIO, where: str, storages: dict[str, Storage] | None = None) -> Any:
    """The object of the pickle at the file's position, which moves to its end. Fills `storages` by
    key.

    Functions are never called: only those in KNOWN may occur, and REDUCE makes a record of their
    arguments.
    Raises UserError for any other, by name, and any error for a damaged pickle.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in LITERALS:
            stack.append(argument)
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            parts = argument.split(" ") if name == "GLOBAL" else _pop(stack, 2)
            stack.append(_known(".".join(parts), where))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), storages, where))
        elif name == "REDUCE":
            function, arguments = _pop(stack, 2)
            stack.append(_reduce(function, arguments, where))
        elif name not in ("PROTO", "FRAME"):
            _build(name, stack, where)
    raise ValueError("the pickle has no end")


def _build(name: str, stack: list[Any], where: str) -> None:
    """Tuples, lists and dicts out of what is on the stack."""
    if name == "MARK":
        stack.append(Mark())
    elif name in TUPLES:
        stack.append(tuple(_pop(stack, TUPLES[name])))
    elif name == "TUPLE":
        stack.append(tuple(_pop_to_mark(stack)))
    elif name in ("APPEND", "APPENDS"):
        items = _pop_to_mark(stack) if name == "APPENDS" else _pop(stack, 1)
        _container(stack[-1], list).extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _pop_to_mark(stack) if name == "SETITEMS" else _pop(stack, 2)
        _container(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
    elif name == "BUILD":  # a state dict's own attributes (its modules' versions)
        stack.pop()
        _container(stack[-1], dict)
    else:
        raise UserError(f"{where}: refused, the pickle opcode {name} is not among those of a state dict: nothing was executed")


def _pop(stack: list[Any], count: int) -> list[Any]:
    items = stack[-count:]
    if len(items) < count:
        raise ValueError("the pickle takes more than it has")
    del stack[-count:]
    return items


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    start = next(i for i in reversed(range(len(stack))) if isinstance(stack[i], Mark))
    items = stack[start + 1 :]
    del stack[start:]
    return items


def _container(item: Any, kind: type) -> Any:
    if type(item) is not kind:
        raise ValueError(f"the pickle fills a {type(item).__name__} as a {kind.__name__}")
    return item


def _known(name: str, where: str) -> Global:
    if name not in KNOWN:
        raise UserError(f"{where}: refused, the file asks for {name}; a state dict needs only tensors: nothing was executed")
    return Global(name)


def _storage(said: Any, storages: dict[str, Storage] | None, where: str) -> Storage:
    tag, kind, key, _, numel, *view = said  # the fourth is the device that it was on
    if tag != "storage" or kind.name not in STORAGES or not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
        raise ValueError("a storage is false")
    if any(part is not None for part in view):
        raise UserError(f"{where}: its storages are views of others, as before PyTorch 0.4: save it again with a newer one")
    made = Storage(key, STORAGES[kind.name], numel)
    if storages is not None and storages.setdefault(key, made) != made:
        raise ValueError(f"storage {key} has two types")
    return made


def _reduce(function: Any, arguments: tuple[Any, ...], where: str) -> Any:
    name = function.name if isinstance(function, Global) else type(function).__name__
    if name == DICT:
        return dict(*arguments)
    if name == TENSOR:
        storage, offset, size, stride = arguments[:4]
        return Tensor(_container(storage, Storage), offset, tuple(size), tuple(stride))
    if name == PARAMETER:
        return _container(arguments[0], Tensor)
    raise UserError(f"{where}: refused, the file calls {name}; a state dict needs only tensors: nothing was executed")
