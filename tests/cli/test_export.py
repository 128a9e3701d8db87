"""`alphapo journal export`: every withdrawal of an account, in CSV and JSON Lines, between two days."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapo_async.cli.batch.cells import FORMULAS, problems_of_cells
from alphapo_async.cli.batch.files import read_lines
from alphapo_async.cli.export import line_writer
from alphapo_async.cli.row_fields import FIELDS, OUTCOME_FIELDS, fields_of
from alphapo_async.core.codec import digest, encode_body, is_same_payment
from alphapo_async.core.evidence import Released, Requested, Revision
from alphapo_async.core.models import Transaction, TransactionPart, WithdrawalRequest, request_of
from alphapo_async.core.texts import problem_of_id
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import invoke
from tests.support.journal_suite import LOST, asked, learn, pay
from tests.support.rows import ACCEPTED_ROW, REJECTED_ROW

DAY = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a journal with a row in doubt on the first day of 1970, and a paid one on the third."""
    place = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(place)
        await learn(journal, "=doubt", asked("=doubt", "0.5"), LOST, Released("worker", "queue"), now=1.0)
        await pay(journal, "paid", now=2 * DAY)
        await journal.aclose()

    asyncio.run(fill())
    return place


def exported(path: Path, *arguments: str) -> str:
    """Run the command and return what it wrote."""
    result = invoke("journal", "export", "--journal", str(path), *arguments)
    assert result.exit_code == 0, result.output
    assert "withdrawal" in result.stderr
    return result.stdout


def test_everything_is_written_as_csv_oldest_first(path: Path) -> None:
    """One line each, under a head; every value is what the journal has."""
    doubt, paid = csv.DictReader(io.StringIO(exported(path)))
    assert tuple(doubt) == FIELDS
    assert (doubt["foreign_id"], doubt["outcome"], doubt["amount"]) == ("=doubt", "unknown", "0.5")
    assert (paid["foreign_id"], paid["outcome"], paid["source"]) == ("paid", "accepted", "reply")
    assert paid["created_at"] == "1970-01-03T00:00:00.000Z"
    assert doubt["settled_at"] == ""


def test_as_json_lines_it_is_exact(path: Path) -> None:
    """Nothing is escaped but what JSON escapes, and nothing unknown is an empty text."""
    doubt, paid = map(json.loads, exported(path, "--format", "jsonl").splitlines())
    assert (doubt["foreign_id"], doubt["settled_at"], doubt["attempts"]) == ("=doubt", None, 1)
    assert tuple(paid) == FIELDS


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--since", "1970-01-02"], ["paid"]),
        (["--until", "1970-01-01"], ["=doubt"]),
        (["--until", "1970-01-03"], ["=doubt", "paid"]),
        (["--until", "1970-01-02"], ["=doubt"]),
        (["--until", "1970-01-03T00:00:00"], ["=doubt"]),
        (["--until", "1970-01-03T00:00:01"], ["=doubt", "paid"]),
        (["--since", "1970-01-03T00:00:00"], ["paid"]),
        (["--since", "1970-01-01T00:00:02", "--until", "1970-01-02T23:59:59"], []),
        (["--account", "other"], []),
    ],
)
def test_days_and_moments_bound_it(path: Path, arguments: list[str], names: list[str]) -> None:
    """By when it was asked for, in UTC; a last day is included, and a moment is no day, at midnight neither."""
    result = exported(path, "--format", "jsonl", *arguments)
    assert [json.loads(line)["foreign_id"] for line in result.splitlines()] == names


