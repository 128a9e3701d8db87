"""The statements of a journal, read from `.sql` files: the database's side of the story stands there by itself.

Each statement has a name, a sentence that says what it does, and its text. A part that several statements share has both as well, and
stands in braces where it is used, as do the names that only Python knows.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Statement", "load", "read"]

_HEAD: Final = re.compile(r"^-- (part )?(\w+) --$", re.MULTILINE)


class Statement(NamedTuple):
    """A statement or a part of statements, as it stands in its file."""

    name: str
    is_part: bool
    sentence: str
    text: str


@cache
def read(file: Path) -> tuple[Statement, ...]:
    """Return the statements and parts of a file, in its order; lines that begin with `--` are comments."""
    _, *pieces = _HEAD.split(file.read_text(encoding="utf-8"))
    found = []
    for part, name, piece in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        lines = piece.strip().splitlines()
        comments = [line.removeprefix("--").strip() for line in lines if line.startswith("--")]
        text = "\n".join(line for line in lines if not line.startswith("--"))
        found.append(Statement(name, part is not None, " ".join(comments), text))
    return tuple(found)


def load(file: Path, **names: str) -> dict[str, str]:
    """Return the statements of a file by name, with these names and the parts before them filled in."""
    statements: dict[str, str] = {}
    for statement in read(file):
        filled = names if statement.is_part else statements
        filled[statement.name] = statement.text.format(**names)
    return statements
