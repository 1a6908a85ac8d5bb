"""What a study can see: the difference found with a given power, and the draws that a difference needs.

The variances are those of `crossed.Components`, measured in a study or assumed before it. The tests are those of
`crossed.Estimate`: the t test of a difference and the two one-sided tests of equivalence.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import special

from brainpretrain.report.crossed import FEWEST_DRAWS, Components, quantile

POWER = 0.8
MOST_DRAWS = 1000


def visible(variance: float, df: float, level: float = 0.05, power: float = POWER) -> float:
    """The true difference that a two-sided t test at `level` finds in a share `power` of studies."""
    if not 0 < variance < math.inf or math.isnan(df):
        return 0.0 if variance == 0 else math.nan
    far = special.nctdtrinc(min(df, 1e5), 1 - power, quantile(df, 1 - level / 2))
    return float(far) * math.sqrt(variance)


def narrowest(variance: float, df: float, level: float = 0.05, power: float = POWER) -> float:
    """The margin within which two one-sided tests find equivalence in a share `power` of studies, if there is no difference."""
    return (quantile(df, 1 - level) + quantile(df, (1 + power) / 2)) * math.sqrt(variance) if variance else 0.0


def draws_to_see(parts: Components, subjects: float, difference: float, level: float = 0.05, power: float = POWER) -> int | None:
    """The fewest draws, all scored on so many subjects, with which a true `difference` is found; None: more than `MOST_DRAWS`."""
    return _fewest(lambda draws: visible(*parts.variance(draws, subjects), level, power) <= difference)


def draws_to_decide(parts: Components, subjects: float, margin: float, level: float = 0.05, power: float = POWER) -> int | None:
    """The fewest draws with which a difference of `margin` is found, and equivalence within it if there is no difference."""

    def enough(draws: int) -> bool:
        found = parts.variance(draws, subjects)
        return max(visible(*found, level, power), narrowest(*found, level, power)) <= margin

    return _fewest(enough)


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The fewest draws for which a test of their number holds, as it does for every larger number."""
    low, high = FEWEST_DRAWS, MOST_DRAWS
    if not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
