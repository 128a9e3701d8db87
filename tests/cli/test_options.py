"""Which AlphaPo, as whom, with which journal."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import click
import pytest

from alphapo_async.cli.options import (
    Access,
    Duration,
    Words,
    access_options,
    existing,
    journals_here,
    no_password,
)
from alphapo_async.client import AlphapoClient
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.core.errors import AlphapoUnavailable, ConfigurationError
from alphapo_async.journal import open_journal
from tests.cli.conftest import Local, invoke

KEYS = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": "a-made-up-secret"}
LOOPBACK = "http://127.0.0.1:9"


def test_options_win_over_the_environment() -> None:
    """What is typed counts, and what is not typed comes from the environment."""
    environment = {**KEYS, "ALPHAPO_BASE_URL": "https://elsewhere.example", "ALPHAPO_ACCOUNT": "main"}
    access = Access(environment, base_url=LOOPBACK, account=None, journal=None)
    assert (access.host, access.account, access.is_local) == (LOOPBACK, "main", True)


def test_without_anything_it_is_production() -> None:
    """AlphaPo's own host is what is meant by default, and that is not this machine."""
    access = Access(KEYS)
    assert (access.host, access.account, access.is_local) == ("https://app.alphapo.net", "default", False)


def test_an_option_given_empty_is_not_taken_for_absent() -> None:
    """An empty variable in a script must not lead to production."""
    with pytest.raises(ConfigurationError, match="base_url"):
        Access(KEYS, base_url="")


def test_a_missing_key_is_told() -> None:
    """Credentials come from the environment, so that their absence is told with the variable's name."""
    with pytest.raises(ConfigurationError, match="ALPHAPO_KEY"):
        Access({"ALPHAPO_SECRET": "a-made-up-secret"})


def test_neither_key_nor_secret_is_shown() -> None:
    """Its repr names the key by its fingerprint."""
    shown = repr(Access(KEYS, base_url=LOOPBACK))
    assert hashlib.sha256(b"made-up-key").hexdigest()[:16] in shown
    assert "made-up-key" not in shown
    assert "a-made-up-secret" not in shown


def test_a_real_host_needs_a_journal_by_name() -> None:
    """Forgetting what was sent is a choice, never a default, where money moves."""
    with pytest.raises(ConfigurationError, match="--journal"):
        Access(KEYS).open_journal()
    assert not Access(KEYS, journal="memory").open_journal().is_durable


def test_the_local_sandbox_goes_without_a_journal() -> None:
    """Where nobody is paid nothing needs to be remembered."""
    assert not Access(KEYS, base_url=LOOPBACK).open_journal().is_durable


def test_the_name_of_an_unknown_journal_is_not_repeated() -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError) as result:
        Access(KEYS, journal="redis://user:pass-word@host/base").open_journal()
    assert "pass-word" not in str(result.value)


def test_a_file_that_is_not_there_is_no_journal_to_look_into(tmp_path: Path) -> None:
    """It is named, and not made; one that is there, and one in memory, pass."""
    path = tmp_path / "mistyped.db"
    access = Access(KEYS, base_url=LOOPBACK, journal=str(path))
    with pytest.raises(
        ConfigurationError, match=f"no such journal: {path}. Check --journal, or ALPHAPO_JOURNAL. Nothing was"
    ):
        existing(access.open_journal())
    assert list(tmp_path.iterdir()) == []
    path.touch()
    for journal in (access.open_journal(), Access(KEYS, base_url=LOOPBACK).open_journal()):
        assert existing(journal) is journal


def test_the_journal_is_named_as_it_may_be_shown() -> None:
    """Without what may be a password; one in memory as what it is."""
    named = {
        "payouts.db": "payouts.db",
        "memory": "in memory",
        "postgresql://payer:hunter2@db/payouts": "postgresql://db/payouts",
    }
    for name, shown in named.items():
        assert Access(KEYS, journal=name).journal_name == shown
    assert Access(KEYS, base_url=LOOPBACK).journal_name == "in memory"


def test_a_journal_is_named_as_an_option_only_where_it_was_given() -> None:
    """With quotes where a shell needs them; the environment's name may hold a password."""
    assert Access(KEYS, journal="my payouts.db").journal_option == " --journal 'my payouts.db'"
    assert Access({**KEYS, "ALPHAPO_JOURNAL": "p.db"}).journal_option == ""


def test_the_command_that_goes_on_names_what_this_one_was_given() -> None:
    """And nothing that comes from the environment, of which it is told as this one was."""
    assert Access(KEYS, base_url=None, journal="my payouts.db").resuming == "alphapo resume --journal 'my payouts.db'"
    assert (
        Access({**KEYS, "ALPHAPO_JOURNAL": "p.db"}, base_url=LOOPBACK).resuming
        == f"alphapo resume --base-url {LOOPBACK}"
    )


async def test_the_client_gets_the_settings() -> None:
    """Host and account of the options are those of the client."""
    access = Access(KEYS, base_url=LOOPBACK, account="main")
    async with access.open_client(access.open_journal(), close_grace=0.0) as client:
        assert "'http://127.0.0.1:9', account='main'" in repr(client)


