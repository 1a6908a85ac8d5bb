import pandas as pd
import pytest
from matplotlib.figure import Figure

from brainpretrain import cli, config
from brainpretrain.errors import UserError
from brainpretrain.files import write_tsv
from brainpretrain.report.figures import learning_rates
from brainpretrain.report.figures.training import loss_curves
from brainpretrain.training import schedule
from brainpretrain.training.log import read_curves
from figure_fixtures import log, size_px, svg_text
from helpers import ROOT

RECIPES = config.load(ROOT / "config").finetune


def phases(name):
    return RECIPES[name].phases


def points(name):
    return pd.DataFrame(schedule.points(schedule.stretches(phases(name), 1), 50))


def test_the_curve_and_the_frozen_phases_are_drawn_at_their_steps():
    axes = Figure().subplots()
    shades = learning_rates.draw_curve(axes, points("s3d"), color="black")
    assert list(shades) == ["encoder frozen"]
    assert shades["encoder frozen"].get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([0, 12_500])
    line, *borders = axes.get_lines()
    assert [border.get_xdata()[0] for border in borders] == [12_500, 25_000]
    steps, rates = line.get_data()
    assert rates[list(steps).index(25_000)] == rates.max() == 1e-3 and rates[-1] < 1e-6


@pytest.mark.parametrize(
    ("name", "frozen"),
    [
        ("amaes", []),
        ("zhang_unetr", ["stem frozen"]),
        ("s3d_stem", ["encoder frozen but for its stem"]),
        ("s3d_frozen", ["encoder frozen"]),
    ],
)
def test_the_frozen_part_of_a_phase_is_named(name, frozen):
    assert list(learning_rates.draw_curve(Figure().subplots(), points(name))) == frozen


def test_every_recipe_has_a_panel(tmp_path):
    out = tmp_path / "all.svg"
    assert cli.main(["plot-schedule", "--config", str(ROOT / "config"), "--out", str(out)]) == 0
    words = svg_text(out).split()
    assert all(name in words for name in RECIPES)
    assert size_px(out)[1] <= 180 * 6 + 40
    again = tmp_path / "again.svg"
    learning_rates.recipes({name: phases(name) for name in RECIPES}, again)
    assert again.read_bytes() == out.read_bytes()


def test_recipes_and_pretexts_are_drawn_by_name_in_their_own_unit(tmp_path):
    out = tmp_path / "some.svg"
    line = ["plot-schedule", "hippocampus", "--pretexts", "amaes", "--study", "hippocampus", "--config", str(ROOT / "config")]
    assert cli.main([*line, "--out", str(out)]) == 0
    text = svg_text(out)
    assert "hippocampus" in text and "pretext amaes" in text and "steps" in text and "epochs" in text and "100" in text
    assert "swinunetr" not in text


def test_an_unknown_recipe_names_the_nearest(tmp_path, capsys):
    assert cli.main(["plot-schedule", "s3d_cod", "--config", str(ROOT / "config"), "--out", str(tmp_path / "x.svg")]) == 2
    assert "did you mean 's3d_code'" in capsys.readouterr().err


def test_a_recipe_whose_curve_depends_on_the_data_is_refused(tmp_path):
    first = phases("amaes")[0]
    mixed = [first, first.model_copy(update={"steps": None, "epochs": 3.0})]
    with pytest.raises(UserError, match="'mixed' gives phases in steps and in epochs"):
        learning_rates.recipes({"mixed": mixed}, tmp_path / "x.svg")
    with pytest.raises(UserError, match="no recipe to draw"):
        learning_rates.recipes({}, tmp_path / "x.svg")


def test_a_training_with_a_schedule_shows_it_behind_the_logged_learning_rate(tmp_path):
    log().to_csv(tmp_path / "log.csv", index=False)
    line = ["plot-loss", str(tmp_path / "log.csv"), "--out"]
    assert cli.main([*line, str(tmp_path / "without.svg")]) == 0
    tooth = [phase.model_copy(update={"steps": 100, "warmup_steps": 50}) for phase in phases("s3d")[:2]]
    write_tsv(tmp_path / "schedule.tsv", schedule.points(schedule.stretches(tooth, 1), 50))
    assert cli.main([*line, str(tmp_path / "with.svg")]) == 0
    assert "encoder frozen" in svg_text(tmp_path / "with.svg")
    assert "frozen" not in svg_text(tmp_path / "without.svg")
    loss_curves(read_curves(tmp_path / "log.csv"), tmp_path / "plain.svg")
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "without.svg").read_bytes()
    # trainings that chose other rates have no common plan, and their mean is said to be one
    (tmp_path / "other").mkdir()
    for factor, shown in ((1, True), (4, False)):
        log().assign(lr=lambda frame, factor=factor: factor * frame["lr"]).to_csv(tmp_path / "other" / "log.csv", index=False)
        words = [line[0], line[1], str(tmp_path / "other" / "log.csv"), "--out", str(tmp_path / "two.svg")]
        assert cli.main(words) == 0
        text = svg_text(tmp_path / "two.svg")
        assert ("encoder frozen" in text) is shown and ("whose learning rates differ" in text) is not shown
