import pytest

import tiny
from brainpretrain import cli
from brainpretrain.files import read_json, write_json
from brainpretrain.weights import cards

FACTS = {
    "name": "amaes-on-open/unet_small", "kind": "encoder", "in_channels": 1, "encoder_parameters": 3_536_528, "steps": 1200,
    "backbone": {"architecture": "unet", "options": {"width": 16}}, "patch_size": [64, 64, 32], "preprocess": tiny.PREPROCESS,
    "corpus_sha256": "abc", "commit": "0123+", "datasets": {"ixi": {"subjects": 90, "volumes": 180}},
}  # fmt: skip
RUN = {"hardware": "a GPU, 8 CPU cores", "seconds": 7300.0, "python": "3.11", "config": tiny.pretrain_config(1200)}
CLOSED = {"adni": {"subjects": 5, "volumes": 9}, "my_phantom": {"subjects": 1, "volumes": 2}}


def test_it_says_what_the_manifests_say():
    text = cards.card(FACTS, RUN)
    for line in (
        "# amaes-on-open/unet_small",
        "| parameters | 3,536,528 |",
        "| patch in pretraining, voxels | 64 x 64 x 32 |",
        "| spacing mm | 1, 1, 1 |",
        "| pretext | amaes |",
        "| mask ratio | 0.6 |",
        "| steps | 1,200 |",
        "| hardware | a GPU, 8 CPU cores |",
        "| duration | 2 h 01 min |",
        "| commit | 0123+ |",
        "SHA-256 of `corpus.tsv`: abc",
    ):
        assert line in text.splitlines(), line
    (row,) = [line for line in text.splitlines() if line.startswith("| ixi ")]
    assert "| 90 | 180 |" in row and "CC BY-SA 3.0" in row and "| allowed |" in row
    assert "unknown" not in text and "before you share" not in text


def test_data_that_may_not_be_shared_are_named():
    text = cards.card(FACTS | {"datasets": FACTS["datasets"] | CLOSED}, RUN)
    assert "| not allowed |" in text and "| my_phantom | unknown | 1 | 2 | unknown | unknown | unknown |" in text
    assert "Read the terms of adni, my_phantom before you share this encoder." in text


@pytest.mark.parametrize("missing", ["preprocess", "patch_size", "datasets", "commit", "steps", "encoder_parameters"])
def test_what_is_not_known_is_called_unknown(missing):
    assert "unknown" in cards.card(FACTS | {missing: None}, RUN)
    assert "| hardware | unknown |" in cards.card(FACTS, None)


def test_a_bar_or_a_line_break_in_a_name_breaks_no_table():
    text = cards.card(FACTS | {"commit": "a|b\nc"}, None)
    assert "| commit | a\\|b c |" in text.splitlines()


def test_the_command_reads_the_folder(tmp_path):
    write_json(tmp_path / "encoder.json", FACTS)
    write_json(tmp_path / "run.json", RUN)
    assert cli.main(["export", "--encoder", str(tmp_path), "--format", "card", "--out", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text() == cards.card(
        *(read_json(tmp_path / name) for name in ("encoder.json", "run.json"))
    )
