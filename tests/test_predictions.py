from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infopt
from infopt.errors import DataError
from infopt.predictions import Predictions, check_same_inputs, content_sha256, match, read_predictions
from infopt.readers.answers import Answers, open_answers


def written(folder: Path, **arrays: Any) -> Predictions:
    np.savez(folder / "p.npz", **arrays)
    return read_predictions(folder / "p.npz")


def samples(*ids: str, count: int = 0) -> Answers:
    return Answers(Path("eval"), len(ids) or count, None, None, ids or None)


LOGITS = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_predictions_are_matched_by_id(tmp_path: Path) -> None:
    found = written(tmp_path, logits=LOGITS, ids=["b", "c", "a"])
    matched = match(found, ["logits"], None, samples("a", "b", "c"))
    assert np.array_equal(matched.outputs[0], LOGITS[[2, 0, 1]])
    assert matched.notes == ()


def test_whole_numbers_are_ids_of_rows(tmp_path: Path) -> None:
    found = written(tmp_path, logits=LOGITS, ids=np.array([2, 0, 1]))
    assert np.array_equal(match(found, ["logits"], None, samples(count=3)).outputs[0], LOGITS[[1, 2, 0]])


def test_without_ids_rows_are_samples_that_have_no_names(tmp_path: Path) -> None:
    assert match(written(tmp_path, logits=LOGITS), ["logits"], None, samples(count=3)).outputs[0].tolist() == (
        LOGITS.tolist()
    )
    with pytest.raises(DataError, match=r"has no ids: in which order its 3 rows are.*such as 'a\.png'"):
        match(written(tmp_path, logits=LOGITS), ["logits"], None, samples("a.png", "b.png", "c.png"))


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)), st.integers(1, 3))
def test_any_order_is_undone(tmp_path_factory: pytest.TempPathFactory, order: list[int], rows: int) -> None:
    values = np.random.default_rng(0).standard_normal((5, rows, 2)).astype(np.float32)
    names = [f"{number}.png" for number in range(5)]
    given_ids = [names[place] for place in order]
    found = written(tmp_path_factory.mktemp("p"), y=values[order].reshape(-1, 2), ids=given_ids)
    assert np.array_equal(match(found, ["y"], None, samples(*names)).outputs[0], values.reshape(-1, 2))


def test_predictions_of_other_samples_are_left_out_and_told(tmp_path: Path) -> None:
    matched = match(written(tmp_path, y=LOGITS, ids=["a", "x", "b"]), ["y"], None, samples("b", "a"))
    assert np.array_equal(matched.outputs[0], LOGITS[[2, 0]])
    assert "1 predictions are of no evaluation sample" in matched.notes[0]


def test_outputs_that_nobody_looks_at_may_be_missing(tmp_path: Path) -> None:
    found = written(tmp_path, boxes=LOGITS, strange=LOGITS)
    matched = match(found, ["scores", "boxes"], (1,), samples(count=3))
    assert [array.size for array in matched.outputs] == [0, 6]
    assert any("has no output scores" in note for note in matched.notes)
    assert any("strange is no output" in note for note in matched.notes)


