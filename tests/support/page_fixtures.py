"""What can be read from a page, and inputs of pages."""

from __future__ import annotations

import re

HOSTILE = "<script>alert(1)</script>"
SVG = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" xmlns="http://www.w3.org/2000/svg">
 <metadata><rdf:RDF xmlns:dc="http://purl.org/dc"/></metadata>
 <g id="a"><title>tip</title><use xlink:href="#m"/></g>
</svg>"""


def cells(page: str) -> list[list[str]]:
    return [re.findall(r"<t[dh][^>]*>([^<]*)<", line) for line in re.findall(r"<tr>(.*?)</tr>", page)]


def stands_alone(page: str) -> bool:
    return not re.search(r"https?:|<script|<link|<img|@import|url\(", page)
