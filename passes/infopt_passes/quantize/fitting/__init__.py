"""Fits weights and biases to what calibration samples show of each layer's input.

Every algorithm looks at one layer at a time, as a product: rows of input (a kernel's patch, a token) times the weight.
:mod:`.layout` writes nodes that way, :mod:`.gather` collects the inputs' moments over the samples, and the others
choose scales (:mod:`.scales`), integers (:mod:`.rounding`), shifts of the bias (:mod:`.bias`) and new weights
(:mod:`.refit`) from them. :mod:`.fitted` applies what the options ask for.
"""
