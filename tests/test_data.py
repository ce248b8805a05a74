from __future__ import annotations

import io
import tracemalloc
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from infopt.data import (
    InputSpec,
    Samples,
    check_feed,
    infer_batch_axes,
    open_samples,
    overlap,
    parse_batch_axis,
    subset,
)
from infopt.errors import DataError, OptionError
from infopt.preprocess import Preprocess
from infopt.readers.images import ImageSamples

if TYPE_CHECKING:
    from pathlib import Path

RAW = Preprocess(dtype="uint8")


def spec(name: str, *shape: int | str | None, dtype: Any = np.float32, axis: int | None = 0) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape, axis)


X = (spec("x", "N", 2),)
PICTURE = (spec("image", "N", 3, 8, 8),)


def save(path: Path, compress: bool = True, **arrays: Any) -> Path:
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return path


def joined(samples: Samples, size: int, indices: Any = None, name: str = "x", axis: int = 0) -> np.ndarray:
    batches = list(samples.batches(size, indices))
    return np.concatenate([b.feed[name].take(range(b.count), axis=axis) for b in batches], axis=axis)


# --- batch axes ---------------------------------------------------------------------------------------------


def axes(*inputs: InputSpec, **overrides: int | None) -> dict[str, int | None]:
    return {found.name: found.batch_axis for found in infer_batch_axes(inputs, overrides)}


def test_the_batch_axis_is_found_by_its_symbolic_name() -> None:
    inputs = spec("state", 2, "N", 128), spec("input", "N", "T"), spec("sr", dtype=np.int64)
    assert axes(*inputs) == {"state": 1, "input": 0, "sr": None}


def test_an_override_wins_over_the_graph() -> None:
    assert axes(spec("x", "N", 4), spec("y", "N", 4), y=None) == {"x": 0, "y": None}
    assert axes(spec("x", "T", "N"), spec("y", 3, "N"), x=1) == {"x": 1, "y": 1}


def test_a_fixed_batch_is_found_by_its_size() -> None:
    assert axes(spec("x", 8, 3), spec("h", 2, 8, 16), spec("w", 5, 5)) == {"x": 0, "h": 1, "w": None}
    assert axes(spec("x", 1, 576), spec("h", 2, 1, 128), spec("k", 1, 1)) == {"x": 0, "h": 1, "k": 0}


def test_batches_under_several_names_are_still_axis_zero() -> None:
    assert axes(spec("x", "n1", 3), spec("y", "n2", 4), spec("z", None, 4)) == {"x": 0, "y": 0, "z": 0}


def test_a_dimension_that_the_main_input_has_elsewhere_is_no_batch() -> None:
    assert axes(spec("ids", "N", "T"), spec("bias", "T", "T"), spec("pos", 1, "T")) == {
        "ids": 0,
        "bias": None,
        "pos": None,
    }


def test_overrides_must_name_an_input_and_an_axis_of_it() -> None:
    with pytest.raises(OptionError, match="did you mean 'input'"):
        axes(spec("input", "N", 4), inptu=0)
    with pytest.raises(OptionError, match=r"no axis 2; it is float32 \[N, 4\]"):
        axes(spec("input", "N", 4), input=2)


def test_a_batch_axis_is_parsed() -> None:
    assert parse_batch_axis("state=1") == ("state", 1)
    assert parse_batch_axis("a=b=none") == ("a=b", None)
    for text in ("state", "=1", "state=", "state=-1", "state=x", "state=\N{SUPERSCRIPT TWO}"):
        with pytest.raises(ValueError, match=r"NAME=AXIS|neither a number"):
            parse_batch_axis(text)


# --- npz: streaming -----------------------------------------------------------------------------------------


@st.composite
def reads(draw: st.DrawFn) -> tuple[np.ndarray, int, int, np.ndarray, bool]:
    axis, count = draw(st.integers(0, 2)), draw(st.integers(1, 12))
    shape = draw(st.lists(st.integers(0, 3), min_size=2, max_size=2))
    shape.insert(axis, count)
    array = np.arange(np.prod(shape), dtype=draw(st.sampled_from(["<f4", ">f8", "u1", "<i8"]))).reshape(shape)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    chosen = draw(st.lists(st.integers(0, count - 1), max_size=15))
    if draw(st.booleans()):
        chosen = sorted(set(chosen))
    return array, axis, draw(st.integers(1, 6)), np.array(chosen, np.int64), draw(st.booleans())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(reads(), st.sampled_from([None, 4]))
