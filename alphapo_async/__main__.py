"""`alphapo`, and `python -m alphapo_async`: the entry point of the command line."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["main"]

_EXTRA = "The command line needs the extra cli: pip install 'alphapo-async[cli]'"
_SYSTEM = "The command line needs Linux or macOS; as a library, with its journal in PostgreSQL, this runs here, too."
_MISSING = {"click": _EXTRA, "rich": _EXTRA, "fcntl": _SYSTEM}
"""What is said where a module is missing."""
_WRONG = 2  # said here too: the table of exit codes cannot be imported without the extra
_RUN_AGAIN = 3  # likewise


def _load() -> Callable[..., Any]:
    from alphapo_async.cli import alphapo  # noqa: PLC0415 - the extra may be missing, and that is said, not raised

    return alphapo


def main(arguments: Sequence[str] | None = None, load: Callable[[], Callable[..., Any]] = _load) -> None:
    """Run the command line; without the extra `cli`, or on a system without file locks, say so in one sentence.

    Args:
        arguments: what was typed; None for the process's own.
        load: returns the commands, or raises `ModuleNotFoundError` where they cannot be had.
    """
    try:
        alphapo = load()
    except ModuleNotFoundError as error:
        text = _MISSING.get((error.name or "").partition(".")[0])
        if text is None:
            raise
        sys.stderr.write(f"{text}\n")
        sys.exit(_WRONG)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted before anything was sent.\n")
        sys.exit(_RUN_AGAIN)
    for stream in (sys.stdout, sys.stderr):
        # What AlphaPo says may not fit a terminal's encoding; it is then shown escaped instead of failing a command that has paid.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    alphapo(arguments, prog_name="alphapo")


if __name__ == "__main__":
    main()
