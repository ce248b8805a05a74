"""Views of the report, and what they share: numbers and names as a reader sees them."""

from __future__ import annotations

import math
import unicodedata

MISSING = "-"
UNKNOWN = "no reason is known"
LIMITS = {
    "max_drop": ("the drop of accuracy", "drop"),
    "max_class_drop": ("the drop of the worst class", "drop of a class"),
    "min_speedup": ("the speedup", "speedup"),
    "max_p99_ms": ("the 99th percentile of the latency", "p99"),
    "max_bytes": ("the size", "size"),
    "max_peak_bytes": ("the peak memory", "peak memory"),
    "min_integer_share": ("the share of integer layers", "share"),
}
"""What each limit of a budget is about: in a sentence, and in a cell."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def limit_about(name: str) -> str:
    """What a limit is about, for a sentence."""
    return LIMITS[name][0] if name in LIMITS else name


def limit_short(name: str) -> str:
    """What a limit is about, for a cell."""
    return LIMITS[name][1] if name in LIMITS else name


def visible(text: str, limit: int = 160) -> str:
    """A name or message that cannot leave its line.

    Args:
        text: Anything, also what a hostile file or node is called.
        limit: Longest result; what is longer loses its middle.

    Returns:
        One line without control, formatting or surrogate characters: a terminal shows it as it is.
    """
    shown = " ".join(unhidden(text).split())
    if len(shown) <= limit:
        return shown
    tail = limit // 3
    return f"{shown[: limit - tail - 1]}…{shown[-tail:]}"


def unhidden(text: str) -> str:
    """Text whose control, formatting and surrogate characters can be seen; its white space stays as it is."""
    return "".join("\ufffd" if unicodedata.category(c) in _HIDDEN and not c.isspace() else c for c in text)


def metric(value: float | None) -> str:
    """A metric with four decimals, or some digits where it is not of the order of one."""
    if value is None or not math.isfinite(value):
        return MISSING
    if 1e-5 <= abs(value) < 1e-4:  # which would be written with an exponent
        return digits(value, 2)
    return f"{value:.4f}" if value == 0 or 5e-4 <= abs(value) < 10 else f"{value:.4g}"


def signed(value: float) -> str:
    """A difference of metrics with its sign."""
    return f"{'+' if value >= 0 else ''}{metric(value)}"


def span(interval: tuple[float, float] | None) -> str:
    """An interval of metrics."""
    return MISSING if interval is None else f"{metric(interval[0])}..{metric(interval[1])}"


def digits(value: float | None, count: int = 3) -> str:
    """A number with at least ``count`` significant digits and no exponent."""
    if value is None or not math.isfinite(value):
        return MISSING
    rounded = float(f"{value:.{count - 1}e}")  # 9.999 has one digit before the point, 10.0 has two
    decimals = count - 1 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{value:.{min(max(decimals, 0), 9)}f}"


def megabytes(size: int | None) -> str:
    """Bytes in the decimal unit that suits them."""
    if size is None:
        return MISSING
    if size < 1000:
        return f"{size} B"
    power = min(int(math.log10(size) // 3), 4)
    return f"{digits(size / 1000**power)} {('', 'kB', 'MB', 'GB', 'TB')[power]}"


def short(count: int | None) -> str:
    """A large number with three digits and the unit that suits it, such as ``"81.5 M"``."""
    if count is None:
        return MISSING
    power = min(int(math.log10(count) // 3), 4) if count >= 1000 else 0
    return f"{digits(count / 1000**power)} {('', 'k', 'M', 'G', 'T')[power]}".strip()


def percent(share: float | None) -> str:
    """A share of one as a percentage."""
    return MISSING if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def times(factor: float) -> str:
    """A factor with two decimals."""
    return f"{factor:.2f}x"
