"""Everything that infopt raises on purpose, as one tree.

    InfoptError                    exit code 1 when nothing below fits
    ├── InputError                 2  bad usage or bad input
    │   ├── OptionError               an option, recipe key or name that does not exist or does not fit
    │   ├── ModelError                a file that is not a usable ONNX model
    │   ├── DataError                 calibration or evaluation data that cannot be used
    │   └── OutputError               an output path that must not or cannot be written
    ├── TargetUnavailable          4  a target that was required is not on this machine
    ├── RuntimeRefused             5  the target runtime rejected or crashed on the model
    └── Unmeasured                    something cannot be measured here; always caught, the report says why

Exit code 3 ("the answer is no") is a verdict, not an error: it is never raised.

A message says what is wrong and where; ``remedy`` says what to do about it. The command line prints both on
one line, the library user finds them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InfoptError(Exception):
    """Base of all errors that infopt raises on purpose.

    Attributes:
        exit_code: Exit code of the command line for this error.
        remedy: What the user can do about it, or an empty string.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}; {self.remedy}" if self.remedy else message


class InputError(InfoptError):
    """Bad usage or bad input; the user can mend it."""

    exit_code = 2


class OptionError(InputError):
    """An option, key or name that does not exist, or a value that does not fit it."""


class ModelError(InputError):
    """A file that is not an ONNX model infopt can use."""


class DataError(InputError):
    """Calibration or evaluation data that cannot be used with this model."""


class OutputError(InputError):
    """An output path that must not, or cannot, be written."""


class TargetUnavailable(InfoptError):  # noqa: N818 - a state, not a mistake
    """A target that the user required is not usable on this machine."""

    exit_code = 4


class RuntimeRefused(InfoptError):  # noqa: N818 - a state, not a mistake
    """The target runtime rejected the model or failed while running it.

    Attributes:
        target: Name of the target.
        reason: Why, without who and where.
        node: Name of the node that the runtime objected to, if it told.
        log: What the runtime printed, whole.
    """

    exit_code = 5

    def __init__(self, target: str, message: str, node: str | None = None, log: str = "") -> None:
        where = f" at node {node!r}" if node else ""
        super().__init__(f"{target} refused the model{where}: {message}")
        self.target, self.reason, self.node, self.log = target, message, node, log


class Unmeasured(InfoptError):  # noqa: N818 - a state, not a mistake
    """Something cannot be measured on this machine; the message is the reason."""


def unknown(kind: str, name: str, known: Iterable[str]) -> OptionError:
    """The error for a name that is not among the known ones, with the nearest of them.

    Args:
        kind: What the name should be, for the message: ``"target"``, ``"recipe key"``.
        name: What the user wrote.
        known: The names that exist.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return OptionError(f"unknown {kind} {name!r}", remedy)
