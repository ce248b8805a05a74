from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from infopt import model as models
from infopt import probe
from infopt.data import infer_batch_axes
from infopt.errors import InfoptError, InputError, ModelError
from infopt.model import Model, Note, input_specs, load, save
from infopt.options import Opt, plain
from infopt.passes import CalibrationSet, Context, interface, run
from infopt.readers.synthetic import SyntheticSamples
from infopt.recipe import Job, Recipe, settled

if TYPE_CHECKING:
    from collections.abc import Callable

MLP = "(float[N,4] x) => (float[N,2] y) { h = MatMul(x, w) y = Add(h, b) }"
IF = """(bool c, float[N,4] x) => (float[N,2] y) {
    y = If (c) <
        then_branch = t () => (float[N,2] u) <float[4,2] v = {1., 2., 3., 4., 5., 6., 7., 8.}> { u = MatMul(x, v) },
        else_branch = e () => (float[N,2] z) { z = MatMul(x, w) }>
}"""


@pytest.fixture
def mlp(build: Any, tmp_path: Path) -> Path:
    """A model file with its weights inside."""
    file = tmp_path / "mlp.onnx"
    save(build(MLP, w=(4, 2), b=(2,)).graph, file)
    return file


@pytest.fixture
def external(mlp: Path, tmp_path: Path) -> Path:
    """A model file with its weights beside it."""
    folder = tmp_path / "ext"
    folder.mkdir()
    ir.save(ir.load(mlp), folder / "m.onnx", external_data="m.bin", size_threshold_bytes=0)
    return folder / "m.onnx"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# --- what a model tells ---------------------------------------------------------------------------------------


def test_a_model_counts_nodes_weights_and_bytes(mlp: Path) -> None:
    model = load(mlp)
    assert (model.nodes, model.parameters, model.bytes) == (2, 10, 40)
    assert (model.opset, model.output_names, model.files) == (17, ("y",), (mlp,))


def test_subgraphs_count_too(build: Any) -> None:
    model = build(IF, w=(4, 2))
    assert (model.nodes, model.parameters) == (3, 16)


@pytest.mark.parametrize("op", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_a_quantized_model_is_known_by_its_nodes(build: Any, op: str) -> None:
    text = {
        "QuantizeLinear": "(float[N,4] x) => (uint8[N,4] q) { q = QuantizeLinear(x, s) }",
        "DynamicQuantizeLinear": "(float[N,4] x) => (uint8[N,4] q) { q, s, z = DynamicQuantizeLinear(x) }",
    }[op]
    weights = {"s": np.float32(1)} if op == "QuantizeLinear" else {}
    assert build(text, **weights).quantized_nodes() == ["q"]


def test_a_float_model_has_no_quantized_nodes(mlp: Path) -> None:
    assert load(mlp).quantized_nodes() == []


def test_editing_keeps_what_was_known(mlp: Path) -> None:
    model = load(mlp)
    first, second = Note("warning", "a", "b"), Note("float", "c", "d")
    edited = model.edited(model.graph, first).edited(model.graph, second)
    assert edited.notes == (first, second)
    assert edited.path == mlp
    assert model.notes == ()


def test_inputs_are_told_with_symbols_and_unknown_sizes(build: Any) -> None:
    specs = input_specs(build("(float[N,?,3] x, int64 k) => (float[N,?,3] y) { y = Identity(x) }").graph)
    assert [(s.name, s.dtype, s.shape) for s in specs] == [
        ("x", np.dtype("float32"), ("N", None, 3)),
        ("k", np.dtype("int64"), ()),
    ]


def test_weights_that_are_listed_as_inputs_are_no_inputs(build: Any) -> None:
    model = build(MLP, opset=9, ir_version=3, w=(4, 2), b=(2,))
    assert [spec.name for spec in input_specs(model.graph)] == ["x"]
    assert [name for name, _, _ in interface(model)] == ["x", "y"]


@pytest.mark.parametrize("kind", ["seq(float[N])", "float"])
def test_an_input_that_is_no_tensor_of_known_rank_is_refused(build: Any, kind: str) -> None:
    if kind == "float":
        model = build("(float[N] x) => (float[N] y) { y = Identity(x) }")
        model.graph.graph.inputs[0].shape = None
    else:
        model = build(f"({kind} x) => (int64 y) {{ y = SequenceLength(x) }}")
    with pytest.raises(ModelError, match="input 'x' is not a tensor of known rank"):
        input_specs(model.graph)


# --- reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", b"\x08\x08", b"\x00" * 64, b"\x89PNG\r\n\x1a\n" + bytes(64)],
    ids=["empty", "text", "no graph", "zeros", "picture"],
)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad\.onnx"):
        load(file)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_model_is_refused(mlp: Path, share: float) -> None:
    whole = mlp.read_bytes()
    mlp.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"mlp\.onnx"):
        load(mlp)


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_a_path_that_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="is not a file"):
        load(tmp_path / name)


