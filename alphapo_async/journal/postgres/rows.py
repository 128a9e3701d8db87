"""The statements of a journal in PostgreSQL, each with a name and a sentence that says what for.

Each is atomic by itself, so that they work through a pooler that hands out a connection for one transaction at a time. A change is made
only to the turn of the row that it was worked out from: whoever comes second is told so, and works it out anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import asdict

from alphapo_async.core.evidence import Revision
from alphapo_async.core.history import Entry, merged
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row, seen_in
from alphapo_async.core.row_format import CHANGING, COLUMNS, Record, read_record, read_revision, to_record, written
from alphapo_async.journal.copying import Kept
from alphapo_async.journal.postgres.identity import here

__all__ = ["Draft", "Fetch", "Name", "PostgresRows", "StoredRow", "stored"]

Name: TypeAlias = tuple[str, str]
"""Account and foreign_id."""
Fetch: TypeAlias = Callable[..., Awaitable[list[Any]]]
"""Runs one statement with its values and returns the rows."""

_TYPES: Final = {
    "place": "int4",
    "id": "int8",
    "turn": "int8",
    "created_at": "float8",
    "settled_at": "float8",
    "due_at": "float8",
    "reported": "bool",
    "revision": "int4",
    "epoch": "int4",
    "between": "json",
}
"""What of a row is handed over as something else than text."""
_CASTS: Final = {"amount": "numeric", "rest": "json"}
"""What is handed over as text and stored as something else."""
_BYTES: Final = ("body", "reply")
"""What is handed over in base64."""
_BODY: Final = ("body", "sha256", "digest")
_LINE: Final = Entry.__struct_fields__
_LINE_TYPES: Final = {
    "place": "int4",
    "number": "int4",
    "at": "float8",
    "status": "int4",
    "count": "int4",
    "last_at": "float8",
}
"""What of a line of a history is."""
_encode: Final = msgspec.json.Encoder().encode


class StoredRow(NamedTuple):
    """A row as it was found, and its place and turn in the table."""

    id: int
    turn: int
    row: Row


class Draft(NamedTuple):
    """What is to become of a row, and what is added to its history."""

    name: Name
    known: StoredRow | None
    row: Row
    entries: tuple[Entry, ...]


def _handed(parameter: str, name: str, columns: Sequence[str], types: dict[str, str]) -> str:
    """Return where a statement takes its rows from: a JSON list in UTF-8, whose text no codec of a caller's pool touches."""
    typed = ", ".join(f"{column} {types.get(column, 'text')}" for column in columns)
    return f"json_to_recordset(convert_from({parameter}, 'UTF8')::json) as {name}({typed})"


def _stored(name: str, column: str) -> str:
    """Return what of a row handed over is stored in a column."""
    if column in _BYTES:
        return f"decode({name}.{column}, 'base64')"
    return f"{name}.{column}::{_CASTS[column]}" if column in _CASTS else f"{name}.{column}"


