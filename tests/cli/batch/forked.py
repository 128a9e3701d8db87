"""The command line in a fork of a process that has imported everything: it begins at once, however often it is killed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from alphapo_async.__main__ import main

__all__ = ["FORKS", "run_command"]

FORKS: Final = multiprocessing.get_context("forkserver")
"""Forks such processes."""
FORKS.set_forkserver_preload([__name__, "alphapo_async.cli.batch.command"])


def run_command(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Run a command in this process, with this environment and nowhere to write to, and end with its exit code."""
    os.environ.clear()
    os.environ.update(environment)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        main(arguments)
