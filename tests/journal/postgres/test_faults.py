"""Every condition of the table of messages for PostgreSQL, brought about with the real server where that can be."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.messages import DATABASE, sentence
from alphapo_async.journal.postgres.connection import PostgresConnection
from alphapo_async.journal.postgres.faults import (
    check_files,
    condition_of,
    is_lasting,
    journal_error,
    lacking_privileges,
)
from alphapo_async.journal.postgres.identity import Identity
from alphapo_async.journal.schema_version import SCHEMA
from tests.support import postgres
from tests.support.descriptors import none_left
from tests.support.pooler import Pooler

Provoke = Callable[[], Coroutine[Any, Any, str]]


async def refusal(url: str, statement: str = "select 1", schema: str | None = None, **more: Any) -> str:
    """Return what is said when a statement is asked for at this URL."""
    opened = PostgresConnection(url, schema or postgres.schema(), None, retry_for=0.0, **more)
    try:
        with pytest.raises(JournalError) as caught:
            await opened.run(lambda fetch: fetch(statement))
        assert caught.value.recorded is None
        return caught.value.detail
    finally:
        await opened.aclose()


def with_settings(**settings: str) -> str:
    """Return the URL of the server with these settings."""
    url = postgres.url()
    added = "&".join(f"{name}={value}" for name, value in settings.items())
    return f"{url}{'&' if '?' in url else '?'}{added}"


def as_user(name: str) -> str:
    """Return the URL of the server for this user."""
    parts = urlsplit(postgres.url())
    return parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}").geturl()


def raising(state: str) -> Provoke:
    """Have the server raise this SQLSTATE."""
    return lambda: refusal(postgres.url(), f"do $$ begin raise sqlstate '{state}'; end $$")


async def in_statement_mode() -> str:
    """Ask through a pooler that hands out connections for one statement at a time."""
    async with Pooler(postgres.url()) as pooler:
        pooler.is_in_statement_mode = True
        return await refusal(pooler.url)


async def with_a_setting_that_the_pooler_refuses() -> str:
    """Ask through a pooler that knows few settings."""
    async with Pooler(postgres.url()) as pooler:
        pooler.refuses = b"lock_timeout"
        return await refusal(f"{pooler.url}?lock_timeout=5s")


async def without_a_privilege() -> str:
    """Ask as a user who may read and not write."""
    schema = postgres.schema()
    opened = PostgresConnection(postgres.url(), schema, None)
    await opened.run(lambda fetch: fetch("select 1"))
    await opened.aclose()
    await postgres.execute(
        f"create role reads_{schema} login; grant usage on schema {schema} to reads_{schema}; "
        f"grant select on all tables in schema {schema} to reads_{schema}"
    )
    try:
        return await refusal(as_user(f"reads_{schema}"), f"insert into {schema}.accounts values ('a', 'h')", schema)
    finally:
        await postgres.execute(f"drop owned by reads_{schema}; drop role reads_{schema}")


async def without_a_connection_to_spare() -> str:
    """Ask as a user who may have no connection."""
    role = postgres.schema()
    await postgres.execute(f"create role {role} login connection limit 0")
    try:
        return await refusal(as_user(role))
    finally:
        await postgres.execute(f"drop role {role}")


async def after_an_upgrade() -> str:
    """Ask for a function whose library the server does not find any more."""
    schema = postgres.schema()
    opened = PostgresConnection(postgres.url(), schema, None)
    await opened.run(lambda fetch: fetch("select 1"))
    [[place]] = await opened.run(lambda fetch: fetch("select setting from pg_config where name = 'PKGLIBDIR'"))
    await opened.aclose()
    with tempfile.NamedTemporaryFile(suffix=".so") as library:
        Path(library.name).write_bytes((Path(place) / "plpgsql.so").read_bytes())
        Path(library.name).chmod(0o644)
        await postgres.execute(
            f"create function {schema}.gone() returns int language c as '{library.name}', 'plpgsql_call_handler'"
        )
    return await refusal(postgres.url(), f"select {schema}.gone()", schema)


async def without_descriptors() -> str:
    """Ask when this process has no file to spare."""
    with none_left():
        return await refusal(postgres.url())


async def without_an_answer() -> str:
    """Ask a database that takes everything and says nothing."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        between.is_silent = True
        return await refusal(between.url, timeout=0.2)