def test_reading_rows_from_the_archive_equals_indexing(
    tmp_path: Path, read: tuple[np.ndarray, int, int, np.ndarray, bool], fixed: int | None
) -> None:
    array, axis, size, chosen, compress = read
    shape: list[int | str | None] = [None, None, None]
    shape[axis] = fixed
    samples = open_samples(save(tmp_path / "d.npz", compress, x=array), (spec("x", *shape, axis=axis),), None)
    batches = list(samples.batches(size, chosen))
    size = fixed or size
    for start, batch in zip(range(0, len(chosen), size), batches, strict=True):
        rows = chosen[start : start + size]
        assert batch.count == len(rows)
        padded = np.append(rows, np.repeat(rows[-1:], size - len(rows))) if fixed else rows
        np.testing.assert_array_equal(batch.feed["x"], array.take(padded, axis=axis).astype(np.float32))
        assert batch.feed["x"].dtype == np.float32
        assert batch.feed["x"].dtype.isnative


def test_only_the_rows_of_a_batch_are_in_memory(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((4000, 2000), np.float32))  # 32 MB
    samples = open_samples(path, (spec("x", "N", 2000),), None)
    tracemalloc.start()
    assert sum(batch.count for batch in samples.batches(8)) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_fixed_batch_repeats_the_last_sample_and_says_how_many_are_real(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.arange(10).reshape(5, 2), h=np.arange(10).reshape(2, 5))
    inputs = spec("x", 4, 2), spec("h", 2, 4, axis=1)
    first, last = open_samples(path, inputs, None).batches(64)
    assert (first.count, last.count) == (4, 1)
    np.testing.assert_array_equal(last.feed["x"], [[8, 9]] * 4)
    np.testing.assert_array_equal(last.feed["h"], [[4] * 4, [9] * 4])


def test_inputs_without_a_batch_are_given_whole(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((5, 2)), sr=np.int64(16000), table=np.arange(3))
    inputs = *X, spec("sr", dtype=np.int64, axis=None), spec("table", 3, dtype=np.int32, axis=None)
    for batch in open_samples(path, inputs, None).batches(2):
        assert batch.feed["sr"] == 16000
        np.testing.assert_array_equal(batch.feed["table"], np.arange(3, dtype=np.int32))


def test_batches_can_be_read_again(tmp_path: Path) -> None:
    samples = open_samples(save(tmp_path / "d.npz", x=np.arange(6).reshape(3, 2)), X, None)
    np.testing.assert_array_equal(joined(samples, 2), joined(samples, 3))
    assert list(samples.batches(2, np.array([], np.int64))) == []
    with pytest.raises(DataError, match="there are 3"):
        list(samples.batches(2, np.array([3])))


def test_labels_and_groups_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((3, 2)), labels=[4, 5, 6], group=["a", "a", "b"])
    samples = open_samples(path, X, None)
    assert samples.labels is not None
    assert samples.groups is not None
    assert samples.labels.tolist() == [4, 5, 6]
    assert samples.groups.tolist() == ["a", "a", "b"]
    assert open_samples(save(tmp_path / "e.npz", x=np.zeros((3, 2))), X, None).labels is None


@pytest.mark.parametrize("group", [[[1], [2], [3]], [0.5, 1.0, 2.0]], ids=["shape", "fractions"])
def test_groups_that_are_no_names_are_refused(tmp_path: Path, group: Any) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((3, 2)), group=group)
    with pytest.raises(DataError, match="give one whole number or name to each sample"):
        open_samples(path, X, None)


def test_an_input_called_labels_is_an_input(tmp_path: Path) -> None:
    samples = open_samples(save(tmp_path / "d.npz", labels=np.ones((3, 2))), (spec("labels", "N", 2),), None)
    assert samples.labels is None
    assert joined(samples, 3, name="labels").shape == (3, 2)


