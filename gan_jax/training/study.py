"""The folder of a study that compares methods."""

from collections.abc import Callable

import numpy as np

from gan_jax.core.errors import UserError
from gan_jax.text import one_line
from gan_jax.training import schemas
from gan_jax.training.checkpoint_files import digest_of
from gan_jax.training.files import write_arrays, writing
from gan_jax.training.folder import RunFolder

DIGEST = "_digest"  # of the other arrays of a part


class StudyFolder(RunFolder):
    """A study that compares methods: study.json, parts/*.npz (the results of one method each),
    table, pictures."""

    kind, record, inside, schema = "study", "study.json", "parts", schemas.STUDY
    files = ("study.json", "parts", "table.csv", "pictures")
    identity = ("options",)

    def part(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """The arrays of this part, read from the folder where `make` was called before."""
        path, of = self.path / self.inside / f"{name}.npz", {"meta": [name, self.read()["options"]]}
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as file:
                    found = dict(file)
                if (digest := found.pop(DIGEST, None)) is not None and str(digest) != digest_of(found, of):
                    raise ValueError("its arrays are not those that were written for this part")
                return found
            except Exception as error:  # NumPy raises ValueError, OSError, BadZipFile, zlib.error ... for damaged files
                raise UserError(f"{path} is damaged ({one_line(str(error))}): delete it and --resume") from None
        made = make()
        with writing(self.path):
            write_arrays(path, made | {DIGEST: np.array(digest_of(made, of))}, np.savez_compressed)
        return made
