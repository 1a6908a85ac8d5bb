from __future__ import annotations

from pathlib import Path

import pandas as pd

from brainpretrain.report.write import write_table
from report_fixtures import spec, two_arms


def test_all_files_of_a_table_depend_on_the_scores_alone(tmp_path: Path) -> None:
    scores = two_arms()
    more = pd.concat([scores, scores.assign(task="another")]).sample(frac=1, random_state=5)
    write_table(tmp_path / "a", scores, spec(), {})
    write_table(tmp_path / "b", more, spec(), {})
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    parts = [
        f"demo{part}.{kind}"
        for part in ("", "_labels", "_metrics", "_ranks", "_verdicts")
        for kind in ("tsv", "md", "tex", "html", "txt")
    ]
    assert files == sorted([*parts, "demo_ranks.svg", "demo_ranks.png"])
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
