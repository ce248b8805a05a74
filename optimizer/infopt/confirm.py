"""Selection and confirmation: the samples that choose are never the ones that prove.

Whoever picks the best of several candidates by their scores on some samples has fitted to those samples: the
winner's score on them is too good. Hence whatever chooses by labels looks at the search part only, and the
report's accuracy comes from the confirmation part, measured once.

A sample's side follows from its content alone (from its group, where there are groups). So it does not move when
samples are reordered, or when others are added or taken away, and a picture that is there twice cannot be on both
sides.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infopt.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from infopt.data import Batch, Samples

_PURPOSE = b"infopt.confirm"
"""Keeps the sides independent of everything else that is drawn from the same hashes."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some of the samples; behaves as :class:`infopt.data.Samples`.

    Attributes:
        whole: All samples.
        rows: Which of them, int64, ascending.
        name: What the part is called.
        hashes: Their content hashes, where they are known already.
    """

    whole: Samples
    rows: np.ndarray
    name: str = "part"
    hashes: tuple[str, ...] | None = None

    @property
    def path(self) -> Path:
        """Where the samples come from."""
        return self.whole.path

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the part."""
        return _taken(self.whole.labels, self.rows)

    @property
    def groups(self) -> np.ndarray | None:
        """Groups of the part."""
        return _taken(self.whole.groups, self.rows)

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about all samples."""
        return self.whole.notes

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, indices: np.ndarray | None = None) -> Iterator[Batch]:
        """Read batches; see :meth:`infopt.data.Samples.batches`. Indices count within the part."""
        if len(self.rows) == 0:
            return iter(())
        chosen = self.rows if indices is None else self.rows[_checked(indices, len(self))]
        return self.whole.batches(size, chosen)

    def digests(self) -> list[str]:
        """Hash of each sample's content."""
        if self.hashes is not None:
            return list(self.hashes)
        every = self.whole.digests()
        return [every[row] for row in self.rows]

    def sha256(self) -> str:
        """Hash of the part's contents and labels."""
        state = hashlib.sha256("\n".join(self.digests()).encode())
        if self.labels is not None:
            state.update(repr((self.labels.dtype.str, self.labels.tolist())).encode())
        return state.hexdigest()

    def describe(self) -> str:
        """One line that says what is done to the data."""
        return f"{self.name}, {len(self)} of {self.whole.describe()}"


@dataclass(frozen=True, slots=True)
class Split:
    """An evaluation set in two parts that share no content and no group.

    The report says both sizes: ``EvalData(samples=len(confirmation), search=len(search), ...)``.

    Attributes:
        search: What candidates are chosen by.
        confirmation: What the chosen one is measured on, once.
    """

    search: Part
    confirmation: Part


def split(samples: Samples, share: float = 0.5) -> Split:
    """Split samples into a search part and a confirmation part; reads all data once.

    Args:
        samples: The evaluation set; not a part of it, whose samples have been drawn already.
        share: About how much of it the search gets, between 0 and 1. The samples (groups) are drawn one by one,
            so that the sizes vary as those of tossed coins.

    Raises:
        DataError: There is only one content or one group, which cannot be in two parts.
    """
    if not 0 < share < 1:
        raise ValueError(f"a share of {share} is not between 0 and 1")
    hashes = samples.digests()
    ranks = _ranks(hashes, samples.groups)
    searched = ranks < share
    # Tiny sets may fall on one side whole. The unit nearest to the border then goes to the other.
    if searched.all():
        searched = ranks < ranks.max()
    elif not searched.any():
        searched = ranks == ranks.min()
    if searched.all() or not searched.any():
        what = "one content" if samples.groups is None else "one group (or groups that share contents)"
        raise DataError(
            f"{samples.path} has only {what}, so nothing is left to confirm a choice on",
            "give more evaluation samples",
        )
    return Split(
        _part(samples, searched, "search part", hashes), _part(samples, ~searched, "confirmation part", hashes)
    )


def _part(samples: Samples, chosen: np.ndarray, name: str, hashes: Sequence[str]) -> Part:
    kept = tuple(content for content, here in zip(hashes, chosen, strict=True) if here)
    return Part(samples, np.flatnonzero(chosen), name, kept)


def _ranks(hashes: Sequence[str], groups: np.ndarray | None) -> np.ndarray:
    """A number from 0 to 1 for each sample, float64 [N]: the same for all that must stay together."""
    contents = np.unique(np.array(hashes, str), return_inverse=True)[1]
    if groups is None:
        return _uniform(hashes)
    own = _uniform([repr(group) for group in groups.tolist()])
    return _smallest_of_linked(own, contents, np.unique(groups, return_inverse=True)[1])


def _uniform(keys: Sequence[str]) -> np.ndarray:
    found = (hashlib.blake2b(key.encode(), digest_size=7, person=_PURPOSE).digest() for key in keys)
    return np.array([int.from_bytes(digest) / 2**56 for digest in found])


def _smallest_of_linked(ranks: np.ndarray, contents: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Groups that share a content are linked, and so on; all of a chain get its smallest rank."""
    while True:
        linked = ranks
        for units in (contents, groups):
            smallest = np.full(units.max() + 1, np.inf)
            np.minimum.at(smallest, units, linked)
            linked = smallest[units]
        if (linked == ranks).all():
            return ranks
        ranks = linked


def _taken(array: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if array is None else array[rows]


def _checked(indices: np.ndarray, total: int) -> np.ndarray:
    chosen = np.asarray(indices, np.int64)
    if chosen.size and not (chosen.min() >= 0 and chosen.max() < total):
        raise DataError(f"samples {chosen.min()} to {chosen.max()} were asked for, there are {total}")
    return chosen
