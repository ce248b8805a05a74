"""What only a runtime can tell; :mod:`infopt.checks.ask` asks it."""

from __future__ import annotations

from infopt.checks.rule import LintRule

ROWS = (
    LintRule(
        "opset-refused",
        "error",
        "The installed runtime does not take models of this operator set or IR version at all.",
        "export with an older opset or IR version, or update the runtime",
        None,
    ),
    LintRule(
        "parser-refused",
        "error",
        "The runtime's parser refuses the node: an operator, type or attribute that it does not know.",
        "replace the operator, or export with settings that avoid it",
        None,
    ),
    LintRule(
        "build-refused",
        "error",
        "The model parses, but the runtime cannot build it.",
        "see the runtime's message; change the named node or keep it out of the quantized part",
        None,
    ),
    LintRule(
        "guessed-shape",
        "warning",
        "The model parses, but does not build for the shapes that were guessed for its dynamic inputs.",
        "give the shapes that you will use, --shape NAME=MIN..OPT..MAX",
        None,
    ),
    LintRule(
        "runtime-crashed",
        "error",
        "The runtime's process died while it was given the model.",
        "try another version of the runtime; report the model to its makers",
        None,
    ),
    LintRule(
        "kernel-in-float",
        "warning",
        "The node's inputs are quantized, yet the runtime was seen to run it in float: Q/DQ only cost time there.",
        "quantize for this target (infopt quantize), or leave the node in float without Q/DQ",
        None,
    ),
)