def test_a_command_gets_the_three_options() -> None:
    """`access_options` adds them in the order in which help shows them."""

    @click.command()
    @access_options
    def command() -> None:
        """Do nothing."""

    assert [option.name for option in command.params] == ["journal", "base_url", "account"]


def test_a_password_must_not_stand_in_an_argument() -> None:
    """The message says where it may, and does not repeat it; any other name passes."""
    context = click.Context(click.Command("journal"))
    parameter = click.Option(["--journal"])
    for name in (None, "payouts.db", "postgresql://payer@db/payouts"):
        assert no_password(context, parameter, name) == name
    with pytest.raises(click.UsageError, match="PGPASSWORD") as caught:
        no_password(context, parameter, "postgresql://payer:hunter2@db/payouts")
    assert "hunter2" not in str(caught.value)


def test_what_was_refused_has_a_repr() -> None:
    """An error reporter may ask for it."""
    assert repr(Access.__new__(Access)) == "Access(not made: a setting was refused)"


async def test_a_question_needs_no_journal_and_leaves_nothing_open(alphapo_sandbox: RunningSandbox) -> None:
    """The client is closed, with or without an answer."""
    environment = {**alphapo_sandbox.environment, "ALPHAPO_JOURNAL": "/missing/journal.db"}
    clients: list[AlphapoClient] = []

    async def fail(client: AlphapoClient) -> None:
        clients.append(client)
        raise AlphapoUnavailable("No.")

    access = Access(environment)
    assert "BTC" in await access.answer(AlphapoClient.balances)
    with pytest.raises(AlphapoUnavailable):
        await access.answer(fail, amount_format="string")
    assert "closed" in repr(clients[0])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7_200), ("1d", 86_400), (" 3m ", 180)]
)
def test_times_are_typed_as_people_say_them(text: str, seconds: float) -> None:
    """Seconds, minutes, hours, days."""
    assert Duration().convert(text, None, None) == seconds
    assert Duration().convert(float(seconds), None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "2 h", "h", "1w", "1e3", "inf", "9" * 400])
def test_other_times_are_refused(text: str) -> None:
    """None of them is guessed at."""
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


def test_zero_and_plain_numbers_are_taken_where_they_can_be_meant() -> None:
    """A grace may be nothing; an age without a unit may have been meant as days."""
    assert Duration(may_be_zero=True).convert("0", None, None) == 0
    assert Duration(needs_unit=True).convert("400d", None, None) == 34_560_000
    with pytest.raises(click.BadParameter, match="'400' is not a duration"):
        Duration(needs_unit=True).convert("400", None, None)


@pytest.mark.parametrize(
    "command",
    [
        ("status", "F"),
        ("journal", "show", "F"),
        ("journal", "callbacks", "F"),
        ("journal", "redact", "F"),
        ("journal", "redact", "--end-user-reference", "F"),
        ("journal", "settle", "F", "--rejected", "--because", "seen"),
        ("journal", "settle", "f", "--rejected", "--because", "F"),
        ("journal", "settle", "f", "--rejected", "--because", "seen", "--by", "F"),
        ("journal", "unfreeze", "F", "--because", "seen"),
        ("journal", "unfreeze", "f", "--because", "F"),
    ],
    ids=" ".join,
)
def test_a_word_that_no_journal_takes_is_the_word_s_fault(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A terminal in another encoding types such words; the journal was reported as one that cannot be used."""
    words = [os.fsdecode(b"M\xe4rz") if word == "F" else word for word in command]
    result = invoke(*words, "--journal", str(tmp_path / "payouts.db"), **KEYS, ALPHAPO_BASE_URL=LOOPBACK)
    assert result.exit_code == 2
    assert r"'M\udce4rz' is not in the encoding of this terminal" in " ".join(result.stderr.split())
    assert Words().convert("M\xe4rz", None, None) == "M\xe4rz"


def test_the_journals_of_a_folder_are_named_as_options(tmp_path: Path) -> None:
    """The first three, newest first; nothing where there are none."""
    assert journals_here(tmp_path) == ""
    for number in range(4):
        path = tmp_path / f"{number} a.journal.db"
        path.touch()
        os.utime(path, (number, number))
    options = ", ".join(f"--journal '{tmp_path}/{number} a.journal.db'" for number in (3, 2, 1))
    assert journals_here(tmp_path) == f" In this folder: {options}."
    with pytest.raises(
        ConfigurationError, match=r"no such journal: .*mistyped\.db\. .* sent\. In this folder: --journal "
    ):
        existing(open_journal(str(tmp_path / "mistyped.db")))


@pytest.mark.parametrize("command", [("status", "f"), ("resume",), ("journal", "list"), ("worker",)])
def test_a_command_without_a_journal_names_those_that_are_here(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """At the sandbox, and at the real AlphaPo, which is not asked."""
    (tmp_path / "payouts.csv.journal.db").touch()
    monkeypatch.chdir(tmp_path)
    hosts = [{}, {"ALPHAPO_BASE_URL": "https://app.alphapo.net"}]
    for host in hosts if command[0] != "worker" else hosts[1:]:
        assert "--journal payouts.csv.journal.db" in local.invoke(*command, **host).stderr
