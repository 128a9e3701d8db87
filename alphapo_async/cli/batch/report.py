"""The report on a file: counts of outcomes, and totals to the last decimal. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from alphapo_async.cli.batch.survey import EXACT, Survey
from alphapo_async.cli.demo_verdict import OUTCOMES
from alphapo_async.cli.exit_codes import Exit, code_of
from alphapo_async.cli.output import amount, clean, counted, totals_reconcile
from alphapo_async.cli.progress import duration
from alphapo_async.core.codec import plain
from alphapo_async.core.models import Totals, WithdrawalRequest, requested_figure
from alphapo_async.core.transitions import SHOWS_ANOTHER

__all__ = [
    "LISTED",
    "BatchReport",
    "OutcomeCounts",
    "is_report",
    "needs_person",
    "outcome_rows",
    "paid_before_lines",
    "report_json",
    "report_lines",
]

LISTED: Final = 10
"""Rows that need attention are listed up to this number."""
_BUCKETS: Final = {"key_refused": "not_sent"}
"""Outcomes that are not counted under their own name in the totals."""


def needs_person(outcome: str, why: str) -> bool:
    """Return whether no other run settles a row: it was refused, or AlphaPo shows another withdrawal in its place."""
    return code_of([outcome]) is Exit.REFUSED or (outcome == "unknown" and SHOWS_ANOTHER in why)


class OutcomeCounts:
    """Counts the outcomes of rows."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._sums: dict[str, dict[str, Decimal]] = {}

    def __repr__(self) -> str:
        return f"OutcomeCounts({dict(self.outcomes)})"

    def add(self, outcome: str, request: WithdrawalRequest | None) -> None:
        """Count a row; an invalid one has no sum."""
        self.outcomes[outcome] += 1
        if request is None or outcome == "invalid":
            return
        figure, currency = requested_figure(request)
        sums = self._sums.setdefault(currency, {})
        bucket = _BUCKETS.get(outcome, outcome)
        with localcontext(prec=EXACT):
            sums[bucket] = sums.get(bucket, Decimal(0)) + figure

    def totals(self, requested: Mapping[str, Decimal], *, is_complete: bool) -> dict[str, Totals]:
        """Return the totals by currency; what a run that was cut short did not reach is open."""
        totals = {}
        for currency, figure in requested.items():
            sums = Totals(requested=figure, **self._sums.get(currency, {}))
            with localcontext(prec=EXACT):
                rest = figure - sum(self._sums.get(currency, {}).values(), Decimal(0))
            totals[currency] = sums if is_complete else replace(sums, open=rest)
        return totals


class BatchReport(msgspec.Struct, frozen=True):
    """The outcomes of a file."""

    file: str
    survey: Survey
    outcomes: Counter[str]
    repeated: int
    """Rows that ask for the same payment as an earlier one."""
    totals: Mapping[str, Totals]
    journal: Mapping[str, Totals]
    """Of the whole journal, for the account."""
    seconds: float
    ended_early: str | None = None
    """Why the run ended before every row was settled; None if it did not."""
    results_missing: int = 0
    """Rows without a line in the results file because it could not be written; the journal has them."""
    not_final: int = 0
    """Rows that were followed, that AlphaPo has accepted, and that are not final yet."""
    paid_before: int = 0
    """Accepted rows that the journal had as accepted before the run."""
    found_at_alphapo: int = 0
    """Accepted rows that AlphaPo had, although no attempt recorded in this journal can have arrived."""
    attention: tuple[str, ...] = ()
    """The first rows that need a person: line, foreign_id, outcome and why."""
    to_attend: int = 0
    """How many rows need a person."""
    failed: Exit | None = None
    """The exit code of the error that ended the run; None if none did."""

    @property
    def not_taken(self) -> int:
        """Rows that were not tried."""
        return self.survey.rows - self.outcomes.total() - self.repeated

    @property
    def totals_reconcile(self) -> bool:
        """Return whether requested is the sum of the other columns for every currency, in the file and in the journal."""
        both = (*self.totals.values(), *self.journal.values())
        return all(totals_reconcile(sums) and sums.open >= 0 for sums in both)

    @property
    def code(self) -> Exit:
        """The exit code; wrong input must be corrected before anything else and wins over the rest."""
        if self.failed is Exit.WRONG:
            return self.failed
        is_unfinished = self.not_taken or self.results_missing or self.not_final
        codes = code_of(self.outcomes), Exit.UNKNOWN if is_unfinished else Exit.ALL_ACCEPTED, self.failed
        return max(code for code in codes if code is not None)


