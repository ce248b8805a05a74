"""Moments of what a layer reads in two models, and of what its output should make up for besides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from infopt_passes.fitting.moments import ENOUGH, Moments

Array = npt.NDArray[Any]

WIDE = 2048
"""Columns from which moments are kept in float32: they were added up in it, and twice the memory gives no more."""


@dataclass(frozen=True, slots=True)
class Seen(Moments):
    """Moments with what a layer's output should be.

    Attributes:
        made: Mean of the products of the wanted outputs and the columns as read, of shape (G, outputs, K), where they
            were collected instead of ``cross``.
        drift: Mean of the products of the drift and a column as read, of shape (G, outputs, K); ``None`` where the
            output goes into no sum, or where ``made`` has it in it.
        drifted: Mean of the drift, of shape (G, outputs), or of the wanted outputs where ``made`` is there.
        held: Moments of runs that are not in these.
    """

    held: Seen | None = None
    drift: Array | None = None
    drifted: Array | None = None
    made: Array | None = None

    def aim(self, target: Array, free: bool) -> Array:
        """Products of the wanted outputs and the columns as read: of the float layer's outputs and the drift.

        Args:
            target: The float layer's weight, of shape (G, outputs, K).
            free: Whether a bias takes care of the means.
        """
        if self.made is not None:
            found: Array = self.made.astype(np.float64)
        else:
            assert self.cross is not None
            found = target @ self.cross
        if self.drift is not None:
            found += self.drift
        if free:
            found -= self._wanted(target)[:, :, None] * self.read[:, None, :]
        return found

    def shift(self, target: Array, weight: Array) -> Array:
        """What a bias has to add so that the mean output is the wanted one, of shape (G, outputs)."""
        made: Array = np.einsum("gnk,gk->gn", weight, self.read)
        return self._wanted(target) - made

    def square(self, free: bool) -> Array:
        """Second moments as read, about the means where a bias takes care of these."""
        if not free:
            return self.second
        mean = self.read.astype(self.second.dtype)
        found: Array = mean[:, :, None] * -mean[:, None, :]
        found += self.second
        return found

    def sound(self) -> bool:
        """Whether all of it is finite."""
        parts = (self.second, self.cross, self.made, self.drift, self.drifted, self.mean, self.read)
        return all(np.isfinite(part).all() for part in parts if part is not None)

    def _wanted(self, target: Array) -> Array:
        if self.made is not None and self.drifted is not None:
            return self.drifted
        wanted: Array = np.einsum("gnk,gk->gn", target, self.mean)
        if self.drifted is not None:
            wanted = wanted + self.drifted
        return wanted


@dataclass(slots=True)
class Sums:
    """Adds up rows.

    Attributes:
        groups: Groups of columns.
        columns: Columns of a group.
        crossed: Whether products of float rows and rows as read are wanted.
        target: The float layer's weight, float32 of shape (groups, outputs, columns): then products of its outputs and
            rows as read are collected instead, which takes less memory where it has fewer outputs than columns.
    """

    groups: int
    columns: int
    crossed: bool = True
    target: Array | None = None
    _pending: list[tuple[Array, Array, Array | None]] = field(default_factory=list)
    _waiting: int = 0
    _rows: int = 0
    _runs: int = 0
    _means: list[Array] = field(default_factory=list)
    _products: list[Array] = field(default_factory=list)

    def add(self, rows: Array, read: Array | None = None, drift: Array | None = None) -> None:
        """Take in the rows of one run.

        Args:
            rows: What the float layer reads, float32 of shape (groups, rows, columns).
            read: What the layer reads at the same places, where products are crossed.
            drift: What its output should be larger by, of shape (groups, rows, outputs).
        """
        self._pending.append((rows, rows if read is None else read, drift))
        self._waiting += rows.shape[1]
        self._runs += 1
        if self._waiting >= ENOUGH:
            self._flush()

    def seen(self, held: Seen | None = None) -> Seen:
        """The moments of all rows, zeros where there were none; the sums are gone then."""
        self._flush()
        if not self._rows:
            nothing = np.zeros((self.groups, self.columns, self.columns), np.float32)
            mean = np.zeros((self.groups, self.columns))
            return Seen(0, self._runs, mean, mean, nothing, nothing, held)
        kind = np.float32 if self.columns >= WIDE else np.float64
        means = [total / self._rows for total in self._means]
        products = []
        while self._products:
            products.append((self._products.pop(0) / np.float32(self._rows)).astype(kind, copy=False))
        if not self.crossed:
            return Seen(self._rows, self._runs, means[0], means[0], products[0])
        if self.target is not None:
            return Seen(
                self._rows, self._runs, means[0], means[1], products[0], None, held, None, means[2], products[1]
            )
        drift, drifted = (products[2], means[2]) if len(products) > 2 else (None, None)
        return Seen(self._rows, self._runs, means[0], means[1], products[0], products[1], held, drift, drifted)

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows, read = (np.concatenate([each[i] for each in self._pending], axis=1) for i in (0, 1))
        drifts = [each[2] for each in self._pending if each[2] is not None]
        more = [np.concatenate(drifts, axis=1)] if drifts else []
        if self.target is not None:
            wanted = rows @ self.target.transpose(0, 2, 1)
            more = [wanted + more[0] if more else wanted]
        parts = [rows, read, *more] if self.crossed else [rows]
        self._pending, self._waiting = [], 0
        self._rows += rows.shape[1]
        _plus(self._means, [part.sum(axis=1, dtype=np.float64) for part in parts])
        turned = [read, *(more if self.target is not None else [rows, *more])] if self.crossed else [rows]
        _plus(self._products, [part.transpose(0, 2, 1) @ read for part in turned])


def _plus(sums: list[Array], more: list[Array]) -> None:
    if not sums:
        sums += more
        return
    for total, part in zip(sums, more, strict=True):
        total += part


def joined(one: Seen, other: Seen | None) -> Seen:
    """The moments of the rows of both."""
    if other is None or not other.rows:
        return one
    rows = one.rows + other.rows

    def mixed(a: Array | None, b: Array | None) -> Array | None:
        if a is None or b is None:
            return None
        found: Array = b * np.array((other.rows / rows), b.dtype)
        found += a * np.array((one.rows / rows), a.dtype)
        return found

    mean, read, second = (mixed(getattr(one, name), getattr(other, name)) for name in ("mean", "read", "second"))
    assert mean is not None
    assert read is not None
    assert second is not None
    names = ("cross", "drift", "drifted", "made")
    cross, drift, drifted, made = (mixed(getattr(one, name), getattr(other, name)) for name in names)
    return Seen(rows, one.runs + other.runs, mean, read, second, cross, None, drift, drifted, made)


def divided(square: Array, wanted: Array) -> Array:
    """The ``x`` with ``x @ square = wanted``, NaN where there is none.

    Args:
        square: A positive definite matrix of float64; it is used up.
        wanted: Of shape (outputs, columns).
    """
    try:
        # Transposed it is the same matrix, in the order in which LAPACK takes it without a copy.
        found: Array = cho_solve(
            cho_factor(square, overwrite_a=True, check_finite=False), wanted.T, check_finite=False
        ).T
    except np.linalg.LinAlgError:
        found = np.full(wanted.shape, np.nan)
    return found
