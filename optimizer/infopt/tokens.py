"""Token ids back to text, for people to read: a vocabulary is enough for that, no tokenizer has to run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from infopt.errors import OptionError

Kind = Literal["pieces", "words", "bytes", "marked"]

_SPECIAL = re.compile(r"\[[A-Z]+\d*\]|<[a-z/|_]+>")
_REMEDY = "give the model's tokenizer.json, or a vocab.txt with one token a line"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens by their ids.

    Attributes:
        tokens: Id to token.
        kind: How tokens join: ``pieces`` are words, those with ``##`` in front go on (WordPiece); ``bytes`` stand for
            bytes (byte-level BPE); ``words`` are whole words; ``marked`` begin a word with
            U+2581 or end it with ``</w>``.
        special: Ids of tokens that are no text.
    """

    tokens: Mapping[int, str] = field(repr=False)
    kind: Kind
    special: frozenset[int] = frozenset()

    def text(self, ids: Sequence[int]) -> str:
        """The text of some ids; special tokens, padding among them, are left out, unknown ids become U+FFFD."""
        tokens = [self.tokens.get(number, "\ufffd") for number in ids if number not in self.special]
        if self.kind == "bytes":
            table = _bytes_of_characters()
            joined = b"".join(bytes([table[c]]) if c in table else c.encode() for token in tokens for c in token)
            return joined.decode("utf-8", "replace").strip()
        if self.kind == "marked":
            return "".join(tokens).replace("\u2581", " ").replace("</w>", " ").strip()
        spaced = " ".join(tokens)
        return spaced if self.kind == "words" else spaced.replace(" ##", "")


def read_vocabulary(path: Path) -> Vocabulary:
    """Read ``tokenizer.json`` (of the Hugging Face tokenizers) or ``vocab.txt`` (a token a line, from id 0).

    Raises:
        OptionError: The file cannot be read, or is neither.
    """
    try:
        content = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return _from_json(json.loads(content))
    except OSError as error:
        raise OptionError(f"cannot read tokenizer {path}: {error.strerror or error}", _REMEDY) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OptionError(f"{path} is no tokenizer that infopt can read ({error!r})", _REMEDY) from error
    tokens = dict(enumerate(content.splitlines()))
    special = frozenset(number for number, token in tokens.items() if _SPECIAL.fullmatch(token))
    return Vocabulary(tokens, "pieces", special)


def _from_json(content: Any) -> Vocabulary:
    model = content["model"]
    listed = model["vocab"]
    pairs = listed.items() if isinstance(listed, dict) else ((token, n) for n, (token, _) in enumerate(listed))
    tokens = {int(number): str(token) for token, number in pairs}
    added = content.get("added_tokens") or []
    tokens |= {int(entry["id"]): str(entry["content"]) for entry in added}
    special = frozenset(int(entry["id"]) for entry in added if entry.get("special"))
    kinds: dict[str, Kind] = {"WordPiece": "pieces", "WordLevel": "words"}
    kind = kinds.get(model.get("type"), "marked")
    if kind == "marked" and any(token.startswith("\u0120") for token in tokens.values()):
        kind = "bytes"
    return Vocabulary(tokens, kind, special)


@cache
def _bytes_of_characters() -> dict[str, int]:
    """The characters by which byte-level BPE writes bytes: itself where it can be seen, else one from U+0100 on.

    A. Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), its published tokenizer.
    """
    seen = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + place): byte for place, byte in enumerate(hidden)}
