"""Readers of calibration and evaluation data; each is loaded when data of its kind is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
"""Suffixes of files that are taken for pictures."""

READERS: dict[str, str] = {
    ".npz": "infopt.readers.npz:open_npz",
    **{f"*{suffix}": "infopt.readers.images:open_images" for suffix in PICTURES},
}
"""What opens which data: ``.suffix`` is a file, ``*.suffix`` a folder that holds such files.

Each value names a function ``(path, inputs, preprocess) -> Samples`` as ``module:function``.
"""


def data_files(folder: Path) -> list[Path]:
    """Files of a folder and its subfolders by name, without hidden ones and ``labels.csv``."""
    visible = (f for f in folder.rglob("*") if not any(part.startswith(".") for part in f.relative_to(folder).parts))
    return sorted(file for file in visible if file.is_file() and file != folder / "labels.csv")
