"""What a person is told before money moves."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from alphapo_async.cli.batch.asking import Known, dry_run_lines, find_out, question
from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.sheets import SheetRow
from alphapo_async.cli.batch.sifting import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.client import AlphapoClient
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.journal import SqliteJournal
from alphapo_async.sandbox import Sandbox

SURVEY = Survey(
    rows=1_205,
    invalid=2,
    same=1,
    conflict=2,
    to_pay={"BTC": Decimal("1.50"), "ETH": Decimal(7)},
    to_debit={"BTC": Decimal("1.25"), "EUR": Decimal(9), "ETH": Decimal(7)},
    counts=Counter(BTC=1_000, ETH=200),
)
KEYS = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": "made-up-secret"}


def test_a_dry_run_shows_totals_beside_balances() -> None:
    """What is asked for, what leaves which balance, and where there is not enough."""
    balances = {"BTC": Decimal(1), "ETH": Decimal(7)}
    assert dry_run_lines(SURVEY, Known(is_durable=True, settled=12, balances=balances)) == [
        "rows:                            1,205",
        "to pay:                          1,200, of which the journal has settled 12",
        "same as an earlier row:          1",
        "in conflict with an earlier row: 2",
        "invalid:                         2",
        "1.50 BTC in 1,000 rows, 1.25 to leave, balance 1: NOT ENOUGH",
        "7 ETH in 200 rows, balance 7",
        "EUR: 9 to leave, balance not told",
        "Nothing was sent.",
    ]


def test_a_dry_run_without_an_answer_says_why() -> None:
    """The rest is told all the same."""
    lines = dry_run_lines(SURVEY, Known(is_durable=True, balances="AlphaPo did not answer."))
    assert "AlphaPo did not answer." in lines
    assert "7 ETH in 200 rows, balance not told" in lines


def test_whoever_confirms_sees_host_account_key_and_totals() -> None:
    """And what the journal knows already."""
    access = Access(KEYS, base_url="https://alphapo.invalid", account="payroll")
    known = Known(is_durable=True, totals={"BTC": Totals(requested=Decimal(5), accepted=Decimal(4))})
    told = dict(line.split(":", 1) for line in question("payouts.csv", SURVEY, access, known))
    assert {name: value.strip() for name, value in told.items()} == {
        "host": "https://alphapo.invalid",
        "account": "payroll",
        "key": f"fingerprint {access.fingerprint}",
        "journal": "durable",
        "so far": "5 BTC requested, 4 accepted",
        "file": "payouts.csv, 1,205 rows, 5 of them not to be paid",
        "total to pay": "1.50 BTC in 1,000 rows; 7 ETH in 200 rows",
    }


def test_whoever_confirms_is_told_of_a_journal_that_forgets() -> None:
    """And of a file in which there is nothing to pay."""
    lines = question("f.csv", Survey(), Access(KEYS, base_url="https://alphapo.invalid"), Known(is_durable=False))
    assert any("forgets" in line for line in lines)
    assert lines[-1].endswith("nothing")


def _sifter(path: Path) -> Sifter:
    rows = "".join(f"p-{one},BTC,made-up,0.5,user\n" for one in range(3))
    path.write_text(f"foreign_id,currency,address,amount,end_user_reference\n{rows}", encoding="utf-8")
    sifter = Sifter(InputFile(path, read_lines), Index(), "number")
    sifter.survey(lambda _: None)
    return sifter


async def test_journal_and_balances_are_looked_up_and_nothing_is_written(tmp_path: Path) -> None:
    """What is settled is counted; the sheet of this prefix is remembered; no file is made where there was none."""
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=str(tmp_path / "j.db"))
        sifter = _sifter(tmp_path / "f.csv")
        before = await find_out(access, sifter, None)
        assert (before.settled, before.totals, list(tmp_path.glob("j.db*"))) == (0, {}, [])
        assert isinstance(before.balances, dict)
        assert before.balances["BTC"] > 0
        async with AlphapoClient(*KEYS.values(), base_url=sandbox.url, journal=str(tmp_path / "j.db")) as client:
            await client.withdraw(
                WithdrawalRequest(
                    foreign_id="p-1", currency="BTC", address="made-up", amount="0.5", end_user_reference="user"
                )
            )
        journal = SqliteJournal(tmp_path / "j.db")
        await journal.remember("default", "may-", '[{"foreign_id":"may-1","says":"7 BTC"}]')
        await journal.aclose()
        after = await find_out(access, sifter, "may-")
        assert (after.settled, after.totals["BTC"].accepted) == (1, Decimal("0.5"))
        assert after.sheet == (SheetRow("may-1", "7 BTC"),)
        assert (await find_out(access, None, None)).settled is None


@pytest.mark.parametrize("secret", ["another-secret"])
async def test_balances_that_are_not_told_are_no_reason_to_stop(tmp_path: Path, secret: str) -> None:
    """Why they are not is told in their place."""
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        access = Access({**KEYS, "ALPHAPO_SECRET": secret}, base_url=sandbox.url, journal=str(tmp_path / "j.db"))
        known = await find_out(access, _sifter(tmp_path / "f.csv"), None)
    assert "bad_header_signature" in str(known.balances)
