"""What method auto chose is said as options of method fast, which make the same bytes without a search."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passes.test_auto import GRAPHS, RUINED, TARGETS, drawn, ruined

from infopt.noise import OutputJudge
from infopt.options import build as built
from infopt.options import plain
from infopt_passes.quantize import Quantize
from infopt_passes.quantize.auto import FEWEST, Search
from infopt_passes.quantize.fitting.fitted import Wanted
from infopt_passes.quantize.settings import decided, plain_settings
from infopt_passes.quantize.static import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from infopt.model import Model
    from infopt.passes import Context

PLAINLY = {
    "method": "fast",
    "equalize": "off",
    "ranges": "minmax",
    "weight_ranges": "minmax",
    "rounding": "nearest",
    "bias_correction": "off",
    "reconstruct": "off",
    "keep_float": [],
}


def offered(cls: type, name: str) -> list[Any]:
    """The values of an option, but for ``auto``."""
    hint = get_type_hints(cls)[name]
    return [value for value in get_args(hint) if value != "auto"]


@given(
    st.builds(
        Settings,
        equalize=st.sampled_from(offered(Quantize, "equalize")),
        ranges=st.sampled_from(offered(Quantize, "ranges")),
        percentile=st.floats(50, 100),
        weights=st.builds(
            Wanted,
            ranges=st.sampled_from(offered(Quantize, "weight_ranges")),
            rounding=st.sampled_from(offered(Quantize, "rounding")),
            bias=st.booleans(),
        ),
        reconstruct=st.booleans(),
        keep_float=st.frozensets(st.text(min_size=1)),
    )
)
def test_options_hold_all_that_settings_hold(settings: Settings) -> None:
    found = built(Quantize, decided(Quantize(time_limit=5.0, block=64), settings), "here")
    assert plain_settings(found) == settings
    assert (found.method, found.time_limit, found.block) == ("fast", None, 64)


def test_nodes_that_the_user_keeps_in_float_come_first_and_once() -> None:
    options = Quantize(keep_float=("z", "b"))
    assert decided(options, Settings(keep_float=frozenset("abcz")))["keep_float"] == ["z", "b", "a", "c"]


def again(
    model: Model, options: Quantize, context: Callable[[], Context], monkeypatch: pytest.MonkeyPatch
) -> tuple[Model, Model]:
    """What method auto makes, and what the options that it settled make without a search; their bytes are the same."""
    first = options(model, context())
    assert first.settled is not None
    monkeypatch.setattr("infopt_passes.quantize.apply.chosen", None)
    second = built(Quantize, first.settled, "recipe")(model, context())
    assert second.settled is None
    assert second.ranges == first.ranges
    bytes_of = [ir.to_proto(each.graph).SerializeToString(deterministic=True) for each in (first, second)]
    assert bytes_of[0] == bytes_of[1]
    return first, second


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GRAPHS)
def test_what_was_chosen_is_made_again(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch, name: str, target: str
) -> None:
    monkeypatch.setattr("infopt_passes.quantize.auto.ENOUGH", float("inf"))
    text, shapes = GRAPHS[name]
    model = build(text, **drawn(shapes, 2, 3.0))
    first, _ = again(model, Quantize(), lambda: make_context(model, target, 18), monkeypatch)
    if name == "cnn":
        assert first.settled != plain(Quantize()) | PLAINLY, "something was chosen"


def test_layers_in_float_stay_there_with_a_reason(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(RUINED, **ruined())
    first, second = again(model, Quantize(equalize="off"), lambda: make_context(model, "onnxruntime", 16), monkeypatch)
    assert first.settled is not None
    assert first.settled["keep_float"] == ["y"]
    whys = [{note.node: note.why for note in each.notes if note.kind == "float"} for each in (first, second)]
    assert "of the outputs' error" in whys[0]["y"]
    assert whys[1] == {"y": "kept in float by --keep-float"}


def test_what_was_refitted_is_refitted_again(build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infopt_passes.quantize.auto.ENOUGH", float("inf"))
    monkeypatch.setattr("infopt_passes.quantize.auto.GAIN", float("-inf"))  # everything is tried, and stays
    text, shapes = GRAPHS["cnn"]
    model = build(text, **drawn(shapes, 2, 3.0))
    first, _ = again(model, Quantize(), lambda: make_context(model, "onnxruntime", 20), monkeypatch)
    assert first.settled is not None
    assert (first.settled["reconstruct"], first.settled["equalize"]) == ("on", "activations")


def test_what_is_left_plain_is_settled_too(build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text, shapes = GRAPHS["mlp"]
    model = build(text, **drawn(shapes, 0, 0.0))
    monkeypatch.setattr("infopt_passes.quantize.auto.GAIN", float("inf"))
    first, _ = again(model, Quantize(), lambda: make_context(model, "onnxruntime", 16), monkeypatch)
    assert first.settled == plain(Quantize()) | PLAINLY


FITTED = {"ranges": "mse", "weight_ranges": "mse", "rounding": "least-squares", "bias_correction": "on"}


@pytest.mark.parametrize("options", [{}, FITTED])
def test_what_falls_back_in_the_end_is_settled_as_it_was_built(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    text, shapes = GRAPHS["mlp"]
    model = build(text, **drawn(shapes, 2, 1.0))
    judged, seen = OutputJudge.noise, list[float]()

    def misjudged(judge: OutputJudge, graph: ir.Model) -> float:
        """Worse than before once all samples judge: what was chosen is the last to be judged."""
        seen.append(judged(judge, graph) if len(judge.feeds) < 16 else 1 + len(seen))
        return seen[-1]

    def spare(search: Search) -> list[Any]:
        settings, noise = search.best
        search.keep(replace(settings, keep_float=frozenset({"m"})), noise)
        return []

    monkeypatch.setattr(OutputJudge, "noise", misjudged)
    monkeypatch.setattr(Search, "spare", spare)
    # Nothing but layers in float is left to choose: those are not fitted, and are where nothing is left in float.
    asked = Quantize(equalize="off", reconstruct="off", **options)
    first, second = again(model, asked, lambda: make_context(model, "onnxruntime", 16), monkeypatch)
    assert any(note.node == "all samples" and "left plain" in note.why for note in first.notes)
    assert first.settled == plain(asked) | PLAINLY | {"equalize": "off"} | options
    assert [note for note in second.notes if note.kind == "float"] == []


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_what_the_time_limit_cut_short_is_settled_as_far_as_it_came(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    late, asked = Search.late, list[str]()

    def soon_late(search: Search, what: str, seconds: float = 0.0) -> bool:
        asked.append(what)
        search.limit = 600.0 if len(asked) <= looks else 0.0
        return late(search, what, seconds)

    monkeypatch.setattr(Search, "late", soon_late)
    monkeypatch.setattr("infopt_passes.quantize.auto.ENOUGH", float("inf"))
    text, shapes = GRAPHS["cnn"]
    model = build(text, **drawn(shapes, 2, 3.0))
    first, second = again(model, Quantize(time_limit=5.0), lambda: make_context(model, "onnxruntime", 16), monkeypatch)
    assert any("time limit" in note.why for note in first.notes)
    assert not any("time limit" in note.why for note in second.notes)
    assert first.settled is not None
    assert "time_limit" not in first.settled
    assert (first.settled == plain(Quantize()) | PLAINLY) == (looks == 0)


def test_what_could_not_be_tried_is_settled_plain(
    build: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, shapes = GRAPHS["mlp"]
    model = build(text, **drawn(shapes, 0, 1.0))
    first, _ = again(model, Quantize(), lambda: make_context(model, "onnxruntime", FEWEST - 1), monkeypatch)
    assert first.settled == plain(Quantize()) | PLAINLY


@pytest.mark.parametrize("options", [{"method": "fast"}, {"precision": "int8-weights"}, {"precision": "dynamic-int8"}])
def test_where_nothing_is_searched_options_stay_as_they_were_given(
    build: Any, make_context: Any, options: dict[str, Any]
) -> None:
    text, shapes = GRAPHS["mlp"]
    model = build(text, **drawn(shapes, 0, 1.0))
    assert Quantize(**options)(model, make_context(model, "onnxruntime", 16)).settled is None