async def where_nobody_listens() -> str:
    """Ask at a port that is closed."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return await refusal(f"postgresql://payer:hunter2@127.0.0.1:{held.getsockname()[1]}/payouts?sslmode=disable")


async def over_a_connection_that_is_lost() -> str:
    """Ask over a connection that is cut before the answer."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        between.lose_before = b"select 17"
        return await refusal(between.url, "select 17")


async def with_another_kind_of_server() -> str:
    """Ask for a standby where there is a primary."""
    with pytest.raises(asyncpg.InternalClientError) as caught:
        await asyncpg.connect(with_settings(target_session_attrs="standby"))
    return journal_error("postgresql://db/payouts", caught.value).detail


def with_a_file_that_is_no_certificate() -> Coroutine[Any, Any, str]:
    """Ask with a file of certificates that holds something else."""
    return refusal(with_settings(sslmode="verify-ca", sslrootcert=__file__))


async def of_another_release(changed: str) -> str:
    """Open a journal whose tables are of another version."""
    schema = postgres.schema()
    opened = PostgresConnection(postgres.url(), schema)
    await opened.migrate()
    await opened.aclose()
    await postgres.execute(f"update {schema}.journal set {changed}")
    return await refusal(postgres.url(), schema=schema)


async def at_an_old_primary() -> str:
    """See a lower timeline than before."""
    with pytest.raises(JournalError) as caught:
        Identity("x", 2).check(Identity("x", 3), "postgresql://db/payouts")
    return caught.value.detail


CONDITIONS: Final[dict[str, tuple[Provoke, str]]] = {
    "statement mode": (in_statement_mode, ""),
    "startup parameter": (with_a_setting_that_the_pooler_refuses, "lock_timeout"),
    "unknown setting": (lambda: refusal(with_settings(options="-cnosuch%3D1")), "nosuch"),
    "wrong setting": (lambda: refusal(with_settings(sslmode="bogus")), ""),
    "missing file": (
        lambda: refusal(with_settings(sslmode="verify-full", sslrootcert="/nowhere.crt")),
        "sslrootcert='/nowhere.crt' (No such file or directory)",
    ),
    "certificate": (with_a_file_that_is_no_certificate, "NO_CERTIFICATE_OR_CRL_FOUND"),
    "privilege": (without_a_privilege, "INSERT, UPDATE, DELETE on table accounts"),
    "login": (lambda: refusal(as_user("nobody_of_that_name")), ""),
    "no such database": (lambda: refusal(postgres.database("no_such_database")), ""),
    "disk full": (raising("53100"), ""),
    "standby": (lambda: refusal(with_settings(options="-cdefault_transaction_read_only%3Don")), ""),
    "too many connections": (without_a_connection_to_spare, ""),
    "tables gone": (lambda: refusal(postgres.url(), "select * from no_such_table"), ""),
    "server upgraded": (after_an_upgrade, ""),
    "too many open files": (without_descriptors, ""),
    "no answer": (without_an_answer, ""),
    "not reached": (where_nobody_listens, ""),
    "lost": (over_a_connection_that_is_lost, ""),
    "going down": (raising("57P01"), ""),
    "no primary": (with_another_kind_of_server, ""),
    "old primary": (at_an_old_primary, "2 (this worker saw timeline 3)"),
    "newer release": (
        lambda: of_another_release(f"version = {SCHEMA + 2}, readable_from = {SCHEMA + 1}, needs_release = '0.2.0'"),
        f"{SCHEMA + 2}, for alphapo-async 0.2.0 and newer; this release knows {SCHEMA}",
    ),
    "older release": (
        lambda: of_another_release(f"version = {SCHEMA - 1}"),
        f"{SCHEMA - 1}, this release's is {SCHEMA}",
    ),
    "unknown": (lambda: refusal(postgres.url(), "select nothing_of_that_name"), "42703"),
}


