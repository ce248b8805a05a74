"""Streaming calibration: what tensors' values span, at a memory cost that no number of samples and no depth changes.

Not a pass: what passes that look at samples share. Observers are folds (:mod:`infopt_passes.calibrate.observers`); the
sweeps that feed them are planned by :mod:`infopt_passes.calibrate.calibration`.
"""
