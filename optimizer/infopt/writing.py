"""Writes a model file weight by weight: a protobuf message that is made whole is in memory several times."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

STREAMED = 1 << 16
"""Weights of at least this many bytes are written one by one."""

# Field numbers of onnx.proto with the wire type of what has a length (protobuf's encoding specification).
_GRAPH, _INITIALIZER, _RAW_DATA = (number << 3 | 2 for number in (7, 5, 9))


def write_inline(graph: ir.Model, path: Path) -> None:
    """Write a model with its weights in the file.

    Args:
        graph: The model; external weights are read and let go of one at a time.
        path: The file to write.

    Raises:
        OSError: The file cannot be written.
    """
    clone = graph.clone()
    found = [(name, _streamed(value)) for name, value in clone.graph.initializers.items()]
    streamed = {name: tensor for name, tensor in found if tensor is not None}
    for name in streamed:
        del clone.graph.initializers[name]
    ir.external_data.load_to_model(clone)
    proto = ir.to_proto(clone)
    body = proto.graph.SerializeToString(deterministic=True)
    front, back = _without_graph(proto)
    heads = {name: _head(name, tensor) for name, tensor in streamed.items()}
    length = len(body) + sum(len(heads[name]) + tensor.nbytes for name, tensor in streamed.items())
    with path.open("wb") as file:
        file.write(front)
        file.write(_tagged(_GRAPH, length))
        file.write(body)
        for name, tensor in streamed.items():
            file.write(heads[name])
            file.write(tensor.tobytes())
            if isinstance(tensor, ir.ExternalTensor):
                tensor.release()
        file.write(back)


def _without_graph(proto: onnx.ModelProto) -> tuple[bytes, bytes]:
    """The fields of a model in front of the graph and behind it, by number.

    Their order means nothing to protobuf, but OpenVINO tells an ONNX file by its first fields.
    """
    front, back = onnx.ModelProto(), onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.number != _GRAPH >> 3:
            part = front if field.number < _GRAPH >> 3 else back
            part.MergeFrom(onnx.ModelProto(**{field.name: value}))
    return front.SerializeToString(deterministic=True), back.SerializeToString(deterministic=True)


def _streamed(value: ir.Value) -> ir.TensorProtocol | None:
    """The weight of a value, if it is large and of numbers."""
    tensor = value.const_value
    if tensor is None or tensor.dtype == ir.DataType.STRING or tensor.nbytes < max(STREAMED, 1):
        return None
    return tensor


def _head(name: str, tensor: ir.TensorProtocol) -> bytes:
    """Everything of an initializer's field but its data."""
    proto = onnx.TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape.numpy())
    proto.doc_string = tensor.doc_string or ""
    for key, value in tensor.metadata_props.items():
        proto.metadata_props.add(key=key, value=value)
    content: bytes = proto.SerializeToString(deterministic=True) + _tagged(_RAW_DATA, tensor.nbytes)
    return _tagged(_INITIALIZER, len(content) + tensor.nbytes) + content


def _tagged(tag: int, length: int) -> bytes:
    """A field's tag and length, each as a varint."""
    encoded = bytearray([tag])
    while length >= 1 << 7:
        encoded.append(length & 127 | 128)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)
