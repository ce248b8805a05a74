"""Compares two profiles statistic by statistic, and says whether the second one's data have drifted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from infopt import __version__
from infopt.drifting.describe import CLASSES, CLIPPED, NOT_FINITE, VALUES, Key
from infopt.drifting.options import DriftOptions
from infopt.drifting.profile import Profile
from infopt.drifting.report import Clipping, DriftReport, Limits, Seen, Size, Statistic, Status
from infopt.drifting.sketch import Sketch, Tally
from infopt.drifting.statistics import (
    Difference,
    adjusted,
    distance_of,
    needed,
    of_classes,
    of_numbers,
    of_presence,
    visible_distance,
)

NOTHING = "nothing was compared: the profile and the data have no statistic in common"

NAMED = 5
"""Drifted statistics that the reasons name."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """A statistic of both profiles."""

    key: Key
    difference: Difference
    means: tuple[float | None, float | None]

    @property
    def tested(self) -> bool:
        """Whether its unit is the sample."""
        return self.key.what != VALUES


def judge(reference: Profile, data: Profile, options: DriftOptions, paths: tuple[str, str]) -> DriftReport:
    """Compare data with what calibration saw.

    A statistic has drifted when its adjusted p-value is at most ``options.false_alarms`` and the difference reaches
    ``options.psi``; a tensor's clipping when its rate rose by ``options.clipping``. Without a drift the answer is
    ``no drift`` only if a major one of a single statistic would have been noticed.

    Args:
        reference: The profile.
        data: A profile of the new data, of the same model.
        options: The limits.
        paths: Where both come from.
    """
    compared = _compare(reference, data, options.seed)
    numbers = adjusted({i: each.difference.p for i, each in enumerate(compared) if each.tested})
    statistics = [_statistic(each, numbers.get(i), options) for i, each in enumerate(compared)]
    statistics.sort(key=lambda each: (not each.drifted, each.p is None, each.of == "tensor", -each.psi))
    clipping = [_clipping(each) for each in statistics if each.what == CLIPPED]
    clipping.sort(key=lambda each: (not each.drifted, each.calibrated - each.data, each.name))
    visible = visible_distance(len(numbers), options.false_alarms, (reference.units, data.units))
    wanted = distance_of(options.psi_major)
    drifted = [each for each in statistics if each.drifted]
    status: Status = "drift" if drifted else "no drift" if numbers and visible <= wanted else "undecided"
    enough = needed(len(numbers), options.false_alarms, wanted, reference.units) if numbers else None
    reasons = _drifts(drifted) if drifted else ()
    if status == "undecided":
        reasons = _doubts(reference, data, enough) if numbers else (NOTHING,)
    return DriftReport(
        infopt=__version__,
        verdict=status,
        reasons=reasons,
        model=reference.model,
        graph=reference.graph,
        reference=Seen(paths[0], reference.samples, reference.units),
        data=Seen(paths[1], data.samples, data.units),
        limits=Limits(options.psi, options.psi_major, options.clipping, options.false_alarms),
        tests=len(numbers),
        visible=visible,
        more_samples=enough - data.units if enough and status == "undecided" else None,
        statistics=tuple(statistics),
        clipping=tuple(clipping),
        warnings=tuple(dict.fromkeys((*reference.notes, *data.notes))),
    )


def title(statistic: Statistic) -> str:
    """A statistic in words: ``mean of input x, channel 0``."""
    part = f", {statistic.part}" if statistic.part else ""
    return f"{statistic.what} of {statistic.of} {statistic.name}{part}"


def _compare(reference: Profile, data: Profile, seed: int) -> list[_Compared]:
    """Every statistic of the reference: what both have, what the data have no more, and what is no number."""
    found = _not_finite(reference, data)
    looked_at = {key.of for key in (*(data.sketches or {}), *(data.tallies or {}))}
    for key, one in (reference.sketches or {}).items():
        two = (data.sketches or {}).get(key)
        if not len(one):
            continue
        if two is None or not len(two):
            if two is None and key.of in looked_at and key.what not in (VALUES, CLIPPED):
                found.append(_vanished(key, one, reference, data))
            continue
        units = _units(len(one), reference), _units(len(two), data)
        found.append(_Compared(key, of_numbers(one, two, units), (one.mean, two.mean)))
    for key, tally in (reference.tallies or {}).items():
        other = (data.tallies or {}).get(key)
        if other is None:
            continue
        units = _units(tally.samples, reference), _units(other.samples, data)
        single = key.what == CLASSES
        difference = of_classes(tally, other, units, seed) if single else of_presence(tally, other, units)
        found.append(_Compared(key, difference, (None, None)))
    return found


def _vanished(key: Key, one: Sketch, reference: Profile, data: Profile) -> _Compared:
    there = Tally(Counter({key.what: min(len(one), reference.samples)}), reference.samples)
    difference = of_presence(there, Tally(samples=data.samples), (reference.units, data.units))
    return _Compared(key, difference, (one.mean, None))


def _not_finite(reference: Profile, data: Profile) -> list[_Compared]:
    """How many samples gave no finite number, of each tensor of which some did: by its worst statistic."""
    worst: dict[tuple[str, str], list[int]] = {}
    for side, profile in enumerate((reference, data)):
        for key, each in (profile.sketches or {}).items():
            if key.what != VALUES and each.lost:
                lost = worst.setdefault((key.of, key.name), [0, 0])
                lost[side] = max(lost[side], min(each.lost, profile.samples))
    sizes, units = (reference.samples, data.samples), (float(reference.units), float(data.units))
    found = []
    for (of, name), counts in worst.items():
        one, two = (Tally(Counter({NOT_FINITE: n}), size) for n, size in zip(counts, sizes, strict=True))
        shares = counts[0] / max(sizes[0], 1), counts[1] / max(sizes[1], 1)
        found.append(_Compared(Key(of, name, "", NOT_FINITE), of_presence(one, two, units), shares))
    return found


def _units(count: int, profile: Profile) -> float:
    """Independent numbers among a statistic's: a run of a fixed batch gives one, a group of samples counts once."""
    return min(count, profile.samples) * profile.units / profile.samples


