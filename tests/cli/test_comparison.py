"""Findings and sums of a reconciliation: against an export, and against the look-ups of the real sandbox."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async import AlphapoClient, WithdrawalRequest
from alphapo_async.cli.alphapo_export import AlphapoExport
from alphapo_async.cli.comparison import Comparison
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.row import Row
from alphapo_async.journal import MemoryJournal
from alphapo_async.sandbox import Dialect, Fault, Sandbox, Script
from tests.proof.reconciliation import rows

KEY, SECRET = "made-up-key", "made-up-secret"
HEADER = "foreign_id,amount,currency,status,txid\n"
DAY = 86_400.0


def compared(folder: Path, text: str, journal: list[Row], begin: float = 0.0, end: float = 1e10) -> Comparison:
    """Return the comparison of a journal with an export."""
    path = folder / "export.csv"
    path.write_text(HEADER + text, encoding="utf-8")
    comparison = Comparison(begin, end)
    comparison.load(AlphapoExport(path, {}))
    for row in journal:
        comparison.meet(row)
    comparison.finish()
    return comparison


def found(comparison: Comparison) -> list[tuple[Any, ...]]:
    """Return the findings in their order."""
    return [(one["finding"], one["foreign_id"], one["field"]) for one in comparison.findings()]


def test_findings_come_in_order_and_sums_are_of_both_sides(tmp_path: Path) -> None:
    """First what is missing here; a line without a foreign_id is no row's, and is never "twice"."""
    journal = list(rows(4))
    text = (
        "payout-0,0.00000009,BTC,confirmed,\npayout-2,2.00000003,USDTT,confirmed,\npayout-2,2.00000003,USDTT,confirmed,\n"
        "stolen,5,BTC,confirmed,\nstolen,5,BTC,cancelled,\n,7,BTC,confirmed,\n,7,BTC,confirmed,\npayout-3,3.00000004,,confirmed,\n"
    )
    with contextlib.closing(compared(tmp_path, text, journal)) as comparison:
        assert found(comparison) == [
            ("missing_here", "", None),
            ("missing_here", "", None),
            ("missing_here", "stolen", None),
            ("twice", "payout-2", None),
            ("twice", "stolen", None),
            ("missing_there", "payout-1", None),
            ("different", "payout-0", "amount"),
        ]
        assert (comparison.rows, comparison.lines, comparison.matched, comparison.code) == (4, 8, 2, Exit.REFUSED)
        both = {currency: rest for currency, *rest in comparison.sums.rows()}
        assert both["BTC"] == [Decimal("3.00000005"), Decimal("22.00000013"), Decimal("19.00000008")]
        assert both["ETH"] == [Decimal("1.00000002"), 0, Decimal("-1.00000002")]
        assert both["USDTT"][2] == Decimal("2.00000003")
        assert repr(comparison).startswith("Comparison({")


def test_a_second_line_without_a_currency_counts_in_the_requested_one(tmp_path: Path) -> None:
    """A payment made twice is missing in no sum; a line that no row has met has no currency of its own."""
    [row] = rows(1)
    figure, currency = row.revision.asked
    text = f"{row.foreign_id},{figure:f},,confirmed,\n" * 2 + "stolen,5,,confirmed,\nstolen,5,,confirmed,\n"
    with contextlib.closing(compared(tmp_path, text, [row])) as comparison:
        assert list(comparison.sums.rows()) == [
            ("", 0, Decimal(10), Decimal(10)),
            (currency, figure, 2 * figure, figure),
        ]


def test_a_period_bounds_what_is_missed_and_not_what_is_compared(tmp_path: Path) -> None:
    """A row of another day is not expected, and its line is no stranger."""
    journal = [replace(row, created_at=number * DAY) for number, row in enumerate(rows(3))]
    text = "payout-0,0.00000001,BTC,confirmed,\n"
    with contextlib.closing(compared(tmp_path, text, journal, DAY, 2 * DAY)) as comparison:
        assert found(comparison) == [("missing_there", "payout-1", None)]
        assert (comparison.rows, comparison.matched) == (2, 1)


def test_what_the_journal_does_not_count_as_paid_differs_in_its_outcome(tmp_path: Path) -> None:
    """It is in AlphaPo's sum, and not in the journal's; without a line nothing is expected of it."""
    refused = [replace(row, state="rejected", withdrawal=None, transaction=None) for row in rows(2)]
    with contextlib.closing(compared(tmp_path, "payout-0,0.00000001,BTC,confirmed,\n", refused)) as comparison:
        assert found(comparison) == [("different", "payout-0", "outcome")]
        assert sums(comparison) == [("BTC", 0, Decimal("0.00000001"), Decimal("0.00000001"))]


def test_no_finding_is_a_match(tmp_path: Path) -> None:
    """Exit code 0."""
    with contextlib.closing(compared(tmp_path, "payout-0,0.00000001,BTC,confirmed,\n", list(rows(1)))) as comparison:
        assert (comparison.code, found(comparison)) == (Exit.ALL_ACCEPTED, [])


def sums(comparison: Comparison) -> list[Any]:
    """Return currency, the journal's sum, AlphaPo's, and the difference."""
    return list(comparison.sums.rows())


