from __future__ import annotations

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from brainpretrain.report.pages import html as pages
from page_fixtures import SVG, stands_alone


def test_write(tmp_path: Path) -> None:
    pages.write(
        tmp_path / "deep" / "page.html", pages.render("licences", title="Größe ± 1", forbidden=None, used=pages.table([], []))
    )
    page = (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and page.count("Größe ± 1") == 2 and page.endswith("</html>\n")


def test_a_value_that_a_page_needs_and_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="used"):
        pages.render("licences", title="Licences", forbidden=None)


def test_no_template_marks_a_value_as_safe() -> None:
    """Only `inline` marks text as safe, for figures."""
    for path in Path(pages.__file__).with_name("templates").iterdir():
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text(encoding="utf-8")), path.name


def test_every_table_and_figure_scrolls_by_itself_in_a_narrow_window() -> None:
    templates = "".join(path.read_text(encoding="utf-8") for path in Path(pages.__file__).with_name("templates").iterdir())
    for part in ("<table", "{{ figure }}"):
        assert templates.count(part) == templates.count(f'<div class="scroll">{part}') > 0


def test_only_columns_with_long_words_are_wrapped() -> None:
    shown = pages.table(["Number", "Path", "Text"], [[1, "a/" * 20, "many short words " * 9]], numeric=[0])
    assert shown.classes == ["number", "wrap", ""] and shown.rows[0][0] == "1"


def test_an_inline_figure_keeps_what_is_drawn_and_names_no_address() -> None:
    shown = pages.inline(SVG)
    assert shown.startswith('<svg width="10pt">') and '<title>tip</title><use xlink:href="#m"/>' in shown
    assert stands_alone(shown) and "metadata" not in shown


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_every_text_is_accessible() -> None:
    page = pages.render("run", title="", sections={}, config=None, warning="")
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", page[page.index("<style>") : page.index("</style>")])
    checked = 0
    for _, declarations in rules:
        colour = re.search(r"(?<![-\w])color: (#\w{6})", declarations)
        background = re.search(r"background: (#\w{6})", declarations)
        if colour:
            light, dark = sorted([luminance(colour[1]), luminance(background[1] if background else "#ffffff")], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, declarations  # WCAG 2 AA
            checked += 1
    assert checked >= 6
