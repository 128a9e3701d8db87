"""The command line (extra `cli`): one group, one module for each kind of command, and one place where errors become sentences."""

from __future__ import annotations

import errno
from typing import Any

import click

from alphapo_async.cli.balances import balances
from alphapo_async.cli.batch import batch
from alphapo_async.cli.callbacks import callbacks
from alphapo_async.cli.check import check
from alphapo_async.cli.currencies import currencies
from alphapo_async.cli.demo import demo
from alphapo_async.cli.error_log import errors_shown
from alphapo_async.cli.exit_codes import Exit, explain
from alphapo_async.cli.export import export
from alphapo_async.cli.grants import print_grants
from alphapo_async.cli.journal import journal
from alphapo_async.cli.output import echo
from alphapo_async.cli.prune import prune, redact
from alphapo_async.cli.quote import quote
from alphapo_async.cli.reconcile import reconcile
from alphapo_async.cli.resume import resume
from alphapo_async.cli.runbook import runbook
from alphapo_async.cli.sandbox import sandbox
from alphapo_async.cli.settle import settle
from alphapo_async.cli.status import status
from alphapo_async.cli.unfreeze import unfreeze
from alphapo_async.cli.usage import SuggestingGroup, folded_errors
from alphapo_async.cli.verify_callback import verify_callback
from alphapo_async.cli.withdraw import withdraw
from alphapo_async.cli.worker import worker

__all__ = ["alphapo", "callbacks", "export", "print_grants", "prune", "redact", "settle", "unfreeze"]


class _Alphapo(SuggestingGroup):
    """Commands whose errors end as sentences and exit codes, never as tracebacks."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with folded_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with errors_shown(), folded_errors():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:  # click would end with exit code 1, which says that something was refused
            echo("Interrupted: run the same command again.", err=True)
            ctx.exit(Exit.UNKNOWN)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of the output has left; click ends quietly
            lines, code = explain(error)
            for line in lines:
                echo(line, err=True)
            ctx.exit(code)


_EPILOG = """\b
Exit codes:
  0  all accepted
  1  something refused, failed, invalid or conflicting; or you did not confirm
  2  wrong usage, input or configuration
  3  something unknown or not sent: run again (wins over 1)
  4  key refused (wins over 3)

\b
Start here, without an account:
  alphapo demo

\b
Completion in your shell (bash, zsh or fish):
  eval "$(_ALPHAPO_COMPLETE=bash_source alphapo)"
"""


@click.group(cls=_Alphapo, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="alphapo-async")
def alphapo() -> None:
    """Pay crypto withdrawals with AlphaPo, each of them once, and know whether money moved.

    Credentials come from the environment only: ALPHAPO_KEY, and ALPHAPO_SECRET or ALPHAPO_SECRET_FILE.
    """


for _command in (
    *(demo, withdraw, batch, status, resume, reconcile, worker, journal, verify_callback),
    *(check, balances, currencies, quote, sandbox, runbook),
):
    alphapo.add_command(_command)

_SHORT = {
    "batch": "Pay the withdrawals of FILE, each of them once.",
    "demo": "Pay a bundled CSV while a local sandbox fails.",
    "journal": "Look into a journal, and settle rows by hand.",
    "quote": "Ask AlphaPo what a conversion would give now.",
    "reconcile": "Compare accepted withdrawals with AlphaPo.",
    "resume": "Make one pass over the open rows, oldest first.",
    "sandbox": "Run the local sandbox, our AlphaPo for tests.",
    "status": "Show a withdrawal in the journal and at AlphaPo.",
    "verify-callback": "Check whether a callback came from AlphaPo.",
    "worker": "Send enqueued rows and settle open ones.",
    "backup": "Copy a journal's file while it is in use.",
    "callbacks": "List the callbacks of one withdrawal.",
    "copy": "Copy a journal from a file to PostgreSQL.",
    "export": "Write withdrawals to standard output.",
    "grants": "Print the SQL for users of a PostgreSQL journal.",
    "list": "List open rows, or rows with one outcome.",
    "migrate": "Update the tables of a journal in PostgreSQL.",
    "prune": "Reduce finished withdrawals to their figures.",
    "redact": "Remove personal data of finished withdrawals.",
    "settle": "Settle by hand an open withdrawal.",
    "totals": "Show the sums by outcome, to the last decimal.",
    "unfreeze": "Let workers send frozen rows.",
}
"""What the lists of commands show of a command whose help begins with a longer sentence: a whole sentence in one line."""

for _command in (*alphapo.commands.values(), *journal.commands.values()):
    _command.short_help = _SHORT.get(_command.name or "", _command.short_help)