def _statistic(compared: _Compared, q: float | None, options: DriftOptions) -> Statistic:
    key, difference, (before, after) = compared.key, compared.difference, compared.means
    if key.what == CLIPPED:
        large = before is not None and after is not None and after - before >= options.clipping
    else:
        large = difference.psi >= options.psi
    size: Size = "none" if difference.psi < options.psi else "moderate"
    if difference.psi >= options.psi_major:
        size = "major"
    return Statistic(
        *key,
        before,
        after,
        difference.psi,
        difference.ks,
        difference.js,
        difference.p if compared.tested else None,
        q,
        q is not None and q <= options.false_alarms and large,
        size,
    )


def _clipping(statistic: Statistic) -> Clipping:
    before, after, q = statistic.reference, statistic.data, statistic.q
    assert before is not None
    assert after is not None
    assert q is not None
    return Clipping(statistic.name, before, after, q, statistic.drifted)


def _drifts(drifted: list[Statistic]) -> tuple[str, ...]:
    """The worst of what drifted, in words."""
    said = [_said(each) for each in drifted[:NAMED]]
    if len(drifted) > NAMED:
        said.append(f"and {len(drifted) - NAMED} more")
    return tuple(said)


def _said(statistic: Statistic) -> str:
    name, before, after = title(statistic), statistic.reference, statistic.data
    if statistic.what == CLIPPED and before is not None and after is not None:
        return f"of tensor {statistic.name} {after:.1%} of the values are clipped, {before:.1%} in calibration"
    if statistic.what == NOT_FINITE and before is not None and after is not None:
        return f"{statistic.of} {statistic.name} is not finite in {after:.1%} of the samples, {before:.1%} before"
    if before is not None and after is None:
        return f"{name} is gone: no sample of the data has it"
    change = "" if before is None else f" from {before:.4g} to {after:.4g}"
    return f"{name} changed{change} (PSI {statistic.psi:.2f}, {statistic.size}; KS {statistic.ks:.2f})"


def _doubts(reference: Profile, data: Profile, enough: int | None) -> tuple[str, ...]:
    if enough is None:
        return (
            f"the profile's {reference.units} samples are too few to notice even a major drift of one statistic: "
            "calibrate with more",
        )
    return (
        f"{data.units} samples are too few to notice even a major drift of one statistic: {enough} would be enough",
    )
