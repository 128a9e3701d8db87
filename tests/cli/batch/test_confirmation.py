"""What a person is told before money moves."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec import structs

from alphapo_async.cli.batch.confirmation import (
    Balances,
    Notices,
    PriorKnowledge,
    Wanted,
    dry_run_fields,
    dry_run_lines,
    find_out,
    left_out_lines,
    notices,
    question,
    strict_problems,
)
from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.known_rows import InJournal
from alphapo_async.cli.batch.survey import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoUnavailable, AuthenticationError
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.sandbox import Fault, Sandbox, Script
from tests.support.indexes import new_index

SURVEY = Survey(
    rows=1_205,
    invalid=2,
    repeated=1,
    conflict=2,
    to_pay={"BTC": Decimal("1.50"), "ETH": Decimal(7)},
    to_debit={"BTC": Decimal("1.25"), "EUR": Decimal(9), "ETH": Decimal(7)},
    counts=Counter(BTC=1_000, ETH=200),
)
KEYS = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": "made-up-secret"}


def test_a_dry_run_shows_totals_beside_balances() -> None:
    """What would be paid now, what leaves which balance, where there is not enough, and what is paid already."""
    balances = Balances({"BTC": Decimal(1), "ETH": Decimal(7)})
    stock = InJournal(
        Counter({"rejected": 1, "accepted": 1_000, "not sent": 3}),
        left=structs.replace(SURVEY, rows=0),
        accepted=Survey(to_pay={"BTC": Decimal("12.5")}, counts=Counter(BTC=1_000)),
        unsettled=Survey(to_pay={"ETH": Decimal(2)}, counts=Counter(ETH=3)),
    )
    assert dry_run_lines(SURVEY, PriorKnowledge(is_durable=True, stock=stock, balances=balances)) == [
        "rows:                            1,205",
        "to pay now:                      1,200",
        "already in the journal:          1,000 accepted, 3 not sent, 1 rejected",
        "same as an earlier row:          1",
        "in conflict with an earlier row: 2",
        "invalid:                         2",
        "to pay now: 1.50 BTC in 1,000 rows, 1.25 to leave, balance 1: NOT ENOUGH",
        "to pay now: 7 ETH in 200 rows, balance 7",
        "EUR: 9 to leave, balance not known",
        "accepted already: 12.5 BTC in 1,000 rows",
        "not settled: 2 ETH in 3 rows: looked up first, and sent again only if that is safe",
    ]


def test_a_dry_run_names_the_rows_that_conflict_with_the_journal() -> None:
    """The first of them; the others are counted."""
    stock = InJournal(conflict=3, first_conflicts=["payout-1", "payout-2"])
    lines = dry_run_lines(SURVEY, PriorKnowledge(is_durable=True, stock=stock))
    assert "in conflict with the journal:    3, not sent: payout-1, payout-2 and 1 more" in lines
    stock = InJournal(conflict=1, first_conflicts=["payout-1"])
    lines = dry_run_lines(SURVEY, PriorKnowledge(is_durable=True, stock=stock))
    assert "in conflict with the journal:    1, not sent: payout-1" in lines


def test_rows_without_a_tag_are_counted() -> None:
    """In a dry run and in the question: money that an exchange gets without a tag can be lost."""
    survey = Survey()
    for currency, tag, without_tag in (
        ("XRP", None, True),
        ("CSC", None, True),
        ("XRP", "7", False),
        ("BTC", None, True),
    ):
        survey.take(
            WithdrawalRequest(
                currency=currency,
                address="made-up",
                amount=1,
                foreign_id="f",
                end_user_reference="u",
                tag=tag,
                without_tag=without_tag,
            )
        )
    access, known = Access(KEYS, base_url="https://alphapo.invalid"), PriorKnowledge(is_durable=True)
    for lines in (dry_run_lines(survey, known), question("payouts.csv", survey, access, known)):
        assert [line.split(":")[1].strip() for line in lines if line.startswith("XRP Ledger")] == ["2 rows, on purpose"]
    assert not [line for line in dry_run_lines(SURVEY, known) if line.startswith("XRP Ledger")]


def test_conversions_are_named_beside_the_sums() -> None:
    """In a dry run and in the question: what arrives is another currency than the one that is added up."""
    survey, about = Survey(), {"address": "a", "foreign_id": "f", "end_user_reference": "u"}
    for fields in (
        {"currency": "USDTT", "amount": "25.00"},
        {"currency": "USDTT", "amount": "30.00", "convert_to": "BTC"},
        {"currency": "USDTT", "amount_to": "0.1", "convert_to": "BTC"},
        {"currency": "ETH", "amount": "1", "convert_to": "ETH"},
    ):
        survey.take(WithdrawalRequest(**about, **fields))  # type: ignore[arg-type]
    access, known = Access(KEYS, base_url="https://alphapo.invalid"), PriorKnowledge(is_durable=True)
    of_these = "55.00 USDTT in 2 rows (of these 30.00 USDTT in 1 row to BTC)"
    assert f"to pay now: {of_these}, balance not known" in dry_run_lines(survey, known)
    assert question("payouts.csv", survey, access, known)[-1].endswith(
        f"{of_these}; 0.1 BTC in 1 row (of these 0.1 BTC in 1 row from USDTT); 1 ETH in 1 row"
    )
    assert dry_run_fields(survey, known, 0)["conversions"] == [
        "30.00 USDTT in 1 row to BTC",
        "0.1 BTC in 1 row from USDTT",
    ]


def test_the_columns_of_an_export_that_are_not_read_are_named() -> None:
    """In one line, and as values; no line for a file without them."""
    survey = structs.replace(SURVEY, left_out=("account", "outcome"))
    line = "columns not read, which an export has beside the fields of a withdrawal: account, outcome"
    known = PriorKnowledge(is_durable=True)
    assert line in dry_run_lines(survey, known)
    assert dry_run_fields(survey, known, 0)["columns_not_read"] == ["account", "outcome"]
    assert (left_out_lines(survey), left_out_lines(SURVEY)) == ([line], [])


def test_the_figures_of_a_dry_run_are_given_as_values() -> None:
    """Without the journal all of the file's rows are to be paid."""
    fields = dry_run_fields(SURVEY, PriorKnowledge(is_durable=True, balances=Balances({"BTC": Decimal(1)})), 1)
    assert (fields["rows"], fields["rows_to_pay_now"], fields["exit_code"]) == (1_205, 1_200, 1)
    assert fields["to_pay_now"] == SURVEY.to_pay
    assert (fields["balances"], fields["not_enough"], fields["error"]) == ({"BTC": {"amount": Decimal(1)}}, [], None)
    unavailable = PriorKnowledge(is_durable=True, balances=Balances({}, AlphapoUnavailable("AlphaPo did not answer.")))
    assert dry_run_fields(SURVEY, unavailable, 3)["error"] == "AlphaPo did not answer."


