"""Rows and histories of a journal in PostgreSQL: what each statement of `queries.sql` is handed and returns.

A change is made only to the version of the row from which it was computed; a change that comes second is not made, and is computed anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import asdict, replace

from alphapo_async.core.claims import Claim
from alphapo_async.core.evidence import Claimed, Requested, Revision
from alphapo_async.core.history import Entry, merged
from alphapo_async.core.models import Totals
from alphapo_async.core.next_step import due_at
from alphapo_async.core.row import Row
from alphapo_async.core.row_format import to_record, written
from alphapo_async.core.transitions import apply
from alphapo_async.core.version import __version__
from alphapo_async.journal.copying import Kept
from alphapo_async.journal.postgres.schema import queries
from alphapo_async.journal.stored_rows import Readable, sums, unpack

__all__ = ["Draft", "Fetch", "Name", "PostgresRows", "StoredRow", "stored"]

Name: TypeAlias = tuple[str, str]
"""Account and foreign_id."""
Fetch: TypeAlias = Callable[..., Awaitable[list[Any]]]
"""Runs one statement with its values and returns the rows."""

_encode: Final = msgspec.json.Encoder().encode


class StoredRow(NamedTuple):
    """A row as it was found, and its place and version in the table."""

    id: int
    version: int
    row: Row


class Draft(NamedTuple):
    """A row to store, and the lines to add to its history."""

    name: Name
    known: StoredRow | None
    row: Row
    entries: tuple[Entry, ...]


class PostgresRows:
    """The statements, for the tables of one schema.

    Args:
        schema: a checked name.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._sql = queries(schema)
        self._readable = Readable()

    def enqueue_statement(
        self, account: str, asked: Requested, host: str, times: Mapping[str, float], *, failover_is_lossless: bool
    ) -> str:
        """Return the statement that records a new row for the workers: the database reads its columns from the body.

        `times` has `expires_in` and `resend_within` in seconds. Where failovers lose nothing, the first sight of another identity begins no
        other epoch of the journal.

        It has no parameters, and no character that any driver takes for one: what is handed over stands in it as hexadecimal digits.
        """
        handed = {
            "account": account,
            "host": host,
            "key_fingerprint": asked.key,
            "body": asked.revision.body.hex(),
            "has_other_keys": asked.has_other_keys,
        }
        text = _encode({**handed, **times, "failover_is_lossless": failover_is_lossless, "release": __version__})
        return f"select {self._schema}.enqueue(decode('{text.hex()}', 'hex'))"

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_many(self, fetch: Fetch, names: list[Name]) -> dict[Name, StoredRow]:
        """Return the rows of these withdrawals, as far as they are recorded.

        Raises:
            UnreadableRow: only a newer release can read one of them.
        """
        found = await fetch(self._sql["find"], [name[0] for name in names], [name[1] for name in names])
        rows = [read() for read in await self._readers(fetch, found)]
        return {(known.row.account, known.row.foreign_id): known for known in rows}

    async def select(self, fetch: Fetch, query: str, *values: object, limit: int) -> list[StoredRow]:
        """Return the rows that the query of this name finds, at most `limit`, without rows that only a newer release can read."""
        asked = limit
        while True:
            found = await fetch(self._sql[query], *values, asked)
            rows = self._readable.among(await self._readers(fetch, found))
            if len(rows) >= limit or len(found) < asked:
                return rows[:limit]
            asked = limit + len(found) - len(rows)

    async def _readers(self, fetch: Fetch, found: list[Any]) -> list[Callable[[], StoredRow]]:
        """Return a function for each row that was found, which reads it."""
        earlier = defaultdict[int, list[tuple[int, bytes, str]]](list)
        if corrected := [each["id"] for each in found if each["revision"] > 1]:
            for number, *revision in await fetch(self._sql["earlier"], corrected):
                earlier[number].append(tuple(revision))
        return [partial(_read, *row, earlier=earlier) for row in found]

    async def claim(self, fetch: Fetch, account: str, claim: Claim, stamp: str) -> list[Any]:
        """Have a worker take fresh rows; return them as they stand then, a row of nulls where there are none, nothing where it may not."""
        return await fetch(self._sql["claim"], stamp, account, *claim)

    async def claimed(self, fetch: Fetch, claim: Claim) -> list[Any]:
        """Return in the same way what a claim took that was made before."""
        return await fetch(self._sql["claimed"], claim.worker, claim.number)

    async def taken(self, fetch: Fetch, found: list[Any], claim: Claim) -> tuple[list[StoredRow], float]:
        """Return the rows that a claim took, and when the last of them was due.

        The database sets who holds a row; what else a claim changes is written with the row's next change.
        """
        rows, claimed = list[tuple[float, StoredRow]](), Claimed(*claim[:3])
        readers = await self._readers(fetch, [each for each in found if each["id"] is not None])
        for known in self._readable.among(readers):
            before = replace(known.row, holder=None, claim=0)
            rows.append((due_at(before) or 0.0, known._replace(row=apply(before, claimed, claim.now))))
        rows.sort(key=itemgetter(0))
        return [known for _, known in rows], rows[-1][0] if rows else claim.after

    async def history_of(self, fetch: Fetch, name: Name) -> list[Entry]:
        """Return the lines of a withdrawal."""
        return [Entry(*line) for line in await fetch(self._sql["history"], *name)]

    async def histories(self, fetch: Fetch, numbers: list[int]) -> dict[int, list[Entry]]:
        """Return the lines of withdrawals, by their numbers."""
        found: dict[int, list[Entry]] = {}
        for number, *line in await fetch(self._sql["histories"], numbers):
            found.setdefault(number, []).append(Entry(*line))
        return found

    async def all(self, fetch: Fetch, after: int, limit: int, *, with_history: bool = True) -> list[Kept]:
        """Return withdrawals in order: as `dump` does."""
        if not with_history:
            return [
                Kept(known.id, known.row, ()) for known in await self.select(fetch, "everything", after, limit=limit)
            ]
        found = [read() for read in await self._readers(fetch, await fetch(self._sql["everything"], after, limit))]
        lines = await self.histories(fetch, [known.id for known in found])
        return [Kept(known.id, known.row, tuple(lines.get(known.id, ()))) for known in found]

    async def totals(self, fetch: Fetch, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested, by currency, exact."""
        return sums(await fetch(self._sql["sums"], account))

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def write(self, fetch: Fetch, drafts: list[Draft], stamp: str) -> dict[Name, StoredRow]:
        """Record rows, all of them new or none; leave out rows that another worker recorded or changed meanwhile, and return the others."""
        named = {_place(place, draft): draft for place, draft in enumerate(drafts, 1)}
        statement = self._sql["insert" if drafts[0].known is None else "update"]
        made = await fetch(statement, stamp, *_packed(named))
        written_drafts = [(named[place], number) for number, place, _ in made]
        return {
            draft.name: StoredRow(number, 1 if draft.known is None else draft.known.version + 1, draft.row)
            for draft, number in written_drafts
        }

    async def load(self, fetch: Fetch, kept: list[Kept], stamp: str) -> None:
        """Record what another journal kept, in its order. What is there already stays: it was recorded, and the answer was lost."""
        for _, row, entries in kept:
            await self.write(fetch, [Draft((row.account, row.foreign_id), None, row, entries)], stamp)

    async def forget(
        self, fetch: Fetch, known: StoredRow, after: Row, entries: Sequence[Entry], stamp: str, *, keeps_history: bool
    ) -> bool:
        """Remove a withdrawal's bytes and more; return whether it still was as it was known."""
        lines = _encode([_line(known.id, entry) for entry in entries])
        values = to_record(after).rest, lines, known.id, known.version, keeps_history
        return bool(await fetch(self._sql["forget"], stamp, *values))


def _read(number: int, version: int, *row: Any, earlier: Mapping[int, list[tuple[int, bytes, str]]]) -> StoredRow:
    return StoredRow(number, version, unpack(row, partial(earlier.__getitem__, number)))


def _place(place: int, draft: Draft) -> int:
    """Return the number under which a draft is handed over: its row's, or its place where the row is new."""
    return place if draft.known is None else draft.known.id


def _packed(drafts: Mapping[int, Draft]) -> tuple[bytes, bytes, bytes]:
    """Return the rows, the new lines and the corrected revisions of drafts, each under the number of its draft."""
    lines = [_line(place, entry) for place, draft in drafts.items() for entry in _merged(draft.entries)]
    between = [_revision(place, revision) for place, draft in drafts.items() for revision in _between(draft)]
    return _encode([_row(place, draft) for place, draft in drafts.items()]), _encode(lines), _encode(between)


def _row(place: int, draft: Draft) -> dict[str, Any]:
    """Return a row; its bytes only where they are new."""
    record = to_record(draft.row)
    row = record._asdict()
    row["id"], row["rest"] = place, record.rest.decode()
    row["alphapo_id"], row["alphapo_status"] = _clean(record.alphapo_id), _clean(record.alphapo_status)
    if draft.known is not None:
        row["row_version"] = draft.known.version
    if draft.known is None or draft.known.row.revision.number != draft.row.revision.number:
        row |= _bytes_of(draft.row.revision)
    return row


def _between(draft: Draft) -> list[Revision]:
    """Return the revisions that were corrected before the journal recorded them."""
    last = 0 if draft.known is None else draft.known.row.revision.number
    return [revision for revision in draft.row.earlier if revision.number > last]


def _revision(place: int, revision: Revision) -> dict[str, Any]:
    return {"withdrawal_id": place, "number": revision.number, **_bytes_of(revision)}


def _bytes_of(revision: Revision) -> dict[str, Any]:
    _, body, sha256, digest = written(revision)
    return {"body": _hex(body), "sha256": sha256, "digest": digest}


def _hex(content: bytes) -> str:
    """Return bytes as PostgreSQL reads them."""
    return f"\\x{content.hex()}"


def _merged(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return merged(entries) if len(entries) > 1 else entries


def _line(place: int, entry: Entry) -> dict[str, Any]:
    line = asdict(entry)
    line["withdrawal_id"], line["what"], line["reply"] = place, _clean(entry.what), _hex(entry.reply)
    return line


def stored(entries: Sequence[Entry]) -> list[Entry]:
    """Return lines as they come back."""
    return [msgspec.structs.replace(entry, what=_clean(entry.what) or "") for entry in entries]


def _clean(text: str | None) -> str | None:
    """Return text without NUL, which PostgreSQL's text does not hold. What decides stands in `rest`, where it is escaped."""
    return text and text.replace("\0", "\ufffd")
