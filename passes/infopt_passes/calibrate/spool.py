"""Activations between two parts of a model, of all samples, on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Spool:
    """Arrays by sample, written in order and read back in any; nothing stays in memory but where they lie.

    Attributes:
        path: The file.
        names: Names of the tensors of each sample.
        places: Per sample, offset, type and shape of each tensor.
    """

    path: Path
    names: tuple[str, ...]
    places: list[list[tuple[int, np.dtype[Any], tuple[int, ...]]]] = field(default_factory=list)
    _file: IO[bytes] | None = None

    def add(self, arrays: list[Array]) -> None:
        """Append the tensors of the next sample, in the order of the names."""
        if self._file is None:
            self._file = self.path.open("wb")
        sample = []
        for array in arrays:
            sample.append((self._file.tell(), array.dtype, array.shape))
            self._file.write(np.ascontiguousarray(array).data)
        self.places.append(sample)

    def read(self, sample: int) -> dict[str, Array]:
        """The tensors of a sample, by name."""
        if self._file is not None:
            self._file.flush()
        found = {}
        with self.path.open("rb") as file:
            for name, (offset, dtype, shape) in zip(self.names, self.places[sample], strict=True):
                file.seek(offset)
                count = int(np.prod(shape, dtype=np.int64))
                found[name] = np.fromfile(file, dtype, count).reshape(shape)
        return found

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self, remove: bool = False) -> None:
        """Close the file; the samples can be read until it is removed."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if remove:
            self.path.unlink(missing_ok=True)


def stored(names: Sequence[str], spools: Mapping[str, Spool], sample: int) -> dict[str, Array]:
    """Tensors of a sample, by name, from the spools that hold them."""
    found: dict[str, Array] = {}
    for spool in {id(spools[name]): spools[name] for name in names}.values():
        found |= spool.read(sample)
    return {name: found[name] for name in names}


def dropped(spools: dict[str, Spool], needed: set[str]) -> None:
    """Remove the files that nothing reads any more."""
    alive = {id(spools[name]) for name in needed if name in spools}
    for name in [name for name, spool in spools.items() if id(spool) not in alive]:
        spools.pop(name).close(remove=True)
