"""`alphapo withdraw`: one withdrawal, and what to do if it is not accepted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import click

from alphapo_async.cli.exit_codes import Exit, explain, nothing_sent
from alphapo_async.cli.loop import run
from alphapo_async.cli.messages import advice, happened, warning_text
from alphapo_async.cli.options import Access, Duration, access_options, json_option
from alphapo_async.cli.output import amount, clean, echo, json_text, pairs, withdrawal_pairs
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.codec import AMOUNT_FORMATS
from alphapo_async.core.errors import (
    ConfigurationError,
    ForeignIdConflict,
    JournalError,
    WithdrawalError,
    WithdrawalUnknown,
)
from alphapo_async.core.models import Totals, Withdrawal, WithdrawalRequest, requested_figure
from alphapo_async.core.preflight import preflight
from alphapo_async.journal import Journal, is_shared

__all__ = ["question", "report", "withdraw"]

_EPILOG = """\b
Example:
  alphapo withdraw --currency BTC --address bc1q... --amount 0.0015 \\
      --foreign-id payout-17 --end-user-reference user-42 --journal payouts.db
"""

CallOutcome: TypeAlias = Withdrawal | WithdrawalError | JournalError

_GRACE = 2.0  # seconds that an answer under way still gets when a person presses Ctrl-C

_ONCE_SENT = (
    "note: the journal of this run is in memory and knows nothing of earlier runs. If one of them may have sent this foreign_id, "
    "this outcome proves nothing about it: run again with --attempted-before."
)
_STILL_OPEN = "note: the journal of this run was in memory and ends with it: run again with --attempted-before."


@click.command(epilog=_EPILOG)
@click.option("--currency", required=True, help='The balance to debit, such as "BTC" or "USDTT".')
@click.option("--address", required=True, help="Where the money goes.")
@click.option("--amount", help="How much leaves, in --currency. Exactly one of --amount and --amount-to.")
@click.option("--amount-to", help="How much is to arrive, in --convert-to.")
@click.option("--convert-to", help="The currency to pay out in, if it is another one.")
@click.option("--tag", help="Destination tag or memo. A currency of the XRP Ledger needs one, or --no-tag.")
@click.option("--no-tag", "without_tag", is_flag=True, help="No tag is wanted.")
@click.option(
    "--foreign-id", required=True, help="Your unique name for this withdrawal; a second call with it never pays again."
)
@click.option("--end-user-reference", required=True, help="Your lasting internal id of the user; no personal data.")
@click.option(
    "--amount-format",
    type=click.Choice(AMOUNT_FORMATS),
    default="number",
    show_default=True,
    help="How amounts are written.",
)
@click.option(
    "--deadline",
    type=Duration(may_be_zero=True),
    help="The command ends after this time at the latest.  [default: 60s]",
)
@click.option(
    "--attempted-before", is_flag=True, help="An earlier run that this journal knows nothing of may have sent it."
)
@click.option("--retry-rejected", is_flag=True, help="Send it again although AlphaPo rejected it before.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed without a terminal, unless the host is this machine.")
@json_option
@access_options
def withdraw(
    *,
    as_json: bool,
    amount_format: str,
    deadline: float | None,
    attempted_before: bool,
    retry_rejected: bool,
    yes: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
    **fields: Any,
) -> None:
    """Pay one withdrawal, once, and report whether money moved."""
    survive_lost_output()
    request = WithdrawalRequest(**fields)
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    settings = {"amount_format": amount_format}
    calling = {"deadline": deadline, "attempted_before": attempted_before, "resend_rejected": retry_rejected}
    if not _may_pay(request, access, yes=yes):
        echo("Not confirmed: this call sent nothing.", err=True)
        sys.exit(Exit.REFUSED)
    opened, codes = access.open_journal(), list[Exit]()
    # What holds if Ctrl-C or SIGTERM comes before an answer does.
    interrupted = WithdrawalUnknown(
        f"Withdrawal {request.foreign_id!r} was interrupted.", foreign_id=request.foreign_id, reason="closing"
    )

    def show_result(result: CallOutcome) -> Exit:
        lines, code = _report_of(result, access, opened)
        codes.append(code)  # first: the exit code must not depend on the output
        if as_json:
            click.echo(json_text(result_fields(request.foreign_id, result, code)))
            return code
        for line in lines:
            echo(line, err=code is not Exit.ALL_ACCEPTED, indent="  ")
        return code

    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        run(_withdraw(request, access, opened, settings=settings, calling=calling, show_result=show_result))
    sys.exit(codes[0] if codes else show_result(interrupted))


async def _withdraw(
    request: WithdrawalRequest,
    access: Access,
    journal: Journal,
    *,
    settings: dict[str, Any],
    calling: dict[str, Any],
    show_result: Callable[[CallOutcome], object],
) -> None:
    """Pay, and report the outcome before closing, which waits for requests under way."""
    this = cast("asyncio.Task[Any]", asyncio.current_task())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    try:
        async with contextlib.AsyncExitStack() as stack:
            with nothing_sent(request.foreign_id):
                opening = access.open_client(journal, close_grace=_GRACE, **settings)
                client = await stack.enter_async_context(opening)
            try:
                show_result(await client.withdraw(request, **calling))
            except (WithdrawalError, JournalError) as error:
                show_result(error)
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        await journal.aclose()


def _report_of(result: CallOutcome, access: Access, journal: Journal) -> tuple[list[str], Exit]:
    if is_shared(journal):
        return report(result, resuming=access.resuming, journal=access.journal_option)
    return report(result, resuming=None)


def report(result: CallOutcome, *, resuming: str | None, journal: str = "") -> tuple[list[str], Exit]:
    """Return the lines about a withdrawal's outcome, and the exit code.

    Args:
        result: the outcome.
        resuming: the command that settles open rows; None if the journal ends with this process.
        journal: the option that names the journal to other commands; empty where the environment does.
    """
    if isinstance(result, Withdrawal):
        return pairs(withdrawal_pairs(result)), Exit.ALL_ACCEPTED
    lines, code = explain(result)
    if isinstance(result, ForeignIdConflict):
        status = f"alphapo status {shlex.quote(result.foreign_id)}{journal}"
        lines.append(f"or: `{status}` shows how the existing withdrawal stands.")
    elif resuming is None:
        lines.append(_ONCE_SENT if result.may_release_funds else _STILL_OPEN)
    elif isinstance(result, WithdrawalUnknown):
        lines.append(f"or: `{resuming}` continues it.")
    return list(map(clean, lines)), code


def result_fields(foreign_id: str, result: CallOutcome, code: Exit) -> dict[str, Any]:
    """Return a withdrawal's outcome as named values."""
    known = result if isinstance(result, Withdrawal) else None
    error = None if isinstance(result, Withdrawal) else result
    return {
        "foreign_id": foreign_id,
        "outcome": "accepted" if error is None else error.outcome,
        "may_release_funds": error is not None and error.may_release_funds,
        "withdrawal": known,
        "error": None if error is None else happened(error),
        "next_step": None if error is None else advice(error),
        "exit_code": int(code),
    }


