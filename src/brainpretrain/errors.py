"""The one error a user sees: problem, where, and what to do about it."""

from __future__ import annotations


class UserError(Exception):
    """Bad input, config or data. Printed as three short lines, without a traceback; exit code 2.

    Args:
        problem: what is wrong, with the value found.
        where: the file, folder or config key in question.
        fix: what the user can do now.
    """

    def __init__(self, problem: str, *, where: object = "", fix: str = "") -> None:
        self.problem, self.where, self.fix = problem, str(where), fix
        lines = [problem]
        if self.where:
            lines.append(f"  where: {self.where}")
        if fix:
            lines.append(f"  fix:   {fix}")
        super().__init__("\n".join(lines))


def as_raised(error: UserError) -> UserError:
    """An error of a loader process as it was raised there: torch hands it on behind its traceback."""
    lines = str(error).rpartition(f"{__name__}.{UserError.__name__}: ")
    return UserError(lines[2].rstrip()) if lines[1] and "DataLoader worker" in lines[0] else error


def first_line(error: BaseException) -> str:
    """What an error says, on one line; its name if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def nearest(word: object, known: list[str]) -> str:
    """`known` as a hint for a mistyped word: the nearest one first, else all of them."""
    import difflib

    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
