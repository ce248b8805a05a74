"""Layers as matrix products, and the moments of what they read on samples: what passes fit weights with."""
