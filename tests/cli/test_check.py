"""What `alphapo check` asks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.cli.check import NOT_DETECTED, CheckLine, check_everything, compare_clocks, journal_line, line_of
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.options import Access
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.core.errors import JournalError
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.journal import Journal, open_journal
from alphapo_async.journal.copying import copy_journal
from alphapo_async.journal.messages import FILE
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.sandbox import Fault, Sandbox, Script
from tests.cli.conftest import Local, invoke
from tests.support import postgres
from tests.support.journal_suite import asked, learn

KEYS = {"ALPHAPO_KEY": "sandbox-key", "ALPHAPO_SECRET": "sandbox-secret"}
DATE = "Fri, 01 Jan 2027 00:00:00 GMT"
THEN = 1_798_761_600.0


async def checked(access: Access) -> dict[str, Exit]:
    """Return what each line says."""
    return {line.name: line.code async for line in check_everything(access)}


async def test_all_is_well_with_a_sandbox() -> None:
    """Journal, clock, ping and key, each with its line."""
    async with Sandbox() as sandbox:
        found = await checked(Access(KEYS, base_url=sandbox.url))
    assert found == dict.fromkeys(("journal", "clock", "ping", "key"), Exit.ALL_ACCEPTED)


async def test_a_wrong_key_fails_the_signed_read_only() -> None:
    """The ping answers without a key, so that only the signed read tells."""
    async with Sandbox(key="another-key") as sandbox:
        found = await checked(Access(KEYS, base_url=sandbox.url))
    assert (found["ping"], found["key"]) == (Exit.ALL_ACCEPTED, Exit.KEY_REFUSED)


async def test_where_nobody_listens_everything_but_the_journal_fails() -> None:
    """Each question is asked for itself, whatever the others said."""
    async with Sandbox() as sandbox:
        url = sandbox.url
    found = await checked(Access(KEYS, base_url=url))
    assert found == {"journal": Exit.ALL_ACCEPTED, **dict.fromkeys(("clock", "ping", "key"), Exit.UNKNOWN)}


async def test_a_journal_that_does_not_open_is_told_and_the_rest_goes_on() -> None:
    """The journal is no condition for asking AlphaPo."""
    async with Sandbox() as sandbox:
        found = await checked(Access(KEYS, base_url=sandbox.url, journal="carrier://pigeon"))
    assert (found["journal"], found["key"]) == (Exit.WRONG, Exit.ALL_ACCEPTED)


@pytest.mark.parametrize("is_durable", [True, False])
def test_the_journal_says_whether_it_is_durable(*, is_durable: bool) -> None:
    """A journal in memory opens well and forgets all the same."""
    assert ("not durable" in journal_line(is_durable=is_durable).text) is not is_durable


async def test_a_journal_that_knows_nothing_is_a_warning_and_is_not_created(tmp_path: Path) -> None:
    """A mistyped path is seen by that, as often as it is checked; an empty journal is named as one, and one with a row is well."""
    path = tmp_path / "new.db"
    async with Sandbox() as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=str(path))

        async def line() -> CheckLine:
            [found] = [found async for found in check_everything(access) if found.name == "journal"]
            return found

        missing = await line()
        assert (await line(), list(tmp_path.iterdir())) == (missing, [])
        assert line_of(missing).startswith("warning journal  new and empty; it knows nothing of earlier payments: ")
        assert f"{str(path)!r} does not exist" in missing.text
        async with access.open_client(access.open_journal()):
            pass
        empty = await line()
        text = "new and empty; it knows nothing of earlier payments of this account; it opens and is durable"
        assert (empty.text, empty.is_warning, empty.code) == (text, True, Exit.ALL_ACCEPTED)
        journal = access.open_journal()
        await learn(journal, "f", asked("f", worker=None))
        await journal.aclose()
        known = await line()
    assert (known.text, known.is_warning) == (f"it opens and is durable; {NOT_DETECTED}", False)


@pytest.mark.parametrize("place", ["/proc/payouts.db?filesystem=any", "/nowhere/payouts.db"])
async def test_a_missing_journal_that_cannot_be_created_fails(place: str) -> None:
    """The folder is missing, or takes no file."""
    async with Sandbox() as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=f"sqlite:///{place}")
        [found] = [line async for line in check_everything(access) if line.name == "journal"]
    assert (found.code, found.is_warning) == (Exit.WRONG, False)


async def test_what_a_database_may_lose_is_told() -> None:
    """Its cautions, and how many rows are frozen."""
    name = postgres.schema()
    await postgres.execute(f"create database {name}")
    journal = open_journal(postgres.database(name))
    await learn(journal, "f", asked("f", worker=None))
    await journal.raise_epoch(0.0)
    await journal.aclose()
    async with Sandbox() as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=postgres.database(name))
        [result] = [line.text async for line in check_everything(access) if line.name == "journal"]
    assert (
        result
        == f"it opens and is durable; 1 row is frozen since it went back in time: see `alphapo runbook failover`; {NOT_DETECTED}"
    )


@pytest.mark.parametrize(
    ("reply", "now", "code", "words"),
    [
        (Reply(200, date=DATE), THEN + 3, 0, "3 s after"),
        (Reply(200, date=DATE), THEN - 60, 0, "60 s before"),
        (Reply(200, date=DATE), THEN - 61, 1, "61 s before"),
        (Reply(200, date=DATE), THEN + 3600, 1, "3600 s after"),
        (Reply(200), THEN, 0, "not compared"),
        (Reply(200, date="yesterday"), THEN, 0, "not compared"),
        (NoReply("no connection", may_have_left=False), THEN, 3, "no connection"),
    ],
)
def test_the_clock_is_compared_with_the_date_of_the_reply(
    reply: Reply | NoReply, now: float, code: int, words: str
) -> None:
    """More than a minute apart is too much; a reply without a date is no failure."""
    line = compare_clocks(reply, now)
    assert line.code == code
    assert words in line.text


def test_a_line_says_ok_or_failed() -> None:
    """The first word is for scripts and tired eyes."""
    assert line_of(CheckLine("ping", "AlphaPo is reachable")).split()[:2] == ["ok", "ping"]
    assert line_of(CheckLine("key", "no", Exit.KEY_REFUSED)).split()[:2] == ["failed", "key"]


def test_check_tells_every_line(local: Local) -> None:
    """Four lines, each ok, and exit code 0."""
    result = local.invoke("check")
    assert result.exit_code == 0
    first, *lines = result.stdout.splitlines()
    assert local.url in first
    assert [line.split()[:2] for line in lines] == [["ok", name] for name in ("journal", "clock", "ping", "key")]


def test_check_as_json_has_every_line(local: Local) -> None:
    """With host, account, key and the worst exit code."""
    shown = json.loads(local.invoke("check", "--json").stdout)
    assert (shown["host"], shown["account"], shown["exit_code"]) == (local.url, "default", 0)
    assert [line["check"] for line in shown["checks"]] == ["journal", "clock", "ping", "key"]
    assert {line["result"] for line in shown["checks"]} == {"ok"}
    assert json.loads(local.invoke("check", "--json", ALPHAPO_SECRET="another").stdout)["exit_code"] == 4


def test_a_check_ends_with_the_worst_exit_code(local: Local) -> None:
    """A journal that does not open counts although every later line is ok, and a wrong key counts more than a clock without an answer."""
    result = local.invoke("check", "--journal", "carrier://pigeon")
    assert [line.split()[:2] for line in result.output.splitlines()[1:]] == [
        ["failed", "journal"],
        *(["ok", name] for name in ("clock", "ping", "key")),
    ]
    assert result.exit_code == Exit.WRONG
    assert local.invoke("check", ALPHAPO_SECRET="another-secret").exit_code == Exit.KEY_REFUSED


class Unanswered(Access):
    """Access to a journal that does not answer now."""

    def open_journal(self) -> Journal:
        raise JournalError(f"payouts.db: {FILE['disk full'].text}.")


async def test_a_journal_that_does_not_answer_has_the_exit_code_of_every_other_command() -> None:
    """Exit code 3: to run again may help, and the init container of a pod lets it pass."""
    async with Sandbox() as sandbox:
        found = await checked(Unanswered(KEYS, base_url=sandbox.url))
    assert found["journal"] is Exit.UNKNOWN


def test_a_check_names_host_account_and_key_and_hides_what_steers_a_terminal(local: Local) -> None:
    """Each option counts before its variable, and of a database with an escape in its name the terminal gets none."""
    result = local.invoke(
        *("check", "--base-url", f"{local.url}/", "--account", "north"),
        ALPHAPO_BASE_URL="http://127.0.0.1:9",
        ALPHAPO_JOURNAL=postgres.database("missing%1b[31m"),
    )
    first, second, *_ = result.output.splitlines()
    assert re.fullmatch(rf"host {local.url}, account north, key fingerprint \w+", first)
    assert r"missing\x1b[31m, schema alphapo: the database does not exist" in second
    assert "\x1b" not in result.output


HEAD = "foreign_id,end_user_reference,currency,address,amount"
BITCOIN = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"


@pytest.mark.parametrize(
    ("rows", "settings", "plain", "strict"),
    [
        ([f"a,u,BTC,{BITCOIN},1", "b,u,ADA,made-up,1"], {}, 0, 0),
        (["a,u,usdtt,made-up,1"], {}, 0, 1),
        ([f"a,u,BTC,{BITCOIN},1"], {"balances": {"BTC": "0.5"}}, 0, 1),
        ([f"a,u,BTC,{BITCOIN},-1"], {}, 1, 1),
        ([f"a,u,BTC,{BITCOIN},1", f"a,u,BTC,{BITCOIN},1.0"], {}, 0, 1),
        ([f"a,u,BTC,{BITCOIN},1", f"a,u,BTC,{BITCOIN},2"], {}, 1, 1),
        (['a,"u'], {}, 2, 2),
        ([f"a,u,BTC,{BITCOIN},1"], {"faults": Script({"*": {"currencies": [Fault.GARBAGE] * 2}})}, 3, 3),
    ],
)
def test_the_rows_of_a_file_are_compared(
    tmp_path: Path, rows: list[str], settings: dict[str, Any], plain: int, strict: int
) -> None:
    """Warnings change no exit code without --strict; problems of rows, of the file, and silence do. Nothing is paid."""
    path = tmp_path / "payouts.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n", encoding="utf-8")
    with RunningSandbox(**settings) as sandbox:
        for arguments, code in (((), plain), (("--strict",), strict)):
            shown = invoke("check", str(path), *arguments, **sandbox.environment)
            assert shown.exit_code == code, shown.output
        assert sandbox.ledger.posts == 0


def test_a_warning_about_a_row_has_its_line(local: Local, tmp_path: Path) -> None:
    """And the last line counts."""
    path = tmp_path / "payouts.csv"
    path.write_text(f"{HEAD}\na,u,BTC,{BITCOIN},1\nb,u,ADA,x,1\nc,u,BTC,{BITCOIN},0.123456789\n", encoding="utf-8")
    assert local.invoke("check", str(path)).output.splitlines()[-2:] == [
        "warning file     line 4: warning: amount 0.123456789 has 9 decimals, and BTC has 8.",
        "warning file     3 rows, 0 of them not to be paid, 1 with warnings, 1 address not checked",
    ]
    strict = local.invoke("check", str(path), "--strict").output.splitlines()
    assert strict[-1].startswith("failed  file     3 rows, ")
    assert strict[-2].startswith("failed  file     line 4: warning: ")


def test_the_verdict_on_a_file_is_that_of_its_worst_row(local: Local, tmp_path: Path) -> None:
    """A row that cannot be paid makes the last line "failed"; a file without any problem is ok."""
    path = tmp_path / "payouts.csv"
    good = f"a,u,BTC,{BITCOIN},1\n"
    path.write_text(f"{HEAD}\n{good}b,u,BTC,{BITCOIN},-1\n", encoding="utf-8")
    verdict = "failed  file     2 rows, 1 of them not to be paid, 0 with warnings"
    assert local.invoke("check", str(path)).output.splitlines()[-1] == verdict
    path.write_text(f"{HEAD}\n{good}", encoding="utf-8")
    verdict = "ok      file     1 row, 0 of them not to be paid, 0 with warnings"
    assert local.invoke("check", str(path)).output.splitlines()[-1] == verdict


async def test_a_journal_that_has_moved_fails(tmp_path: Path) -> None:
    """A worker cannot take a lease in it: it was copied to PostgreSQL, and is closed for good."""
    path, schema = tmp_path / "payouts.db", postgres.schema()
    source, target = SqliteJournal(path), PostgresJournal(postgres.url(), schema=schema)
    await learn(source, "a", asked("a", worker=None), now=1.0)
    await copy_journal(source, target, 2.0)
    await source.aclose()
    await target.aclose()
    async with Sandbox() as sandbox:
        lines = [line async for line in check_everything(Access(KEYS, base_url=sandbox.url, journal=str(path)))]
    journal = lines[0]
    assert (journal.name, journal.code) == ("journal", Exit.WRONG)
    assert "copied" in journal.text


async def test_an_account_of_another_host_fails(tmp_path: Path) -> None:
    """A worker would be refused, too."""
    path = tmp_path / "payouts.db"
    async with Sandbox() as sandbox:
        access = Access(KEYS, base_url=sandbox.url, journal=str(path))
        async with access.open_client(access.open_journal()):
            pass
    found = [
        line async for line in check_everything(Access(KEYS, base_url="https://alphapo.invalid", journal=str(path)))
    ]
    assert found[0].code == Exit.WRONG
    assert "belongs to" in found[0].text
