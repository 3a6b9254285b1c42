"""Weight files as arrays: .safetensors, .npz, and PyTorch's state dicts (.pth, .pt).

Nothing in a file is run. A PyTorch file is a pickle, which can hold any code; torch, an optional
dependency, reads it with `weights_only=True`, which admits tensors and plain containers alone.
"""

import hashlib
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gan_jax.core.errors import UserError


def sha256(path: str | Path) -> str:
    """The file's sha256 (hex)."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | Path) -> dict[str, np.ndarray]:
    """{name: array} of a weight file: .safetensors, .npz, or a PyTorch state dict (.pth or .pt).

    A state dict may be the file's object or its entry "state_dict"; entries that are not tensors
    are left out. Arrays have the file's dtype, except that bfloat16 becomes float32. Raises
    UserError where the file is missing, damaged or of another kind, where a PyTorch file holds
    anything but tensors in plain containers, or where torch is needed and not installed.
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
    except Exception as error:  # the three readers share no class of error for a damaged file
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


def _torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f'{path}: a {path.suffix} file is read by PyTorch: pip install "gan-jax[inception]", '
            "or give the same tensors as .safetensors"
        ) from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its text advises to load without the guard: only the name is passed on
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"the file asks for {asked[1]}" if asked else "the pickle is damaged or holds other objects"
        raise UserError(f"{path}: refused, {what}; a state dict needs only tensors: nothing was executed") from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    tensors = found.items() if isinstance(found, dict) else ()
    tensors = {name: x.detach() for name, x in tensors if isinstance(name, str) and isinstance(x, torch.Tensor)}
    if not tensors:
        raise UserError(f"{path}: no state dict: save it with torch.save(model.state_dict(), ...)")
    widened = {name: x.float() if x.dtype == torch.bfloat16 else x for name, x in tensors.items()}
    return {name: np.array(x.numpy(), order="C") for name, x in widened.items()}