def outcome_rows(report: BatchReport) -> list[tuple[str, str]]:
    """Return the lines of a table of counts."""
    named: list[tuple[str, int]] = [(outcome.replace("_", " "), report.outcomes[outcome]) for outcome in OUTCOMES]
    named += [("same as an earlier row, not sent again", report.repeated), ("not tried", report.not_taken)]
    shown = [(name, f"{number:,}") for name, number in named if number]
    return [*shown, ("rows", f"{report.survey.rows:,}")]


def report_lines(report: BatchReport, results: str, journal: str = "") -> list[str]:
    """Return the lines below the tables: whether the figures are right, the rows that need a person, and what to do now.

    Args:
        report: of the run.
        results: the name of the results file.
        journal: the option that names the journal to other commands; empty where the environment does.
    """
    lines = [
        _reconciliation(report),
        *_conversions(report.survey),
        f"Took {duration(report.seconds)}. Results: {results}",
        *_attention(report),
        *_advice(report, journal),
    ]
    if report.results_missing:
        lines.append(
            f"{counted(report.results_missing, 'row was taken, but its result', 'rows were taken, but their results')} "
            "could not be written. The journal has it."
        )
    if report.not_final:
        lines.append(
            f"{counted(report.not_final, 'row is', 'rows are')} accepted and not final yet: the same command follows them further."
        )
    reason = "." if report.failed is not None or report.ended_early is None else f": {report.ended_early}."
    if report.not_taken:
        lines.append(f"{counted(report.not_taken, 'row was', 'rows were')} not tried{reason}")
    elif reason != ".":
        lines.append(f"The run ended before every row was settled{reason}")
    if report.failed is None and (again := _again(report)):
        lines.append(f"{again} the same command again: it pays only what is not paid yet, and nothing twice.")
    return lines


def _again(report: BatchReport) -> str:
    """Return how the sentence about another run begins; empty where another run changes nothing."""
    if report.code is Exit.UNKNOWN:
        return "Some rows are not settled. Run"
    return "Then run" if report.outcomes["invalid"] or report.outcomes["rejected"] else ""


def _reconciliation(report: BatchReport) -> str:
    """Return whether the totals are right, and which rows are in none of them."""
    verdict = f"Totals reconcile: {'yes' if report.totals_reconcile else 'NO'}."
    survey = report.survey
    if not survey.invalid:
        return verdict
    sums = [amount(figure, currency) for currency, figure in survey.invalid_sums.items()]
    if survey.invalid_without_sum:
        sums.append(f"{counted(survey.invalid_without_sum, 'amount')} that cannot be read")
    return f"{verdict} Not in them: {counted(survey.invalid, 'invalid row')} ({', '.join(sums)})."


def _conversions(survey: Survey) -> list[str]:
    found = [text for currency in survey.to_pay for text in survey.conversions(currency)]
    return [f"Of the requested totals, these are converted: {', '.join(found)}."] if found else []


def paid_before_lines(report: BatchReport) -> list[str]:
    """Return how much was paid by this run and how much before it, the first thing to know; nothing if nothing was paid before."""
    before, found = report.paid_before, report.found_at_alphapo
    known = [f"{counted(before, 'was', 'were')} paid before"] if before else []
    if found:
        known.append(
            f"{counted(found, 'was', 'were')} found at AlphaPo, sent under the same foreign_id with another journal or in another way"
        )
    if not known:
        return []
    return [f"{report.outcomes['accepted'] - before - found:,} paid now, {', '.join(known)}."]


