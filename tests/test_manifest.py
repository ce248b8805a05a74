"""The manifest: what is written is what is read, and what the identity does and does not cover."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.errors import InputError
from infopt.manifest import (
    NAME,
    SCHEMA,
    Manifest,
    Record,
    identity,
    read_manifest,
    sha256_file,
    unlisted,
    verify,
    write_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Manifest(infopt="0.1.0", target="onnxruntime", graph="model.onnx")

unhurried = settings(deadline=None, max_examples=50)

words = st.text(max_size=8)
strings = st.dictionaries(words, words, max_size=3)
file_names = st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?(\.[a-z]{1,4})?", fullmatch=True)
files = st.dictionaries(file_names, words, max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
options = st.dictionaries(words, values, max_size=3)
records = st.builds(
    Record,
    files=files,
    timings=st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    environment=options,
    settings=strings,
)
manifests = st.builds(
    Manifest,
    infopt=words,
    target=words,
    graph=file_names,
    artifact=st.none() | file_names,
    inputs=strings,
    outputs=files,
    options=options,
    versions=strings,
    record=records,
)


def identity_fields() -> list[str]:
    return [field.name for field in dataclasses.fields(Manifest) if field.name != "record"]


def changed(manifest: Manifest, name: str) -> Manifest:
    value = getattr(manifest, name)
    if isinstance(value, dict):
        return replace(manifest, **{name: {**value, "one more": "x"}})
    return replace(manifest, **{name: f"{value}x"})


@unhurried
@given(manifest=manifests)
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("run")
    written = write_manifest(directory, manifest)
    assert written == manifest
    assert read_manifest(directory) == manifest
    assert identity(read_manifest(directory)) == identity(manifest)


@unhurried
@given(manifest=manifests, record=records)
def test_the_record_is_outside_of_the_identity(manifest: Manifest, record: Record) -> None:
    assert identity(replace(manifest, record=record)) == identity(manifest)


@unhurried
@given(manifest=manifests, name=st.sampled_from(identity_fields()))
def test_every_other_field_is_part_of_the_identity(manifest: Manifest, name: str) -> None:
    assert identity(changed(manifest, name)) != identity(manifest)


def test_the_identity_does_not_depend_on_the_order_of_keys() -> None:
    one = replace(PLAIN, options={"a": 1, "b": {"c": 2, "d": 3}})
    other = replace(PLAIN, options={"b": {"d": 3, "c": 2}, "a": 1})
    assert identity(one) == identity(other)


def test_the_identity_is_the_hash_of_the_canonical_json_of_all_but_the_record(tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(PLAIN, options={"name": "é"}))
    data = json.loads((tmp_path / NAME).read_text(encoding="utf-8"))
    assert data["schema"] == SCHEMA
    del data["record"]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    assert identity(read_manifest(tmp_path)) == hashlib.sha256(text.encode("ascii")).hexdigest()


def test_files_that_nobody_named_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"graph")
    (tmp_path / "sub" / "model.engine").write_bytes(b"engine")
    manifest = replace(PLAIN, outputs={"model.onnx": sha256_file(tmp_path / "model.onnx")})
    assert unlisted(tmp_path, manifest) == ["sub/model.engine"]

    written = write_manifest(tmp_path, manifest)

    assert written.record.files == {"sub/model.engine": hashlib.sha256(b"engine").hexdigest()}
    assert identity(written) == identity(manifest)
    assert unlisted(tmp_path, written) == []
    assert read_manifest(tmp_path) == written


def test_verify_names_changed_and_missing_files(tmp_path: Path) -> None:
    for name in ("changed", "intact", "missing", "report.md"):
        (tmp_path / name).write_text(name)
    hashes = {name: sha256_file(tmp_path / name) for name in ("changed", "intact", "missing")}
    write_manifest(tmp_path, replace(PLAIN, outputs=hashes))
    assert verify(tmp_path) == []

    (tmp_path / "changed").write_text("otherwise")
    (tmp_path / "missing").unlink()
    (tmp_path / "report.md").write_text("edited")
    assert verify(tmp_path) == ["changed", "missing", "report.md"]


def test_a_large_file_is_hashed_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "weights").write_bytes(content)
    assert sha256_file(tmp_path / "weights") == hashlib.sha256(content).hexdigest()


def test_a_manifest_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(PLAIN, options={"samples": 300}))
    text = (tmp_path / NAME).read_text().rstrip()
    for length in range(0, len(text), 7):
        (tmp_path / NAME).write_text(text[:length])
        with pytest.raises(InputError, match="truncated or not JSON"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not an infopt manifest"),
        ("null", "not an infopt manifest"),
        ('{"name": "chrome extension"}', "not an infopt manifest"),
        ('{"schema": "infopt.report/1"}', "not an infopt manifest"),
        ('{"schema": "infopt.manifest/2"}', r"infopt\.manifest/2.*update"),
        ('{"schema": "infopt.manifest/1"}', "lacks the key"),
        ("[" * 100_000, "truncated or not JSON"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / NAME).write_text(content)
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"not JSON .*decode byte 0xff"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", r"there is no manifest at .*nowhere"), ("file", "cannot read manifest .*file")]
)
def test_a_place_without_a_manifest_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("target", 5, "target is not a string"),
        ("artifact", ["model.engine"], "artifact is not a string"),
        ("versions", {"numpy": 2}, r"versions\.numpy is not a string"),
        ("options", [], "options is not an object"),
        ("record", None, "record is not an object"),
        ("artifact", "/etc/passwd", "leads out"),
        ("graph", "../other/model.onnx", "leads out"),
        ("graph", "", "leads out"),
        ("outputs", {"a/../../b": "0"}, "leads out"),
    ],
)
def test_a_damaged_manifest_is_refused_with_the_key(tmp_path: Path, key: str, value: Any, message: str) -> None:
    write_manifest(tmp_path, PLAIN)
    data = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**data, key: value}))
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path)


def test_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    write_manifest(tmp_path, PLAIN)
    data = json.loads((tmp_path / NAME).read_text())
    (tmp_path / NAME).write_text(json.dumps({**data, "new": 1}))
    assert read_manifest(tmp_path) == PLAIN
