"""Accuracy is won back by least squares, and judged on the whole model."""