@pytest.mark.parametrize("condition", DATABASE)
async def test_every_condition_is_told_with_what_to_do(condition: str) -> None:
    """As the table has it, with what was found; no user and no password is shown."""
    provoke, detail = CONDITIONS[condition]
    said = await provoke()
    assert said.startswith("The journal at postgresql://")
    assert said.endswith(f": {sentence(DATABASE[condition], detail)}.")
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (asyncpg.InvalidPasswordError("payer"), "login"),
        (asyncpg.QueryCanceledError("canceling statement due to statement timeout"), "no answer"),
        (asyncpg.CannotConnectNowError("no"), "going down"),
        (asyncpg.ConnectionDoesNotExistError("no"), "lost"),
        (asyncpg.ProtocolViolationError("no more connections allowed"), "lost"),
        (asyncpg.InterfaceError("no"), "lost"),
        (asyncpg.InternalClientError("no"), "lost"),
        (asyncpg.exceptions.ClientConfigurationError("hunter2"), "wrong setting"),
        (TimeoutError(), "no answer"),
        (ConnectionRefusedError(), "not reached"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), "unknown"),
    ],
)
def test_the_drivers_errors_have_their_condition(error: Exception, condition: str) -> None:
    """By SQLSTATE, by its class, or by the name of the driver's class; the text is not shown."""
    assert condition_of(error) == condition
    assert "hunter2" not in journal_error("postgresql://db/payouts", error).detail


def test_what_does_not_pass_is_not_tried_again() -> None:
    """Though the pooler gives the same SQLSTATE to what does."""
    assert is_lasting(asyncpg.ProtocolViolationError("transaction blocks not allowed in statement pooling mode"))
    assert not is_lasting(asyncpg.ProtocolViolationError("pgbouncer is shutting down"))


def test_the_servers_last_words_count_more_than_the_lost_connection() -> None:
    """The driver keeps them as the cause."""
    lost = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    assert condition_of(lost) == "lost"
    lost.__cause__ = asyncpg.AdminShutdownError("terminating connection due to administrator command")
    assert condition_of(lost) == "going down"


def test_what_is_not_named_in_the_error_is_left_out() -> None:
    """A setting without a name, and a privilege that nobody could look up."""
    assert "the setting '?' of its URL" in journal_error("db", asyncpg.UndefinedObjectError("no")).detail
    assert (
        "lacks a privilege for that. Grant it" in journal_error("db", asyncpg.InsufficientPrivilegeError("no")).detail
    )


def test_privileges_are_named_on_what_the_server_names() -> None:
    """In whatever language it speaks; where it names nothing that is lacking, all of them."""
    lacking = [
        {"privilege": "USAGE", "kind": "schema", "name": "alphapo"},
        {"privilege": "INSERT", "kind": "table", "name": "withdrawals"},
        {"privilege": "UPDATE", "kind": "table", "name": "withdrawals"},
    ]
    result = lacking_privileges("keine Berechtigung für Tabelle withdrawals", lacking)
    assert result == "INSERT, UPDATE on table withdrawals"
    assert lacking_privileges("no", lacking) == f"USAGE on schema alphapo; {result}"
    assert lacking_privileges("no", []) == ""


def test_files_that_can_be_read_are_right(tmp_path: Path) -> None:
    """Of other settings nothing is asked."""
    (tmp_path / "ca.crt").write_text("")
    check_files("db", f"postgresql://db/payouts?sslrootcert={tmp_path / 'ca.crt'}&application_name=/nowhere")
    check_files("db", None)
    with pytest.raises(JournalError, match="sslcert='/nowhere'"):
        check_files("db", "postgresql://db/payouts?sslcert=/nowhere")
