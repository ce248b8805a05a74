"""Paired statistics: what the samples of an evaluation set say about the difference of two models.

* :mod:`~infopt.stats.proportions`: right or wrong; the score interval of Tango, the exact test of McNemar.
* :mod:`~infopt.stats.bca`: a number for each sample; the bootstrap with bias correction and acceleration.
* :mod:`~infopt.stats.opaque`: only a number for all samples; the bootstrap as far as time allows.
* :mod:`~infopt.stats.clusters`: samples that belong together count less than as many that do not.
* :mod:`~infopt.stats.limits`: one-sided limits at any confidence from those that a report holds.
* :mod:`~infopt.stats.margin`: the drop against a budget, and how many more samples would decide.
"""