def test_text_reaches_a_string_input(tmp_path: Path) -> None:
    inputs = (spec("x", "N", dtype=object),)
    samples = open_samples(save(tmp_path / "d.npz", x=["long text", "b"]), inputs, None)
    assert joined(samples, 2).tolist() == ["long text", "b"]
    assert len(set(samples.digests())) == 2


# --- npz: what is refused -----------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.array([Bomb()], dtype=object))
    with pytest.raises(DataError, match=r"x\.npy holds Python objects"):
        open_samples(path, X, None)


def test_a_truncated_or_foreign_file_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "d.npz", x=np.ones((50, 2))).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x93NUMPY"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="damaged or no"):
            open_samples(tmp_path / "bad.npz", X, None)


@pytest.mark.parametrize("compress", [False, True])
def test_damage_inside_an_array_is_found_while_reading(tmp_path: Path, compress: bool) -> None:
    path = save(tmp_path / "d.npz", compress, x=np.random.default_rng(0).random((5000, 2), np.float32))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        list(open_samples(path, X, None).batches(7))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
def test_one_changed_byte_is_harmless_or_a_data_error(
    tmp_path: Path, place: float, change: int, compress: bool
) -> None:
    array = np.random.default_rng(0).random((6, 2), np.float32)
    path = save(tmp_path / "d.npz", compress, x=array, labels=np.arange(6))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= change
    path.write_bytes(bytes(content))
    try:
        samples = open_samples(path, X, None)
        found = joined(samples, 4)
    except DataError:
        return
    np.testing.assert_array_equal(found, array)
    assert samples.labels is None or samples.labels.tolist() == list(range(6))


def test_a_header_that_lies_about_the_length_is_refused(tmp_path: Path) -> None:
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", member.getvalue() + b"\0" * 16)
    with pytest.raises(DataError, match="another length than its header says"):
        open_samples(tmp_path / "d.npz", X, None)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"X": np.zeros((3, 2))}, "no array for input 'x'; is it 'X'"),
        ({"x": np.zeros((3, 2)), "label": np.zeros(3)}, "are no inputs: label"),
        ({"x": np.zeros((3, 2)), "labels": np.zeros(4)}, "labels has shape .4., there are 3 samples"),
        ({"x": np.zeros((3, 2)), "labels": np.int64(1)}, "labels has shape"),
        ({"x": np.zeros((3, 2)), "group": np.zeros(2)}, "group has shape"),
        ({"x": np.zeros((0, 2))}, "holds no samples"),
        ({"x": np.zeros((3, 5))}, r"'x' wants float32 \[N, 2\], .*d\.npz has float64 \[3, 5\]"),
        ({"x": np.zeros((3, 2, 1))}, r"wants float32 \[N, 2\]"),
        ({"x": np.zeros((3, 2), complex)}, "has complex128"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        open_samples(save(tmp_path / "d.npz", **arrays), X, None)


def test_arrays_with_different_numbers_of_samples_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.zeros((4, 2)))
    with pytest.raises(DataError, match=r"different numbers of samples: x 3, y 4; .*--batch-axis"):
        open_samples(path, (*X, spec("y", "N", 2)), None)


@pytest.mark.parametrize(("value", "named"), [(np.nan, "NaN"), (np.inf, "Inf"), (1e300, "Inf")])
def test_the_first_sample_that_is_not_finite_is_named(tmp_path: Path, value: float, named: str) -> None:
    array = np.zeros((20, 2))
    array[[13, 17], 1] = value
    samples = open_samples(save(tmp_path / "d.npz", x=array), X, None)
    assert joined(samples, 4, np.arange(13)).shape == (13, 2)
    with pytest.raises(DataError, match=f"'x' holds {named}, first in sample 13"):
        list(samples.batches(4, np.arange(3, 20)))


def test_preprocessing_is_not_for_arrays_and_a_note_says_so(tmp_path: Path) -> None:
    (note,) = open_samples(save(tmp_path / "d.npz", x=np.zeros((3, 2))), X, RAW).notes
    assert "taken as they are" in note


