"""`make faults`: the fault list, a line each. A fault's tests are named after its number: `test_11_half_of_a_file`."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "reliability.md"


def listed() -> dict[int, str]:
    """Number and name of each fault, as the table in docs/reliability.md lists them."""
    rows = re.findall(r"^\| *(\d+) *\| *(.*?) *\|", PAGE.read_text(), re.MULTILINE)
    return {int(number): name for number, name in rows}


def number_of(nodeid: str) -> int:
    """The fault that a test is about."""
    return int(re.search(r"::test_(\d+)_", nodeid)[1])


class Outcomes:
    """Collects what the tests of each fault came to: a fault has passed if all its tests ran and passed."""

    def __init__(self) -> None:
        self.by_fault: defaultdict[int, list[str]] = defaultdict(list)
        self.seconds: defaultdict[int, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        number = number_of(report.nodeid)
        self.seconds[number] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self.by_fault[number].append(report.outcome)


def main(arguments: list[str]) -> int:
    outcomes = Outcomes()
    code = pytest.main(["--quiet", str(FOLDER), *arguments], plugins=[outcomes])
    faults = listed()
    passed = {number for number in faults if set(outcomes.by_fault[number]) == {"passed"}}
    print()
    for number, name in faults.items():
        result = "passed" if number in passed else ", ".join(sorted(set(outcomes.by_fault[number]))) or "no test ran"
        print(f"{number:2d}  {result:<7} {outcomes.seconds[number]:5.1f} s  {name}")
    print(f"{len(passed)} passed, {len(faults) - len(passed)} failed")
    return int(code) or len(passed) != len(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