def test_a_dry_run_without_an_answer_says_why() -> None:
    """The rest is told all the same."""
    lines = dry_run_lines(
        SURVEY, PriorKnowledge(is_durable=True, balances=Balances({}, AlphapoUnavailable("AlphaPo did not answer.")))
    )
    assert "already in the journal:          none" in lines
    assert "AlphaPo did not answer." in lines
    assert "to pay now: 7 ETH in 200 rows, balance not known" in lines


def test_whoever_confirms_sees_host_account_key_and_totals() -> None:
    """And what the journal knows already."""
    access = Access(KEYS, base_url="https://alphapo.invalid", account="payroll", journal="payouts.db")
    known = PriorKnowledge(is_durable=True, totals={"BTC": Totals(requested=Decimal(5), accepted=Decimal(4))})
    result = dict(line.split(":", 1) for line in question("payouts.csv", SURVEY, access, known))
    assert {name: value.strip() for name, value in result.items()} == {
        "host": "https://alphapo.invalid",
        "account": "payroll",
        "key": f"fingerprint {access.fingerprint}",
        "journal": "payouts.db, durable",
        "so far": "5 BTC requested, 4 accepted",
        "file": "payouts.csv, 1,205 rows, 5 of them not to be paid",
        "total to pay": "1.50 BTC in 1,000 rows; 7 ETH in 200 rows",
    }


def test_whoever_confirms_sees_what_is_paid_already() -> None:
    """Of a file that was half paid only the rest is to be confirmed."""
    stock = InJournal(
        left=Survey(to_pay={"BTC": Decimal("0.5")}, counts=Counter(BTC=10)),
        accepted=Survey(to_pay={"BTC": Decimal(1)}, counts=Counter(BTC=990)),
    )
    access = Access(KEYS, base_url="https://alphapo.invalid")
    lines = question("payouts.csv", SURVEY, access, PriorKnowledge(is_durable=True, stock=stock))
    assert [line.split(":")[1].strip() for line in lines[-2:]] == ["0.5 BTC in 10 rows", "1 BTC in 990 rows"]


