"""AlphaPo's own mass-payout sheets, as its dashboard takes them: rows without a foreign_id, each of which gets one from what it says.

Source: https://docs.alphapo.net/getting-started/send-mass-payouts: up to 500 rows and 1 MB, a header row first, columns in the given order,
commas or semicolons.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from alphapo_async.cli.batch.cells import is_exact_figure
from alphapo_async.cli.batch.files import InputLine, Lines, first_line, read_table
from alphapo_async.core.codec import normal
from alphapo_async.core.errors import ConfigurationError

__all__ = [
    "Differences",
    "SheetRow",
    "check_prefix",
    "difference_lines",
    "differences",
    "read_sheet",
    "remembered_rows",
]

_WITHOUT_CONVERSION: Final = {
    "Address": "address",
    "Tag": "tag",
    "Currency": "currency",
    "Amount": "amount",
    "Note": "note",
}
_WITH_CONVERSION: Final = {
    "From Currency": "currency",
    "Amount to Send": "amount",
    "Address": "address",
    "Tag": "tag",
    "To Currency": "convert_to",
    "Amount to Receive": "amount_to",
    "Note": "note",
}
_FORMS: Final = (_WITHOUT_CONVERSION, _WITH_CONVERSION)
_MOST_ROWS: Final = 500
_MOST_BYTES: Final = 1_000_000
_DIGITS: Final = 16  # of the hash: 64 bits, and a sheet has 500 rows
_LONGEST_PREFIX: Final = 64
_NOTE: Final = "Note"


def check_prefix(prefix: str) -> str:
    """Return what the foreign_ids of a sheet begin with.

    Raises:
        ConfigurationError: it is empty, too long, or holds what a foreign_id cannot.
    """
    if not prefix.strip() or prefix != prefix.strip() or not prefix.isprintable() or len(prefix) > _LONGEST_PREFIX:
        raise ConfigurationError(
            f"--foreign-id-prefix must be 1 to {_LONGEST_PREFIX} printable characters without blanks around them, and another one for "
            'every payout: "payroll-2026-11-", say. Nothing was sent.'
        )
    return prefix


def read_sheet(prefix: str, reference: str, *, no_tag: bool = False) -> Lines:
    """Return how the rows of a sheet are read.

    Args:
        prefix: what every foreign_id begins with. A hash over what the row says follows, and which of the rows that say the same it is.
        reference: the end_user_reference of all rows, or "Note": the row's note.
        no_tag: an empty tag means that none is wanted, on purpose.
    """

    def read(texts: Iterator[str], name: str) -> Iterator[InputLine]:
        begin, first = first_line(texts, name)
        seen: Counter[str] = Counter()
        rows = 0
        for number, header, cells in read_table(_measured(first, texts, name), name, _check_header, begin):
            rows += 1
            if rows > _MOST_ROWS:
                raise _too_large(name)
            row = _row_of(header, cells)
            surplus = len(cells) - len(header)
            # A row that cannot be paid must not take the number of one that says the same and can.
            mark = _mark({**row, "surplus": str(surplus)} if surplus else row)
            seen[mark] += 1
            line = _line(number, row, f"{prefix}{mark}-{seen[mark]}", reference, surplus)
            is_without = no_tag and "tag" not in row
            yield msgspec.structs.replace(line, fields={**line.fields, "without_tag": True}) if is_without else line
        if not rows:
            raise ConfigurationError(f"{name} has a header and no rows. Nothing was sent.")

    return read


def _measured(first: str, rest: Iterator[str], name: str) -> Iterator[str]:
    size = len(first.encode())
    yield first
    for text in rest:
        size += len(text.encode())
        if size > _MOST_BYTES:
            raise _too_large(name)
        yield text


def _too_large(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is larger than AlphaPo's dashboard takes ({_MOST_ROWS} rows, 1 MB): split it and give each part a prefix of its own, or "
        "give the rows foreign_ids and leave --sheet out. Nothing was sent."
    )


def _check_header(header: Sequence[str], name: str) -> None:
    if not any(list(header) == list(form) for form in _FORMS):
        raise ConfigurationError(
            f"{name} is no mass-payout sheet: its columns are {', '.join(header)}, and they must be, in this order, "
            f"{', '.join(_WITHOUT_CONVERSION)}, or {', '.join(_WITH_CONVERSION)}. Nothing was sent."
        )


def _row_of(header: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Return what a row says, in a form that is the same however it was typed."""
    form = next(form for form in _FORMS if list(header) == list(form))
    row = {form[name]: cell.strip() for name, cell in zip(header, cells, strict=False)}
    for name in ("currency", "convert_to"):
        if name in row:
            row[name] = row[name].upper()
    for name in ("amount", "amount_to"):
        if is_exact_figure(row.get(name, "")):
            row[name] = normal(Decimal(row[name]))
    return {name: cell for name, cell in row.items() if cell}


