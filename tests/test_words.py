import pytest

from brainpretrain.words import count, duration, rough_duration


def test_a_number_has_its_noun():
    assert [count(number, "volume") for number in (0, 1, 1200)] == ["0 volumes", "1 volume", "1,200 volumes"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.31, "8.3 s"), (59.96, "60.0 s"), (125, "2 min 05 s"), (3599.7, "1 h 00 min"), (111840, "31 h 04 min")],
)
def test_a_duration_has_two_units(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (5e5, "5 d")],
)
def test_a_rough_duration_has_one_unit(seconds, text):
    assert rough_duration(seconds) == text