# --- conversions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "came", "wanted"),
    [
        (0.5, "f8", "f4"),
        (7, "i8", "i4"),
        (7, "i4", "i8"),
        (200, "u1", "f4"),
        (1, "i8", "?"),
        (1.5, "f2", "f4"),
    ],
)
def test_values_are_converted_where_nothing_is_lost(value: float, came: str, wanted: str) -> None:
    (result,) = check_feed({"x": np.array([value], came)}, [spec("x", "N", dtype=wanted)]).values()
    assert result.dtype == np.dtype(wanted)
    assert result[0] == value


@pytest.mark.parametrize(
    ("value", "came", "wanted", "reason"),
    [
        (2**40, "i8", "i4", "outside int32"),
        (-1, "i8", "u8", "outside uint64"),
        (2**63, "u8", "i8", "outside int64"),
        (2, "i8", "?", "outside bool"),
        (1.0, "f4", "i8", r"wants int64 \[N\], the feed has float32 \[1\]"),
        (70000.0, "f4", "f2", "Inf"),
        (70000, "i4", "f2", "Inf"),
    ],
)
def test_values_that_do_not_fit_are_refused(value: Any, came: str, wanted: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        check_feed({"x": np.array([value], came)}, [spec("x", "N", dtype=wanted)])


# --- choosing and comparing samples -------------------------------------------------------------------------


def test_a_subset_is_sorted_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    samples = open_samples(save(tmp_path / "d.npz", x=np.zeros((50, 2))), X, None)
    chosen = subset(samples, 10, seed=1)
    assert len(set(chosen.tolist())) == 10
    assert (np.diff(chosen) > 0).all()
    assert (chosen == subset(samples, 10, seed=1)).all()
    assert (chosen != subset(samples, 10, seed=2)).any()
    assert subset(samples, 50, seed=1).tolist() == list(range(50))


def test_overlap_counts_samples_by_content(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 99, (6, 2))
    a = open_samples(save(tmp_path / "a.npz", x=array[:4]), X, None)
    b = open_samples(save(tmp_path / "b.npz", x=array[2:].astype(np.float32)), X, None)
    assert overlap(a, b) == 2
    assert len(a.digests()[0]) == 32
    assert a.sha256() != b.sha256()


# --- kinds of data ------------------------------------------------------------------------------------------


def test_unknown_kinds_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "d.xyz").write_text("")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "0.npy", np.zeros(3))
    (tmp_path / "empty").mkdir()
    for name, reason in (
        ("d.xyz", "is a \\.xyz file"),
        ("arrays", r"folder of \*\.npy"),
        ("empty", "an empty folder"),
    ):
        with pytest.raises(DataError, match=rf"{reason}.*known kinds: \.npz, folder of \*\.png"):
            open_samples(tmp_path / name, X, None)
    with pytest.raises(DataError, match="does not exist"):
        open_samples(tmp_path / "nothing", X, None)


def test_arrays_beside_pictures_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    np.save(tmp_path / "0.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"folder of \*\."):
        open_samples(tmp_path, PICTURE, RAW)


# --- pictures -----------------------------------------------------------------------------------------------


def pictures(folder: Path, *names: str, size: tuple[int, int] = (8, 8)) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", size, (number, 0, 255)).save(path)
    return folder


def opened(folder: Path, inputs: tuple[InputSpec, ...] = PICTURE, preprocess: Any = RAW) -> ImageSamples:
    samples = open_samples(folder, inputs, preprocess)
    assert isinstance(samples, ImageSamples)
    return samples


def test_pictures_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    samples = opened(pictures(tmp_path, "c.png", "a.PNG", "b.bmp"))
    assert (len(samples), samples.labels, samples.classes, samples.notes) == (3, None, (), ())
    array = joined(samples, 2, name="image")
    assert array.dtype == np.float32
    assert array.shape == (3, 3, 8, 8)
    assert array[:, 0, 0, 0].tolist() == [1, 2, 0]
    assert joined(samples, 2, np.array([2, 0]), name="image")[:, 0, 0, 0].tolist() == [0, 1]


def test_a_fixed_batch_of_pictures_is_padded(tmp_path: Path) -> None:
    samples = opened(pictures(tmp_path, "a.png", "b.png", "c.png"), (spec("image", 2, 3, 8, 8),))
    batches = list(samples.batches(1))
    assert [batch.count for batch in batches] == [2, 1]
    assert batches[1].feed["image"].shape == (2, 3, 8, 8)


def test_class_subfolders_are_labels(tmp_path: Path) -> None:
    (tmp_path / "bee").mkdir()
    (tmp_path / ".hidden").mkdir()
    samples = opened(pictures(tmp_path, "cat/1.png", "ant/1.png", "cat/0.png", "ant/deep/2.png"))
    assert samples.classes == ("ant", "bee", "cat")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 2, 2]
    assert samples.notes == (f"{tmp_path}: class folders without pictures: bee",)


