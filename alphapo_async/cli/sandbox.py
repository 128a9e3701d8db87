"""`alphapo sandbox`: the local sandbox, until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from decimal import Decimal
from urllib.parse import urlsplit

import click

from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Duration
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.models import FIGURE
from alphapo_async.sandbox import FAULT_SETS, Sandbox
from alphapo_async.sandbox.catalogue import is_known
from alphapo_async.settings import read_retired_keys

__all__ = ["KEY", "SECRET", "sandbox", "stop_at_signals"]

KEY = "sandbox-key"
"""The default key of the local sandbox; made up."""
SECRET = "sandbox-secret"  # noqa: S105 - made up, and opens nothing but the local sandbox
"""Its secret."""

_EPILOG = """\b
Examples:
  alphapo sandbox --port 8080
  alphapo sandbox --faults heavy --seed 7
  alphapo sandbox --callback-url http://127.0.0.1:8000/alphapo/

\b
Then, in another terminal, paste its second line, and:
  alphapo check
"""


def _url(_context: click.Context, _parameter: click.Parameter, url: str | None) -> str | None:
    """Return the URL, if callbacks can be sent there."""
    if url is not None and not (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
        raise click.BadParameter("must be a URL such as http://127.0.0.1:8000/alphapo/.")
    return url


def _minimums(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Decimal]:
    """Return the amounts by currency."""
    found = {}
    for each in given:
        code, _, figure = each.partition("=")
        if not is_known(code) or not FIGURE.fullmatch(figure):
            raise click.BadParameter(f"{each!r} must be a currency of the sandbox and an amount, such as BTC=0.0002.")
        found[code] = Decimal(figure)
    return found


@click.command(epilog=_EPILOG)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where to listen; 0: on any free port.  [default: 0]"
)
@click.option("--key", default=KEY, show_default=True, help="A made-up public key.")
@click.option("--secret", default=SECRET, show_default=True, help="A made-up secret; never a real one.")
@click.option(
    "--retired-keys-file",
    metavar="FILE",
    help="Other made-up keys of the same merchant: one pair a line, key, space, secret.",
)
@click.option(
    "--faults",
    metavar="NAME",
    type=click.Choice(list(FAULT_SETS)),
    default="none",
    show_default=True,
    help="Faults to make: none, demo, heavy, outage, an outcome for all (not_sent, failed, unknown), or one fault by its name; a wrong "
    "name lists them all.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="A different seed gives different faults.")
@click.option(
    "--callback-url",
    callback=_url,
    help="Where signed callbacks are sent; again after 1, 5, 15 … minutes until they are answered.",
)
@click.option(
    "--settle-after",
    type=Duration(may_be_zero=True),
    default="1s",
    show_default=True,
    help="The time from the acceptance of a withdrawal to its end.",
)
@click.option(
    "--minimum",
    "minimums",
    metavar="CODE=AMOUNT",
    multiple=True,
    callback=_minimums,
    help="The least amount of a withdrawal or conversion of a currency; may be given several times.",
)
@hides_arguments
def sandbox(
    *,
    port: int,
    key: str,
    secret: str,
    retired_keys_file: str | None,
    faults: str,
    seed: int,
    callback_url: str | None,
    settle_after: float,
    minimums: dict[str, Decimal],
) -> None:
    """Run the local sandbox, our AlphaPo for tests: it listens on this machine only, and no money moves.

    Its first line is its URL; its second one sets the environment of other commands and programs. It runs until Ctrl-C or SIGTERM.
    """
    local = Sandbox(
        key,
        secret,
        port=port,
        extra_keys=() if retired_keys_file is None else read_retired_keys(retired_keys_file, "--retired-keys-file"),
        faults=faults,
        seed=seed,
        callback_url=callback_url,
        minimums=minimums,
        settle_after=settle_after,
        first_id=time.time_ns() // 1_000,  # a journal may outlive the sandbox, and must never meet one of its ids again
    )
    run(_run(local, port))


async def _run(local: Sandbox, port: int) -> None:
    stopped = stop_at_signals()
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(local)
        except OSError as error:
            raise ConfigurationError(f"Port {port} cannot be used: {os.strerror(error.errno or 0)}.") from None
        # The first line is for programs: the URL and nothing else. `echo` flushes.
        click.echo(local.url)
        command = f"export ALPHAPO_BASE_URL={local.url} ALPHAPO_KEY={local.key}"
        made_up = local.secret == SECRET
        click.echo(
            f"{command} ALPHAPO_SECRET={SECRET}"
            if made_up
            else f"{command}  # and ALPHAPO_SECRET, the one that was given"
        )
        await stopped.wait()


def stop_at_signals() -> asyncio.Event:
    """Return an event that Ctrl-C and SIGTERM set, for as long as the running loop lives."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped
