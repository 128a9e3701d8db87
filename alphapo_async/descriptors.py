"""How many connections a process can afford: each takes a file descriptor, and a journal that finds none free cannot record anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Final

__all__ = ["RESERVED", "affordable", "free_descriptors"]

RESERVED: Final = 8
"""Descriptors that stay free: for a journal's transaction, for looking a name up, and for a second address of a host."""
_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")


def affordable(wanted: int, free: int | None) -> int:
    """Return how many connections to make at most, at least one.

    Args:
        wanted: connections that the settings allow.
        free: descriptors that are free; None: not known.
    """
    return wanted if free is None else max(1, min(wanted, free - RESERVED))


def _limit() -> int | None:
    """Return how many descriptors this process may have; None for no limit."""
    try:
        resource = import_module("resource")
    except ImportError:  # pragma: no cover - Windows has no such limit
        return None
    limit: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def free_descriptors(limit: Callable[[], int | None] = _limit, folders: tuple[str, ...] = _FOLDERS) -> int | None:
    """Return how many more descriptors this process may open; None where the system does not say, or sets no limit.

    Args:
        limit: how many it may have.
        folders: where the system lists those that are open; the first that exists counts.
    """
    most = limit()
    if most is None:
        return None
    for folder in folders:
        try:
            return most - len(os.listdir(folder)) + 1  # noqa: PTH208 - names alone; one of them is the listing's own
        except FileNotFoundError:
            continue
        except OSError:
            return 0  # there is not even one for the listing
    return None