def test_pictures_beside_class_subfolders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"beside them: loose\.png"):
        opened(pictures(tmp_path, "cat/1.png", "loose.png"))


def test_labels_csv_gives_one_or_several_accepted_classes(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "sub/b.png")
    (tmp_path / "labels.csv").write_text("\ufefffile,label\nsub/b.png,7\na.png,3\n", encoding="utf-8")
    labels = opened(tmp_path).labels
    assert labels is not None
    assert labels.tolist() == [3, 7]
    (tmp_path / "labels.csv").write_text("file, label\nsub/b.png,7\na.png, 3 12 5\n")
    labels = opened(tmp_path).labels
    assert labels is not None
    assert labels.dtype == np.int64
    assert labels.tolist() == [[3, 12, 5], [7, -1, -1]]


def test_labels_csv_may_name_groups(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "labels.csv").write_text("file,label\nb.png,1\na.png,0\nc.png,0\n")
    plain = opened(tmp_path)
    (tmp_path / "labels.csv").write_text("group,file,label\npart 2,b.png,1\npart 1,a.png,0\n part 2 ,c.png,0\n")
    samples = opened(tmp_path)
    assert plain.groups is None
    assert samples.groups is not None
    assert samples.groups.tolist() == ["part 1", "part 2", "part 2"]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 0]
    assert samples.sha256() != plain.sha256()


def test_labels_csv_without_a_group_for_each_picture_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("file,label,group\na.png,0,1\nb.png,1,\n")
    with pytest.raises(DataError, match=r"line 3: b\.png has no group"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\na.png,1\nc.png,1\nb.png,1\n", r"not there: c\.png"),
        ("file,label\na.png,1\n", r"does not list all pictures of the folder: b\.png"),
        ("a.png,1\nb.png,2\n", "first line must be file,label"),
        ("", "first line must be file,label"),
        ("file,label\na.png,1\na.png,2\n", r"line 3: a\.png is listed twice"),
        ("file,label\na.png,cat\n", "line 2: label 'cat' is no class number"),
        ("file,label\na.png,-1\n", "label '-1' is no class number"),
        ("file,label\na.png\n", "label '' is no class number"),
    ],
)
def test_labels_csv_that_does_not_match_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        opened(tmp_path)


def hundred(folder: Path, count: int) -> Path:
    return pictures(folder, *(f"{number:03}.png" for number in range(count)))


def test_one_percent_of_unreadable_pictures_is_skipped_and_named(tmp_path: Path) -> None:
    hundred(tmp_path, 100)
    (tmp_path / "labels.csv").write_text("file,label\n" + "".join(f"{n:03}.png,{n}\n" for n in range(100)))
    (tmp_path / "042.png").write_bytes(b"no picture")
    samples = opened(tmp_path)
    (note,) = samples.notes
    assert "skipped 1 of 100 pictures as unreadable: 042.png (" in note
    assert len(samples) == len(samples.digests()) == 99
    assert samples.labels is not None
    assert samples.labels.tolist() == [n for n in range(100) if n != 42]
    assert joined(samples, 50, name="image")[:, 0, 0, 0].tolist() == samples.labels.tolist()


