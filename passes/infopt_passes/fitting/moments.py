"""First and second moments of what a layer reads, added up run by run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ENOUGH = 512
"""Rows that are collected before they are multiplied: a product of few rows is bound by the memory of its result."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What is known of a layer's rows of input; G groups, K columns.

    Attributes:
        rows: Number of rows.
        runs: Runs of the model that they are from.
        mean: Mean of the float rows, float64 of shape (G, K).
        read: Mean of the rows as the quantized layer reads them, likewise.
        second: Mean of the products of two columns, as read: float64 of shape (G, K, K), ``E[q q^T]``.
        cross: Mean of the products of a float column and a column as read, ``E[x q^T]``, where it was asked for.
        held: Moments of runs that are not in these, to check what was fitted with; where it was asked for.
    """

    rows: int
    runs: int
    mean: Array
    read: Array
    second: Array
    cross: Array | None = None
    held: Moments | None = None

    @property
    def diagonal(self) -> Array:
        """Mean square of each column as read, of shape (G, K)."""
        return np.diagonal(self.second, axis1=1, axis2=2)

    @property
    def spread(self) -> Array:
        """Covariance of the columns as read, of shape (G, K, K)."""
        spread: Array = self.second - self.read[:, :, None] * self.read[:, None, :]
        return spread


@dataclass(slots=True)
class Adder:
    """Adds rows up to moments.

    Attributes:
        groups: Groups of columns.
        columns: Columns of a group.
        crossed: Whether products of float rows and rows as read are wanted.
    """

    groups: int
    columns: int
    crossed: bool = False
    _pending: list[tuple[Array, Array]] = field(default_factory=list)
    _waiting: int = 0
    _rows: int = 0
    _runs: int = 0
    _sums: tuple[Array, Array] | None = None
    _second: Array | None = None
    _cross: Array | None = None

    @property
    def bytes(self) -> int:
        """Memory that the sums take."""
        return self.groups * self.columns**2 * 4 * (2 if self.crossed else 1)

    def add(self, rows: Array, read: Array) -> None:
        """Take in the rows of one run.

        Args:
            rows: What the float layer reads, float32 of shape (groups, rows, columns).
            read: What the quantized layer reads at the same places.
        """
        self._pending.append((rows, read))
        self._waiting += rows.shape[1]
        self._runs += 1
        if self._waiting >= ENOUGH:
            self._flush()

    def moments(self) -> Moments:
        """The moments of all rows; zeros where there were none."""
        self._flush()
        if self._sums is None or self._second is None:
            nothing = np.zeros((self.groups, self.columns))
            return Moments(0, self._runs, nothing, nothing, np.zeros((self.groups, self.columns, self.columns)))
        mean, read = (total / self._rows for total in self._sums)
        cross = None if self._cross is None else self._cross.astype(np.float64) / self._rows
        return Moments(self._rows, self._runs, mean, read, self._second.astype(np.float64) / self._rows, cross)

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows, read = (np.concatenate(parts, axis=1) for parts in zip(*self._pending, strict=True))
        self._pending, self._waiting = [], 0
        self._rows += rows.shape[1]
        self._sums = _plus(self._sums, (_summed(rows), _summed(read)))
        second = read.transpose(0, 2, 1) @ read
        self._second = second if self._second is None else np.add(self._second, second, out=self._second)
        if self.crossed:
            cross = rows.transpose(0, 2, 1) @ read
            self._cross = cross if self._cross is None else np.add(self._cross, cross, out=self._cross)


def _plus(sums: tuple[Array, Array] | None, more: tuple[Array, Array]) -> tuple[Array, Array]:
    return more if sums is None else (sums[0] + more[0], sums[1] + more[1])


def _summed(rows: Array) -> Array:
    """Sums of columns; some hundred rows at a time lose nothing in float32."""
    return (np.ones((1, rows.shape[1]), rows.dtype) @ rows)[:, 0].astype(np.float64)