# ── look-ups ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def looked_up(*names: str, has_export: bool = False, **sandbox: Any) -> Comparison:
    """Pay these at a sandbox, then compare the journal with its look-ups."""
    journal, comparison = MemoryJournal(), Comparison(0.0, 1e11, pause=0.01)
    with contextlib.ExitStack() as stack:
        stack.callback(comparison.close)
        await _pay_and_look_up(journal, comparison, *names, has_export=has_export, **sandbox)
        stack.pop_all()  # the test closes it
    return comparison


async def _pay_and_look_up(
    journal: MemoryJournal, comparison: Comparison, *names: str, has_export: bool, **sandbox: Any
) -> None:
    async with (
        Sandbox(KEY, SECRET, **sandbox) as server,
        AlphapoClient(KEY, SECRET, base_url=server.url, journal=journal) as client,
    ):
        requests = [
            WithdrawalRequest(currency="BTC", address="made-up", amount="0.5", foreign_id=name, end_user_reference="u")
            for name in names
        ]
        async for result in client.batch(requests):
            assert result.outcome == "accepted"

        async def paid() -> AsyncIterator[Row]:
            for name in names:
                row = await journal.find("default", name)
                assert row is not None
                assert comparison.is_expected(row)
                yield row

        await comparison.look_up(client, journal, paid(), has_export=has_export)


async def test_look_ups_of_what_was_paid_match() -> None:
    """The sums as well; a status that has changed is news."""
    with contextlib.closing(await looked_up("a", "b")) as comparison:
        assert (comparison.rows, comparison.matched, comparison.code) == (2, 2, Exit.ALL_ACCEPTED)
        assert sums(comparison) == [("BTC", 1, 1, 0)]


async def test_a_withdrawal_that_is_not_shown_is_missing_there() -> None:
    """That proves nothing, and is worth a look."""
    with contextlib.closing(await looked_up("a", dialect=Dialect(visibility="never"))) as comparison:
        assert found(comparison) == [("missing_there", "a", None)]
        assert sums(comparison) == [("BTC", Decimal("0.5"), 0, Decimal("-0.5"))]


async def test_another_id_is_a_difference() -> None:
    """Field by field, as against an export."""
    with contextlib.closing(await looked_up("a", dialect=Dialect(ids="apart"))) as comparison:
        assert found(comparison) == [("different", "a", "id")]


async def test_beside_an_export_look_ups_add_findings_and_no_sums() -> None:
    """Each row is counted once."""
    for visibility, kinds in (("at once", []), ("never", ["missing_there"])):
        dialect = Dialect(visibility=visibility)  # type: ignore[arg-type]
        with contextlib.closing(await looked_up("a", has_export=True, dialect=dialect)) as comparison:
            assert [kind for kind, _, _ in found(comparison)] == kinds
            assert (comparison.rows, comparison.matched, sums(comparison)) == (0, 0, [])


async def test_a_look_up_without_an_answer_is_repeated_and_then_named() -> None:
    """Exit code 3: run again."""
    plan = Script({"a": {"look-up": [Fault.HTML_502_BEFORE] * 9}, "b": {"look-up": [Fault.HTML_502_BEFORE] * 2}})
    with contextlib.closing(await looked_up("a", "b", faults=plan)) as comparison:
        assert found(comparison) == [("not_looked_up", "a", None)]
        assert (comparison.matched, comparison.code) == (1, Exit.UNKNOWN)


@pytest.mark.parametrize(("times", "kinds"), [(2, []), (9, ["not_looked_up"])])
async def test_an_error_code_that_is_about_no_key_is_repeated_and_then_named(times: int, kinds: list[str]) -> None:
    """As any other look-up without an answer: the other rows are compared."""
    plan = Script({"a": {"look-up": [Fault.UNAUTHORIZED] * times}})
    with contextlib.closing(await looked_up("a", "b", faults=plan)) as comparison:
        assert [kind for kind, _, _ in found(comparison)] == kinds


async def test_a_refused_key_ends_it() -> None:
    """At the first look-up."""
    with pytest.raises(AlphapoUnavailable) as refused:
        await looked_up("a", faults=Script({"a": {"look-up": [Fault.KEY_REFUSED] * 9}}))
    assert refused.value.code is not None


async def test_a_withdrawal_that_alphapo_ends_counts_in_the_journal_alone() -> None:
    """Its row was accepted when it was asked about."""
    journal, comparison = MemoryJournal(), Comparison(0.0, 1e11, pause=0.01)
    request = WithdrawalRequest(currency="BTC", address="12345", amount="0.5", foreign_id="a", end_user_reference="u")
    async with (
        Sandbox(KEY, SECRET, settle_after=0.1) as server,
        AlphapoClient(KEY, SECRET, base_url=server.url, journal=journal) as client,
    ):
        await client.withdraw(request)
        await asyncio.sleep(0.1)
        row = await journal.find("default", "a")
        assert row is not None

        async def paid() -> AsyncIterator[Row]:
            yield row

        await comparison.look_up(client, journal, paid(), has_export=False)
    assert sums(comparison) == [("BTC", Decimal("0.5"), 0, Decimal("-0.5"))]
    comparison.close()