def _mark(row: Mapping[str, str]) -> str:
    return hashlib.sha256(msgspec.json.encode(sorted(row.items()))).hexdigest()[:_DIGITS]


def _line(number: int, row: Mapping[str, str], foreign_id: str, reference: str, surplus: int) -> InputLine:
    fields: dict[str, Any] = {name: cell for name, cell in row.items() if name != "note"}
    fields |= {
        "foreign_id": foreign_id,
        "end_user_reference": row.get("note", "") if reference == _NOTE else reference,
    }
    problems = {"row": f"has {abs(surplus)} cells too {'many' if surplus > 0 else 'few'}."} if surplus else {}
    return InputLine(number, fields, problems)


# ── what a sheet was when it was first paid ──────────────────────────────────────────────────────────────────────────


class SheetRow(msgspec.Struct, frozen=True):
    """What is remembered of a row."""

    foreign_id: str
    says: str
    """What it pays to whom, for people."""
    reference: str = ""
    """Its end_user_reference: the one thing that its foreign_id does not tell."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> SheetRow:
        """Return what is remembered of the row with these fields."""
        told = [f"{name} {fields[name]}" for name in _SHOWN if fields.get(name)]
        return cls(fields["foreign_id"], ", ".join(told), fields.get("end_user_reference", ""))


class Differences(msgspec.Struct, frozen=True):
    """Where a sheet is not what it was."""

    new: tuple[SheetRow, ...] = ()
    """Rows that were not in it: they will be paid."""
    gone: tuple[SheetRow, ...] = ()
    """Rows that are not in it any more: what was paid of them stays paid."""
    back: tuple[tuple[SheetRow, str], ...] = ()
    """Rows that were not in it the last time, and are in the journal all the same, each with what they are there."""
    renamed: tuple[tuple[SheetRow, str], ...] = ()
    """Rows that are asked for with another end_user_reference, each with the one of then."""
    is_another: bool = False
    """It has none of the rows that it had, nor any that the journal knows."""


_SHOWN: Final = ("amount", "currency", "amount_to", "convert_to", "address", "tag", "end_user_reference")


def difference_lines(found: Differences | None) -> list[str]:
    """Return where a sheet is not what it was, line by line."""
    if found is None:
        return []
    counts = [f"{len(found.new)} rows are new (+)", f"{len(found.gone)} are gone (-)"]
    counts += [f"{len(found.back)} are in the journal from before (=)"] if found.back else []
    counts += [f"{len(found.renamed)} have another end_user_reference (~)"] if found.renamed else []
    head = f"The sheet has changed since it was last paid under this prefix: {', '.join(counts)}."
    return [
        f"{head} What was paid stays paid, and is not paid again.",
        *(f"+ {row.foreign_id}: {row.says}" for row in found.new),
        *(f"- {row.foreign_id}: {row.says}" for row in found.gone),
        *(f"= {row.foreign_id}: {row.says} (in the journal: {state})" for row, state in found.back),
        *(
            f"~ {row.foreign_id}: {row.says} (paid before with end_user_reference {before})"
            for row, before in found.renamed
        ),
    ]


def remembered_rows(text: str | None) -> tuple[SheetRow, ...] | None:
    """Return the rows that a journal remembers; None if it remembers none."""
    return None if text is None else msgspec.json.decode(text, type=tuple[SheetRow, ...])


def differences(
    before: Sequence[SheetRow] | None, now: Sequence[SheetRow], states: Mapping[str, str] | None = None
) -> Differences | None:
    """Return where a sheet is not what it was; None if it is the same, in whatever order, or was never paid.

    Args:
        before: its rows the last time; None if there was none.
        now: its rows.
        states: what the rows are, by foreign_id, that the journal has although they were not in it the last time.
    """
    if before is None:
        return None
    states = states or {}
    known, named = {row.foreign_id: row.reference for row in before}, {row.foreign_id for row in now}
    others = [row for row in now if row.foreign_id not in known]
    found = Differences(
        new=tuple(row for row in others if row.foreign_id not in states),
        gone=tuple(row for row in before if row.foreign_id not in named),
        back=tuple((row, states[row.foreign_id]) for row in others if row.foreign_id in states),
        renamed=tuple((row, was) for row in now if (was := known.get(row.foreign_id)) and was != row.reference),
    )
    if found == Differences():
        return None
    is_another = not found.back and len(found.gone) == len(known)
    return msgspec.structs.replace(found, is_another=is_another)