def test_large_external_weights_stay_on_disk(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "HELD", 0)
    model = load(external)
    tensors = [value.const_value for value in model.graph.graph.initializers.values()]
    assert all(isinstance(tensor, ir.ExternalTensor) for tensor in tensors)
    assert (model.parameters, model.bytes) == (10, 40)
    assert model.files == (external, external.with_name("m.bin"))


def test_small_external_weights_are_read_and_their_file_is_still_the_models(external: Path) -> None:
    """Exporters write shapes and axes beside the model, too; what only sees the message would miss them."""
    model = load(external)
    tensors = {name: value.const_value for name, value in model.graph.graph.initializers.items()}
    assert not any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors.values())
    assert {name: tensor.numpy().tolist() for name, tensor in tensors.items() if tensor is not None} == {
        name: array.tolist() for name, array in values(external).items()
    }
    assert model.files == model.edited(model.graph.clone()).files == (external, external.with_name("m.bin"))


def test_a_graph_with_much_that_is_new_runs_beside_weights_of_all_sizes_in_files(
    build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, work = tmp_path / "model", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    built = build("(float[N,64] x) => (float[N,64] y) { h = MatMul(x, w) y = Add(h, b) }", w=(64, 64), b=(64,)).graph
    ir.save(built, folder / "m.onnx", external_data="m.bin", size_threshold_bytes=0)
    monkeypatch.setattr(probe, "INLINE", 0)
    feed = {"x": np.ones((1, 64), np.float32)}
    (found,) = probe.opened(load(folder / "m.onnx").graph, work, {}).run(feed)
    weights = values(folder / "m.onnx")
    np.testing.assert_allclose(found, feed["x"] @ weights["w"] + weights["b"], rtol=1e-5, atol=1e-5)


def test_missing_external_weights_are_named(external: Path) -> None:
    external.with_name("m.bin").unlink()
    with pytest.raises(ModelError, match=r"external data file m\.bin is missing"):
        load(external)


def test_truncated_external_weights_are_named(external: Path) -> None:
    data = external.with_name("m.bin")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"m\.bin is truncated: weight '[wb]' ends at byte"):
        load(external)


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname"])
def test_external_weights_outside_the_models_folder_are_refused(external: Path, place: str) -> None:
    (external.parent.parent / "secret.bin").write_bytes(bytes(64))
    proto = onnx.load(external, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = place
    external.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(external)


def test_a_link_out_of_the_models_folder_is_refused(external: Path) -> None:
    data = external.with_name("m.bin")
    data.rename(external.parent.parent / "elsewhere.bin")
    data.symlink_to(external.parent.parent / "elsewhere.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        load(external)


# --- writing --------------------------------------------------------------------------------------------------


def values(file: Path) -> dict[str, np.ndarray]:
    return {name: v.const_value.numpy() for name, v in ir.load(file).graph.initializers.items()}


def test_a_saved_model_is_the_same_model(external: Path, tmp_path: Path) -> None:
    model, out = load(external), tmp_path / "out.onnx"
    before = ir.to_proto(model.graph).SerializeToString()
    save(model.graph, out)
    assert ir.to_proto(model.graph).SerializeToString() == before
    assert {name: array.tolist() for name, array in values(out).items()} == {
        name: array.tolist() for name, array in values(external).items()
    }
    assert load(out).files == (out,)


def test_large_weights_go_beside_the_graph(mlp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "INLINE_LIMIT", 39)
    monkeypatch.setattr(models.ir, "save", small_threshold(ir.save))
    out = tmp_path / "large.onnx"
    save(load(mlp).graph, out)
    assert load(out).files == (out, tmp_path / "large.onnx.data")
    assert values(out)["w"].tolist() == values(mlp)["w"].tolist()


def small_threshold(original: Callable[..., None]) -> Callable[..., None]:
    """onnx_ir keeps tensors of less than 256 bytes inside; the test's are smaller."""
    return lambda *args, **options: original(*args, size_threshold_bytes=0, **options)


def test_writing_large_weights_leaves_the_source_readable(
    external: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "INLINE_LIMIT", 0)
    before = digest(external), digest(external.with_name("m.bin"))
    model = load(external)
    save(model.graph, tmp_path / "out.onnx")
    assert (digest(external), digest(external.with_name("m.bin"))) == before
    save(model.graph, tmp_path / "again.onnx")
    assert values(tmp_path / "again.onnx")["w"].tolist() == values(external)["w"].tolist()


def test_a_path_that_cannot_be_written_is_an_os_error(mlp: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        save(load(mlp).graph, tmp_path / "nowhere" / "out.onnx")


# --- passes at work -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rename:
    """Renames the output, rightly or wrongly declared."""

    name: ClassVar[str] = "rename"
    interface: str = "declared"
    repeat: ClassVar[str] = "again"
    tolerance: ClassVar[str] = "exact"
    calibrated: ClassVar[bool] = False

    def __call__(self, model: Model, context: Context) -> Model:
        graph = model.graph.clone()
        graph.graph.outputs[0].name = "renamed"
        return model.edited(graph, Note("warning", "y", "renamed"))


def test_running_passes_records_each_as_a_step(mlp: Path, tmp_path: Path) -> None:
    model = load(mlp)
    done = run(model, (Rename(), Rename()), Context(tmp_path))
    assert [(s.name, s.options, s.nodes, s.bytes) for s in done.steps] == [("rename", {}, 2, 40)] * 2
    assert all(step.seconds >= 0 for step in done.steps)
    assert len(done.notes) == 2
    assert model.steps == ()
    assert model.output_names == ("y",)


@dataclass(frozen=True, slots=True)
class Guess:
    """Finds a number where it is given none."""

    name: ClassVar[str] = "guess"
    interface: ClassVar[Literal["same", "declared"]] = "same"
    repeat: ClassVar[Literal["unchanged", "refused", "again"]] = "again"
    tolerance: ClassVar[Literal["exact"]] = "exact"
    calibrated: ClassVar[bool] = False

    number: Annotated[int | None, Opt("A number.")] = None
    limit: Annotated[int, Opt("Largest.")] = 9

    def __call__(self, model: Model, context: Context) -> Model:
        done = model.edited(model.graph.clone())
        return done if self.number is not None else replace(done, settled=plain(replace(self, number=self.limit - 2)))


def test_a_recipe_gets_what_a_pass_found_and_the_next_pass_is_not_taken_for_it(mlp: Path, tmp_path: Path) -> None:
    recipe = Recipe(Job(mlp), passes=(Guess(), Guess(number=3, limit=4), Guess(limit=5)))
    done = run(load(mlp), recipe.passes, Context(tmp_path))
    assert done.settled is None
    assert [step.asked for step in done.steps] == [{"limit": 9}, None, {"limit": 5}]
    assert settled(recipe, done.steps).passes == (Guess(7), Guess(3, 4), Guess(3, 5))
    assert settled(recipe, done.steps).job == recipe.job


def test_running_no_passes_gives_the_model_back(mlp: Path, tmp_path: Path) -> None:
    model = load(mlp)
    assert run(model, (), Context(tmp_path)) == model


def test_a_pass_that_breaks_its_promise_is_caught(mlp: Path, tmp_path: Path) -> None:
    with pytest.raises(InfoptError, match="pass 'rename' changed inputs or outputs") as caught:
        run(load(mlp), (Rename(interface="same"),), Context(tmp_path))
    assert caught.value.exit_code == 1


def test_every_model_on_disk_has_a_folder_of_its_own(mlp: Path, tmp_path: Path) -> None:
    context, model = Context(tmp_path), load(mlp)
    first, second = context.on_disk(model), context.on_disk(model)
    assert first.parent != second.parent
    assert first.parent.parent == tmp_path
    assert values(first)["w"].tolist() == values(mlp)["w"].tolist()


def test_a_pass_says_what_it_lacks(tmp_path: Path, build: Any, make_context: Any) -> None:
    with pytest.raises(InputError, match="'mine' needs a target; give --target NAME"):
        Context(tmp_path).need_target("mine")
    with pytest.raises(InputError, match="'mine' needs calibration samples; give --calib PATH"):
        Context(tmp_path).need_calibration("mine")
    given = make_context(build(MLP, w=(4, 2), b=(2,)), "onnxruntime", count=3)
    assert given.need_target("mine").name == "onnxruntime"
    with pytest.raises(InputError, match="needs calibration samples"):
        replace(given, calibration=replace(given.calibration, indices=())).need_calibration("mine")


@pytest.mark.parametrize(("batch", "sizes"), [("N", [1, 1, 1, 1, 1]), ("2", [2, 2, 2]), ("1", [1, 1, 1, 1, 1])])
def test_calibration_feeds_one_sample_or_one_fixed_batch(build: Any, batch: str, sizes: list[int]) -> None:
    model = build(MLP.replace("N", batch), w=(4, 2), b=(2,))
    inputs = infer_batch_axes(input_specs(model.graph), {})
    chosen = CalibrationSet(SyntheticSamples(inputs, 9, 0), (0, 2, 4, 6, 8), inputs)
    assert [feed["x"].shape[0] for feed in chosen.feeds()] == sizes
    assert len(chosen) == 5
    assert len(list(chosen.feeds())) == len(sizes), "feeds can be read again"


def test_weights_that_are_written_one_by_one_are_what_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "floats": rng.standard_normal((70, 130), np.float32),
        "bytes": rng.integers(-128, 128, (300, 300), np.int8),
        "halves": rng.standard_normal((200, 3), np.float32).astype(np.float16),
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(7, np.int64),
    }
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in arrays.items()}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in arrays]
    outputs = [helper.make_tensor_value_info(f"{name}_out", kinds[name], array.shape) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", [], outputs, [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto.metadata_props.add(key="kept", value="too")
    for place, external in (("inline", {}), ("external", {"save_as_external_data": True, "size_threshold": 0})):
        onnx.save(proto, tmp_path / f"{place}.onnx", **external)
        for limit in (0, 1 << 10, 1 << 30):
            monkeypatch.setattr("infopt.writing.STREAMED", limit)
            save(load(tmp_path / f"{place}.onnx").graph, tmp_path / "out.onnx")
            onnx.checker.check_model(tmp_path / "out.onnx", full_check=True)
            found = onnx.load(tmp_path / "out.onnx", load_external_data=False)
            assert {t.name: numpy_helper.to_array(t).tobytes() for t in found.graph.initializer} == {
                name: array.tobytes() for name, array in arrays.items()
            }
            assert found.graph.node == proto.graph.node
            assert found.metadata_props == proto.metadata_props
            assert (tmp_path / "out.onnx").read_bytes()[0] == 8  # ir_version first: runtimes tell the format by it


def test_constants_in_other_files_are_written_into_the_model(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    values = np.arange(6, dtype=np.float32)
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "m.bin").write_bytes(values.tobytes())
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[6], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="m.bin")
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["y"])]
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [6]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", kinds[:1], kinds[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "far" / "m.onnx").write_bytes(made.SerializeToString())
    save(load(tmp_path / "far" / "m.onnx").graph, tmp_path / "near.onnx")
    written = onnx.load(tmp_path / "near.onnx").graph.node[0].attribute[0].t
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(written), values)
