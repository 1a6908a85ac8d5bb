"""The list is whole: every fault has a test, and no test is without a fault."""

from __future__ import annotations

import re

from faults.run import FOLDER, listed, number_of


def test_00_every_fault_has_a_test():
    names = re.findall(r"^def (test_\d\d_\w+)\(", "".join(path.read_text() for path in FOLDER.glob("test_*.py")), re.MULTILINE)
    tested = {number_of(f"::{name}") for name in names} - {0}
    assert set(listed()) >= {*range(1, 53), *range(60, 65), 75}
    assert tested == set(listed())
