"""Journals in other files of the same folder, which are only looked into: they may hold what a new file does not know of."""

from __future__ import annotations

import contextlib
import heapq
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

__all__ = ["SUFFIX", "Neighbor", "journals_in", "neighbors_with"]

SUFFIX: Final = ".journal.db"
"""How the journal of a batch ends where its name is not given."""
_AT_MOST: Final = 20
"""Files that are looked into: the newest."""
_WAIT: Final = 1.0
"""Seconds for which a file may be locked."""
_FOUND: Final = """
select foreign_id from withdrawals join accounts using (account)
where account = ? and host = ? and state in ('open', 'accepted') and foreign_id in (select value from json_each(?))
"""


class Neighbor(NamedTuple):
    """A journal that holds some of the withdrawals."""

    path: Path
    rows: int
    first: str
    """The foreign_id of one of them."""


def journals_in(folder: Path) -> list[Path]:
    """Return the files of a folder whose names say that they are journals of a batch, newest first."""
    found = [(one.stat().st_mtime, one) for one in folder.glob(f"*{SUFFIX}") if one.is_file()]
    return [one for _, one in heapq.nlargest(_AT_MOST, found)]


def neighbors_with(path: Path, account: str, host: str, foreign_ids: Sequence[str]) -> list[Neighbor]:
    """Return the journals beside this one that have some of these withdrawals as accepted or open. Nothing is written.

    Args:
        path: of the journal in use; it need not exist.
        account: of the withdrawals.
        host: AlphaPo's, as the journal binds it to the account.
        foreign_ids: of the withdrawals.
    """
    if not foreign_ids:
        return []
    others = [one for one in journals_in(path.parent) if one.resolve() != path.resolve()]
    found = ((one, _known(one, account, host, foreign_ids)) for one in others)
    return [Neighbor(one, len(known), known[0]) for one, known in found if known]


def _known(path: Path, account: str, host: str, foreign_ids: Sequence[str]) -> list[str]:
    """Return the foreign_ids that a journal knows; none where the file is no journal, or cannot be read."""
    with contextlib.suppress(sqlite3.Error):
        uri = f"file:{quote(bytes(path.absolute()))}?mode=ro"  # bytes: a name need not be UTF-8
        with contextlib.closing(sqlite3.connect(uri, timeout=_WAIT, uri=True)) as connection:
            return [str(one) for (one,) in connection.execute(_FOUND, (account, host, json.dumps(foreign_ids)))]
    return []
