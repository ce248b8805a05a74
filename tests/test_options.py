from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt import registry
from infopt.errors import OptionError
from infopt.options import Opt, build, coerce, fields, parse_fraction, parse_size, parsed, plain, show_size
from infopt.recipe import SECTIONS, Job


def _pair(value: Any) -> tuple[int, int]:
    left, _, right = str(value).partition("x")
    return int(left), int(right)


@dataclass(frozen=True, slots=True)
class Everything:
    count: Annotated[int, Opt("How many.", low=1, high=9)]
    ratio: Annotated[float, Opt("A ratio.", low=0)] = 0.5
    on: Annotated[bool, Opt("A switch.")] = False
    name: Annotated[str | None, Opt("A name.")] = None
    path: Annotated[Path | None, Opt("A path.", ("--path", "-p"))] = None
    kind: Annotated[Literal["a", "b"], Opt("A kind.")] = "a"
    many_words: Annotated[tuple[str, ...], Opt("Words.")] = ()
    size: Annotated[
        tuple[int, int],
        Opt("A size.", parse=_pair, show=lambda size: f"{size[0]}x{size[1]}"),
    ] = (1, 2)
    made: Annotated[tuple[str, ...], Opt("From a factory.")] = field(default_factory=lambda: ("x",))
    internal: int = 3


OPTION_CLASSES = [Job, *SECTIONS.values(), *(registry.pass_class(name) for name in registry.names("passes"))]


def test_every_supported_type_is_read_from_what_toml_holds() -> None:
    given = {
        "count": 2, "ratio": 1, "on": True, "name": "n", "path": "a/b", "kind": "b",
        "many_words": ["u", "v"], "size": "3x4",
    }  # fmt: skip
    built = build(Everything, given, "here")
    assert built == Everything(2, 1.0, True, "n", Path("a/b"), "b", ("u", "v"), (3, 4))
    assert type(built.ratio) is float


everything = st.builds(
    Everything,
    count=st.integers(1, 9),
    ratio=st.floats(0, allow_nan=False, allow_infinity=False),
    on=st.booleans(),
    name=st.none() | st.text(),
    path=st.none() | st.text(st.characters(categories=["L", "N"]), min_size=1).map(Path),
    kind=st.sampled_from(["a", "b"]),
    many_words=st.lists(st.text()).map(tuple),
    size=st.tuples(st.integers(), st.integers()),
)


@given(everything)
def test_plain_options_build_an_equal_object(options: Everything) -> None:
    assert build(Everything, plain(options), "here") == options


def test_absent_values_are_left_out_of_the_plain_form() -> None:
    assert "name" not in plain(Everything(1))
    assert "internal" not in plain(Everything(1))


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("count", 0, "outside 1 to 9"),
        ("count", 10, "outside 1 to 9"),
        pytest.param("count", 10**400, "outside 1 to 9", id="count-huge"),
        ("count", 1.5, "int is wanted"),
        ("count", True, "int is wanted"),
        ("count", "2", "int is wanted"),
        ("count", None, "int is wanted"),
        ("ratio", math.nan, "outside 0 to inf"),
        ("ratio", math.inf, "outside 0 to inf"),
        ("ratio", -0.1, "outside 0 to inf"),
        pytest.param("ratio", 10**400, "too large", id="ratio-huge"),
        ("on", 1, "bool is wanted"),
        ("name", 1, "str is wanted"),
        ("path", 5, "does not fit"),
        ("kind", "c", "choose a, b"),
        ("many_words", "word", "list of strings"),
        ("many_words", ["word", 1], "list of strings"),
        ("many_words", 1, "list of strings"),
        ("many_words", {"word": 1}, "list of strings"),
        ("size", "3", "does not fit"),
    ],
)
def test_a_value_that_does_not_fit_names_the_option_and_the_reason(key: str, value: Any, reason: str) -> None:
    with pytest.raises(OptionError) as caught:
        build(Everything, {"count": 1, key: value}, "[section]")
    assert caught.value.args[0].startswith(f"[section]: {key} = ")
    assert reason in str(caught.value)


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown key in \[x\]: 'kounts'; did you mean 'count'\?"):
        build(Everything, {"kounts": 1}, "[x]")


def test_a_field_without_a_declaration_is_no_option() -> None:
    with pytest.raises(OptionError, match="'internal'"):
        build(Everything, {"count": 1, "internal": 4}, "[x]")


def test_a_required_key_that_is_absent_is_named_with_its_help() -> None:
    with pytest.raises(OptionError, match="'count'; How many"):
        build(Everything, {}, "[x]")


def test_flags_follow_from_the_name_unless_given() -> None:
    flags = {found.name: found.flags for found in fields(Everything)}
    assert flags["many_words"] == ("--many-words",)
    assert flags["path"] == ("--path", "-p")


def test_a_default_may_come_from_a_factory() -> None:
    assert {found.name: found.default for found in fields(Everything)}["made"] == ("x",)


@pytest.mark.parametrize("cls", OPTION_CLASSES, ids=lambda cls: cls.__name__)
def test_every_default_of_infopt_fits_its_own_option(cls: type) -> None:
    for option in fields(cls):
        if option.name != "model":
            assert coerce(option, option.default, cls.__name__) == option.default


@pytest.mark.parametrize("cls", OPTION_CLASSES, ids=lambda cls: cls.__name__)
def test_every_option_of_infopt_has_a_sentence_of_help(cls: type) -> None:
    for option in fields(cls):
        assert option.opt.help.endswith("."), option.name
        assert option.opt.help[0].isupper() or option.opt.help.startswith("top1"), option.name


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_fraction_is_read_from_a_number_or_its_text(number: float) -> None:
    assert parse_fraction(number) == number
    assert parse_fraction(repr(number)) == number


@given(st.integers(-10_000, 10_000))
def test_a_percentage_is_a_hundredth(percent: int) -> None:
    assert parse_fraction(f" {percent}%") == percent / 100


@pytest.mark.parametrize("value", [True, "x", "", "%", "1%%", None])
def test_what_is_no_number_is_no_fraction(value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_fraction(value)


def test_structured_text_behind_a_flag_names_the_flag() -> None:
    assert parsed(int, "4", "--n") == 4
    with pytest.raises(OptionError, match=r"--n x: .*see --n in --help"):
        parsed(int, "x", "--n")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512_000_000),
        ("1.5 GB", 1_500_000_000),
        ("2GiB", 2 << 30),
        ("64k", 64_000),
        (1_000_000, 1_000_000),
        ("7", 7),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize("text", ["", "MB", "-1GB", "1XB", "1 i", "ten", True, 1.5j])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="a size such as 512MB"):
        parse_size(text)
