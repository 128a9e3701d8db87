"""No secret stands in a local variable of our frames, whatever a constructor or a command refuses."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click
import pytest

import alphapo_async
from alphapo_async import AlphapoClient, Signer, open_journal
from alphapo_async.cli import alphapo
from alphapo_async.cli.journal import with_journal
from alphapo_async.cli.options import Access
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.sandbox import Sandbox
from alphapo_async.session import SessionManager
from tests.support import postgres

OURS = str(PurePath(alphapo_async.__file__).parent)
KEY, SECRET, OLD, PASSWORD = "key-of-9d41", "secret-of-77b0", "retired-of-c2f5", "password-of-31ee"
HIDDEN = (KEY, SECRET, OLD, PASSWORD)
DATABASE = f"postgresql://payer:{PASSWORD}@127.0.0.1:1/payouts"
PROXY = f"ftp://user:{PASSWORD}@proxy.example"


def refusing_database() -> str:
    """Return a database that answers at once that it does not know the user; one that cannot be reached is tried for 10 s."""
    parts = urlsplit(postgres.database("payouts"))
    return parts._replace(netloc=f"payer:{PASSWORD}@{parts.netloc.rpartition('@')[2]}").geturl()


def frames_of(error: BaseException | None, seen: set[int]) -> Iterator[FrameType]:
    """Yield the frames of ours in the tracebacks of an exception, its causes and its contexts."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(OURS):
            yield traceback.tb_frame
        traceback = traceback.tb_next
    yield from frames_of(error.__cause__, seen)
    yield from frames_of(error.__context__, seen)


def texts_of(value: object, depth: int = 0) -> Iterator[str]:
    """Yield what an error reporter writes down of a value: containers by their items, everything else by its repr."""
    if isinstance(value, Mapping) and depth < 5:
        for key, item in value.items():
            yield from (*texts_of(key, depth + 1), *texts_of(item, depth + 1))
    elif isinstance(value, list | tuple | set | frozenset) and depth < 5:
        for item in value:
            yield from texts_of(item, depth + 1)
    else:
        yield repr(value)


def shown_by(error: BaseException, *more: str) -> list[str]:
    """Return where a secret is shown: in the text, or by a local variable of a frame of ours."""
    hidden = (*HIDDEN, *more)
    places = [f"text: {error}"] if any(secret in f"{error!s} {error!r}" for secret in hidden) else []
    for frame in frames_of(error, set()):
        for name, value in frame.f_locals.items():
            if any(secret in text for text in texts_of(value) for secret in hidden):
                places.append(f"{PurePath(frame.f_code.co_filename).name}, {frame.f_code.co_name}: {name}")
    return places


def error_of(call: Callable[[], object]) -> BaseException:
    """Return what the call raises."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - an exit, too
        return error
    pytest.fail("nothing was raised")


def environment(**changed: str) -> dict[str, str]:
    """Return an environment with credentials and a host at which nothing listens, and these changes."""
    usual = {
        "ALPHAPO_KEY": KEY,
        "ALPHAPO_SECRET": SECRET,
        "ALPHAPO_JOURNAL": DATABASE,
        "ALPHAPO_BASE_URL": "http://127.0.0.1:1",
    }
    return {**usual, **changed}


def client(**settings: Any) -> Callable[[], object]:
    """Return the making of a client with these settings."""
    usual: dict[str, Any] = {"journal": DATABASE, "retired_keys": [(KEY, OLD)]}
    return lambda: AlphapoClient(KEY, SECRET, **{**usual, **settings})


def failing_pairs() -> Iterator[tuple[str, str]]:
    """Yield a pair and fail, as a caller's own source of pairs may."""
    yield KEY, OLD
    raise RuntimeError("the vault is closed")


