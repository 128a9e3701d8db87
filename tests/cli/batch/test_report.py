"""What became of a file: counts, totals, exit codes."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alphapo_async.cli.batch.report import (
    BatchReport,
    OutcomeCounts,
    is_report,
    needs_person,
    outcome_rows,
    paid_before_lines,
    report_json,
    report_lines,
)
from alphapo_async.cli.batch.survey import Survey
from alphapo_async.cli.demo_verdict import OUTCOMES
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.core.models import Totals, WithdrawalRequest


def request(amount: str = "0.5", currency: str = "BTC") -> WithdrawalRequest:
    """Return a request for this figure."""
    return WithdrawalRequest(
        currency=currency, amount=amount, address="made-up", foreign_id="f", end_user_reference="user-1"
    )


def report(outcomes: dict[str, int], **changed: Any) -> BatchReport:
    """Return a report of so many rows with these outcomes."""
    usual: dict[str, Any] = {
        "file": "payouts.csv",
        "survey": Survey(rows=sum(outcomes.values())),
        "outcomes": Counter(outcomes),
        "repeated": 0,
        "totals": {},
        "journal": {},
        "seconds": 12.3456,
    }
    return BatchReport(**{**usual, **changed})


@given(st.lists(st.tuples(st.sampled_from(OUTCOMES), st.decimals(0, 10**12, places=8))))
def test_what_was_requested_is_the_sum_of_what_became_of_it(result: list[tuple[str, Decimal]]) -> None:
    """To the last decimal; an invalid row asks for nothing, and a refused key is something not sent."""
    tally, requested = OutcomeCounts(), Decimal(0)
    for outcome, figure in result:
        tally.add(outcome, request(f"{figure:f}"))
        requested += 0 if outcome == "invalid" else figure
    totals = tally.totals({"BTC": requested}, is_complete=True)
    assert report(dict(tally.outcomes), totals=totals).totals_reconcile
    assert tally.outcomes == Counter(outcome for outcome, _ in result)


def test_a_run_that_was_cut_short_leaves_the_rest_open() -> None:
    """What was not tried is neither paid nor refused."""
    tally = OutcomeCounts()
    tally.add("accepted", request("0.5"))
    tally.add("key_refused", request("0.25"))
    tally.add("invalid", None)
    [sums] = tally.totals({"BTC": Decimal(2)}, is_complete=False).values()
    assert (sums.accepted, sums.not_sent, sums.open) == (Decimal("0.5"), Decimal("0.25"), Decimal("1.25"))
    assert repr(tally) == "OutcomeCounts({'accepted': 1, 'key_refused': 1, 'invalid': 1})"


@pytest.mark.parametrize(
    ("totals", "journal"),
    [
        ({"BTC": Totals(requested=Decimal(1))}, {}),
        ({}, {"BTC": Totals(requested=Decimal(1))}),
        ({"BTC": Totals(requested=Decimal(1), accepted=Decimal(2), open=Decimal(-1))}, {}),
    ],
)
def test_figures_that_do_not_add_up_are_found_out(totals: dict[str, Totals], journal: dict[str, Totals]) -> None:
    """In the file, in the journal, and where more was paid than was asked for."""
    assert not report({}, totals=totals, journal=journal).totals_reconcile


@pytest.mark.parametrize(
    ("outcomes", "not_taken", "code"),
    [
        ({"accepted": 3}, 0, Exit.ALL_ACCEPTED),
        ({"accepted": 3, "rejected": 1}, 0, Exit.REFUSED),
        ({"accepted": 3, "rejected": 1}, 1, Exit.UNKNOWN),
        ({"accepted": 3, "invalid": 1, "unknown": 1}, 0, Exit.UNKNOWN),
        ({"key_refused": 1}, 5, Exit.KEY_REFUSED),
    ],
)
def test_the_exit_code_says_what_to_do(outcomes: dict[str, int], not_taken: int, code: Exit) -> None:
    """Rows that were not tried call for another run, as unknown ones do."""
    result = report(outcomes, survey=Survey(rows=sum(outcomes.values()) + not_taken))
    assert (result.not_taken, result.code) == (not_taken, code)


def test_counts_are_shown_where_there_are_any() -> None:
    """By outcome, then what was not tried, then all rows."""
    result = report({"accepted": 1_200, "not_sent": 1}, survey=Survey(rows=1_210), repeated=4)
    assert outcome_rows(result) == [
        ("accepted", "1,200"),
        ("not sent", "1"),
        ("same as an earlier row, not sent again", "4"),
        ("not tried", "5"),
        ("rows", "1,210"),
    ]


def test_machines_read_every_figure_as_text() -> None:
    """So that none of them is rounded."""
    totals = {"BTC": Totals(requested=Decimal("1E-8"), accepted=Decimal("0.00000001"))}
    result = msgspec.json.decode(report_json(report({"accepted": 1}, totals=totals, journal=totals)))
    assert result["totals"]["BTC"]["requested"] == result["journal_totals"]["BTC"]["accepted"] == "0.00000001"
    assert result["outcomes"] == {**dict.fromkeys(OUTCOMES, 0), "accepted": 1}
    assert (result["rows"], result["totals_reconcile"], result["exit_code"], result["seconds"]) == (1, True, 0, 12.346)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"results_missing": 1}, Exit.UNKNOWN),
        ({"failed": Exit.WRONG}, Exit.WRONG),
        ({"failed": Exit.WRONG, "survey": Survey(rows=9)}, Exit.WRONG),
        ({"failed": Exit.UNKNOWN}, Exit.UNKNOWN),
        ({"failed": Exit.KEY_REFUSED, "results_missing": 1}, Exit.KEY_REFUSED),
    ],
)
def test_what_ended_it_counts_for_the_exit_code(changed: dict[str, Any], code: Exit) -> None:
    """Wrong input wins over everything, for it has to be mended first; the report says the same to machines."""
    result = report({"accepted": 1}, **changed)
    assert result.code == msgspec.json.decode(report_json(result))["exit_code"] == code


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"{", b"\xff", b'{"rows": 1}', b"[" * 100_000])
def test_what_is_no_report_is_told_apart_from_one(text: bytes) -> None:
    """A report is known by what every one of them tells."""
    assert not is_report(text)
    assert is_report(report_json(report({"accepted": 1})))


def test_a_file_name_that_is_no_text_is_written_escaped() -> None:
    """A name on disk may be any bytes; the report is written after the money has moved."""
    result = msgspec.json.decode(
        report_json(report({"accepted": 1}, file="pay\udcff.csv", ended_early="pay\udcff.csv changed"))
    )
    assert result["file"] == "pay\\udcff.csv"
    assert result["ended_early"] in (None, "pay\\udcff.csv changed")


def below(outcomes: dict[str, int], **changed: Any) -> list[str]:
    """Return the lines below the tables, without the first two."""
    first, second, *rest = report_lines(report(outcomes, **changed), "f.results.csv")
    assert (first, second) == ("Totals reconcile: yes.", "Took 12 s. Results: f.results.csv")
    return rest


def test_what_was_paid_now_and_before_is_shown() -> None:
    """Where something was paid before, also a single row."""
    assert paid_before_lines(report({"accepted": 3})) == []
    assert paid_before_lines(report({"accepted": 300}, paid_before=300)) == ["0 paid now, 300 were paid before."]
    assert paid_before_lines(report({"accepted": 3}, paid_before=1)) == ["2 paid now, 1 was paid before."]
    found = "were found at AlphaPo, sent under the same foreign_id with another journal or in another way."
    assert paid_before_lines(report({"accepted": 4}, found_at_alphapo=4)) == [f"0 paid now, 4 {found}"]
    both = report({"accepted": 4}, found_at_alphapo=2, paid_before=1)
    assert paid_before_lines(both) == [f"1 paid now, 1 was paid before, 2 {found}"]


def test_a_conversion_is_shown_below_the_totals() -> None:
    """The totals have the requested currency alone, and other money may arrive."""
    survey = Survey(rows=2)
    for more in ({}, {"convert_to": "BTC"}):
        survey.take(structs.replace(request("30", "USDTT"), **more))
    _, conversions, *_ = report_lines(report({"accepted": 2}, survey=survey), "f.results.csv")
    assert conversions == "Of the requested totals, these are converted: 30 USDTT in 1 row to BTC."
    assert msgspec.json.decode(report_json(report({"accepted": 2}, survey=survey)))["conversions"] == [
        "30 USDTT in 1 row to BTC"
    ]


def test_rows_that_need_attention_are_listed() -> None:
    """The first of them where there are more."""
    assert below({"rejected": 12}, attention=("line 2, a: rejected",), to_attend=12)[:2] == [
        "Rows that need attention (the first 1 of 12):",
        "line 2, a: rejected",
    ]
    assert below({"failed": 1}, attention=("line 2, a: failed",), to_attend=1)[0] == "Rows that need attention:"


@pytest.mark.parametrize(
    ("outcome", "why", "needed"),
    [
        ("rejected", "", True),
        ("unknown", "AlphaPo shows another withdrawal (amount: asked '0.2', AlphaPo shows '0.1')", True),
        ("unknown", "no answer in time", False),
        ("not_sent", "", False),
        ("accepted", "", False),
    ],
)
def test_a_row_that_no_other_run_settles_needs_a_person(outcome: str, why: str, *, needed: bool) -> None:
    """One in whose place AlphaPo shows another withdrawal stays unknown, however often it is looked up."""
    assert needs_person(outcome, why) is needed


@pytest.mark.parametrize(
    ("outcome", "one", "two"),
    [
        ("rejected", "AlphaPo refused 1 row, and", "AlphaPo refused 2 rows, and"),
        ("failed", "AlphaPo cancelled or declined 1 row after", "AlphaPo cancelled or declined 2 rows after"),
        ("conflict", "1 row was not sent, because the", "2 rows were not sent, because the"),
        ("unknown", "AlphaPo may have 1 row whose", "AlphaPo may have 2 rows whose"),
        ("not_sent", "1 row was not sent, and no", "2 rows were not sent, and no"),
        (
            "key_refused",
            "1 row was not sent, and no money moved, because",
            "2 rows were not sent, and no money moved, because",
        ),
    ],
)
def test_each_outcome_has_its_advice(outcome: str, one: str, two: str) -> None:
    """In the singular and in the plural."""
    assert below({outcome: 1})[0].startswith(one)
    assert below({outcome: 2})[0].startswith(two)


def test_what_no_look_up_settles_is_pointed_to() -> None:
    """The guide's topic, and for an unknown row the operator's command."""
    conflict, unknown = (below({outcome: 1})[0] for outcome in ("conflict", "unknown"))
    assert "`alphapo runbook unknown`" in conflict
    assert "`alphapo runbook unknown`" in unknown
    assert "`alphapo journal settle`" in unknown


def test_each_remedy_is_named_once() -> None:
    """Also where every outcome asks for something."""
    lines = " ".join(below({outcome: 1 for outcome in OUTCOMES if outcome != "key_refused"}))
    for remedy in ("same command again", "journal settle", "--retry-rejected", "Correct the", "correct the file"):
        assert lines.count(remedy) == 1, remedy
    assert below({"invalid": 1})[-1].startswith("Then run the same command again:")


def test_rows_of_a_refused_key_moved_no_money_and_the_error_has_the_advice() -> None:
    """The error that ended the run is printed last: it says what to do, and nothing of the money."""
    assert below({"key_refused": 1}, failed=Exit.KEY_REFUSED) == ["1 row was not sent, and no money moved."]
    assert below({"key_refused": 2}, failed=Exit.KEY_REFUSED) == ["2 rows were not sent, and no money moved."]


def test_the_advice_names_the_journal() -> None:
    """As an option, where another command would not find it by itself."""
    lines = report_lines(report({"conflict": 1}), "f.results.csv", " --journal f.db")
    assert "`alphapo status FOREIGN_ID --journal f.db`" in lines[2]


def test_invalid_rows_are_named_beside_the_totals() -> None:
    """With their sums, as far as these can be read."""
    survey = Survey(rows=3, invalid=3, invalid_sums={"BTC": Decimal("1.5")}, invalid_without_sum=1)
    first, _, advice, _ = report_lines(report({"invalid": 3}, survey=survey), "f.results.csv")
    assert first == "Totals reconcile: yes. Not in them: 3 invalid rows (1.5 BTC, 1 amount that cannot be read)."
    assert advice == "Correct the 3 invalid rows in the file."
    all_read = Survey(rows=1, invalid=1, invalid_sums={"BTC": Decimal(1)})
    assert "1 invalid row (1 BTC)." in report_lines(report({"invalid": 1}, survey=all_read), "f.results.csv")[0]


_AGAIN = "Some rows are not settled. Run the same command again: it pays only what is not paid yet, and nothing twice."


def test_a_run_that_ended_early_names_the_reason_once() -> None:
    """And the number of rows that it did not reach."""
    some = report({"accepted": 1}, survey=Survey(rows=1_201), ended_early="it was interrupted")
    assert report_lines(some, "f")[2:] == ["1,200 rows were not tried: it was interrupted.", _AGAIN]
    assert below({"unknown": 1}, ended_early="it was interrupted")[1:] == [
        "The run ended before every row was settled: it was interrupted.",
        _AGAIN,
    ]
    full = report(
        {}, survey=Survey(rows=2), ended_early="its disk is full", results_missing=1, failed=Exit.UNKNOWN, repeated=1
    )
    assert report_lines(full, "f")[2:] == [
        "1 row was taken, but its result could not be written. The journal has it.",
        "1 row was not tried.",
    ]


def test_rows_that_are_not_final_are_counted() -> None:
    """The same command follows them."""
    assert below({"accepted": 2}, not_final=2)[0].startswith("2 rows are accepted and not final yet: the same")


def test_totals_that_do_not_reconcile_are_shouted() -> None:
    """In the first line."""
    wrong = report({}, totals={"BTC": Totals(requested=Decimal(1))})
    assert report_lines(wrong, "f")[0] == "Totals reconcile: NO."
