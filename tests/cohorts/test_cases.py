import json

import pandas as pd
import pytest

from brainpretrain.cohorts.cases import IGNORED, label_lookup, labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv


def test_label_lookup_groups_values_and_marks_the_ignored():
    lookup = label_lookup({"cortex": [1002, 2002], "stem": [16]}, [7])
    assert list(lookup[[0, 16, 1002, 2002, 7, 5]]) == [0, 2, 1, 1, IGNORED, 0]


def test_incomplete_cases_are_left_out(cohort):
    assert labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w", "FLAIR"]) == {}


def test_sequences_on_other_grids_or_crops_are_refused(cohort):
    table = read_tsv(cohort.table)
    other = table.assign(sequence="FLAIR")
    assert len(labelled_cases(pd.concat([table, other]), cohort.folder, ["T1w", "FLAIR"])) == len(table)
    geometry = json.loads(other.loc[0, "geometry"])
    geometry["box"][0] = [n + 1 for n in geometry["box"][0]]  # the same shape, a voxel further
    other.loc[0, "geometry"] = json.dumps(geometry)
    with pytest.raises(UserError, match="stored on different grids or crops"):
        labelled_cases(pd.concat([table, other]), cohort.folder, ["T1w", "FLAIR"])


def test_two_volumes_of_one_sequence_are_refused(cohort):
    table = read_tsv(cohort.table)
    with pytest.raises(UserError, match="several volumes of one sequence"):
        labelled_cases(pd.concat([table, table.head(1).assign(volume="again")]), cohort.folder, ["T1w"])
