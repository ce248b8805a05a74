"""JSON Schema (draft 2020-12) of the files that infopt writes, generated from the records that they hold.

A record's type hints say how JSON holds it (:mod:`infopt.codec`), its docstring what the keys mean. The generated files
lie in the package, ``report.schema.json`` among them; ``python -m infopt.schema`` writes them again.

The schemas describe what this version writes and reads: keys with a default may be absent, as older files lack them,
and keys that are not described may be there, as newer files of the same format have them.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from infopt.errors import unknown

DIALECT = "https://json-schema.org/draft/2020-12/schema"
RECORDS = {
    "report": "infopt.report:Report",
    "comparison": "infopt.comparing.result:Comparison",
    "diff": "infopt.diffing.records:Diff",
    "check": "infopt.checks.report:CheckReport",
    "manifest": "infopt.manifest:Manifest",
}
"""Name of a schema to the record that it describes, as ``module:class``.

The name of the format is the default of the record's field ``schema``, or else the ``SCHEMA`` of its module.
"""

_SCALARS: Mapping[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},  # a number that is not finite is written as null
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): {"type": "null"},
    Any: {},
}


def schema_text(name: str = "report") -> str:
    """The JSON Schema of a file format as this package ships it.

    Args:
        name: ``"report"`` or another key of :data:`RECORDS`.

    Raises:
        OptionError: There is no such schema.
    """
    if name not in RECORDS:
        raise unknown("schema", name, RECORDS)
    return files("infopt").joinpath(f"{name}.schema.json").read_text(encoding="utf-8")


def generated(name: str) -> str:
    """The text that the file of a schema should hold."""
    module, _, cls = RECORDS[name].partition(":")
    record = getattr(import_module(module), cls)
    return json.dumps(schema_of(record, _format(record)), indent=2) + "\n"


def schema_of(record: type, version: str) -> dict[str, Any]:
    """The JSON Schema of a frozen record.

    Args:
        record: A dataclass.
        version: Name of the format, which stands in the key ``schema``: ``"infopt.report/1"``.

    Returns:
        The schema as JSON holds it: nested records stand in ``$defs`` by the names of their classes.
    """
    found: dict[str, Any] = {}
    top = _record(record, found)
    properties = {"schema": {"const": version, "description": "Version of the format."}} | {
        key: value for key, value in top["properties"].items() if key != "schema"
    }
    head = {"$schema": DIALECT, "$id": f"urn:{version.replace('.', ':').replace('/', ':')}", "title": version}
    body = {**top, "properties": properties, "required": ["schema", *top["required"]]}
    return {**head, **body, "$defs": dict(sorted(found.items()))}


def _format(record: type) -> str:
    defaults = {item.name: item.default for item in dataclasses.fields(record)}
    return str(defaults.get("schema") or import_module(record.__module__).SCHEMA)


def _record(cls: Any, found: dict[str, Any]) -> dict[str, Any]:
    from infopt.codec import JSON_NAMES

    hints, told, names = get_type_hints(cls), _attributes(cls), JSON_NAMES.get(cls, {})
    properties, required = {}, []
    for item in dataclasses.fields(cls):
        key = names.get(item.name, item.name)
        about = {"description": told[item.name]} if item.name in told else {}
        properties[key] = _value(hints[item.name], found) | about
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            required.append(key)
    summary = _paragraph((cls.__doc__ or "").split("\n\n")[0])
    return {"description": summary, "type": "object", "properties": properties, "required": required}


def _value(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    """The schema of what one type hint allows."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union([_value(arg, found) for arg in args])
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple and args[1:] == (...,):
        return {"type": "array", "items": _value(args[0], found)}
    if origin is tuple:
        items = [_value(arg, found) for arg in args]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is list:
        return {"type": "array", "items": _value(args[0], found)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _value(args[1], found)}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in found:
            found[hint.__name__] = {}  # a record may hold records of its own kind
            found[hint.__name__] = _record(hint, found)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return dict(_SCALARS[hint])


def _union(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """One of several; plain types are joined in a list."""
    if all(set(choice) == {"type"} for choice in choices):
        kinds: list[str] = []
        for choice in choices:
            kinds += [choice["type"]] if isinstance(choice["type"], str) else choice["type"]
        return {"type": list(dict.fromkeys(kinds))}
    return {"anyOf": choices}


def _attributes(cls: type) -> dict[str, str]:
    """What a class's docstring says of its attributes, by name."""
    section = (cls.__doc__ or "").partition("Attributes:")[2]
    entries = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", section, re.MULTILINE)
    return {name: _paragraph(text) for name, text in entries}


def _paragraph(text: str) -> str:
    """Text of a docstring as a description: JSON's own names, no markup, one line."""
    return re.sub(r"\bNone\b", "null", " ".join(text.replace("``", "").split()))


def write() -> None:
    """Generate every schema into the source tree."""
    for name in RECORDS:
        Path(__file__).with_name(f"{name}.schema.json").write_text(generated(name), encoding="utf-8")


if __name__ == "__main__":
    write()