def test_more_than_one_percent_of_unreadable_pictures_is_refused(tmp_path: Path) -> None:
    hundred(tmp_path, 99)
    (tmp_path / "042.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 99 pictures are unreadable: 042\.png"):
        opened(tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_a_truncated_picture_is_found_on_opening(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(DataError, match="1 of 1 pictures are unreadable"):
        opened(tmp_path, (spec("image", "N", 3, None, None),))


@pytest.mark.parametrize("limit", [20, 40])
def test_decompression_bombs_count_as_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    pictures(tmp_path, "a.png")  # 64 pixels: more than twice the limit, then more than the limit
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"unreadable: a\.png \(Image size"):
        opened(tmp_path)


def test_other_formats_under_a_picture_suffix_are_not_decoded(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"unreadable: a\.png \(cannot identify"):
        opened(tmp_path)


def test_pictures_need_a_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pictures need a preprocess\.toml or --preprocess"):
        opened(pictures(tmp_path, "a.png"), preprocess=None)


@pytest.mark.parametrize(
    "inputs",
    [X, (*PICTURE, spec("scale", "N", 2)), (spec("image", 1, 3, 8, 8, axis=None),)],
    ids=["rank", "second input", "no batch"],
)
def test_models_that_take_more_or_else_than_pictures_are_refused(tmp_path: Path, inputs: tuple[InputSpec, ...]) -> None:
    with pytest.raises(DataError, match="one input of rank 4"):
        opened(pictures(tmp_path, "a.png"), inputs)


@pytest.mark.parametrize(
    ("image", "preprocess"),
    [
        (spec("image", "N", 1, 8, 8), RAW),
        (spec("image", "N", 8, 8, 3), RAW),
        (spec("image", "N", 3, 8, 8, dtype=np.uint8), Preprocess()),
    ],
    ids=["channels", "layout", "dtype"],
)
def test_a_preprocessing_that_makes_something_else_is_refused(
    tmp_path: Path, image: InputSpec, preprocess: Preprocess
) -> None:
    with pytest.raises(DataError, match=r"the preprocessing's result has .*set color, layout and dtype"):
        opened(pictures(tmp_path, "a.png"), (image,), preprocess)


def test_a_picture_is_never_resized_unasked(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", size=(12, 10))
    with pytest.raises(DataError, match=r"a\.png is 12x10, input 'image' wants 8x8"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"a\.png is 12x10 and becomes 9x8, input 'image' wants 8x8"):
        opened(tmp_path, preprocess=Preprocess(resize=8))
    with pytest.raises(DataError, match=r"a\.png \(12x10\) is smaller than the crop"):
        opened(tmp_path, preprocess=Preprocess(crop=11))
    assert joined(opened(tmp_path, preprocess=Preprocess(resize=8, crop=8)), 1, name="image").shape == (
        1,
        3,
        8,
        8,
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_the_size_is_judged_after_turning_by_exif(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 48)).save(tmp_path / f"a{suffix}", exif=exif)
    samples = opened(tmp_path, (spec("image", "N", 3, 64, 48),))
    assert joined(samples, 1, name="image").shape == (1, 3, 64, 48)


def test_pictures_of_different_sizes_fit_a_dynamic_model_one_by_one(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    pictures(tmp_path, "b.png", size=(9, 8))
    samples = opened(tmp_path, (spec("image", "N", 3, "H", "W"),))
    assert [batch.feed["image"].shape[2:] for batch in samples.batches(1)] == [(8, 8), (8, 9)]
    with pytest.raises(DataError, match="different sizes cannot share a batch"):
        list(samples.batches(2))


def test_files_that_are_no_pictures_are_left_out_with_a_note(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    (tmp_path / "README.txt").write_text("")
    (tmp_path / ".DS_Store").write_text("")
    assert opened(tmp_path).notes == (f"{tmp_path}: files that are no pictures were left out: README.txt",)


def test_the_hash_of_a_folder_follows_names_content_and_labels(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    hashes = [opened(tmp_path).sha256()]
    (tmp_path / "labels.csv").write_text("file,label\na.png,1\nb.png,2\n")
    hashes.append(opened(tmp_path).sha256())
    pictures(tmp_path, "b.png")
    hashes.append(opened(tmp_path).sha256())
    assert len(set(hashes)) == 3
    assert overlap(opened(tmp_path), opened(tmp_path)) == 2


def test_the_description_names_the_steps(tmp_path: Path) -> None:
    text = opened(pictures(tmp_path, "a.png")).describe()
    assert text == f"1 pictures of {tmp_path}: decode as RGB, upright by EXIF, uint8 NCHW"


def test_a_picture_that_vanishes_while_reading_is_named(tmp_path: Path) -> None:
    samples = opened(pictures(tmp_path, "a.png"))
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png can no longer be read"):
        list(samples.batches(1))