def test_whoever_confirms_is_told_of_a_journal_that_forgets() -> None:
    """And of a file in which there is nothing to pay."""
    lines = question(
        "f.csv", Survey(), Access(KEYS, base_url="https://alphapo.invalid"), PriorKnowledge(is_durable=False)
    )
    assert any("forgets" in line for line in lines)
    assert lines[-1].endswith("nothing")


def _sifter(path: Path) -> Sifter:
    rows = "".join(f"p-{one},BTC,made-up,0.5,user\n" for one in range(3))
    path.write_text(f"foreign_id,currency,address,amount,end_user_reference\n{rows}", encoding="utf-8")
    sifter = Sifter(InputFile(path, read_lines), new_index(), "number")
    sifter.survey(lambda _: None)
    return sifter


async def test_journal_and_balances_are_looked_up_and_nothing_is_written(tmp_path: Path) -> None:
    """What is settled is counted; no file is made where there was none."""
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=str(tmp_path / "j.db"))
        sifter = _sifter(tmp_path / "f.csv")
        wanted = Wanted(sifter, asks_alphapo=True)
        before = await find_out(access, wanted)
        assert before.stock is not None
        assert (before.totals, before.host, list(tmp_path.glob("j.db*"))) == ({}, None, [])
        assert (before.stock.counts, before.stock.left.to_pay) == ({}, {"BTC": Decimal("1.5")})
        assert before.balances.held["BTC"] > 0
        assert (before.balances.error, before.balances.is_key_refused) == (None, False)
        async with AlphapoClient(*KEYS.values(), base_url=sandbox.url, journal=str(tmp_path / "j.db")) as client:
            await client.withdraw(
                WithdrawalRequest(
                    foreign_id="p-1", currency="BTC", address="made-up", amount="0.5", end_user_reference="user"
                )
            )
        after = await find_out(access, wanted)
        assert after.stock is not None
        assert (after.totals["BTC"].accepted, after.host) == (Decimal("0.5"), "loopback")
        assert (after.stock.counts, after.stock.left.to_pay) == ({"accepted": 1}, {"BTC": Decimal("1.0")})
        in_memory = await find_out(Access(KEYS, base_url=sandbox.url), wanted)
        assert (in_memory.elsewhere, in_memory.first_to_pay) == ((), before.first_to_pay)
        nothing_wanted = await find_out(access, Wanted())
        assert nothing_wanted == PriorKnowledge(is_durable=True, totals=after.totals, host="loopback")


@pytest.mark.parametrize("secret", ["another-secret"])
async def test_balances_that_are_not_told_are_no_reason_to_stop(tmp_path: Path, secret: str) -> None:
    """Why they are not is told in their place."""
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        access = Access({**KEYS, "ALPHAPO_SECRET": secret}, base_url=sandbox.url, journal=str(tmp_path / "j.db"))
        known = await find_out(access, Wanted(asks_alphapo=True))
    assert "bad_header_signature" in str(known.balances.error)
    assert known.balances.is_key_refused


async def test_rows_are_counted_by_what_they_are_in_the_journal(tmp_path: Path) -> None:
    """However many they are: what was not sent is not what was accepted."""
    path = tmp_path / "f.csv"
    rows = "".join(f"{one},BTC,{'unsupported' if one % 2 else 'made-up'},0.5,user\n" for one in range(501))
    path.write_text(f"foreign_id,currency,address,amount,end_user_reference\n{rows}", encoding="utf-8")
    sifter = Sifter(InputFile(path, read_lines), new_index(), "number")
    sifter.survey(lambda _: None)
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=str(tmp_path / "j.db"))
        async with AlphapoClient(*KEYS.values(), base_url=sandbox.url, journal=str(tmp_path / "j.db")) as client:
            requests = [request async for request in sifter.to_pay(lambda *_: None)]
            async for _ in client.batch(requests):
                pass
        async with AlphapoClient(
            "made-up-key",
            "another-secret",
            base_url=sandbox.url,
            journal=str(tmp_path / "j.db"),
        ) as client:
            with pytest.raises(AuthenticationError):
                await client.withdraw(structs.replace(requests[0], foreign_id="501"))
        with path.open("a", encoding="utf-8") as file:
            file.write("501,BTC,made-up,0.5,user\n")
        sifter = Sifter(InputFile(path, read_lines), new_index(), "number")
        sifter.survey(lambda _: None)
        stock = (await find_out(access, Wanted(sifter))).stock
    assert stock is not None
    assert stock.counts == {"accepted": 251, "rejected": 250, "not sent, key refused": 1}
    assert stock.left.counts == {"BTC": 1}


