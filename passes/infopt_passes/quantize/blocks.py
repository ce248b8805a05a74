"""Scales of a matrix that is quantized in blocks of its columns."""

from __future__ import annotations

import numpy as np

from infopt.target import Scheme
from infopt_passes.quantize.numbers import PART, SMALLEST_SCALE, Array, limits

SMALLEST_BLOCK = 16
"""No runtime has kernels for shorter blocks."""

SHARES = np.linspace(1.0, 0.55, 10)
"""Parts of the range that does not clip that are tried for a block."""


def fitting_block(rows: int, wanted: int) -> int | None:
    """The longest block of up to the wanted length that divides the rows of a matrix.

    Args:
        rows: Rows, which is the length that products are summed over.
        wanted: A power of two.

    Returns:
        A power of two, or ``None`` when none divides: padding would be computed with.
    """
    while wanted >= SMALLEST_BLOCK:
        if rows % wanted == 0:
            return wanted
        wanted //= 2
    return None


def block_scales(matrix: Array, block: int, scheme: Scheme) -> Array:
    """Scales with the least square error of rounding to nearest, of those that are tried.

    For each clipping of a block's range the weights are rounded, and the scale is then fitted to the integers by
    least squares, which takes the clipping's bias out again (HQQ and OCTAV choose clipping by the same measure;
    Sakr et al. 2022).

    Args:
        matrix: Float matrix of shape (rows, columns).
        block: Rows that share a scale; it divides the rows.
        scheme: The integers.

    Returns:
        float32 of shape (rows / block, columns); 1 for a block of zeros.
    """
    blocks = matrix.reshape(-1, block, matrix.shape[1])
    scales = np.empty((len(blocks), matrix.shape[1]), np.float32)
    count = max(1, PART * len(blocks) // max(matrix.size, 1))
    for start in range(0, len(blocks), count):
        part = slice(start, start + count)
        scales[part] = _fitted(blocks[part].astype(np.float32, copy=False), scheme)
    return scales


def _fitted(blocks: Array, scheme: Scheme) -> Array:
    bottom, top = limits(scheme)
    whole = np.maximum(blocks.max(axis=1) / top, blocks.min(axis=1) / bottom)
    whole = np.where(whole < SMALLEST_SCALE, np.float32(1), whole)
    best, least = whole, np.full(whole.shape, np.inf, np.float32)
    # Last, steps that the shorter end asks for, as a plain symmetric range has them.
    for share in (*SHARES.astype(np.float32), np.float32(-bottom / top)):
        rounded = np.clip(np.rint(blocks / (whole * share)[:, None]), bottom, top)
        squares = np.einsum("bkn,bkn->bn", rounded, rounded)
        step = np.einsum("bkn,bkn->bn", rounded, blocks) / np.maximum(squares, 1)
        # In steps: the squares of tiny weights are below what float32 tells from 0.
        error = np.square((blocks - rounded * step[:, None]) / whole[:, None]).sum(axis=1)
        better = (error < least) & (step > SMALLEST_SCALE)
        best, least = np.where(better, step, best), np.where(better, error, least)
    return best