@pytest.mark.parametrize("text", ["30.11.2026", "2026-11-31", "9999-12-31", ""])
def test_what_is_no_day_is_told_so(path: Path, text: str) -> None:
    """Wrong usage, and nothing is written; the last day that Python knows has no end."""
    result = invoke("journal", "export", "--journal", str(path), "--until", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "write 2026-11-30 or 2026-11-30T12:00:00" in " ".join(result.stderr.split())


def test_memory_cannot_be_exported() -> None:
    """It ends with its process."""
    result = invoke("journal", "export", "--journal", "memory")
    assert result.exit_code == 2
    assert "Set ALPHAPO_JOURNAL=payouts.db" in result.stderr


def test_a_row_tells_all_that_it_knows() -> None:
    """The digest is that of the bytes that were signed; the txids are those that AlphaPo told."""
    result = Transaction(
        id=7, transactions=(TransactionPart(txid="one"), TransactionPart(), TransactionPart(txid="two"))
    )
    fields = fields_of(replace(ACCEPTED_ROW, transaction=result, decision="accepted by anna: seen", settled_at=2.5))
    assert fields["txids"] == ["one", "two"]
    assert fields["reason"] == "accepted by anna: seen"
    assert fields["sha256"] == hashlib.sha256(ACCEPTED_ROW.revision.body).hexdigest()
    assert datetime.fromisoformat(fields["settled_at"]) == datetime.fromtimestamp(2.5, UTC)


def test_a_row_of_which_only_the_essence_is_kept_tells_that() -> None:
    """What was forgotten is None."""
    fields = fields_of(replace(REJECTED_ROW, revision=Revision(b"", None, 2, "1:0"), reason=""))
    known = {name: value for name, value in fields.items() if value not in (None, [])}
    assert {"currency", "amount", "requested_amount", "address", "sha256", "txids", "alphapo_id"}.isdisjoint(known)
    assert known["revision"] == 2


def test_for_a_spreadsheet_no_text_is_a_formula(path: Path) -> None:
    """On demand, and in CSV alone: it is no export that can be fed back."""
    [doubt, _] = csv.DictReader(io.StringIO(exported(path, "--spreadsheet")))
    assert doubt["foreign_id"] == "'=doubt"
    result = invoke("journal", "export", "--journal", str(path), "--spreadsheet", "--format", "jsonl")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_cell_for_a_spreadsheet_is_never_a_formula() -> None:
    """Whatever a foreign_id or AlphaPo's words begin with."""
    written: list[str] = []
    write = line_writer("csv", written.append, for_spreadsheet=True)
    texts = ("=1+1", "+1", "-1", "@a", "\tb", "\rc", "plain")
    fields: dict[str, Any] = dict.fromkeys(FIELDS) | dict(zip(FIELDS, texts, strict=False))
    write(fields)
    (cells,) = csv.reader(io.StringIO(written[1], newline=""))
    assert cells[:7] == ["'=1+1", "'+1", "'-1", "'@a", "'\tb", "'\rc", "plain"]


def written_as(kind: str, request: WithdrawalRequest, *, for_spreadsheet: bool = False) -> str:
    """Return an export that has this withdrawal alone."""
    lines: list[str] = []
    write = line_writer(kind, lines.append, for_spreadsheet=for_spreadsheet)
    row = replace(
        ACCEPTED_ROW, foreign_id=request.foreign_id, revision=Revision(encode_body(request, "string"), request)
    )
    write(fields_of(row))
    return "".join(lines)


NAMES = (
    st.text(min_size=1, max_size=8)
    | st.text("=+-@'\",;0123456789.eE #N/A!", min_size=1, max_size=8)
    | st.sampled_from(["-NgXkYz", "=1+1", "'=1+1", "0012", "1E5", "1.00E+15", "true", "{}", "[1]", "a;b,c"])
).filter(lambda text: problem_of_id(text) is None)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    foreign_id=NAMES,
    reference=NAMES,
    tag=st.none() | NAMES,
    amount=st.decimals(0, 10**9, places=8),
    kind=st.sampled_from(["csv", "jsonl"]),
    for_spreadsheet=st.booleans(),
)
def test_what_is_exported_is_read_back_as_the_same_payment_or_refused(
    *, foreign_id: str, reference: str, tag: str | None, amount: Decimal, kind: str, for_spreadsheet: bool
) -> None:
    """Never as another one, which would be paid a second time: by the readers of a batch, and by `client.batch` from csv.DictReader."""
    request = WithdrawalRequest(
        currency="BTC",
        address="made-up",
        foreign_id=foreign_id,
        end_user_reference=reference,
        amount=amount,
        tag=tag,
        allow_personal_reference=True,
    )
    text = written_as(kind, request, for_spreadsheet=for_spreadsheet)
    [line] = read_lines(iter(io.StringIO(text, newline="")), "export")
    guarded = for_spreadsheet and kind == "csv"
    is_formula = any(each.startswith(FORMULAS) for each in (foreign_id, reference, tag or ""))
    refused = problems_of_cells(line.fields)
    if guarded and is_formula:
        assert refused
    elif not refused:
        assert is_same_payment(request_of(line.fields), request)
    if kind == "csv" and not guarded:
        [row] = csv.DictReader(io.StringIO(text, newline=""))
        fields = {name: row[name] for name in WithdrawalRequest.__struct_fields__}
        assert is_same_payment(request_of(fields), request)


