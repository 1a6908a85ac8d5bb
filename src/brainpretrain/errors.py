"""The one error that users see: the problem, where it is, and how to correct it."""

from __future__ import annotations


class UserError(Exception):
    """Invalid input, config or data. It is printed as three short lines without a traceback; the exit code is 2.

    Args:
        problem: what is wrong, with the value that was read.
        where: the file, folder or config key.
        fix: what the user can do.
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
    """The original error of a loader process, which torch raises again with the traceback in front of its text."""
    lines = str(error).rpartition(f"{__name__}.{UserError.__name__}: ")
    return UserError(lines[2].rstrip()) if lines[1] and "DataLoader worker" in lines[0] else error


def first_line(error: BaseException) -> str:
    """The first line of an error's text; the name of its class if there is no text."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def nearest(word: object, valid: list[str]) -> str:
    """A hint for a mistyped word: the most similar valid word, or all of them if none is similar."""
    import difflib

    close = difflib.get_close_matches(str(word), valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(valid)) or 'none'}"