@pytest.mark.parametrize(
    ("arrays", "known", "says"),
    [
        ({"logit": LOGITS}, samples(count=3), "no output 'logits', it has logit; is it 'logit'"),
        ({"logits": LOGITS, "ids": ["a", "b", "x"]}, samples("a", "b", "c"), "no prediction for 1 of 3 samples: c"),
        ({"logits": LOGITS}, samples(count=4), "has 3 rows for 4 samples"),
        ({"logits": LOGITS, "ids": ["a", "b", "c"]}, samples(count=3), "no prediction for 3 of 3 samples: 0, 1"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], known: Answers, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        match(written(tmp_path, **arrays), ["logits"], None, known)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y": np.array([{}], object)}, "Python objects or records, which are never loaded"),
        ({"y": np.zeros(2, [("a", "f4")])}, "Python objects or records"),
        ({"y": LOGITS, "ids": np.array(["a", None, "b"], object)}, "Python objects"),
        ({"y": LOGITS.astype(np.complex64)}, "complex64, which no output is"),
        ({"y": np.zeros(3, "V2")}, "save numbers, bfloat16 as float32"),
        ({"y": np.zeros((0, 2), np.float32)}, "no samples"),
        ({"y": np.float32(1)}, "no samples"),
        ({"y": np.full((3, 2), np.nan, np.float32)}, "no finite number"),
        ({}, "holds no outputs"),
        ({"ids": ["a"]}, "holds no outputs"),
        ({"y": LOGITS, "ids": ["a", "b"]}, "y has 3 rows for 2 ids"),
        ({"y": LOGITS, "ids": ["a", "b", "a"]}, "the id 'a' is there 2 times"),
        ({"y": LOGITS, "ids": np.zeros((3, 1), np.int64)}, "one text or whole number a sample"),
        ({"y": LOGITS, "ids": np.zeros(3, np.float32)}, "one text or whole number a sample"),
        ({"y": LOGITS, "sha256": np.zeros(3)}, "sha256 is float64"),
    ],
)
def test_files_that_hold_no_predictions_are_refused(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        written(tmp_path, **arrays)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", y=np.zeros((100, 10), np.float32))
    whole = (tmp_path / "p.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[1000] ^= 1  # a value: the checksum of the archive finds it
    for content in (whole[:-50], whole[:600], b"", b"\x80\x04K\x01.", bytes(flipped)):
        (tmp_path / "p.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"damaged or no \.npz file"):
            read_predictions(tmp_path / "p.npz")
    with pytest.raises(DataError, match="does not exist"):
        read_predictions(tmp_path / "nosuch.npz")


def pictures(folder: Path, *contents: bytes) -> Answers:
    for number, content in enumerate(contents):
        (folder / f"{number}.png").write_bytes(content)
    return open_answers(folder)


def test_the_hash_of_the_content_proves_the_order_where_ids_are_missing(tmp_path: Path) -> None:
    known = pictures(tmp_path, b"one", b"two", b"three")
    digest = content_sha256(known.digests())
    found = written(tmp_path, y=LOGITS, sha256=digest)
    assert match(found, ["y"], None, known).outputs[0].tolist() == LOGITS.tolist()
    found = written(tmp_path, y=LOGITS, sha256=digest[::-1])
    with pytest.raises(DataError, match="made on other inputs than"):
        match(found, ["y"], None, known)


def test_samples_of_equal_names_and_other_content_are_refused(tmp_path: Path) -> None:
    known = pictures(tmp_path, b"one", b"two", b"three")
    back = [2, 0, 1]
    digest = content_sha256([known.digests()[place] for place in back])
    ids = [known.ids[place] for place in back]  # type: ignore[index]
    found = written(tmp_path, y=LOGITS, ids=ids, sha256=digest)
    assert match(found, ["y"], None, known).outputs[0].tolist() == LOGITS[[1, 2, 0]].tolist()
    (tmp_path / "1.png").write_bytes(b"another")
    with pytest.raises(DataError, match="made on other inputs than"):
        match(found, ["y"], None, open_answers(tmp_path))


def test_labels_and_names_are_read_without_a_model(tmp_path: Path) -> None:
    for label in ("boot", "coat"):
        (tmp_path / "eval" / label).mkdir(parents=True)
        (tmp_path / "eval" / label / "1.png").write_bytes(b"")
    found = open_answers(tmp_path / "eval")
    assert (found.ids, found.classes) == (("boot/1.png", "coat/1.png"), ("boot", "coat"))
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    np.savez(tmp_path / "eval.npz", x=np.zeros((2, 3)), labels=[1, 0], ids=["a", "b"])
    found = open_answers(tmp_path / "eval.npz")
    assert (len(found), found.ids) == (2, ("a", "b"))
    with pytest.raises(DataError, match="were not read"):
        found.batches(1)


@pytest.mark.parametrize("arrays", [{}, {"x": np.zeros((0, 3))}, {"ids": ["a", "b"], "labels": [1, 2, 3]}])
def test_data_without_samples_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "eval.npz", **arrays)
    with pytest.raises(DataError, match=r"no samples|there are [23] samples"):
        open_answers(tmp_path / "eval.npz")
    with pytest.raises(DataError, match="does not exist"):
        open_answers(tmp_path / "nosuch")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        open_answers(tmp_path / "empty")


def test_predictions_whose_hashes_contradict_each_other_are_refused(tmp_path: Path) -> None:
    def made(sha256: str | None, ids: list[str] | None) -> Predictions:
        return written(
            tmp_path, logits=LOGITS, **({"sha256": sha256} if sha256 else {}), **({"ids": ids} if ids else {})
        )

    named = list("abc")
    check_same_inputs([made("1" * 64, named), made("1" * 64, named), made(None, named), made("2" * 64, named[::-1])])
    for ids in (named, None):
        with pytest.raises(DataError, match="made on different inputs"):
            check_same_inputs([made("1" * 64, ids), made(None, ids), made("2" * 64, ids)])


def test_comparing_looks_at_the_hashes(tmp_path: Path) -> None:
    for number in (1, 2):
        np.savez(tmp_path / f"{number}.npz", logits=LOGITS, sha256=str(number) * 64)
    with pytest.raises(DataError, match="made on different inputs"):
        infopt.compare(tmp_path / "1.npz", tmp_path / "2.npz")
