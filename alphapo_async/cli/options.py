"""The options, credentials, journal and client of every command that uses AlphaPo."""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.signer import Signer
from alphapo_async.journal import Journal, MemoryJournal, open_journal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.neighbors import journals_in
from alphapo_async.journal.urls import has_password, shown
from alphapo_async.settings import (
    PRODUCTION,
    check_account,
    check_base_url,
    from_environment,
    is_loopback,
    missing_credentials,
)

__all__ = [
    "Access",
    "Duration",
    "Words",
    "access_options",
    "existing",
    "journals_here",
    "json_option",
    "look_up_rate_option",
    "no_password",
    "question_options",
]

_NAMED: Final = 3
"""Journals of a folder that are named."""
_Answer = TypeVar("_Answer")
_Command = TypeVar("_Command", bound=Callable[..., Any])


@hides_arguments
def no_password(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Return the journal's name; a password in an argument is refused, because every user of the machine can read it.

    Raises:
        click.UsageError: the name has a password.
    """
    if name is not None and has_password(name):
        raise click.UsageError(
            "The journal's password must not stand in an argument: put the URL into ALPHAPO_JOURNAL, or the password into PGPASSWORD or "
            "~/.pgpass. Nothing was sent."
        )
    return name


def existing(journal: Journal) -> Journal:
    """Return the journal of a command that only uses an existing one: a mistyped path must not read as "nothing is open".

    Raises:
        ConfigurationError: the file does not exist; none is created.
    """
    if isinstance(journal, SqliteJournal) and not journal.path.exists():
        beside = journals_here(journal.path.parent)
        raise ConfigurationError(
            f"no such journal: {journal.path}. Check --journal, or ALPHAPO_JOURNAL. Nothing was sent.{beside}"
        )
    return journal


def journals_here(folder: Path | None = None) -> str:
    """Return a sentence with the options for the first journals of a batch in a folder, after a blank; empty if there are none.

    Args:
        folder: which one; None for the present one.
    """
    found = [f"--journal {shlex.quote(str(one))}" for one in journals_in(folder or Path())[:_NAMED]]
    return f" In this folder: {', '.join(found)}." if found else ""


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_is_duration: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd]?)", re.ASCII).fullmatch


class Duration(click.ParamType):  # type: ignore[type-arg]  # it is generic in the newest releases only
    """A duration such as `90s`, `15m`, `2h` or `1d`, as seconds; a plain number is seconds.

    Args:
        may_be_zero: whether 0 is a duration here.
        needs_unit: whether a plain number is refused, where a forgotten unit would destroy something.
    """

    name = "duration"

    def __init__(self, *, may_be_zero: bool = False, needs_unit: bool = False) -> None:
        self._may_be_zero = may_be_zero
        self._needs_unit = needs_unit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        found = _is_duration(str(value).strip())
        if found is None or (self._needs_unit and not found[2]) or not (self._may_be_zero or float(found[1])):
            self.fail(f"{value!r} is not a duration: write a time such as 90s, 15m, 2h or 1d.", param, ctx)
        return float(found[1]) * _UNITS[found[2] or "s"]


class Words(click.ParamType):  # type: ignore[type-arg]  # it is generic in the newest releases only
    """A text for the journal: bytes that are not in the terminal's encoding are refused, since no journal takes them."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{text!r} is not in the encoding of this terminal: type it as UTF-8.", param, ctx)
        return text


_OPTIONS = (
    click.option(
        "--journal",
        callback=no_password,
        help='The journal: a file, postgresql://…, or "memory". Default: ALPHAPO_JOURNAL.',
    ),
    click.option("--base-url", help=f"AlphaPo's host. Default: ALPHAPO_BASE_URL, or {PRODUCTION}."),
    click.option("--account", help='Your name for the merchant account. Default: ALPHAPO_ACCOUNT, or "default".'),
)


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""Adds --json to a command that prints figures."""


look_up_rate_option: Final = click.option(
    "--max-look-up-rate", type=click.FloatRange(min=0, min_open=True), help="Look-ups a second.  [default: 10]"
)
"""Adds --max-look-up-rate to a command that looks many withdrawals up."""


def access_options(command: _Command) -> _Command:
    """Add --journal, --base-url and --account to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def question_options(command: _Command) -> _Command:
    """Add --json and --base-url to a command that only asks AlphaPo: it needs no journal."""
    return _OPTIONS[1](json_option(command))


class Access:
    """The host, account, key and journal of a command.

    Args:
        environment: has the credentials, and defaults for the rest.
        needs_key: whether the command asks AlphaPo; one that need not may do without key and secret.
        given: the values of options; None for an option that was not given.

    Raises:
        ConfigurationError: a setting is missing or wrong.
    """

    @hides_arguments
    def __init__(self, environment: Mapping[str, str], *, needs_key: bool = True, **given: str | None) -> None:
        self._given = {name: value for name, value in given.items() if value is not None}
        self.no_key = "" if needs_key else missing_credentials(environment)
        """What is missing to ask AlphaPo; empty if nothing is."""
        self._settings: dict[str, Any] = from_environment(environment, self._given, needs_key=not self.no_key)
        self.host = check_base_url(self._settings.get("base_url", PRODUCTION))
        self.account = check_account(self._settings.get("account", "default"))
        self.fingerprint = "" if self.no_key else Signer(self._settings["key"], self._settings["secret"]).fingerprint

    def __repr__(self) -> str:
        if not hasattr(self, "fingerprint"):
            return "Access(not made: a setting was refused)"
        return f"Access({self.host!r}, account={self.account!r}, key={self.fingerprint!r})"

    @property
    def journal_name(self) -> str:
        """The journal's name as it may be shown."""
        return "in memory" if self.is_in_memory else shown(self._settings["journal"])

    @property
    def journal_option(self) -> str:
        """The option that names the same journal to another command, after a blank; empty where the environment names it."""
        return f" --journal {shlex.quote(self._given['journal'])}" if "journal" in self._given else ""

    @property
    def is_in_memory(self) -> bool:
        """Return whether the journal ends with the process."""
        return self._settings.get("journal") in (None, "memory")

    @property
    def resuming(self) -> str:
        """The command that settles the open rows, with the options of this command."""
        given = (f" --{name.replace('_', '-')} {shlex.quote(value)}" for name, value in self._given.items())
        return f"alphapo resume{''.join(given)}"

    @property
    def is_local(self) -> bool:
        """Return whether the host is this machine, so that no money moves."""
        return is_loopback(self.host)

    @hides_arguments
    def open_journal(self) -> Journal:
        """Return the named journal; for the local sandbox the journal may be left out.

        Raises:
            ConfigurationError: none was named, or the name is wrong.
        """
        name = self._settings.get("journal")
        if name is None and not self.is_local:
            raise ConfigurationError(
                "Set ALPHAPO_JOURNAL=payouts.db (or --journal payouts.db) to a file on a permanent disk, or to a postgresql:// URL. "
                "The journal records every withdrawal before it is sent, so that no restart pays it twice. Nothing was sent."
                f"{journals_here()}"
            )
        return open_journal("memory" if name is None else name)

    def open_client(self, journal: Journal, **settings: Any) -> AlphapoClient:
        """Return a client; the caller closes the journal.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        return AlphapoClient(**{**self._settings, **settings, "journal": journal})

    async def answer(self, question: Callable[[AlphapoClient], Awaitable[_Answer]], **settings: Any) -> _Answer:
        """Return AlphaPo's answer to a question that is about no withdrawal; no journal is opened.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer.
            ConfigurationError: a setting or the question is wrong.
        """
        client = self.open_client(MemoryJournal(), **settings)
        try:
            return await question(client)
        finally:
            await client.aclose()