def _attention(report: BatchReport) -> list[str]:
    """Return the first rows that need a person."""
    if not report.attention:
        return []
    is_more = report.to_attend > len(report.attention)
    first = f" (the first {len(report.attention)} of {report.to_attend:,})" if is_more else ""
    return [f"Rows that need attention{first}:", *report.attention]


_ADVICE: Final = {
    "invalid": "Correct the {rows} in the file.",
    "rejected": "AlphaPo refused {rows}, and no money moved: correct the file under the same foreign_id, or release the funds. "
    "--retry-rejected sends what was refused again as it is.",
    "failed": "AlphaPo cancelled or declined {rows} after accepting, and no money moved: release the funds, or pay again only under "
    "a new foreign_id.",
    "conflict": "{rows} not sent, because the foreign_id already has another payment, in the journal, at AlphaPo or in an earlier line. "
    "If the same payout was meant, do nothing: the existing one counts. Before you refund anything or pay it in another way, read "
    "its outcome with `alphapo status FOREIGN_ID{journal}`; where that is unknown, `alphapo runbook unknown`.",
    "unknown": "AlphaPo may have {rows} whose outcome is unknown: no refund and no new foreign_id before it is known. Another run "
    "looks them up. What stays unknown: `alphapo runbook unknown`; `alphapo journal settle` is for what no look-up settles.",
    "not_sent": "{rows} not sent, and no money moved: another run pays them. Or release the funds, and take the rows out of the file.",
    "key_refused": "{rows} not sent, and no money moved, because AlphaPo does not accept the key: correct the key, then run the same "
    "command again.",
}
"""What to do with the rows of an outcome."""
_AFTER_FAILURE: Final = {"key_refused": "{rows} not sent, and no money moved."}
"""The error that ended the run is shown last, and says what to do."""
_NOUNS: Final = {
    "invalid": ("invalid row", None),
    "conflict": ("row was", "rows were"),
    "not_sent": ("row was", "rows were"),
    "key_refused": ("row was", "rows were"),
}


def _advice(report: BatchReport, journal: str) -> list[str]:
    """Return what to do now, a line for each outcome that asks for something."""
    return [
        text.format(rows=counted(report.outcomes[outcome], *_NOUNS.get(outcome, ("row", None))), journal=journal)
        for outcome, text in (_ADVICE | (_AFTER_FAILURE if report.failed else {})).items()
        if report.outcomes[outcome]
    ]


def report_json(report: BatchReport) -> bytes:
    """Return the report for programs: amounts are strings, exact to the last decimal."""
    told: dict[str, Any] = {
        "file": clean(report.file),
        "rows": report.survey.rows,
        "outcomes": {outcome: report.outcomes[outcome] for outcome in OUTCOMES},
        "repeated": report.repeated,
        "not_tried": report.not_taken,
        "results_missing": report.results_missing,
        "not_final": report.not_final,
        "paid_before": report.paid_before,
        "found_at_alphapo": report.found_at_alphapo,
        "conversions": [text for currency in report.survey.to_pay for text in report.survey.conversions(currency)],
        "invalid_sums": {currency: plain(figure) for currency, figure in report.survey.invalid_sums.items()},
        "invalid_without_sum": report.survey.invalid_without_sum,
        "totals": _figures(report.totals.items()),
        "journal_totals": _figures(report.journal.items()),
        "totals_reconcile": report.totals_reconcile,
        "ended_early": None if report.ended_early is None else clean(report.ended_early),
        "seconds": round(report.seconds, 3),
        "exit_code": int(report.code),
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"


_NAMES: Final = frozenset({"file", "rows", "outcomes", "not_tried", "journal_totals", "totals_reconcile", "exit_code"})
"""Fields of every report since the first release."""


def is_report(text: bytes) -> bool:
    """Return whether this is a report, and not another file that must be kept."""
    try:
        told = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False
    return isinstance(told, dict) and told.keys() >= _NAMES


def _figures(totals: Iterable[tuple[str, Totals]]) -> dict[str, dict[str, str]]:
    return {
        currency: {name: plain(getattr(sums, name)) for name in Totals.__struct_fields__} for currency, sums in totals
    }
