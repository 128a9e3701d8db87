"""The programs that the pages show, as files: `python -m tests.support.programs FOLDER` writes them there for type checkers."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.support.documents import GUIDE, text_of

__all__ = ["program_with", "programs", "programs_of", "write_programs"]


def programs(page: str) -> list[str]:
    """Return every Python program of a page, as it stands there."""
    return programs_of(text_of(page))


def programs_of(text: str) -> list[str]:
    """Return every Python program of a text."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def program_with(page: str, text: str) -> str:
    """Return the first program of a page that has this text in it."""
    return next(program for program in programs(page) if text in program)


def write_programs(folder: Path) -> list[Path]:
    """Write the programs of README and guide into a folder, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, page in (("readme", "README.md"), ("guide", GUIDE)):
        for number, program in enumerate(programs(page), 1):
            path = folder / f"{name}_{number}.py"
            path.write_text(program, encoding="utf-8")
            paths.append(path)
    return paths


if __name__ == "__main__":
    write_programs(Path(sys.argv[1]))
