"""`alphapo demo`: pay a bundled CSV while the local sandbox fails on purpose, and compare the outcomes with its ledger."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from alphapo_async.cli.demo_payments import (
    POLICY,
    News,
    OutcomeReported,
    open_client,
    pay_all,
    pay_until_killed,
    read_rows,
)
from alphapo_async.cli.demo_verdict import OUTCOMES, DemoCounts, LedgerVerdict, ended_later, reconcile
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.loop import run
from alphapo_async.cli.options import json_option
from alphapo_async.cli.output import fitting_totals, json_text, make_console, say, table, totals_reconcile
from alphapo_async.cli.progress import Advance, show_progress
from alphapo_async.cli.sandbox import KEY, SECRET
from alphapo_async.client import AlphapoClient
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.sandbox import Sandbox

__all__ = ["DemoReport", "closing_words", "demo", "exit_code", "killed_words", "report_rows"]

_LATER = 20  # rows of a second pass: they show that look-ups work, which a refusal after a lost reply has to wait for
_PASSES = 4
_LATENCY = 0.05  # seconds; what a real host takes, more or less
_SETTLES_AFTER = 0.5  # seconds until the sandbox confirms, cancels or declines what it accepted

_EPILOG = """\b
Example:
  alphapo demo --rows 200 --seed 7