CONSTRUCTORS: dict[str, Callable[[], object]] = {
    "a key with a blank": lambda: Signer(f"{KEY}\t", SECRET),
    "a secret with a line end": lambda: Signer(KEY, f"{SECRET}\n"),
    "a secret that is no text": lambda: Signer(KEY, SECRET.encode()),  # type: ignore[arg-type]
    "a client's secret": lambda: AlphapoClient(KEY, f"{SECRET}\t", journal=DATABASE),
    "an amount format": client(amount_format="float"),
    "an account": client(account=""),
    "a policy": client(policy=5),
    "a session": client(session=5),
    "on_event": client(on_event=5),
    "a base URL": client(base_url="http://app.alphapo.net"),
    "a grace": client(close_grace=-1.0),
    "a rate": client(max_rate=0),
    "connections": client(max_connections=0),
    "a journal's URL": client(journal=f"postgres+asyncpg://payer:{PASSWORD}@db/payouts"),
    "a journal's port": client(journal=f"postgresql://payer:{PASSWORD}@db:port/payouts"),
    "no journal": client(journal=None, base_url="https://app.alphapo.net"),
    "an object that is no journal": client(journal=object()),
    "a retired secret": client(retired_keys=[(KEY, f"{OLD}\t")]),
    "retired keys that are no pairs": client(retired_keys=[f"{KEY} {OLD}"]),
    "retired keys that are no list": client(retired_keys=7),
    "retired keys that fail": client(retired_keys=failing_pairs()),
    "a setting that does not exist": client(colour="red"),
    "a proxy": lambda: SessionManager(proxy=PROXY),
    "a time-out beside a proxy": lambda: SessionManager(proxy=PROXY, connect_timeout=-1.0),
    "a journal": lambda: open_journal(f"mysql://payer:{PASSWORD}@db/payouts"),
    "a database's port": lambda: open_journal(f"postgresql://payer:{PASSWORD}@db:port/payouts"),
    "a schema": lambda: open_journal(DATABASE, schema="Not plain"),
    "a URL and a pool": lambda: PostgresJournal(DATABASE, pool=object()),
    "no secret": lambda: Access({"ALPHAPO_KEY": KEY, "ALPHAPO_JOURNAL": DATABASE}),
    "a wrong secret": lambda: Access(environment(ALPHAPO_SECRET=f"{SECRET}\t")),
    "a file of a secret": lambda: Access(environment(ALPHAPO_SECRET="", ALPHAPO_SECRET_FILE=f"/no/{SECRET}")),
    "a host": lambda: Access(environment(ALPHAPO_BASE_URL="nowhere")),
    "a journal of the environment": lambda: Access(
        environment(ALPHAPO_JOURNAL=f"mysql://payer:{PASSWORD}@db/payouts")
    ).open_journal(),
    "a secret of the sandbox": lambda: Sandbox(KEY, f"{SECRET}\t"),
    "faults of the sandbox": lambda: Sandbox(KEY, SECRET, faults="no such faults", extra_keys=[("other", OLD)]),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_refused_setting_shows_no_secret(name: str) -> None:
    """Neither in the text nor in a local variable."""
    error = error_of(CONSTRUCTORS[name])
    assert isinstance(error, Exception)
    assert shown_by(error) == []


@pytest.mark.parametrize("name", ["ALPHAPO_SECRET", "ALPHAPO_BASE_URL", "ALPHAPO_JOURNAL"])
def test_from_env_shows_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds all of them."""
    for variable, value in environment(**{name: f"{PASSWORD} {SECRET}"}).items():
        monkeypatch.setenv(variable, value)
    error = error_of(lambda: AlphapoClient.from_env(retired_keys=[(KEY, OLD)], account=""))
    assert isinstance(error, Exception)
    assert shown_by(error) == []


@pytest.mark.parametrize(
    "kind", [AlphapoClient, Signer, SessionManager, PostgresJournal, SqliteJournal, Access, Sandbox]
)
def test_an_object_whose_construction_failed_has_a_repr(kind: Any) -> None:
    """An error reporter asks a subclass's frame for it."""
    assert repr(kind.__new__(kind)).startswith(kind.__name__)


ARGUMENTS: dict[str, list[str]] = {
    "withdraw": [
        *(
            "--currency",
            "BTC",
            "--address",
            "a",
            "--amount",
            "1",
            "--foreign-id",
            "f",
            "--end-user-reference",
            "u",
            "--yes",
        )
    ],
    "batch": ["payouts.csv"],
    "status": ["f"],
    "resume": [],
    "reconcile": [],
    "worker": [],
    "check": [],
    "balances": [],
    "currencies": [],
    "quote": ["--currency", "EUR", "--convert-to", "BTC", "--amount", "1"],
    "verify-callback": ["--body", "body", "--signature", "0"],
    "sandbox": ["--key", KEY, "--secret", f"{SECRET}\t"],
    "journal show": ["f"],
    "journal list": [],
    "journal totals": [],
    "journal unfreeze": ["f", "--by", "anna", "--because", "not in the export"],
    "journal settle": ["f", "--rejected", "--by", "anna", "--because", "not there"],
    "journal callbacks": ["f"],
    "journal export": [],
    "journal prune": ["--older-than", "1d", "--yes"],
    "journal redact": ["f", "--yes"],
    "journal backup": ["backup.db"],
    "journal copy": ["new.db"],
    "journal migrate": [],
}
NEED_NONE = {"demo", "journal grants", "runbook"}
"""They read neither credentials nor a journal's name."""


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


COMMANDS = dict(commands(alphapo))


def test_every_command_is_walked() -> None:
    """A new one needs its line."""
    assert COMMANDS.keys() == ARGUMENTS.keys() | NEED_NONE


@pytest.mark.parametrize(
    "wrong",
    [
        {"ALPHAPO_SECRET": f"{SECRET}\t"},
        {"ALPHAPO_JOURNAL": f"mysql://payer:{PASSWORD}@db/payouts"},
        {"ALPHAPO_JOURNAL": f"postgresql://payer:{PASSWORD}@db:port/payouts"},
        {"ALPHAPO_BASE_URL": "nowhere", "ALPHAPO_JOURNAL": "missing.db"},
    ],
    ids=["secret", "journal", "port", "host"],
)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_command_that_fails_shows_no_secret(
    name: str, wrong: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of the environment it refuses; click's own frames are not ours."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "body").write_bytes(b"{}")
    (tmp_path / "payouts.csv").write_text("foreign_id\n", encoding="utf-8")
    for variable in [name for name in os.environ if re.match("ALPHAPO_", name)]:
        monkeypatch.delenv(variable)
    for variable, value in environment(**{"ALPHAPO_JOURNAL": refusing_database(), **wrong}).items():
        monkeypatch.setenv(variable, value)
    error = error_of(lambda: COMMANDS[name].main(ARGUMENTS[name], standalone_mode=False))
    # `journal …` needs no secret, and uses the database; what wants a file is refused before.
    wants_file = name in ("journal backup", "journal copy")
    uses_it = "ALPHAPO_SECRET" in wrong and name.startswith("journal ") and not wants_file
    assert isinstance(error, alphapo_async.JournalError) is uses_it
    assert shown_by(error) == []


def test_a_database_that_cannot_be_reached_shows_no_secret() -> None:
    """The journal fails while it is used, after more than one try."""
    journal = open_journal(DATABASE)
    assert isinstance(journal, PostgresJournal)
    journal._server._retry_for = 0.2
    error = error_of(lambda: with_journal(journal, lambda opened: opened.totals("default")))
    assert isinstance(error, alphapo_async.JournalError)
    assert "it cannot be reached" in str(error)
    assert shown_by(error) == []


def test_a_password_in_an_argument_is_refused_without_showing_it() -> None:
    """It stands in the process list already, and is not written into a report besides."""
    error = error_of(lambda: COMMANDS["journal totals"].main(["--journal", DATABASE], standalone_mode=False))
    assert isinstance(error, click.UsageError)
    assert shown_by(error) == []


BODY = b'{"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "confirmed"}'


@pytest.mark.parametrize("is_forged", [True, False])
async def test_a_callback_shows_neither_signature_nor_body(*, is_forged: bool) -> None:
    """Neither where it is refused, nor where the block that handles it raises."""
    signer = Signer(KEY, SECRET)
    signature = signer.sign(BODY)[:-1] + "z" if is_forged else signer.sign(BODY)
    async with AlphapoClient(KEY, SECRET, base_url="http://127.0.0.1:9", journal="memory") as alphapo:
        with pytest.raises((RuntimeError, alphapo_async.CallbackError)) as caught:
            async with alphapo.receive_callback({"X-Processing-Key": KEY, "X-Processing-Signature": signature}, BODY):
                raise RuntimeError("the books are closed")
    assert isinstance(caught.value, alphapo_async.CallbackError) is is_forged
    assert shown_by(caught.value, signature, repr(BODY)) == []
