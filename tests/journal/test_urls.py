"""The names of journals."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal.urls import (
    check_failover,
    check_schema,
    check_url,
    has_password,
    is_postgres,
    one_schema,
    read_location,
    read_name,
    shown,
)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("postgresql://db/payouts", True),
        ("postgres://db", True),
        ("payouts.db", False),
        ("postgresql", False),
        ("memory", False),
        ("sqlite:///postgresql", False),
    ],
)
def test_a_database_is_known_by_its_scheme(name: str, *, is_one: bool) -> None:
    """Whatever follows it."""
    assert is_postgres(name) is is_one


@pytest.mark.parametrize(
    ("name", "has_one"),
    [
        ("postgresql://payer:hunter2@db/payouts", True),
        ("postgresql://payer:@db/payouts", True),
        ("postgresql://db/payouts?user=payer&password=hunter2", True),
        ("postgresql://db/payouts?PASSWORD=", True),
        ("postgresql://db/payouts?sslpassword=hunter2", True),
        ("postgresql://db/payouts?passfile=/home/payer/.pgpass", True),
        ("postgresql://[db/payouts", True),
        ("postgresql://payer:12/hunter2@db/payouts", True),
        ("postgresql://payer:hunter2#1@db/payouts", True),
        ("postgresql://payer@db:5432/payouts?sslmode=require", False),
        ("postgresql:///payouts?host=/run/postgresql", False),
        ("payouts:2.db", False),
    ],
)
def test_a_password_is_seen_wherever_it_stands(name: str, *, has_one: bool) -> None:
    """What cannot be read is taken to hold one."""
    assert has_password(name) is has_one


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("postgresql://payer:hunter2@db:5432/payouts?sslpassword=hunter2", "postgresql://db:5432/payouts"),
        ("postgres://payer@hunter2@db/pay%20outs", "postgresql://db/pay outs"),
        ("postgresql://[hunter2", "postgresql://…"),
        ("postgresql://payer:12/hunter2@db/payouts", "postgresql://…"),
        ("postgresql://payer:hunter2#1@db/payouts", "postgresql://…"),
        ("postgresql://payer:hunter2?1@db/payouts", "postgresql://…"),
        ("postgresql://payer@db/payouts?schema=payments&password=hunter2", "postgresql://db/payouts?schema=payments"),
        ("postgresql://db/payouts?schema=hunter2%20", "postgresql://db/payouts"),
        ("payouts.db", "payouts.db"),
    ],
)
def test_no_password_is_ever_shown(name: str, expected: str) -> None:
    """Host, port and name of the database are enough to find it."""
    assert shown(name) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://payer:hunter2@db:port/payouts", "has a port that is no number from 1 to 65535"),
        ("postgresql://payer:hunter2@one:5432,two:port/payouts", "has a port that is no number"),
        ("postgresql://payer:hunter2@db:0/payouts", "has the port 0"),
        ("postgresql://[hunter2/payouts", "or a host that is none"),
        (
            "postgresql://payer:12#hunter2@db/payouts",
            "has a #, which stands for nothing here (in a password write %23)",
        ),
        ("postgresql://payer:hunter2@db/pay outs", "has a blank inside"),
        ("postgresql://payer:hunter2@db/payouts ", "has leading or trailing spaces"),
        ("postgresql://payer:hunter2@db/payouts\n", "holds the end of a line"),
        (
            "postgresql://payer:hunter2@db/payouts?channel_binding=prefer",
            "has settings that do not work here (channel_binding); leave",
        ),
        (
            "postgresql://db/payouts?sslmode=require&connect_timeout=5&keepalives=1",
            "(connect_timeout, keepalives); leave them out",
        ),
        (
            "postgresql://db/payouts?pgbouncer=true",
            "(pgbouncer); leave them out: time-outs, keepalives and poolers need none",
        ),
        ("postgresql://db/payouts?synchronous_commit=off", "(synchronous_commit)"),
        ("postgresql://payer:12/hunter2@db/payouts", "has an @ after a / (in a password write %2F for /"),
        ("postgresql://payer:12?hunter2@db/payouts", "has settings that do not work here; leave them out"),
        ("hunter2.db", "is no URL of a database"),
        ("", "is empty"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: str, reason: str) -> None:
    """When the journal is made, not when the first payment waits for it."""
    with pytest.raises(ConfigurationError, match=r"^journal ") as caught:
        check_url(url)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert check_url("postgresql://payer@db:5432/payouts") == "postgresql://payer@db:5432/payouts"


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "kind", "place"),
    [
        ("memory", "memory", ""),
        ("payouts.db", "file", "payouts.db"),
        ("pay outs:2.db", "file", "pay outs:2.db"),
        ("/var/lib/payouts.db", "file", "/var/lib/payouts.db"),
        ("pay\udcff.db", "file", "pay\udcff.db"),
        ("sqlite:///payouts.db", "file", "payouts.db"),
        ("sqlite:////var/lib/payouts.db", "file", "/var/lib/payouts.db"),
        (Path("/var/lib/payouts.db"), "file", "/var/lib/payouts.db"),
        (Path("memory"), "file", str(Path("memory").absolute())),
        ("postgresql://db/payouts", "database", "postgresql://db/payouts"),
    ],
)
def test_a_name_is_a_file_a_database_or_memory(name: str | Path, kind: str, place: str) -> None:
    """And nothing else."""
    assert read_name(name) == (kind, place, False)


@pytest.mark.parametrize("name", ["payouts.db?filesystem=any", "sqlite:///payouts.db?filesystem=any"])
def test_an_operator_may_vouch_for_a_file_system(name: str) -> None:
    """The setting is no part of the path."""
    assert read_name(name) == ("file", "payouts.db", True)


_ENDS: Final = 'reads like a journal that ends with the process, which is called "memory" here.'
_NO_URL: Final = "is no URL of a file: write the path alone, or sqlite:/// before it"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("payouts.db\n", "journal 'payouts.db\\n' holds the end of a line: leave it out."),
        ("payouts.db\r", "journal 'payouts.db\\r' holds the end of a line"),
        ("payouts.db ", "journal 'payouts.db ' has leading or trailing spaces: leave them out."),
        ("\tpayouts.db", "has leading or trailing spaces"),
        ("memory ", "has leading or trailing spaces"),
        ("memory\n", "holds the end of a line"),
        ("pay\u200bouts.db", "has the control or invisible character U+200B."),
        ("pay\0outs.db", "has the control or invisible character U+0000."),
        ('"payouts.db"', "stands in quotation marks"),
        ("'sqlite:///payouts.db'", "stands in quotation marks"),
        ("", "journal is empty."),
        (" ", "has leading or trailing spaces"),
        (7, "journal must be text, not int."),
        (None, "journal must be text, not NoneType."),
        (":memory:", f"journal ':memory:' {_ENDS}"),
        ("Memory", _ENDS),
        ("sqlite:///:memory:", _ENDS),
        ("sqlite:payouts.db", f"journal 'sqlite:payouts.db' {_NO_URL}"),
        ("SQLite:///payouts.db", _NO_URL),
        ("sqlite3:payouts.db", _NO_URL),
        ("sqlite+aiosqlite:///payouts.db", _NO_URL),
        ("sqlite://payouts.db", _NO_URL),
        ("sqlite://", _NO_URL),
        ("file:payouts.db?mode=ro", _NO_URL),
        ("sqlite:///", "journal is empty."),
        ("sqlite:///payouts.db ", "has leading or trailing spaces"),
        ("sqlite:/// payouts.db", "has leading or trailing spaces"),
        ("sqlite:///payouts.db?mode=ro", "has settings after a ?, of which only '?filesystem=any' means something."),
        ("payouts.db?filesystem=nfs", "of which only '?filesystem=any' means something."),
        ("payouts.db?filesystem=any?filesystem=any", "of which only"),
        ("payouts.db?cache=shared", "has settings after a ?, of which only '?filesystem=any' means something."),
        ("postgresql:payouts", "is no URL of a database: it begins with postgresql:// in lower case"),
        ("postgres:/db/payouts", "is no URL of a database"),
        ("postgresql+asyncpg://payer:hunter2@db/payouts", "without the name of a driver"),
        ("POSTGRESQL://payer:hunter2@db/payouts", "in lower case"),
        ("redis://payer:hunter2@db/payouts", '"memory" (ends with the process)'),
        ("postgresql://payer:hunter2@db:port/payouts", "has a port that is no number"),
        ("payouts/", "names a folder: name a file in it."),
        ("payouts/.", "names a folder"),
        ("..", "names a folder"),
        ("~/payouts.db", "holds what only a shell replaces (~ or $): write the whole path."),
        ("$JOURNAL", "holds what only a shell replaces"),
        ("/var/${NAME}.db", "holds what only a shell replaces"),
        (Path("payouts.db\n"), "holds the end of a line"),
    ],
)
def test_a_name_that_would_be_another_journal_is_refused_with_the_reason(name: Any, reason: str) -> None:
    """A journal that is not the one that was meant knows nothing of what was sent, and withdrawals would be paid twice."""
    with pytest.raises(ConfigurationError) as caught:
        read_name(name)
    assert reason in str(caught.value)
    assert str(caught.value).endswith(" Nothing was sent.")
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=12))
def test_what_a_name_means_is_what_was_written(name: str) -> None:
    """Of any text that is taken as a file nothing is left out and nothing is replaced."""
    try:
        kind, place, _ = read_name(name)
    except ConfigurationError:
        return
    assert kind in ("memory", "file")
    assert kind == "memory" or name.removeprefix("sqlite:///") == place
    assert name == name.strip()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://payer@one:5432,two:5433/payouts?target_session_attrs=read-write",
        "postgresql://payer@one,two/payouts",
        "postgresql://payer@[::1]:5432,[::1]:5433/payouts",
        "postgresql://db/payouts?sslmode=verify-full&sslrootcert=/etc/ca.crt&application_name=payouts&TimeZone=UTC&failover=lossless",
    ],
)
def test_a_url_may_name_several_hosts(url: str) -> None:
    """A client finds the primary among them after a failover."""
    assert check_url(url) == url


def test_a_url_may_have_every_setting_of_the_driver_and_the_usual_ones_of_the_server() -> None:
    """A URL that works with the driver works here; only what the server would refuse is refused."""
    url = (
        "postgresql://db/payouts?host=1&port=1&dbname=1&database=1&user=1&password=1&passfile=1&service=1&sslmode=1&sslcert=1"
        "&sslkey=1&sslrootcert=1&sslcrl=1&sslpassword=1&sslnegotiation=1&ssl_min_protocol_version=1&ssl_max_protocol_version=1"
        "&target_session_attrs=1&krbsrvname=1&gsslib=1&application_name=1&client_encoding=1"
        "&idle_in_transaction_session_timeout=1&lock_timeout=1&options=1&search_path=1&statement_timeout=1"
        "&tcp_keepalives_count=1&tcp_keepalives_idle=1&tcp_keepalives_interval=1&tcp_user_timeout=1&timezone=1"
        "&failover=1&schema=1"
    )
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "rest", "schema", "is_lossless"),
    [
        ("postgresql://db/payouts", "postgresql://db/payouts", None, False),
        ("postgresql://db/payouts?sslmode=require", "postgresql://db/payouts?sslmode=require", None, False),
        ("postgresql://db/payouts?failover=lossless", "postgresql://db/payouts", None, True),
        ("postgresql://db/payouts?schema=payments", "postgresql://db/payouts", "payments", False),
        ("postgresql://db/payouts?Schema=payments&FailOver=lossless", "postgresql://db/payouts", "payments", True),
        (
            "postgresql://db/payouts?schema=p&failover=lossless&user=a%26b",
            "postgresql://db/payouts?user=a%26b",
            "p",
            True,
        ),
        (
            "postgresql://a,b/payouts?host=%2Frun%2Fpg&failover=lossless&sslmode=require",
            "postgresql://a,b/payouts?host=%2Frun%2Fpg&sslmode=require",
            None,
            True,
        ),
    ],
)
def test_a_url_names_the_schema_and_says_that_failovers_lose_nothing(
    url: str, rest: str, schema: str | None, *, is_lossless: bool
) -> None:
    """The database gets neither setting, and all others stay as they were written."""
    assert read_location(url) == (rest, schema, is_lossless)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("schema=a&schema=a", "schema stands twice"),
        ("schema=", "schema must be lower-case letters"),
        ("schema=Payments", "schema must be lower-case letters"),
    ],
)
def test_a_schema_in_a_url_is_one_plain_name(settings: str, reason: str) -> None:
    """It stands in statements as it is; the URL is not shown."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        read_location(f"postgresql://payer:hunter2@db/payouts?{settings}")
    assert "hunter2" not in str(caught.value)


