"""Joining the outputs of batches over the samples."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt.errors import DataError
from infopt.outputs import OutputStore, padded, paired_blocks, row_blocks

if TYPE_CHECKING:
    from pathlib import Path


def numbered(*shape: int, start: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.arange(start, start + np.prod(shape)).reshape(shape).astype(dtype)


def joined(batches: list[np.ndarray], batch: int, **options: object) -> np.ndarray:
    """One output through a store, with full batches."""
    with OutputStore(**options) as store:
        for array in batches:
            store.add([array], batch, batch)
        return store.finish()[0]


def test_batches_are_joined_along_the_samples() -> None:
    whole = numbered(6, 3)
    assert np.array_equal(joined([whole[:2], whole[2:4], whole[4:]], 2), whole)


def test_padding_samples_of_a_short_tail_are_dropped() -> None:
    with OutputStore() as store:
        store.add([numbered(4, 2)], 4, 4)
        store.add([np.full((4, 2), 99.0, np.float32)], 1, 4)
        result = store.finish()[0]
    assert result.shape == (5, 2)
    assert (result == 99).sum() == 2


def test_several_rows_of_a_sample_stay_together_and_leave_with_it() -> None:
    with OutputStore() as store:
        store.add([numbered(6, 1)], 2, 3)
        result = store.finish()[0]
    assert result[:, 0].tolist() == [0, 1, 2, 3]


def test_rows_for_each_sample_may_differ_between_batches() -> None:
    result = joined([numbered(2, 1), numbered(4, 1)], 2)
    assert np.array_equal(result[:, 0], [0, np.nan, 1, np.nan, 0, 1, 2, 3], equal_nan=True)


@pytest.mark.parametrize("limit", [1 << 20, 0], ids=["memory", "spooled"])
@pytest.mark.parametrize(
    ("dtype", "filler"),
    [("float32", np.nan), ("float16", np.nan), ("int64", -1), ("int8", -1), ("uint8", 255), ("bool", False)],
)
def test_ragged_axes_are_padded_at_the_end(dtype: str, filler: float, limit: int) -> None:
    short, long = np.ones((1, 2, 1), dtype), np.ones((1, 1, 3), dtype)
    result = joined([short, long], 1, limit_bytes=limit)
    wanted = np.full((2, 2, 3), filler, dtype)
    wanted[0, :2, :1] = wanted[1, :1, :3] = 1
    assert result.dtype == np.dtype(dtype)
    assert np.array_equal(result, wanted, equal_nan=dtype.startswith("float"))


def test_text_is_joined_in_memory() -> None:
    first, second = np.array([["a", "bc"]]), np.array([["long words"]], object)
    assert joined([first, second], 1, limit_bytes=0).tolist() == [["a", "bc"], ["long words", ""]]


def test_a_named_sample_axis_is_moved_to_the_front() -> None:
    state = numbered(2, 3, 4)
    result = joined([state], 3, axes={0: 1})
    assert np.array_equal(result, state.transpose(1, 0, 2))


def test_the_only_axis_of_the_batch_is_found() -> None:
    state = numbered(2, 3, 4)
    assert np.array_equal(joined([state, state], 3)[3:], state.transpose(1, 0, 2))


def test_outputs_without_samples_have_one_entry_for_each_batch() -> None:
    table = numbered(3, 5)
    with OutputStore(axes={1: None}) as store:
        for value in (1, 2):
            store.add([np.float32(value), table], 2, 4)
        scalar, tables = store.finish()
    assert scalar.tolist() == [1, 2]
    assert np.array_equal(tables, np.stack([table, table]))


def test_outputs_that_are_not_kept_hold_their_place() -> None:
    with OutputStore(keep=(1,)) as store:
        store.add([numbered(7, 3), numbered(2, 3)], 2, 2)
        first, second = store.finish()
    assert first.size == 0
    assert second.shape == (2, 3)


def test_rows_that_belong_to_no_known_sample_are_refused() -> None:
    with OutputStore() as store:
        store.add([numbered(8, 3)], 4, 4)
        with pytest.raises(DataError, match=r"output 0 has 7 rows for 4 samples.*batch of 1"):
            store.add([numbered(7, 3)], 4, 4)


@pytest.mark.parametrize("later", [numbered(2, 3, 1), numbered(2, 3, dtype="int32")])
def test_an_output_that_changes_its_rank_or_type_is_refused(later: np.ndarray) -> None:
    with OutputStore() as store:
        store.add([numbered(2, 3)], 2, 2)
        with pytest.raises(DataError, match="float32 of rank 2"):
            store.add([later], 2, 2)


@pytest.mark.parametrize("options", [{"keep": (2,)}, {"axes": {3: 0}}, {"axes": {0: 2}}])
def test_outputs_and_axes_that_do_not_exist_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DataError):
        joined([numbered(2, 2)], 2, **options)


def test_nothing_added_is_an_error() -> None:
    with OutputStore() as store, pytest.raises(DataError, match="no outputs"):
        store.finish()


def test_large_outputs_are_mapped_from_disk_and_small_ones_are_not(tmp_path: Path) -> None:
    large, small = numbered(4, 100), numbered(4, 1)
    with OutputStore(limit_bytes=2000, folder=tmp_path) as store:
        for _ in range(3):
            store.add([large, small], 4, 4)
        on_disk, in_memory = store.finish()
    assert isinstance(on_disk, np.memmap)
    assert not isinstance(in_memory, np.memmap)
    assert np.array_equal(on_disk, np.concatenate([large] * 3))


def test_no_spool_file_stays_and_the_result_outlives_the_store(tmp_path: Path) -> None:
    result = joined([numbered(2, 2), numbered(2, 3)], 2, limit_bytes=0, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert np.nansum(result) == 6 + 15


def test_writing_to_a_mapped_result_is_allowed() -> None:
    result = joined([numbered(2, 2)], 2, limit_bytes=0)
    result -= 1
    assert result.tolist() == [[-1, 0], [1, 2]]


def test_empty_outputs_can_be_spooled() -> None:
    with OutputStore(limit_bytes=0) as store:
        store.add([numbered(0, 4), numbered(2, 4)], 2, 2)
        store.add([numbered(0, 4), numbered(2, 4)], 2, 2)
        assert [array.shape for array in store.finish()] == [(0, 4), (4, 4)]


def test_a_folder_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="TMPDIR"):
        joined([numbered(2, 2)], 2, limit_bytes=0, folder=tmp_path / "missing")


def test_finishing_twice_gives_the_same() -> None:
    for limit in (0, 1 << 20):
        with OutputStore(limit_bytes=limit) as store:
            store.add([numbered(1, 2)], 1, 1)
            store.add([numbered(1, 3)], 1, 1)
            first, second = store.finish()[0], store.finish()[0]
        assert np.array_equal(first, second, equal_nan=True)


def test_many_small_batches_take_linear_time() -> None:
    row = np.zeros((1, 8), np.float32)
    start = time.perf_counter()
    result = joined([row] * 20_000, 1, limit_bytes=100_000)
    assert result.shape == (20_000, 8)
    assert time.perf_counter() - start < 5


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), min_size=1, max_size=5), st.booleans())
def test_every_value_survives_and_all_else_is_padding(sizes: list[tuple[int, int]], spooled: bool) -> None:
    batches = [numbered(2 * k, width, start=100 * i) for i, (k, width) in enumerate(sizes)]
    result = joined(batches, 2, limit_bytes=0 if spooled else 1 << 20)
    kept = result[~np.isnan(result)]
    assert sorted(kept) == sorted(np.concatenate([batch.ravel() for batch in batches]))
    assert result.shape == (2 * len(sizes) * max(k for k, _ in sizes), max(width for _, width in sizes))


def test_blocks_cover_all_rows_in_order() -> None:
    wide = np.zeros((9, 1 << 20), np.float32)
    blocks = list(row_blocks(wide, np.arange(9)))
    assert len(blocks) == 3
    assert np.concatenate([rows for _, rows in blocks]).tolist() == list(range(9))


def test_paired_blocks_pad_the_shorter_side() -> None:
    ((left, right),) = paired_blocks(np.zeros((2, 1)), np.ones((2, 3)))
    assert np.isnan(left).sum() == 4
    assert right.shape == (2, 3)
    with pytest.raises(DataError, match="cannot be compared"):
        list(paired_blocks(np.zeros((2, 1)), np.zeros((3, 1))))


def test_padding_to_the_same_shape_copies_nothing() -> None:
    array = np.zeros((2, 2))
    assert padded(array, (2, 2)) is array
