"""Samples that choose and samples that prove."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infopt.confirm import Part, split
from infopt.data import InputSpec, Samples, open_samples
from infopt.errors import DataError

X = (InputSpec("x", np.dtype(np.float32), ("N", 2), 0),)
PAIRS = (InputSpec("x", np.dtype(np.float32), (2, 2), 0),)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Hashed:
    """Nothing but what the split looks at."""

    hashes: list[str]
    groups: np.ndarray | None = None
    path = Path("eval.npz")

    def digests(self) -> list[str]:
        return self.hashes


def halves(contents: list[int], groups: list[object] | None = None, share: float = 0.5) -> tuple[set[int], set[int]]:
    """Contents of the search part and of the confirmation part."""
    found = split(Hashed([f"{c:032x}" for c in contents], None if groups is None else np.array(groups)), share)
    return tuple({contents[row] for row in part.rows} for part in (found.search, found.confirmation))  # type: ignore[return-value]


def opened(tmp_path: Path, count: int, inputs: tuple[InputSpec, ...] = X, **more: object) -> Samples:
    path = tmp_path / "eval.npz"
    np.savez(path, x=np.arange(2.0 * count).reshape(count, 2), **more)
    return open_samples(path, inputs, None)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60).filter(lambda c: len(set(c)) > 1))
def test_every_content_is_on_one_side_and_neither_is_empty(contents: list[int]) -> None:
    search, confirmation = halves(contents)
    assert search
    assert confirmation
    assert not search & confirmation
    assert search | confirmation == set(contents)


@given(st.sets(st.integers(), min_size=2, max_size=60), st.randoms())
def test_reordering_moves_nothing(contents: set[int], random: object) -> None:
    given_order, other = sorted(abs(c) for c in contents), sorted(abs(c) for c in contents)
    random.shuffle(other)  # type: ignore[attr-defined]
    if len(set(given_order)) > 1:
        assert halves(given_order) == halves(other)


def test_adding_samples_moves_nothing() -> None:
    few, many = halves(list(range(100))), halves(list(range(1000)))
    assert few[0] <= many[0]
    assert few[1] <= many[1]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_the_share_is_kept_about(share: float) -> None:
    assert len(halves(list(range(4000)), share=share)[0]) == pytest.approx(4000 * share, abs=100)


def test_sides_do_not_follow_the_hash_itself() -> None:
    search, confirmation = halves(list(range(200)))
    assert min(search) < 100 < max(search)
    assert min(confirmation) < 100 < max(confirmation)


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), min_size=2, max_size=40),
)
def test_neither_groups_nor_contents_are_torn_apart(pairs: list[tuple[int, int]]) -> None:
    contents, groups = [c for c, _ in pairs], [g for _, g in pairs]
    samples = Hashed([str(c) for c in contents], np.array(groups))
    try:
        found = split(samples)
    except DataError:
        return  # a chain of common contents links all groups
    for values in (contents, groups):
        sides = [{values[row] for row in part.rows} for part in (found.search, found.confirmation)]
        assert not sides[0] & sides[1]


def test_adding_to_a_group_leaves_it_where_it_is() -> None:
    groups = [f"part {i}" for i in range(40)]
    before = halves(list(range(40)), groups)
    after = halves(list(range(80)), groups * 2)
    assert before[0] <= after[0]
    assert before[1] <= after[1]


def test_groups_that_share_a_picture_stay_together() -> None:
    # 0-1 share content 7, 1-2 share content 8; group 3 stands alone.
    with pytest.raises(DataError, match="only one group"):
        halves([7, 7, 8, 8], ["0", "1", "1", "2"])
    search, confirmation = halves([7, 7, 8, 8, 9], ["0", "1", "1", "2", "3"])
    assert {frozenset(search), frozenset(confirmation)} == {frozenset({7, 8}), frozenset({9})}


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(DataError, match="only one content"):
        halves([5, 5, 5])
    with pytest.raises(DataError, match="only one group"):
        halves([1, 2, 3], ["a", "a", "a"])
    with pytest.raises(ValueError, match="share"):
        halves([1, 2], share=1.0)


def test_the_parts_are_samples(tmp_path: Path) -> None:
    samples = opened(tmp_path, 50, labels=np.arange(50), group=np.arange(50))
    found = split(samples)
    for part in (found.search, found.confirmation):
        rows = np.concatenate([batch.feed["x"] for batch in part.batches(7)])
        assert (rows[:, 0] == 2 * part.rows).all()
        assert part.labels.tolist() == part.groups.tolist() == part.rows.tolist()  # type: ignore[union-attr]
        assert part.digests() == [samples.digests()[row] for row in part.rows]
        assert part.digests() == Part(samples, part.rows).digests()
        assert part.path == samples.path
        assert part.notes == samples.notes
        assert f"{len(part)} of 50 samples" in part.describe()
    assert len(found.search) + len(found.confirmation) == 50
    assert len({samples.sha256(), found.search.sha256(), found.confirmation.sha256()}) == 3


def test_the_sides_of_a_file_survive_another_order(tmp_path: Path) -> None:
    first = split(opened(tmp_path, 30))
    rows = np.arange(60.0).reshape(30, 2)[::-1]
    np.savez(tmp_path / "turned.npz", x=rows)
    second = split(open_samples(tmp_path / "turned.npz", X, None))
    assert sorted(first.search.digests()) == sorted(second.search.digests())


def test_a_part_counts_its_own_samples(tmp_path: Path) -> None:
    part = Part(opened(tmp_path, 9), np.array([1, 4, 8]))
    (batch,) = part.batches(8, np.array([2, 0]))
    assert batch.feed["x"][:, 0].tolist() == [16, 2]
    with pytest.raises(DataError, match="there are 3"):
        list(part.batches(8, np.array([3])))
    with pytest.raises(DataError, match="there are 3"):
        list(part.batches(8, np.array([-1])))
    assert part.labels is part.groups is None
    assert list(Part(part.whole, np.array([], np.int64)).batches(2)) == []


def test_a_fixed_batch_is_padded_with_a_sample_of_the_part(tmp_path: Path) -> None:
    part = Part(opened(tmp_path, 9, PAIRS), np.array([1, 4, 8]))
    first, last = part.batches(64)
    assert (first.count, last.count) == (2, 1)
    assert last.feed["x"][:, 0].tolist() == [16, 16]


@quick
@given(seed=st.integers(0, 100))
def test_labels_are_part_of_a_parts_hash(tmp_path: Path, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(20)
    first, second = (split(opened(tmp_path, 20, labels=values)) for values in (np.arange(20), labels))
    same = first.search.labels.tolist() == second.search.labels.tolist()  # type: ignore[union-attr]
    assert (first.search.sha256() == second.search.sha256()) == same