class PostgresRows:
    """The statements, for the tables of one schema.

    Args:
        schema: a checked name.
    """

    def __init__(self, schema: str) -> None:
        # Nothing but our own names and the checked schema stands in a statement; every value is handed over beside it.
        whole = (*COLUMNS, *_BODY)
        durable = (  # whatever the database's default: reported only when it is on disk
            "(select set_config('synchronous_commit', case current_setting('synchronous_commit') "
            "when 'remote_apply' then 'remote_apply' else 'on' end, true)) as synchronous"
        )
        is_here = f"exists ({here(schema, '$3')})"
        told = ", ".join(f"{name}::text as {name}" if name in _CASTS else name for name in COLUMNS)
        row = (
            f"select id, turn, body, digest, epoch_number, epoch_since, {told} "
            f"from {schema}.withdrawals w cross join {schema}.journal "
        )
        stored = ", ".join(_stored("asked", name) for name in whole)
        line = _handed("$2", "line", ("place", *_LINE), _LINE_TYPES)
        lines = ", ".join(_stored("line", name) for name in _LINE)
        revision = ", ".join(_stored("between", name) for name in ("number", *_BODY))
        between = (
            f"json_to_recordset(asked.between) as between(number int4, {', '.join(f'{name} text' for name in _BODY)})"
        )
        note = (
            f"insert into {schema}.history (withdrawal, {', '.join(_LINE)}) "
            f"select made.id, {lines} from made join line using (place) "
            "on conflict (withdrawal, number) do update set count = excluded.count, last_at = excluded.last_at"
        )
        self.insert = f"""
            with line as materialized (select * from {line}),
            asked as materialized (select * from {_handed("$1", "asked", ("place", *whole, "between"), _TYPES)}),
            added as (
              insert into {schema}.withdrawals ({", ".join(whole)})
              select {stored} from asked where {is_here} order by account, foreign_id
              on conflict (account, foreign_id) do nothing returning id, account, foreign_id
            ), made as (select id, place from added join asked using (account, foreign_id)),
            corrected as (
              insert into {schema}.revisions (withdrawal, number, body, sha256, digest)
              select made.id, {revision} from made join asked using (place), {between}
            ), noted as ({note})
            select id, place, {durable} from made"""
        """New withdrawals with the first lines of their histories; those that are known already are left out."""
        changed = ", ".join(f"{name} = {_stored('asked', name)}" for name in CHANGING)
        corrected = ", ".join(f"{name} = coalesce({_stored('asked', name)}, w.{name})" for name in _BODY)
        self.update = f"""
            with line as materialized (select * from {line}),
            asked as materialized (
              select * from {_handed("$1", "asked", ("place", "id", "turn", *CHANGING, *_BODY, "between"), _TYPES)}
            ), held as materialized (
              select w.id from {schema}.withdrawals w join asked on asked.id = w.id and asked.turn = w.turn
              where {is_here} order by w.id for update of w
            ), kept as (
              insert into {schema}.revisions (withdrawal, number, body, sha256, digest)
              select w.id, w.revision, w.body, w.sha256, w.digest
              from {schema}.withdrawals w join held using (id) join asked using (id) where asked.body is not null
              union all select held.id, {revision} from held join asked using (id), {between}
            ), changed as (
              update {schema}.withdrawals w set turn = w.turn + 1, {changed}, {corrected}
              from asked join held using (id) where w.id = asked.id returning w.id, asked.place
            ), made as (select id, place from changed),
            noted as ({note})
            select id, place, {durable} from made"""
        """What became of withdrawals, locked in the order of their ids; those that had another turn meanwhile are left out."""
        self.find = row + (
            "join unnest($1::text[], $2::text[]) as asked(a, f) on w.account = asked.a and w.foreign_id = asked.f"
        )
        """The rows of withdrawals."""
        self.earlier = f"select withdrawal, number, body, digest from {schema}.revisions where withdrawal = any($1::int8[]) order by number"
        """Their earlier revisions."""
        self.open = row + (
            "where account = $1 and state = 'open' and (created_at, id) > ($2, coalesce("
            f"(select id from {schema}.withdrawals where account = $1 and foreign_id = $3), 0)) order by created_at, id limit $4"
        )
        """What is open, oldest first, page by page."""
        self.due = row + (
            "where account = $1 and due_at <= $2 and (case counted_as when 'open' then $4::text else key end <> all($5::text[]) "
            "or (counted_as = 'open' and (rest->>'expires_at')::float8 <= $2)) and (state = 'open') = $6 order by due_at limit $3"
        )
        """What a worker on its rounds should look at: of what is under refused keys only what has expired."""
        self.unreported = row + "where account = $1 and not reported and state <> 'open' order by id limit $2"
        """What is settled and nobody heard of."""
        self.control = row + (
            "where account = $1 and key = $2 and created_at > $3 and state = 'accepted' and source = 'reply' "
            "order by created_at desc, id desc limit 1"
        )
        """A withdrawal of this key that AlphaPo accepted and that did not exist before."""
        self.held = row + "where holder = $1 order by id limit $2"
        """What a worker holds."""
        self.everything = row + "where id > $1 order by id limit $2"
        """Everything, page by page."""
        self.history = (
            f"select {', '.join(f'h.{name}' for name in _LINE)} from {schema}.history h "
            f"join {schema}.withdrawals w on w.id = h.withdrawal where account = $1 and foreign_id = $2 order by number"
        )
        """A whole history, in the order in which it was heard."""
        self.histories_of = (
            f"select withdrawal, {', '.join(_LINE)} from {schema}.history "
            "where withdrawal = any($1::int8[]) order by withdrawal, number"
        )
        """Whole histories."""
        self.sums = (
            "select currency, case when state = 'open' and epoch < epoch_number then 'unknown' else counted_as end, "
            f"sum(amount)::text as figure from {schema}.withdrawals cross join {schema}.journal "
            "where account = $1 group by 1, 2 order by 1"
        )
        """What became of everything asked for."""
        words = (
            "case when kind <> 'callback' then what when what like 'does not fit%' then 'does not fit' "
            "else split_part(what, ';', 1) end"
        )
        self.forget = f"""
            with held as materialized (
              select id from {schema}.withdrawals where id = $1 and turn = $2 and exists ({here(schema, "$6")}) for update
            ), bodies as (
              update {schema}.revisions r set body = '', sha256 = '' from held where r.withdrawal = held.id and $4
            ), replies as (
              update {schema}.history h set reply = '', what = {words} from held where h.withdrawal = held.id and $4
            ), dropped as (
              delete from {schema}.revisions r using held where r.withdrawal = held.id and not $4
            ), silenced as (
              delete from {schema}.history h using held where h.withdrawal = held.id and not $4
            ), changed as (
              update {schema}.withdrawals w set turn = w.turn + 1, body = '', sha256 = '', rest = $3::json
              from held where w.id = held.id returning w.id
            ), noted as (
              insert into {schema}.history (withdrawal, {", ".join(_LINE)})
              select changed.id, {lines} from changed, {_handed("$5", "line", _LINE, _LINE_TYPES)}
            )
            select id, {durable} from changed"""
        """A withdrawal without its bytes and AlphaPo's words, or without its whole history; one that has another turn is left as it is."""
        self.stay = f"{here(schema, '$1')} for share of j"
        """Whether the journal is here, and stays until the transaction ends."""
        self.enqueue = f"select {schema}.enqueue(decode('%s', 'hex'))"
        """A withdrawal for the workers, in the transaction of whoever calls."""

    def enqueue_statement(self, row: Row, line: Entry, host: str, times: Mapping[str, float]) -> str:
        """Return the statement that records a new row, with the first line of its history, for the workers.

        `times` has `expires_in` and `resend_within` in seconds, and `epochs`: by how many the first sight of another identity raises the
        journal's epoch.

        It has no parameters, and no character that any driver takes for one: what it says stands in it as hexadecimal digits.
        """
        _, body, sha256, digest = written(row.revision)
        record = to_record(row)
        told = {name: getattr(record, name) for name in COLUMNS} | {
            "reported": row.reported,
            "rest": msgspec.Raw(record.rest),
            "body": f"\\x{body.hex()}",
            "sha256": sha256,
            "digest": digest,
        }
        asked = msgspec.json.encode({"host": host, **times, "row": told, "what": line.what, "release": line.release})
        return self.enqueue % asked.hex()

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def find_many(self, fetch: Fetch, names: list[Name]) -> dict[Name, StoredRow]:
        """Return the rows of these withdrawals, those that there are."""
        found = await self.select(fetch, self.find, [name[0] for name in names], [name[1] for name in names])
        return {(known.row.account, known.row.foreign_id): known for known in found}

    async def select(self, fetch: Fetch, statement: str, *values: object) -> list[StoredRow]:
        """Return the rows that a statement finds."""
        found = await fetch(statement, *values)
        corrected = [each["id"] for each in found if each["revision"] > 1]
        kept = await fetch(self.earlier, corrected) if corrected else []
        return [_known(each, kept) for each in found]

    async def history_of(self, fetch: Fetch, name: Name) -> list[Entry]:
        """Return the lines of a withdrawal."""
        return [Entry(*line) for line in await fetch(self.history, *name)]

    async def histories(self, fetch: Fetch, numbers: list[int]) -> dict[int, list[Entry]]:
        """Return the lines of withdrawals, by their numbers."""
        found: dict[int, list[Entry]] = {}
        for number, *line in await fetch(self.histories_of, numbers):
            found.setdefault(number, []).append(Entry(*line))
        return found

    async def all(self, fetch: Fetch, after: int, limit: int) -> list[Kept]:
        """Return withdrawals with their histories, in order."""
        found = await self.select(fetch, self.everything, after, limit)
        return [
            Kept(known.id, known.row, tuple(await self.history_of(fetch, (known.row.account, known.row.foreign_id))))
            for known in found
        ]

    async def totals(self, fetch: Fetch, account: str) -> dict[str, Totals]:
        """Return what became of everything asked for, by currency, exact."""
        buckets: dict[str, dict[str, Decimal]] = {}
        for currency, counted_as, figure in await fetch(self.sums, account):
            buckets.setdefault(currency, {})[counted_as] = Decimal(figure)
        return {currency: Totals(**found, requested=_sum(found.values())) for currency, found in buckets.items()}

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def add(self, fetch: Fetch, drafts: list[Draft], stamp: str) -> dict[Name, StoredRow]:
        """Write down new rows; return those that were new indeed."""
        made = await fetch(self.insert, _asked(drafts), _lines(drafts), stamp)
        return {drafts[place - 1].name: StoredRow(number, 1, drafts[place - 1].row) for number, place, _ in made}

    async def load(self, fetch: Fetch, kept: list[Kept], stamp: str) -> None:
        """Write down what another journal kept, in its order."""
        for _, row, entries in kept:
            [_] = await self.add(fetch, [Draft((row.account, row.foreign_id), None, row, entries)], stamp)

    async def change(self, fetch: Fetch, drafts: list[Draft], stamp: str) -> dict[Name, StoredRow]:
        """Write down what became of known rows; return those that nobody else had changed meanwhile."""
        turns = [draft.known.turn for draft in drafts if draft.known is not None]
        made = await fetch(self.update, _asked(drafts), _lines(drafts), stamp)
        return {
            drafts[place - 1].name: StoredRow(number, turns[place - 1] + 1, drafts[place - 1].row)
            for number, place, _ in made
        }

    async def forget_one(
        self, fetch: Fetch, known: StoredRow, after: Row, entries: Sequence[Entry], stamp: str, *, keeps_history: bool
    ) -> bool:
        """Let go of a withdrawal's bytes and more; tell whether it was still as it was known."""
        rest, lines = to_record(after).rest.decode(), _lines([Draft(("", ""), known, after, tuple(entries))])
        return bool(await fetch(self.forget, known.id, known.turn, rest, keeps_history, lines, stamp))


