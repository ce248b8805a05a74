"""How large activations are; kept here for those who calibrate, see :mod:`infopt.sizes`."""

from infopt.sizes import ITEM, grouped, tensor_bytes

__all__ = ["ITEM", "grouped", "tensor_bytes"]