# ── asking before money moves ────────────────────────────────────────────────────────────────────────────────────────


def _may_pay(request: WithdrawalRequest, access: Access, *, yes: bool) -> bool:
    """Show what is about to happen and what is wrong with the address, and ask unless --yes was given or no money moves."""
    found = preflight(request, {}).warnings
    warning = [warning_text(found)] if found else []
    if access.is_local:
        _show(warning)
        return True
    if not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            f"{access.host} moves real money, and there is no terminal to confirm on: pass --yes. Nothing was sent."
        )
    with nothing_sent(request.foreign_id):
        totals, is_durable = run(_known(access))
    _show([*question(request, access, totals, is_durable=is_durable), *warning])
    if yes:
        return True
    try:
        return click.confirm("Pay this?", err=True)
    except click.Abort:
        return False


def _show(lines: list[str]) -> None:
    for line in lines:
        echo(line, err=True, indent="  ")


async def _known(access: Access) -> tuple[dict[str, Totals], bool]:
    """Return the journal's totals and whether it is durable; opened for this alone, since the payment has an event loop of its own."""
    journal = access.open_journal()
    try:
        return await journal.totals(access.account), journal.is_durable
    finally:
        await journal.aclose()


def question(request: WithdrawalRequest, access: Access, totals: dict[str, Totals], *, is_durable: bool) -> list[str]:
    """Return the lines that a person confirms before money moves."""
    figure, currency = requested_figure(request)
    known = [
        f"{amount(sums.requested, asked)} requested, {amount(sums.accepted)} accepted" for asked, sums in totals.items()
    ]
    to = request.address if not request.tag else f"{request.address}, tag {request.tag}"
    paid_from = [] if request.amount is not None else [("from", request.currency)]
    into = [("paid out in", request.convert_to)] if request.convert_to else []
    return pairs(
        [
            ("host", access.host),
            ("account", access.account),
            ("key", f"fingerprint {access.fingerprint}"),
            (
                "journal",
                f"{access.journal_name}, durable" if is_durable else "in memory: forgets what was sent when it ends",
            ),
            ("so far", "; ".join(known) or "nothing in this journal"),
            ("foreign_id", request.foreign_id),
            ("total to pay", amount(figure, currency)),
            *paid_from,
            *into,
            ("to", to),
        ]
    )
