"""The tables of a journal in PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.models import WithdrawalRequest, requested_figure
from alphapo_async.journal.postgres.rows import PostgresRows
from alphapo_async.journal.postgres.schema import MIGRATIONS, Role, grants, queries, tables
from alphapo_async.journal.schema_version import SCHEMA, THIS
from alphapo_async.journal.stored_rows import unpack
from tests.support import postgres


def test_everything_is_made_in_the_schema_that_is_named() -> None:
    """Nothing depends on a search path."""
    made = tables("payments")
    assert made.count("create table payments.") == 7
    assert made.count("create function payments.enqueue") == 1
    assert made.count("create function payments.identity") == 1
    assert "{s}" not in made
    for query in queries("payments").values():
        assert not re.search(
            r"(from|join|into|update) (journal|withdrawals|history|revisions|workers|accounts|named_texts)\b", query
        )


def test_every_older_version_leads_to_this_one() -> None:
    """Step by step."""
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))
    version, readable_from, release = THIS
    assert f"values ({version}, {readable_from}, '{release}', s.identity())" in tables("s")


# ── privileges ───────────────────────────────────────────────────────────────────────────────────────────────────────

Connect: TypeAlias = Callable[[Role], Awaitable[Any]]


@pytest.fixture
async def connect() -> AsyncIterator[tuple[str, Connect]]:
    """A schema with its tables and one withdrawal, and what connects as a user who has a role's privileges."""
    schema = postgres.schema()
    opened, users = [], []
    await postgres.execute(f"create schema {schema}; {tables(schema)}")

    async def as_role(role: Role) -> Any:
        user = f"{role}_of_{schema}"
        await postgres.execute(f"create role {user} login; {grants(schema, role, user)[1]}")
        users.append(user)
        opened.append(await asyncpg.connect(postgres.url(), user=user))
        return opened[-1]

    yield schema, as_role
    for connection in opened:
        await connection.close()
    for user in users:
        await postgres.execute(f"drop owned by {user}; drop role {user}")
    await postgres.execute(f"drop schema {schema} cascade")


def statement(schema: str, payment: WithdrawalRequest, host: str = "h") -> str:
    """Return the statement of a client that enqueues a payment."""
    wanted = Requested(None, Revision(encode_body(payment), payment), "0123456789abcdef")
    times = {"expires_in": 100.0, "resend_within": 100.0}
    return PostgresRows(schema).enqueue_statement("shop", wanted, host, times, failover_is_lossless=False)


def forged(honest: str, **changed: Any) -> str:
    """Return the statement with other values in what is handed over; a name without a value is left out."""
    handed = json.loads(bytes.fromhex(honest.split("'")[1])) | changed
    asked = json.dumps({name: value for name, value in handed.items() if value is not None}).encode()
    return honest.replace(honest.split("'")[1], asked.hex())


def body(**changed: Any) -> str:
    """Return a body with other fields, as it is handed over; a field without a value is left out."""
    fields = {"currency": "BTC", "amount": "1", "address": "a", "foreign_id": "f", "end_user_reference": "u", **changed}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode().hex()


PERSON = {
    "first_name": 'Zoë "Z"',
    "last_name": "Ünal\t",
    "date_of_birth": "1990-12-31",
    "more": {"b": [1, 2.5], "a": None},
}
PAYMENTS = [
    {"amount": "0.0015"},
    {"amount": "100"},
    {"amount": "1.50", "tag": "17"},
    {"amount_to": "25.10", "convert_to": "ETH"},
    {"amount": "1", "sender_type": "natural", "sender_data": PERSON, "receiver_type": "self"},
]


@pytest.mark.parametrize("fields", PAYMENTS)
async def test_an_enqueuer_records_a_payment_and_the_database_reads_its_columns(
    connect: tuple[str, Connect], fields: dict[str, Any]
) -> None:
    """State, holder, lease and the like are those of a new row; the digest is that of this release."""
    schema, as_role = connect
    payment = WithdrawalRequest(
        foreign_id="payout-17 😀", currency="BTC", address="a", end_user_reference="u", **fields
    )
    enqueuer = await as_role("enqueuer")
    assert await enqueuer.fetchval(statement(schema, payment)) is True
    assert await enqueuer.fetchval(statement(schema, payment)) is False
    payer = await as_role("payer")
    [[number, _, *columns]] = await payer.fetch(queries(schema)["find"], ["shop"], [payment.foreign_id])
    row, digest = unpack(columns, list), await payer.fetchval(f"select digest from {schema}.withdrawals")
    assert (number, row.revision.asked, row.revision.payment) == (1, requested_figure(payment), row.revision.payment)
    assert digest == Revision(b"", payment).digest == row.revision.digest
    assert (row.state, row.holder, row.reported, row.key_fingerprint) == ("open", None, False, "0123456789abcdef")


SETTLED = {"row": {"state": "accepted", "reported": True}}
HELD = {"row": {"holder": "worker", "held_since": 1.0}}