def _sum(figures: Iterable[Decimal]) -> Decimal:
    with localcontext(prec=1_000):
        return sum(figures, Decimal(0))


def _known(found: Any, kept: list[Any]) -> StoredRow:
    number, turn, body, digest, epoch_number, epoch_since, *columns = found
    record = Record(*columns)
    earlier: tuple[Revision, ...] = tuple(
        read_revision(one["number"], one["body"], one["digest"])
        for one in kept
        if one["withdrawal"] == number and one["number"] < record.revision
    )
    revision = read_revision(record.revision, body, digest, (record.amount, record.currency))
    return StoredRow(number, turn, seen_in(read_record(record, revision, earlier), Epoch(epoch_number, epoch_since)))


def _asked(drafts: list[Draft]) -> bytes:
    """Return the rows, each with its place; the bytes only where they are new."""
    return _encode([_asked_one(place, draft) for place, draft in enumerate(drafts, 1)])


def _asked_one(place: int, draft: Draft) -> dict[str, Any]:
    row, known, told = draft.row, draft.known, to_record(draft.row)
    asked = told._asdict()
    asked["place"], asked["rest"] = place, told.rest.decode()
    asked["alphapo_id"], asked["status"] = _clean(told.alphapo_id), _clean(told.status)
    if known is not None:
        asked["id"], asked["turn"] = known.id, known.turn
    if known is None or known.row.revision.number != row.revision.number:
        _, asked["body"], asked["sha256"], asked["digest"] = written(row.revision)
        last = 0 if known is None else known.row.revision.number
        between = [written(revision)._asdict() for revision in row.earlier if revision.number > last]
        if between:
            asked["between"] = between
    return asked


def _lines(drafts: list[Draft]) -> bytes:
    """Return the new lines of all histories, in order, each with the place of its draft."""
    return _encode([_line(place, entry) for place, draft in enumerate(drafts, 1) for entry in _merged(draft.entries)])


def _merged(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return merged(entries) if len(entries) > 1 else entries


def _line(place: int, entry: Entry) -> dict[str, Any]:
    told = asdict(entry)
    told["place"], told["what"] = place, _clean(entry.what)
    return told


def stored(entries: Sequence[Entry]) -> list[Entry]:
    """Return lines as they come back."""
    return [msgspec.structs.replace(entry, what=_clean(entry.what) or "") for entry in entries]


def _clean(text: str | None) -> str | None:
    """PostgreSQL's text holds no NUL; AlphaPo's words might. What decides stands in `rest`, where it is escaped."""
    return text and text.replace("\0", "\ufffd")
