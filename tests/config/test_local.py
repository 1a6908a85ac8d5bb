"""Settings of one machine: config/local.yaml precedes config.yaml, and the command line precedes both."""

import pytest

from brainpretrain import config
from brainpretrain.config import freezing
from brainpretrain.errors import UserError

STUDY = "title: T\nseed: 0\nfolds: 1\nbuild: [table4]\ndata_roots: {wmh: /study, isles22: /study}\n"


def test_local_settings_precede_the_shared_ones(config_dir):
    (config_dir / "local.yaml").write_text("study: small\nresults: /scratch/me\nbootstrap: {resamples: 10}\n")
    loaded = config.load(config_dir)
    assert (loaded.study_name, loaded.settings.results) == ("small", "/scratch/me")
    assert (loaded.settings.bootstrap.resamples, loaded.settings.bootstrap.confidence) == (10, 0.95)
    assert config.load(config_dir, {"study": "demo"}).study_name == "demo"


def test_the_nearest_folder_of_a_data_set_is_used(config_dir):
    (config_dir / "config.yaml").write_text(
        (config_dir / "config.yaml").read_text().replace("data_roots: {}", "data_roots: {wmh: /shared, brats21: /shared}")
    )
    (config_dir / "local.yaml").write_text("data_roots: {isles22: /local}\n")
    (config_dir / "studies" / "own.yaml").write_text(STUDY)
    roots = config.load(config_dir, {"study": "own"}).settings.data_roots
    assert roots == {"wmh": "/study", "brats21": "/shared", "isles22": "/local"}
    given = config.load(config_dir, {"study": "own", "data_roots": {"wmh": "/given"}}).settings.data_roots
    assert given == {"wmh": "/given", "isles22": "/study"}  # the command line replaces the folders of both files of settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("studi: small", "studi: unknown key; did you mean 'study'"),
        ("slurm: {acount: x}", "did you mean 'account'"),
        ("slurm: {account: 'a b'}", "slurm.account"),
        ("study: smal", "did you mean 'small'"),
        ("- a", "must be a mapping"),
    ],
)
def test_a_mistake_names_the_local_file(config_dir, text, message):
    (config_dir / "local.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        config.load(config_dir)
    assert "local.yaml" in str(error.value) or "studies" in str(error.value)


def test_a_job_in_the_queue_keeps_the_local_settings_that_it_was_submitted_with(config_dir):
    (config_dir / "local.yaml").write_text("study: small\n")
    assert "local.yaml" in freezing.files_of(config_dir, "small", {})
