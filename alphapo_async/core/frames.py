"""Frames: what an exception's traceback shows of the functions that it came through.

An error reporter records the local variables of every frame. Functions that are handed keys, secrets or passwords therefore raise
from a frame that no longer has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType
from typing import ParamSpec, TypeVar

from alphapo_async.core.errors import AlphapoError

__all__ = ["hides_arguments"]

P = ParamSpec("P")
R = TypeVar("R")


def hides_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function so that what it raises shows neither its arguments nor a local variable of anything that it calls.

    The exception keeps its type, text and attributes. Its traceback begins where the function was called; of an exception that is not
    ours a note keeps the place where it was raised, since that would be lost.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - it is raised again, below
            failure = _without_frames(error)
        del args, kwargs
        raise failure

    return call


def _without_frames(error: Exception) -> Exception:
    """Return the exception without traceback, cause and context, all of which have frames."""
    if not isinstance(error, AlphapoError):
        error.add_note(f"raised in {_place(error.__traceback__)}")
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _place(traceback: TracebackType | None) -> str:
    """Return file and line of the innermost frame."""
    place = ""
    while traceback is not None:
        place = f"{PurePath(traceback.tb_frame.f_code.co_filename).name}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place
