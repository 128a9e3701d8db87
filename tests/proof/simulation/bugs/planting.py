"""Planting: a copy of the package with a mistake in it, beside the same tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.proof.simulation.bugs.catalogue import Bug

__all__ = ["ROOT", "NotPlantable", "applied", "planted", "run_in"]

ROOT: Final = Path(__file__).resolve().parents[4]
_PACKAGE: Final = "alphapo_async"


class NotPlantable(Exception):
    """The package has moved on: what a mistake replaces is not there, or stands there twice."""


def applied(bug: Bug) -> dict[str, str]:
    """Return the files of the package as the mistake has them, by their names.

    Raises:
        NotPlantable: an old text does not stand there exactly once.
    """
    texts: dict[str, str] = {}
    for file, old, new in bug.edits:
        text = texts[file] if file in texts else (ROOT / _PACKAGE / file).read_text(encoding="utf-8")
        found = text.count(old)
        if found != 1:
            raise NotPlantable(f"{bug.name}: {file} has {found} times, not once: {old!r}")
        texts[file] = text.replace(old, new)
    return texts


@contextmanager
def planted(bug: Bug | None) -> Iterator[Path]:
    """Make a folder with the package, mistaken, and the tests; None plants nothing.

    Raises:
        NotPlantable: an old text does not stand there exactly once.
    """
    texts = {} if bug is None else applied(bug)
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / _PACKAGE, folder / _PACKAGE)
        (folder / "tests").symlink_to(ROOT / "tests")
        for file, text in texts.items():
            (folder / _PACKAGE / file).write_text(text, encoding="utf-8")
        yield folder


def run_in(folder: Path, *words: str) -> str:
    """Run a module of the tests over the copy in this folder, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "tests.proof.simulation.bugs.hunt", *words]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout
