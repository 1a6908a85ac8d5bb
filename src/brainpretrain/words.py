"""Numbers as words for people, in pages, tables, terminals and messages."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """A number with its noun: '1 volume', '1,200 volumes'."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """Seconds in the two largest units: '31 h 04 min', '2 min 05 s', '8.3 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rough_duration(seconds: float | None) -> str:
    """Seconds in one unit, rounded down, for narrow columns: '42 s', '17 min', '5 h', '3 d'; '' for None."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(int(seconds), 0)} s"
