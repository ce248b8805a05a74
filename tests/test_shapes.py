from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt.data import InputSpec
from infopt.errors import OptionError
from infopt.shapes import (
    BATCH,
    PICTURE,
    SEQUENCE,
    VOLUME,
    ShapeRange,
    complete,
    fixed,
    narrowed,
    of_samples,
    parse_shape,
    show_shape,
)

FLOAT = np.dtype("float32")


def spec(name: str, *shape: int | str | None, batch_axis: int | None = 0) -> InputSpec:
    return InputSpec(name, FLOAT, shape, batch_axis)


def test_three_shapes_are_smallest_usual_and_largest():
    assert parse_shape("x=1x3x32..8x3x64..32x3x96") == ShapeRange("x", (1, 3, 32), (8, 3, 64), (32, 3, 96))


def test_two_shapes_are_fastest_at_the_largest():
    assert parse_shape("x=1x4..8x4") == ShapeRange("x", (1, 4), (8, 4), (8, 4))


def test_one_shape_is_fixed():
    one = parse_shape("x=2x4")
    assert one == ShapeRange("x", (2, 4), (2, 4), (2, 4))
    assert fixed(one)
    assert not fixed(parse_shape("x=1x4..2x4"))


def test_names_may_hold_what_separates_elsewhere():
    assert parse_shape("serving:x..0=a=3").name == "serving:x..0=a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "not NAME="),
        ("=1x2", "not NAME="),
        ("x=", "not a shape"),
        ("x=1x", "not a shape"),
        ("x=1xN", "not a shape"),
        ("x=-1x3", "not a shape"),
        ("x=1.5", "not a shape"),
        ("x=¹x3", "not a shape"),
        ("x=1..2..3..4", "4 shapes"),
        ("x=1x2..1x2x3", "number of axes"),
        ("x=4x1..2x1", "axis 0 is 4..2..2"),
        ("x=1x8..1x4..1x8", "axis 1 is 8..4..8"),
        ("x=0x3", "never larger than 0"),
    ],
)
def test_bad_texts_are_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        parse_shape(text)


@given(
    st.text(min_size=1).filter(lambda name: "=" not in name),
    st.lists(st.lists(st.integers(1, 4096), min_size=3, max_size=3).map(sorted), min_size=1, max_size=6),
)
def test_what_is_shown_reads_back(name: str, sizes: list[list[int]]):
    low, opt, high = (tuple(each[i] for each in sizes) for i in range(3))
    one = ShapeRange(name, low, opt, high)
    assert parse_shape(show_shape(one)) == one


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (("N", 16), [BATCH, (16,) * 3]),
        ((None, "time"), [BATCH, SEQUENCE]),
        (("N", "time", 8), [BATCH, SEQUENCE, (8,) * 3]),
        (("N", 3, "h", "w"), [BATCH, (3,) * 3, PICTURE, PICTURE]),
        ((1, 3, None, None), [(1,) * 3, (3,) * 3, PICTURE, PICTURE]),
        (("N", 1, "d", 64, 64), [BATCH, (1,) * 3, VOLUME, (64,) * 3, (64,) * 3]),
    ],
)
def test_dynamic_dimensions_get_sizes_by_what_they_are(shape: tuple, sizes: list):
    (one,) = complete([spec("x", *shape)], [])
    assert list(one.sizes) == sizes


def test_fixed_inputs_need_no_range():
    assert complete([spec("x", 1, 3), spec("scalar", batch_axis=None)], []) == ()
    assert complete([spec("x", 1, 3)], [parse_shape("x=1x3")]) == ()


def test_a_name_has_the_same_sizes_everywhere_and_the_batch_axis_knows_best():
    inputs = [spec("state", 2, "time", "batch", batch_axis=None), spec("ids", "batch", "time")]
    state, ids = complete(inputs, [])
    assert ids.sizes == (BATCH, SEQUENCE)
    assert state.sizes == ((2,) * 3, SEQUENCE, BATCH)


def test_samples_tell_all_sizes_but_that_of_the_batch():
    inputs = [spec("x", "N", "L"), spec("state", 2, "N", 8, batch_axis=1), spec("fixed", 1, 3)]
    seen = [{"x": (1, length), "state": (2, 1, 8), "fixed": (1, 3)} for length in (20, 90, 30)]
    x, state = of_samples(inputs, [], seen)
    assert x.sizes == (BATCH, (20, 30, 90))
    assert state.sizes == ((2,) * 3, BATCH, (8,) * 3)
    assert of_samples(inputs, [], []) == complete(inputs, [])
    users = parse_shape("x=1x5..1x6")
    assert of_samples(inputs, [users], seen)[0] == users


def test_the_users_sizes_win_and_spread_by_name():
    inputs = [spec("ids", "batch", "time"), spec("mask", "batch", "time"), spec("other", "batch")]
    ids, mask, other = complete(inputs, [parse_shape("mask=1x8..2x16..4x128")])
    assert mask == parse_shape("mask=1x8..2x16..4x128")
    assert ids.sizes == mask.sizes
    assert other.sizes == ((1, 2, 4),)


def test_the_users_sizes_of_nameless_dimensions_win():
    one = parse_shape("x=1x3x8x8..2x3x16x16..4x3x32x32")
    assert complete([spec("x", None, 3, None, None)], [one]) == (one,)


def test_another_batch_axis_than_the_first_is_the_batch():
    (one,) = complete([spec("state", None, None, 8, batch_axis=1)], [])
    assert one.sizes == (SEQUENCE, BATCH, (8,) * 3)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["imge=1x3"], "did you mean 'image'"),
        (["image=1x4"], "contradicts the model"),
        (["image=1x3..2x6"], "contradicts the model"),
        (["image=1x3x3"], "contradicts the model"),
        (["image=1x3", "image=2x3"], "two shapes"),
        (["image=1x3", "mask=2x5"], "'N' is 1..1..1 in one --shape and 2..2..2"),
    ],
)
def test_ranges_that_do_not_fit_the_model_are_refused(texts: list[str], reason: str):
    inputs = [spec("image", "N", 3), spec("mask", "N", "time")]
    with pytest.raises(OptionError, match=reason):
        complete(inputs, [parse_shape(text) for text in texts])


def test_sizes_that_a_range_holds_fixed_are_fixed_in_every_input_of_that_name():
    inputs = [spec("ids", "batch", "time"), spec("mask", "batch", "time"), spec("whole", 2, None, batch_axis=None)]
    ids, mask, whole = narrowed(inputs, [parse_shape("mask=1x8..1x16"), parse_shape("whole=2x5")])
    assert ids.shape == mask.shape == (1, "time")
    assert whole.shape == (2, 5)
    assert (ids.fixed_batch, ids.batch_axis) == (1, 0)


def test_without_ranges_inputs_are_as_the_model_has_them():
    inputs = (spec("ids", "batch", "time"), spec("x", None, 3))
    assert narrowed(inputs, []) == inputs
