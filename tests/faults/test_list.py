"""The list of faults is complete: each fault has a test, and no test is without a fault."""

from __future__ import annotations

import re

from tests.faults.run import FOLDER, listed, number_of


def test_00_every_fault_has_a_test():
    names = re.findall(r"^def (test_\d\d_\w+)\(", "".join(path.read_text() for path in FOLDER.glob("test_*.py")), re.MULTILINE)
    tested = {number_of(f"::{name}") for name in names} - {0}
    assert set(range(1, 53)) <= set(listed())
    assert tested == set(listed())