@pytest.mark.parametrize(
    "changed",
    [
        SETTLED,
        HELD,
        {"state": "accepted"},
        {"holder": "worker"},
        {"reported": True},
        {"currency": "ETH", "amount": "0.000001"},
        {"foreign_id": "another"},
        {"digest": "1:00"},
        {"host": None},
        {"host": ""},
        {"failover_is_lossless": 7},
        {"has_other_keys": None},
        {"has_other_keys": 7},
        {"expires_in": -1},
        {"release": "'; drop"},
        {"key_fingerprint": ""},
        {"account": None},
        {"body": None},
        {"body": "5b5d"},
        {"body": body(amount=None)},
        {"body": body(amount="0")},
        {"body": body(amount="-1")},
        {"body": body(amount="NaN")},
        {"body": body(amount=True)},
        {"body": body(amount_to="2", convert_to="ETH")},
        {"body": body(amount=None, amount_to="2")},
        {"body": body(address=None)},
        {"body": body(foreign_id="")},
        {"body": body(state="accepted")},
        {"body": body(sender_data="text")},
        {
            "body": b'{"currency":"BTC","amount":1,"amount":2,"address":"a","foreign_id":"f","end_user_reference":"u"}'.hex()
        },
    ],
    ids=str,
)
async def test_what_an_enqueuer_must_not_choose_is_refused(
    connect: tuple[str, Connect], changed: dict[str, Any]
) -> None:
    """A settled row, a held row, columns beside the body, and a body that no client writes; nothing is recorded."""
    schema, as_role = connect
    payment = WithdrawalRequest(foreign_id="f", currency="BTC", address="a", end_user_reference="u", amount="1")
    enqueuer = await as_role("enqueuer")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="nothing was enqueued"):
        await enqueuer.execute(forged(statement(schema, payment), **changed))
    assert await (await as_role("reader")).fetchval(f"select count(*) from {schema}.withdrawals") == 0


async def test_an_enqueuer_reaches_no_other_host_and_no_table(connect: tuple[str, Connect]) -> None:
    """An account stays with its host; tables and the other functions are out of reach, also with a search path of the caller's own."""
    schema, as_role = connect
    payment = WithdrawalRequest(foreign_id="f", currency="BTC", address="a", end_user_reference="u", amount="1")
    enqueuer = await as_role("enqueuer")
    await enqueuer.execute(statement(schema, payment))
    with pytest.raises(asyncpg.CheckViolationError, match="belongs to h in this journal, not to another"):
        await enqueuer.execute(statement(schema, payment, "another"))
    for table in ("withdrawals", "accounts", "history", "journal", "workers"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await enqueuer.fetch(f"select from {schema}.{table}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await enqueuer.fetch(f"select {schema}.canonical('1')")
    await enqueuer.execute("create function pg_temp.sha256(bytea) returns bytea language sql as $$ select ''::bytea $$")
    await enqueuer.execute("set search_path = pg_temp, pg_catalog")
    assert await enqueuer.fetchval(statement(schema, payment)) is False


@pytest.mark.parametrize(("role", "lacking"), [("payer", {"forget"}), ("keeper", set())])
async def test_each_statement_finds_its_privileges(connect: tuple[str, Connect], role: Role, lacking: set[str]) -> None:
    """A payer runs every statement of the journal except `forget`, which redacts and prunes; a keeper runs that, too."""
    schema, as_role = connect
    user, refused = await as_role(role), set()
    for name, text in queries(schema).items():
        planned = await user.prepare(text)
        try:
            await planned.explain(*[None] * len(planned.get_parameters()))  # which checks the privileges
        except asyncpg.InsufficientPrivilegeError:
            refused.add(name)
    assert refused == lacking


async def test_a_payer_only_adds_to_the_history(connect: tuple[str, Connect]) -> None:
    """It removes no row, no earlier body and no line, and changes no line but its count."""
    schema, as_role = connect
    payment = WithdrawalRequest(foreign_id="f", currency="BTC", address="a", end_user_reference="u", amount="1")
    payer = await as_role("payer")
    await payer.execute(statement(schema, payment))
    changes = [
        f"delete from {schema}.{table}"
        for table in ("withdrawals", "revisions", "history", "accounts", "named_texts", "journal")
    ]
    changes += [
        f"update {schema}.revisions set body = ''",
        f"update {schema}.history set what = ''",
        f"truncate {schema}.history",
    ]
    for refused in (*changes, f"drop table {schema}.named_texts", f"create table {schema}.more (one integer)"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await payer.execute(refused)
    assert await payer.execute(f"update {schema}.history set count = 2") == "UPDATE 1"


async def test_every_user_sees_one_identity(connect: tuple[str, Connect]) -> None:
    """Also where the server lets only superusers read it: else the journal goes back whenever another user looks."""
    schema, as_role = connect
    payer, query = await as_role("payer"), queries(schema)["look"]
    await postgres.execute("revoke execute on function pg_control_system() from public")
    try:
        [found] = await payer.fetch(query)
    finally:
        await postgres.execute("grant execute on function pg_control_system() to public")
    assert found["seen"] == found["identity"] != ""


async def test_a_reader_reads_and_writes_nothing(connect: tuple[str, Connect]) -> None:
    """Rows and totals; no change, and nothing enqueued."""
    schema, as_role = connect
    payment = WithdrawalRequest(foreign_id="f", currency="BTC", address="a", end_user_reference="u", amount="1")
    await (await as_role("payer")).execute(statement(schema, payment))
    reader = await as_role("reader")
    assert len(await reader.fetch(queries(schema)["find"], ["shop"], ["f"])) == 1
    assert len(await reader.fetch(queries(schema)["look"])) == 1
    for refused in (f"update {schema}.withdrawals set state = 'accepted'", statement(schema, payment)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(refused)
