"""Where a journal's file may be: on a file system whose locks hold between processes, and that keeps what it acknowledged."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from alphapo_async.journal.messages import file_error
from alphapo_async.journal.sqlite.faults import journal_error

__all__ = ["Place", "filesystem_of", "is_mounted", "kind_by_statfs", "place_of"]

_MOUNTS: Final = Path("/proc/self/mountinfo")
_LOCAL: Final = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "apfs", "hfs"))
_MEMORY: Final = frozenset(("tmpfs", "ramfs"))
_LAYER: Final = "overlay"
_STATFS_SIZE: Final = 2168
_STATFS_NAME: Final = slice(72, 88)
"""Where macOS writes the name of the file system (`f_fstypename` in sys/mount.h, with 64-bit inodes)."""


class Place(NamedTuple):
    """What a file system means for a journal in it."""

    is_durable: bool
    """What is written survives the machine."""
    caution: str | None = None
    """What an operator should know."""


def filesystem_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds the path, from the text of `/proc/self/mountinfo`; "" if that does not show it."""
    best, found = "", ""
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields = head.split(" ")
        if len(fields) < 5 or not tail:  # noqa: PLR2004 - the fifth field is the mount point
            continue
        place = _unescaped(fields[4])
        if len(place) >= len(best) and (path == Path(place) or Path(place) in path.parents):
            best, found = place, tail.split(" ")[0]
    return found


def is_mounted(path: Path, mounts: str) -> bool:
    """Return whether this very file is a mount point, from the text of `/proc/self/mountinfo`."""
    return any(_unescaped(line.split(" ")[4]) == str(path) for line in mounts.splitlines() if line.count(" ") > 4)  # noqa: PLR2004


def _unescaped(place: str) -> str:
    """Return a mount point as it is: blanks and backslashes are written in octal there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)


def _statfs() -> Callable[[bytes, Any], int]:  # pragma: no cover - macOS
    library: Any = ctypes.CDLL(None)
    return getattr(library, "statfs$INODE64", None) or library.statfs  # type: ignore[no-any-return]


def kind_by_statfs(folder: Path, statfs: Callable[[], Callable[[bytes, Any], int]] = _statfs) -> str:
    """Return the type of the file system that holds the folder, as macOS gives it; "" if it does not."""
    found = ctypes.create_string_buffer(_STATFS_SIZE)
    if statfs()(os.fsencode(folder), found):
        return ""
    return found.raw[_STATFS_NAME].split(b"\0")[0].decode("ascii", "replace")


def place_of(
    path: Path, mounts: Path = _MOUNTS, *, is_any: bool = False, ask_system: Callable[[Path], str] | None = None
) -> Place:
    """Return what the file's place means for a journal.

    Args:
        path: the file.
        mounts: the system's list of what is mounted where, on Linux.
        is_any: the operator says that the file system locks and keeps like a local disk (`?filesystem=any`).
        ask_system: returns the type of the file system that holds a folder, on macOS.

    Raises:
        JournalError: the file must not be used there.
    """
    if not path.parent.is_dir():
        raise file_error(path, "no folder")
    if ask_system is None and sys.platform == "darwin":  # pragma: no cover - macOS
        ask_system = kind_by_statfs
    try:
        mounted = mounts.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, PermissionError):
        mounted = ""  # not Linux, or hidden
    except OSError as error:
        raise journal_error(path, error) from None
    _check_is_alone(path, mounted)
    folder = path.parent.resolve()
    kind = filesystem_of(folder, mounted) if ask_system is None else ask_system(folder)
    return Place(is_durable=True) if is_any else _judged(path, kind)


def _judged(path: Path, kind: str) -> Place:
    if kind in _LOCAL:
        return Place(is_durable=True)
    if kind == _LAYER:
        caution = f"the journal {str(path)!r} is in the layer of a container (overlay), which ends with the container: put it on a volume"
        return Place(is_durable=True, caution=caution)
    if kind in _MEMORY:
        caution = f"the journal {str(path)!r} is on a file system in memory ({kind}), which ends with the machine: put it on a disk"
        return Place(is_durable=False, caution=caution)
    raise file_error(path, "unknown file system", f"({kind})" if kind else "that the system does not name")


def _check_is_alone(path: Path, mounts: str) -> None:
    """Pass if the file has one name only: beside another name are other locks and another log, and two processes would not see each other.

    Raises:
        JournalError: the file is mounted by itself, or has several links.
    """
    if is_mounted(path.resolve(), mounts):
        raise file_error(path, "mounted alone")
    if path.is_file() and (links := path.stat().st_nlink) > 1:
        raise file_error(path, "several links", f"{links}")
