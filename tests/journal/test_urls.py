"""The names of journals."""

from __future__ import annotations

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal.urls import check_schema, check_url, has_password, is_postgres, read_location, shown


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
        ("postgresql://[db/payouts", True),
        ("postgresql://payer@db:5432/payouts?sslmode=require", False),
        ("postgresql:///payouts?host=/run/postgresql", False),
        ("payouts:2.db", False),
    ],
)
def test_a_password_is_seen_wherever_it_stands(name: str, *, has_one: bool) -> None:
    """What cannot be read is taken to hold one."""
    assert has_password(name) is has_one


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("postgresql://payer:hunter2@db:5432/payouts?sslpassword=hunter2", "postgresql://db:5432/payouts"),
        ("postgres://payer@hunter2@db/pay%20outs", "postgresql://db/pay outs"),
        ("postgresql://[hunter2", "postgresql://…"),
        ("payouts.db", "payouts.db"),
    ],
)
def test_no_password_is_ever_shown(name: str, told: str) -> None:
    """Host, port and name of the database are enough to find it."""
    assert shown(name) == told


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://payer:hunter2@db:port/payouts",
        "postgresql://payer:hunter2@one:5432,two:port/payouts",
        "postgresql://[hunter2/payouts",
        "payouts.db",
        "",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: str) -> None:
    """When the journal is made, not when the first payment waits for it."""
    with pytest.raises(ConfigurationError, match="postgresql://USER@HOST:PORT/DATABASE") as caught:
        check_url(url)
    assert "hunter2" not in str(caught.value)
    assert check_url("postgresql://payer@db:5432/payouts") == "postgresql://payer@db:5432/payouts"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://payer@one:5432,two:5433/payouts?target_session_attrs=read-write",
        "postgresql://payer@one,two/payouts",
        "postgresql://payer@[::1]:5432,[::1]:5433/payouts",
    ],
)
def test_a_url_may_name_several_hosts(url: str) -> None:
    """A client finds the primary among them after a failover."""
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "rest", "is_lossless"),
    [
        ("postgresql://db/payouts", "postgresql://db/payouts", False),
        ("postgresql://db/payouts?sslmode=require", "postgresql://db/payouts?sslmode=require", False),
        ("postgresql://db/payouts?failover=lossless", "postgresql://db/payouts", True),
        (
            "postgresql://a,b/payouts?host=%2Frun%2Fpg&failover=lossless&sslmode=require",
            "postgresql://a,b/payouts?host=%2Frun%2Fpg&sslmode=require",
            True,
        ),
    ],
)
def test_a_url_says_that_failovers_lose_nothing(url: str, rest: str, *, is_lossless: bool) -> None:
    """The database hears nothing of that setting, and all others stay as they were written."""
    assert read_location(url) == (rest, is_lossless)


@pytest.mark.parametrize("setting", ["failover=", "failover=Lossless", "failover=lossless&failover=lossy"])
def test_a_failover_setting_that_means_nothing_is_refused(setting: str) -> None:
    """A row must not stay unfrozen, or be frozen, because of a slip of the pen; the URL is not shown."""
    value = setting.rpartition("=")[2]
    with pytest.raises(ConfigurationError, match=f"failover='{value}' in the journal's URL means nothing") as caught:
        read_location(f"postgresql://payer:hunter2@db/payouts?{setting}")
    assert "hunter2" not in str(caught.value)


def test_a_schema_is_a_plain_name() -> None:
    """It stands in statements as it is."""
    assert check_schema("alphapo_2") == "alphapo_2"
    for wrong in ("", "Alphapo", "a b", 'a"; drop', "2nd", "x" * 64, "ä", None):
        with pytest.raises(ConfigurationError, match="schema must be"):
            check_schema(wrong)  # type: ignore[arg-type]