PERSON = {"first_name": "Änne", "last_name": 'O"Neil, jr', "date_of_birth": "1990-12-31"}
FED_BACK: tuple[dict[str, Any], ...] = (
    {"currency": "BTC", "amount": "0.00000001"},
    {"currency": "EUR", "amount": "381.5", "convert_to": "BTC"},
    {"currency": "EUR", "amount_to": "0.015", "convert_to": "BTC"},
    {"currency": "XRP", "amount": "25", "tag": "7"},
    {"currency": "XRP", "amount": "25", "without_tag": True},
    {"currency": "EUR", "amount_to": "25", "convert_to": "XRP", "tag": "0"},
    {"currency": "BTC", "amount": "1E-7", "sender_type": "natural", "sender_data": PERSON},
    {"currency": "BTC", "amount": "1", "receiver_type": "self"},
    {"currency": "BTC", "amount": "1", "end_user_reference": "a@b.invalid", "allow_personal_reference": True},
)


def fed_back() -> list[WithdrawalRequest]:
    """Return one request of each kind."""
    common = {"address": "made-up", "end_user_reference": "user-1"}
    return [request_of({**common, "foreign_id": f"f-{n}", **fields}) for n, fields in enumerate(FED_BACK)]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_whole_export_is_read_back_as_the_same_requests(tmp_path: Path, kind: str) -> None:
    """Digest by digest: conversions, tags, parties and references that look personal; nothing needs to be cut from the file."""

    async def fill() -> None:
        journal = SqliteJournal(tmp_path / "payouts.db")
        for now, request in enumerate(fed_back()):
            revision = Revision(encode_body(request, "number"), request)
            await learn(journal, request.foreign_id, Requested("worker", revision, "key"), LOST, now=float(now))
        await journal.aclose()

    asyncio.run(fill())
    text = exported(tmp_path / "payouts.db", "--format", kind)
    lines = list(read_lines(iter(io.StringIO(text, newline="")), "export"))
    assert {line.left_out for line in lines} == {OUTCOME_FIELDS}
    assert not any(line.problems or problems_of_cells(line.fields) for line in lines)
    assert [digest(request_of(line.fields)) for line in lines] == [digest(request) for request in fed_back()]


def test_a_conversion_keeps_its_own_currencies() -> None:
    """`currency` is the balance that is debited; the figure that was asked for has columns of its own, which a pruned row keeps."""
    [request] = [one for one in fed_back() if one.tag is None and one.amount_to is not None]
    fields = fields_of(replace(ACCEPTED_ROW, revision=Revision(encode_body(request, "number"), request)))
    assert (fields["currency"], fields["convert_to"], fields["amount_to"]) == ("EUR", "BTC", "0.015")
    assert (fields["amount"], fields["requested_amount"], fields["requested_currency"]) == (None, "0.015", "BTC")
    kept = Revision(b"", None, 1, "1:0", (Decimal("0.015"), "BTC"))
    fields = fields_of(replace(ACCEPTED_ROW, revision=kept))
    assert (fields["requested_amount"], fields["requested_currency"]) == ("0.015", "BTC")
    assert (fields["currency"], fields["amount_to"], fields["address"]) == (None, None, None)