def test_the_schema_is_named_in_one_place() -> None:
    """By the caller or in the URL; both may say the same."""
    assert (one_schema(None, None), one_schema("a", None), one_schema(None, "b")) == ("alphapo", "a", "b")
    assert one_schema("a", "a") == "a"
    with pytest.raises(ConfigurationError, match="schema is 'a', and 'b' in the journal's URL"):
        one_schema("a", "b")


def test_failovers_lose_something_unless_the_operator_says_otherwise() -> None:
    """In one word, the same as in the URL."""
    assert (check_failover(None), check_failover("lossless")) == (False, True)
    with pytest.raises(ConfigurationError, match="failover='' of the journal means nothing"):
        check_failover("")


@pytest.mark.parametrize("setting", ["failover=", "failover=Lossless", "failover=lossless&failover=lossy"])
def test_a_failover_setting_that_means_nothing_is_refused(setting: str) -> None:
    """A row must not stay unfrozen, or be frozen, because of a slip of the pen; the URL is not shown."""
    value = setting.rpartition("=")[2]
    with pytest.raises(ConfigurationError, match=f"failover='{value}' of the journal means nothing") as caught:
        read_location(f"postgresql://payer:hunter2@db/payouts?{setting}")
    assert "hunter2" not in str(caught.value)


def test_a_schema_is_a_plain_name() -> None:
    """It stands in statements as it is."""
    assert check_schema("alphapo_2") == "alphapo_2"
    for wrong in ("", "Alphapo", "a b", 'a"; drop', "2nd", "x" * 64, "ä", None):
        with pytest.raises(ConfigurationError, match="schema must be"):
            check_schema(wrong)  # type: ignore[arg-type]
