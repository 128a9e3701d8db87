"""File systems that are mounted for a test, where this process may do that."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """Mount an empty file system in memory there while the block runs."""
    _run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder))
    try:
        yield
    finally:
        _run("umount", "-l", str(folder))


def make_read_only(folder: Path) -> None:
    """Let nothing be written any more in a file system that was mounted."""
    _run("mount", "-o", "remount,ro", str(folder))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root mounts file systems")
