"""Structured pruning of networks over sequences: hidden units of recurrent layers, and heads in all their forms."""

from __future__ import annotations

from typing import Any

import pytest
from passes.sequences import SEQUENCES
from passes.test_prune import check_equal


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_pruned_network_computes_what_the_silenced_one_does(name: str, run_float: Any) -> None:
    work = check_equal(SEQUENCES[name](), run_float, 0)
    assert work.groups
