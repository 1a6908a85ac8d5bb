"""Filters of a corpus that cannot be meant are refused by the plan, or as soon as the stored volumes show it."""

from __future__ import annotations

import pytest
import yaml

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.plan import existing, tables


def planned(config_dir, filters: dict, source: dict | None = None):
    """The study hippocampus with filters of its corpus."""
    path = config_dir / "corpora.yaml"
    content = yaml.safe_load(path.read_text())
    entry = content["corpora"]["hippocampus_unlabelled"]
    entry["filters"] = filters
    entry["sources"][0].update(source or {})
    path.write_text(yaml.safe_dump(content))
    return tables.make(config.load(config_dir, {"study": "hippocampus"}))


@pytest.mark.parametrize(
    ("filters", "source", "message"),
    [
        ({}, {}, "has no limit"),
        ({"min_fov_mm": 0}, {}, "greater than 0"),
        ({"min_fov": 50}, {}, "min_fov_mm"),
        ({"sequences": ["T1w"], "exclude_sequences": ["T1w"]}, {}, "both list T1w"),
        ({"sequences": ["FLAIR"]}, {}, "no source of the corpus 'hippocampus_unlabelled' has the sequence FLAIR"),
        ({"exclude_sequences": ["T1w"]}, {"sequences": ["T1w"]}, "leave out every sequence of the source 'msd_hippocampus': T1w"),
    ],
)
def test_filters_that_cannot_be_meant_are_refused(config_dir, filters, source, message):
    with pytest.raises(UserError, match=message):
        planned(config_dir, filters, source)


def test_stored_volumes_show_that_nothing_passes(config_dir, cohort):
    plan = planned(config_dir, {"min_fov_mm": 30, "min_file_kb": 1})
    table = cohort.table.read_text().replace("\ttrain\t", "\tunlabelled\t")
    path = config_dir / "volumes.tsv"
    path.write_text(table)
    with pytest.raises(UserError, match=r"leave none of the 6 volumes of 'msd_hippocampus': 6 field of view[\s\S]*filters"):
        existing.check_filters(plan, "hippocampus_unlabelled", {"msd_hippocampus": path})
    existing.check_filters(plan, "hippocampus_unlabelled", {"msd_hippocampus": config_dir / "none.tsv"})
