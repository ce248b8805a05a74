"""Sessions of OpenVINO models: for inputs of any shape, and for one shape that is compiled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from infopt.data import Feed
    from infopt.target import Settings

STATIC = "infopt.static"
"""A setting of infopt's own, not of the runtime's: which shape is compiled in (``Model.reshape`` before compiling)."""

FIRST = "first"
"""The shapes of the first inputs that come; others run in a model for any shape, compiled when they come."""

Shapes = Mapping[str, tuple[int, ...]]
"""Input name to shape."""


def own(settings: Settings) -> dict[str, str]:
    """The settings that are the runtime's own."""
    return {name: value for name, value in settings.items() if name != STATIC}


@dataclass(frozen=True, slots=True)
class OpenVINOSession:
    """An infer request behind :class:`infopt.target.Session`.

    Attributes:
        request: The runtime's.
        refused: Makes infopt's error of the runtime's.
    """

    request: Any
    refused: Callable[[Exception], Exception]

    def run(self, feed: Feed) -> list[np.ndarray]:
        """Run one batch; see :meth:`infopt.target.Session.run`."""
        import numpy as np

        try:
            self.request.infer(feed)
        except Exception as error:
            raise self.refused(error) from error
        # The tensors' memory belongs to the request and changes with its next call.
        return [np.array(tensor.data) for tensor in self.request.output_tensors]


class StaticSession:
    """A session whose first input decides the shapes that are compiled in.

    Small networks spend much of their time on what shapes could be; a model for one shape does not.
    """

    def __init__(self, opened: Callable[[Shapes | None], OpenVINOSession]) -> None:
        """Take what opens the model, for given shapes or for any."""
        self._opened = opened
        self._shapes: Shapes | None = None
        self._static: OpenVINOSession | None = None
        self._any: OpenVINOSession | None = None

    def run(self, feed: Feed) -> list[np.ndarray]:
        """Run one batch; see :meth:`infopt.target.Session.run`."""
        shapes = {name: array.shape for name, array in feed.items()}
        if self._shapes is None:
            self._shapes, self._static = shapes, self._opened(shapes)
        if shapes == self._shapes and self._static is not None:
            return self._static.run(feed)
        if self._any is None:
            self._any = self._opened(None)
        return self._any.run(feed)
