"""The process that draws: Vega-Lite specifications as a JSON array on stdin, SVG texts as one on stdout.

It is a process of its own, because a JavaScript engine reserves many gigabytes of address space and ends its process
where it does not get them; see :mod:`infopt.views.html.draw`.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Draw everything that stdin asks for."""
    import vl_convert

    json.dump([vl_convert.vegalite_to_svg(spec) for spec in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
