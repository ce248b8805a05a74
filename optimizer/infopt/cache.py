"""Where infopt keeps what takes long to find out again."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "INFOPT_CACHE"


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of content, or ``None`` where nothing is to be kept.

    Args:
        kind: Name of the folder: ``"calibration"``.
    """
    given = os.environ.get(VARIABLE, "")
    if given.lower() in ("off", "0", "no", "false"):
        return None
    if given:
        return Path(given) / kind
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path("~/.cache").expanduser()
    return root / "infopt" / kind
