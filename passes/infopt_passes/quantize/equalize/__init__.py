"""Equalization: a float model that computes the same, with channels that are easier to quantize together."""