def test_warnings_and_unchecked_addresses_are_counted() -> None:
    """And the balances that are not enough, where they are figures."""
    stock = InJournal(
        left=Survey(to_debit={"BTC": Decimal(2), "ETH": Decimal(2), "EUR": Decimal(2), "XRP": Decimal(2)})
    )
    balances = Balances({"BTC": Decimal("1.9"), "ETH": Decimal(2), "EUR": Decimal("NaN")})
    known = PriorKnowledge(is_durable=True, stock=stock, balances=balances, warned=1_200, unchecked={"no network": 3})
    lines = dry_run_lines(Survey(), known)
    assert "with warnings:                   1,200" in lines
    assert "address not checked:             3 (no network)" in lines
    assert [line for line in lines if "NOT ENOUGH" in line] == ["BTC: 2 to leave, balance 1.9: NOT ENOUGH"]
    assert known.short_of == ["BTC"]
    assert PriorKnowledge(is_durable=True).short_of == []


async def test_each_row_that_a_run_would_pay_now_is_compared_once(tmp_path: Path) -> None:
    """With its warnings by field; where AlphaPo gives balances but no list, the addresses alone are checked."""
    path = tmp_path / "f.csv"
    path.write_text(
        "foreign_id,currency,address,amount,end_user_reference\n"
        "a,BTC,1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa,0.5,u\nb,BTC,made-up,0.00000000001,u\nc,ADA,made-up,1,u\n",
        encoding="utf-8",
    )
    warned: list[tuple[str, list[str]]] = []
    wanted = Wanted(
        _sifter_of(path),
        on_warning=lambda request, found: warned.append((request.foreign_id, list(found))),
        asks_alphapo=True,
    )
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=str(tmp_path / "j.db"))
        known = await find_out(access, wanted)
        assert (known.warned, warned) == (1, [("b", ["amount", "address"])])
        assert known.unchecked == {"no documented network for 'ADA'": 1}
        sandbox.faults = Script({"*": {"currencies": [Fault.HTML_503_BEFORE]}}, then="repeat last")
        warned.clear()
        known = await find_out(access, wanted)
        assert warned == [("b", ["address"])]
        assert "BTC" in known.balances.held
        assert "the currencies" in str(known.balances.error)


def test_whatever_is_wrong_forbids_a_strict_run() -> None:
    """Rows that are not paid, here or in the journal, warnings, and balances."""
    assert strict_problems(Survey(), PriorKnowledge(is_durable=True)) == []
    stock = InJournal(left=Survey(to_debit={"BTC": Decimal(2)}), conflict=3)
    known = PriorKnowledge(is_durable=True, stock=stock, warned=1, balances=Balances({"BTC": Decimal(1)}))
    assert strict_problems(SURVEY, known) == [
        "8 rows cannot be paid as they are",
        "1 row has a warning",
        "the balance is not enough for BTC",
    ]


def test_only_the_first_notices_are_kept() -> None:
    """The others are counted; nothing is shown where there are none."""
    few, many = Notices(), Notices()
    assert notices(few, few, PriorKnowledge(is_durable=True)) == []
    for number in range(1_012):
        many.add(f"line {number}")
    assert repr(many) == "Notices(1012)"
    lines = [*(f"  line {number}" for number in range(10)), "  and 1,002 more: --dry-run lists them"]
    stock = InJournal(conflict=1, first_conflicts=["payout-1"])
    assert notices(many, few, PriorKnowledge(is_durable=True, stock=stock)) == [
        "rows not to be paid: 1,012",
        *lines,
        "in conflict with the journal: 1, not sent: payout-1",
    ]


async def test_without_a_key_alphapo_is_not_asked(tmp_path: Path) -> None:
    """The addresses are checked all the same, and it is said what was not compared."""
    access = Access({}, needs_key=False, base_url="https://alphapo.invalid", journal=str(tmp_path / "j.db"))
    known = await find_out(access, Wanted(_sifter(tmp_path / "f.csv"), asks_alphapo=True))
    assert (known.warned, known.balances.error, known.balances.held) == (3, None, {})
    problem = str(known.balances.problem)
    assert problem.startswith("Currencies and balances were not compared: ALPHAPO_KEY is not set")
    assert problem in dry_run_lines(SURVEY, known)


def _sifter_of(path: Path) -> Sifter:
    sifter = Sifter(InputFile(path, read_lines), new_index(), "number")
    sifter.survey(lambda _: None)
    return sifter
