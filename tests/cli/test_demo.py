"""The demo: its CSV, its report, and one whole run."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.cli.demo import DemoReport, closing_words, exit_code, killed_words, report_fields, report_rows
from alphapo_async.cli.demo_payments import _pay, read_rows
from alphapo_async.cli.demo_verdict import LedgerVerdict, payment_of
from alphapo_async.client import AlphapoClient
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.core.retry_policy import RetryPolicy
from tests.cli.conftest import invoke, run

GOOD = DemoReport(
    reported={"demo-0001": "accepted", "demo-0002": "rejected"},
    killed_after=1,
    asked_again=1,
    retries=3,
    look_ups=4,
    ended_later=0,
    totals={"BTC": Totals(requested=Decimal(2), accepted=Decimal(1), rejected=Decimal(1))},
    verdict=LedgerVerdict(),
    seconds=1.0,
)
UNKNOWN = replace(
    GOOD, reported={"demo-0001": "unknown"}, totals={"BTC": Totals(requested=Decimal(2), unknown=Decimal(2))}
)
PAID_TWICE = replace(GOOD, verdict=LedgerVerdict(paid_twice=("demo-0001",)))
TOLD_WRONG = replace(GOOD, verdict=LedgerVerdict(told_wrong=("demo-0002",)))
NOT_ADDED_UP = replace(GOOD, totals={"BTC": Totals(requested=Decimal(2))})


def test_the_csv_has_what_a_demo_needs() -> None:
    """At least 500 valid rows in several currencies, some exchanged, some by what arrives, some with a tag, no address a real one."""
    rows = read_rows()
    assert len(rows) >= 500
    assert [row.foreign_id for row in rows] == [f"demo-{number:04d}" for number in range(1, len(rows) + 1)]
    assert len({row.currency for row in rows}) >= 8
    for field in ("convert_to", "amount_to", "tag"):
        assert sum(getattr(row, field) is not None for row in rows) >= 20
    assert all("made-up" in row.address or row.address in ("unsupported", "12345") for row in rows)


def test_no_two_rows_pay_the_same() -> None:
    """Payments are counted by row, so that two equal rows would look like one that is paid twice."""
    rows = read_rows()
    assert len({payment_of(row) for row in rows}) == len(rows)


def test_a_whole_run() -> None:
    """Sixty rows under faults in a process of their own: both zeros, totals, a closing sentence, exit code 0, no terminal codes."""
    result = run("demo", "--rows", "60", "--seed", "1")
    assert (result.returncode, result.stderr) == (0, "")
    figures = dict(re.findall(r"│ +(\S.*?) +│ +(\d+) │", result.stdout))
    assert figures["requested"] == "60"
    assert figures["paid more than once (sandbox's ledger)"] == "0"
    assert figures["reported wrong (sandbox's ledger)"] == "0"
    assert int(figures["accepted"]) >= 50
    assert int(figures["retries"]) + int(figures["look-ups"]) > 0
    assert "requested = open + accepted" in result.stdout
    assert "60 of 60 finished" in result.stdout
    lines = result.stdout.splitlines()
    prose = [line for line in lines if line and not line.startswith(("│", "┃", "┏", "┡", "└"))]
    assert len(prose) == len(set(prose))
    assert not [line for line in prose if line.endswith((" a", " the", ",")) or line[0].islower()]
    assert "none was paid twice" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_run_in_this_process_asks_again_where_nobody_could_say() -> None:
    """A row whose first reply is lost and whose second is a refusal is unknown first, and settled when it is asked again."""
    result = invoke("demo", "--rows", "300")
    assert result.exit_code == 0
    figures = dict(re.findall(r"│ +(\S.*?) +│ +(\d+) │", result.output))
    assert int(figures["unknown after the first pass, asked again"]) > 0
    assert int(figures["settled by that"]) > 0


def test_a_run_of_which_nothing_is_unknown_does_not_wait() -> None:
    """A few rows are paid at once."""
    result = invoke("demo", "--rows", "3")
    assert result.exit_code == 0
    assert "asked again, with" not in result.output
    assert "3 of 3 finished" in result.output


@pytest.mark.parametrize("rows", ["0", "100000", "many"])
def test_a_wrong_number_of_rows_is_wrong_usage(rows: str) -> None:
    """There are only so many rows: exit code 2."""
    assert invoke("demo", "--rows", rows).exit_code == 2


@pytest.mark.parametrize(
    ("report", "code", "words"),
    [
        (GOOD, 0, "none was paid twice"),
        (UNKNOWN, 0, "keep such a withdrawal pending"),
        (replace(GOOD, ended_later=2), 0, "2 of those it cancelled or declined later"),
        (PAID_TWICE, 1, "The promise was broken for: demo-0001."),
        (TOLD_WRONG, 1, "The promise was broken for: demo-0002."),
        (NOT_ADDED_UP, 1, "do not reconcile"),
    ],
)
def test_the_verdict_decides(report: DemoReport, code: int, words: str) -> None:
    """Unknown rows are honest and end with 0; a payment made twice, a caller told wrong, or a sum that is off ends with 1."""
    assert exit_code(report) == code
    assert words in " ".join(closing_words(report))


def test_whoever_was_told_nothing_for_good_is_counted_where_the_worker_is_killed() -> None:
    """The bar counts who was told for good: both figures stand in the sentence beside it."""
    assert "when 2 calls had returned. Another worker" in killed_words({"a": "accepted", "b": "rejected"})
    result = killed_words({"a": "accepted", "b": "unknown", "c": "accepted"})
    assert "when 3 calls had returned: 2 with a final outcome, 1 unknown. Another worker" in result


def test_only_a_kept_promise_is_praised() -> None:
    """The closing sentence is not said by rote."""
    assert not any("none was paid twice" in words for words in closing_words(PAID_TWICE))


def test_the_figures_are_given_as_json() -> None:
    """On standard output alone, without the progress."""
    ended = invoke("demo", "--rows", "3", "--json")
    shown = json.loads(ended.stdout)
    assert (shown["requested"], shown["exit_code"], shown["totals_reconcile"]) == (3, 0, True)
    assert "3 of 3 finished" in ended.stderr
    assert report_fields(PAID_TWICE)["paid_more_than_once"] == PAID_TWICE.verdict.paid_twice


def test_the_table_counts_rows() -> None:
    """Every line of it comes from the report."""
    rows = dict(report_rows(replace(UNKNOWN, verdict=LedgerVerdict(("demo-0001",), ("demo-0001",)))))
    assert rows["requested"] == rows["unknown"] == "1"
    assert (rows["accepted"], rows["retries"], rows["look-ups"]) == ("0", "3", "4")
    assert rows["  settled by that"] == "0"
    assert rows["paid more than once (sandbox's ledger)"] == rows["reported wrong (sandbox's ledger)"] == "1"
    assert "conflict" not in rows


@pytest.mark.parametrize(("amount", "outcome"), [("0.12345678901234567890", "invalid"), ("1", "not_sent")])
async def test_a_row_ends_as_its_error_says(amount: str, outcome: str) -> None:
    """What a caller is told is the error's outcome; an amount that cannot be written exactly is invalid."""
    request = WithdrawalRequest(
        currency="BTC", address="made-up", amount=amount, foreign_id="f", end_user_reference="u"
    )
    policy = RetryPolicy(attempts=1, deadline=0.1, attempt_timeout=0.1)
    async with AlphapoClient("k", "s", base_url="http://127.0.0.1:9", policy=policy) as client:
        assert await _pay(client, request) == outcome