"""


class DemoReport(msgspec.Struct, frozen=True):
    """The results of a demo."""

    reported: Mapping[str, str]
    """Outcome by foreign_id, after the second pass."""
    killed_after: int
    """Rows with an outcome when the first worker was killed."""
    asked_again: int
    """Rows that were unknown after the first pass, and asked again."""
    retries: int
    look_ups: int
    ended_later: int
    """Rows reported as accepted that AlphaPo cancelled or declined later."""
    totals: Mapping[str, Totals]
    verdict: LedgerVerdict
    seconds: float

    @property
    def unknown(self) -> int:
        """Rows still unknown after the second pass."""
        return list(self.reported.values()).count("unknown")

    @property
    def totals_reconcile(self) -> bool:
        """In every currency, requested is the sum of what became of it."""
        return all(totals_reconcile(sums) for sums in self.totals.values())


@click.command(epilog=_EPILOG)
@click.option("--rows", type=click.IntRange(min=1), help="How many rows of the CSV to pay.  [default: all]")
@click.option("--seed", type=int, default=0, show_default=True, help="A different seed gives different faults.")
@json_option
def demo(*, rows: int | None, seed: int, as_json: bool) -> None:
    """Pay a bundled CSV while a local sandbox fails on purpose, then compare the reported outcomes with its ledger.

    No money moves and nothing leaves this machine: addresses are made up, and AlphaPo is the local sandbox.
    """
    requests = read_rows()
    if rows is not None and rows > len(requests):
        raise click.BadParameter(f"the bundled CSV has {len(requests)} rows.", param_hint="--rows")
    requests = requests[:rows]
    console = make_console(sys.stderr if as_json else None)
    say(
        console,
        f"Paying {len(requests)} made-up withdrawals at a local AlphaPo that resets, stalls, throttles and breaks off on purpose "
        f"(seed {seed}). A few rows are made so that it refuses, cancels or declines them.",
    )
    report = run(_run(requests, seed, console))
    if as_json:
        click.echo(json_text(report_fields(report)))
        sys.exit(exit_code(report))
    sys.exit(_show(report, console))


# ── paying ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _run(requests: list[WithdrawalRequest], seed: int, console: Console) -> DemoReport:
    """Pay with a worker that is killed and another that continues, then the last rows and the unknown ones; read the ledger."""
    tally, began, reported = DemoCounts(), time.monotonic(), dict[str, str]()
    first = requests[:-_LATER]
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "payouts.db")
        sandbox = Sandbox(KEY, SECRET, faults="demo", seed=seed, latency=_LATENCY, settle_after=_SETTLES_AFTER)
        async with sandbox:
            async with show_progress(console, len(requests)) as advance:
                on_news = _counting(tally, reported, advance)
                if first:
                    half = max(1, len(first) // 2)
                    await pay_until_killed(sandbox.url, journal, len(first), on_news, kill_after=half)
                    say(console, killed_words(reported))
                killed_after = len(reported)
                async with open_client(sandbox.url, journal, tally.notice) as client:
                    settle = _settling(advance)
                    reported |= await pay_all(client, [row for row in first if row.foreign_id not in reported], settle)
                    unknown = [row for row in first if reported[row.foreign_id] == "unknown"]
                    if unknown:
                        say(console, _waiting(len(unknown)))
                        await asyncio.sleep(POLICY.quiet)
                    reported |= await pay_all(client, [*unknown, *requests[-_LATER:]], settle)
                    await _settle_rest(client)
                    totals = await client.totals()
            # The books are read once nothing in them can change any more.
            await sandbox.drain()
            await asyncio.sleep(_SETTLES_AFTER)
            booked = sandbox.ledger.all_accepted()
    return DemoReport(
        reported=reported,
        killed_after=killed_after,
        asked_again=len(unknown),
        retries=tally.retries,
        look_ups=tally.look_ups,
        ended_later=ended_later(reported, booked),
        totals=totals,
        verdict=reconcile(requests, reported, booked),
        seconds=time.monotonic() - began,
    )


async def _settle_rest(client: AlphapoClient) -> None:
    """Settle what the first worker could not record before it was killed; in a few passes, since a look-up may fail."""
    for _ in range(_PASSES):
        _ = [result async for result in client.resume()]


def _counting(tally: DemoCounts, reported: dict[str, str], advance: Advance) -> Callable[[News], None]:
    settle = _settling(advance)

    def on_news(news: News) -> None:
        if isinstance(news, OutcomeReported):
            reported[news.foreign_id] = news.outcome
            settle(news.foreign_id, news.outcome)
        else:
            tally.notice(news.event)

    return on_news


def _settling(advance: Advance) -> Callable[[str, str], None]:
    """Return what advances the bar; unknown rows are requested again and do not count."""
    return lambda _foreign_id, outcome: None if outcome == "unknown" else advance(outcome)


def killed_words(reported: Mapping[str, str]) -> str:
    """Return the sentence for the kill: how many calls had returned, and with how many final outcomes."""
    unknown = list(reported.values()).count("unknown")
    settled = f": {len(reported) - unknown} with a final outcome, {unknown} unknown" if unknown else ""
    return (
        f"The worker was killed (SIGKILL) when {len(reported)} calls had returned{settled}. Another worker continues with its journal: "
        "what was under way is looked up first, and no caller has to remember anything."
    )


def _waiting(unknown: int) -> str:
    return (
        f"{unknown} unknown so far. They are asked again, with the last {_LATER} rows, when nothing sent can arrive any more: "
        f"{POLICY.quiet:g} s here, half an hour by default."
    )


# ── showing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _show(report: DemoReport, console: Console) -> Exit:
    console.print(table("Withdrawals", ["", "rows"], report_rows(report), right=True))
    say(
        console,
        "To the last decimal: requested = open + accepted + failed + rejected + not sent + unknown + conflict. "
        "Columns of zeros are left out.",
    )
    console.print(fitting_totals(console, report.totals))
    for words in closing_words(report):
        say(console, words)
    return exit_code(report)


def report_rows(report: DemoReport) -> list[tuple[str, str]]:
    """Return the lines of the closing table."""
    outcomes = Counter(report.reported.values())
    shown = [name for name in OUTCOMES if outcomes[name] or name in _ALWAYS]
    return [
        ("requested", str(len(report.reported))),
        *((name.replace("_", " "), str(outcomes[name])) for name in shown),
        ("retries", str(report.retries)),
        ("look-ups", str(report.look_ups)),
        ("finished before the worker was killed", str(report.killed_after)),
        ("unknown after the first pass, asked again", str(report.asked_again)),
        ("  settled by that", str(report.asked_again - report.unknown)),
        ("paid more than once (sandbox's ledger)", str(len(report.verdict.paid_twice))),
        ("reported wrong (sandbox's ledger)", str(len(report.verdict.told_wrong))),
    ]


def report_fields(report: DemoReport) -> dict[str, Any]:
    """Return the figures of the closing table as named values."""
    return {
        "requested": len(report.reported),
        "outcomes": Counter(report.reported.values()),
        "retries": report.retries,
        "look_ups": report.look_ups,
        "finished_before_kill": report.killed_after,
        "asked_again": report.asked_again,
        "ended_later": report.ended_later,
        "paid_more_than_once": report.verdict.paid_twice,
        "reported_wrong": report.verdict.told_wrong,
        "totals": report.totals,
        "totals_reconcile": report.totals_reconcile,
        "seconds": round(report.seconds, 3),
        "exit_code": int(exit_code(report)),
    }


_ALWAYS = ("accepted", "failed", "rejected", "not_sent", "unknown")


def closing_words(report: DemoReport) -> list[str]:
    """Return the closing sentences."""
    words = []
    if report.ended_later:
        words.append(
            f"Accepted means that AlphaPo has it. {report.ended_later} of those it cancelled or declined later, as these rows are "
            "made to be: no money moved for them, and `alphapo status` or a callback shows it."
        )
    if report.unknown:
        words.append(
            f"Unknown ({report.unknown}): nothing proves yet whether AlphaPo has them. A client that guessed would pay twice or "
            "refund money that is gone; keep such a withdrawal pending and call again with the same request."
        )
    if not report.totals_reconcile:
        words.append("The totals do not reconcile: requested is not the sum of the other columns.")
    broken = sorted({*report.verdict.paid_twice, *report.verdict.told_wrong})
    if broken:
        words.append(f"The promise was broken for: {', '.join(broken)}.")
    else:
        words.append(
            f"Shown in {report.seconds:.1f} s: {len(report.reported)} withdrawals under faults and a kill, {report.retries} attempts were "
            f"retries, none was paid twice, and every caller got the right answer whether money moved."
        )
    return words


def exit_code(report: DemoReport) -> Exit:
    """Return 0 if the promise was kept, unknown rows or not, and 1 if it was broken."""
    return Exit.ALL_ACCEPTED if report.verdict.is_clean and report.totals_reconcile else Exit.REFUSED
