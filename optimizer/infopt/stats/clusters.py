"""Samples that belong together: crops of one part, frames of one video, visits of one patient.

They are alike, so ten of one group tell less than ten of ten groups. What varies independently are the groups;
every sample is a group of its own where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from infopt.stats.limits import CI95, Interval, at_levels
from infopt.stats.proportions import EDWARDS, score_limits

if TYPE_CHECKING:
    from infopt.stats.limits import Bounds


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Differences of the samples, summed by group.

    Attributes:
        sums: Sum of each group's differences, float64 [G].
        sizes: Samples of each group, float64 [G].
    """

    sums: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def samples(self) -> float:
        """How many samples there are."""
        return float(self.sizes.sum())

    @property
    def mean(self) -> float:
        """Mean difference of a sample."""
        return float(self.sums.sum()) / self.samples

    @property
    def residuals(self) -> np.ndarray:
        """How far each group's sum is from what the mean makes it, float64 [G]."""
        return self.sums - self.sizes * self.mean

    @property
    def degrees(self) -> float:
        """Degrees of freedom of :attr:`variance`: G - 1 for groups of one size, fewer otherwise.

        Satterthwaite's approximation for independent samples, in closed form for a mean (see :attr:`variance`).
        """
        shares = self.sizes / self.samples
        squeezed = shares**2 / (1 - shares)
        return float(1 / ((shares**2).sum() + squeezed.sum() ** 2 - (squeezed**2).sum()))

    @property
    def variance(self) -> float:
        """Cluster-robust variance of the mean, "CR2", without bias for independent samples.

        R. M. Bell, D. F. McCaffrey, "Bias reduction in standard errors for linear regression with multi-stage
        samples", Survey Methodology 28 (2002) 169-181; for the mean the leverage of a group is its share.
        """
        shares = self.sizes / self.samples
        return float((self.residuals**2 / (1 - shares)).sum()) / self.samples**2


def clustered(differences: np.ndarray, groups: np.ndarray | None) -> Clusters:
    """Sum differences by group.

    Args:
        differences: float64 [N].
        groups: What each sample belongs to, [N]; ``None`` for samples on their own.
    """
    if groups is None:
        return Clusters(differences, np.ones(len(differences)))
    which = np.unique(groups, return_inverse=True)[1]
    return Clusters(np.bincount(which, differences), np.bincount(which).astype(np.float64))


def clustered_proportions(changes: np.ndarray, groups: np.ndarray) -> Interval:
    """Score interval of the difference of two paired proportions when samples come in groups.

    Tango's interval of as many independent samples as the groups are worth, with a quantile of Student's t: the
    way of E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data", Survey Methodology 24 (1998) 193-201.

    Args:
        changes: 1 for a sample that only the second model has right, -1 for one that only the first has, else 0,
            float64 [N].
        groups: What each sample belongs to, [N], at least two.
    """
    from scipy.special import stdtrit

    found = clustered(changes, groups)
    flips = clustered(np.abs(changes), groups)
    worth = design_effect(found, flips)
    gained, lost = (float((changes == sign).sum()) / worth for sign in (1, -1))

    def bounds(confidence: float, correction: float = EDWARDS) -> Bounds:
        z = float(stdtrit(found.degrees, confidence))
        return score_limits(gained, lost, found.samples / worth, z, correction)

    return replace(at_levels("cluster-tango", bounds), ci95=bounds(CI95, 0.0))


def design_effect(differences: Clusters, flips: Clusters) -> float:
    """How many samples in their groups are worth one on its own; 1 for groups of one.

    The ratio of the variances with and without groups says it where many groups have flips. Where few have, a group
    that flips as a whole may be missing by chance; so one such group is added to what was seen.

    Args:
        differences: The signed changes.
        flips: Their absolute values.
    """
    n = differences.samples
    most = float(differences.sizes @ differences.sizes) / n
    grouped = n**2 * differences.variance + most**2
    alone = float(flips.sums.sum()) - n * differences.mean**2 + most
    return min(max(grouped / alone, 1.0), most)
