"""The processor of this machine."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Literal

Isa = Literal["avx2", "vnni", "amx", "arm"]
"""Instruction sets that matter to INT8, as ``--isa`` names them."""

TELLING = ("amx_int8", "amx_bf16", "avx512_vnni", "avx_vnni", "avx512_bf16")
"""Processor flags that a report names."""

CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """The processor's model name, and the instruction sets that matter to INT8."""
    model = re.search(r"model name\s*:\s*(.+)", _cpuinfo())
    sets = [flag for flag in TELLING if flag in cpu_flags()]
    known = model[1] if model else platform.processor() or platform.machine() or "CPU"
    return " ".join([known, *([f"({', '.join(sets)})"] if sets else [])])


def cpu_flags() -> frozenset[str]:
    """What the processor says that it can; empty where the system does not tell."""
    found = re.search(r"flags\s*:\s*(.+)", _cpuinfo())
    return frozenset(found[1].split() if found else ())


def machine_isa() -> Isa:
    """The instruction set of this machine; on x86 the smallest where the system does not tell."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return "arm"
    flags = cpu_flags()
    if "amx_int8" in flags:
        return "amx"
    return "vnni" if flags.intersection({"avx512_vnni", "avx_vnni"}) else "avx2"


def _cpuinfo() -> str:
    try:
        return CPUINFO.read_text()
    except OSError:
        return ""
