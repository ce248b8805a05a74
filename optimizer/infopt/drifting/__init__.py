"""Drift: whether new data are still what calibration saw.

A profile holds sketches of what each sample of the calibration data was like, not the samples. New data are described
in the same way, and the two are compared statistic by statistic.
"""

from __future__ import annotations
