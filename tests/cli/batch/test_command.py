"""`alphapo batch` as it is typed: what it says, what it refuses, and its exit codes."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

from alphapo_async.cli.batch.command import _Work
from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.report_file import ReportFile
from alphapo_async.cli.batch.run import Orders
from alphapo_async.cli.batch.survey import Sifter
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.options import Access
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox import Fault, Script
from tests.cli.conftest import SECRET, Local, Terminal, clean_environment, command_line, invoke
from tests.support.indexes import new_index
from tests.support.processes import started

HEADER = "foreign_id,currency,address,amount,end_user_reference"
KEYS = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": SECRET}
ELSEWHERE = {**KEYS, "ALPHAPO_BASE_URL": "https://alphapo.invalid"}
_numbers = itertools.count()
BITCOIN = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"


def payouts(folder: Path, number: int = 3, *more: str) -> Path:
    """Write a file of payments under foreign_ids of their own."""
    batch = f"{os.getpid()}-{next(_numbers)}"
    rows = [f"batch-{batch}-{one},BTC,{BITCOIN},0.5,user-{one}" for one in range(number)]
    path = folder / "payouts.csv"
    path.write_text("\n".join([HEADER, *rows, *more]) + "\n", encoding="utf-8")
    return path


def outcomes(path: Path) -> list[str]:
    """Return the outcomes in a results file."""
    with path.open(encoding="utf-8", newline="") as file:
        return [line["outcome"] for line in csv.DictReader(file)]


def test_a_file_is_paid_and_the_same_command_again_pays_nothing(local: Local, tmp_path: Path) -> None:
    """Journal and results stand beside it."""
    path = payouts(tmp_path)
    for _ in range(2):
        result = local.invoke("batch", str(path))
        assert result.exit_code == 0
        assert "│ accepted │    3 │" in result.output
        assert "Totals reconcile: yes" in result.output
        begins = f"Paying payouts.csv at {local.url}, account default, journal {path}.journal.db.\n"
        assert result.output.startswith(begins)
        assert outcomes(tmp_path / "payouts.csv.results.csv") == ["accepted"] * 3
    assert (tmp_path / "payouts.csv.journal.db").exists()


@pytest.mark.parametrize(
    ("more", "environment", "code", "words"),
    [
        ((), {}, 0, "accepted"),
        (("x,ADA,unsupported,1,u",), {}, 1, "rejected"),
        (("x,BTC,made-up,-1,u",), {}, 1, "invalid"),
        ((), {"ALPHAPO_KEY": ""}, 2, "ALPHAPO_KEY"),
        (('x,"BTC,made-up,1,u',), {}, 2, "Is a quote missing?"),
        ((), {"ALPHAPO_KEY": "another-key"}, 4, "bad_header_key"),
    ],
)
def test_exit_codes(
    local: Local, tmp_path: Path, *, more: tuple[str, ...], environment: dict[str, str], code: int, words: str
) -> None:
    """All accepted 0, something refused 1, wrong 2, key refused 4; each says why, and never with a traceback."""
    result = local.invoke("batch", str(payouts(tmp_path, 3, *more)), **environment)
    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output


def test_what_is_not_settled_has_exit_code_3_and_says_to_run_again(tmp_path: Path) -> None:
    """With an AlphaPo that nobody can reach."""
    path = payouts(tmp_path, 3)
    result = invoke("batch", str(path), **KEYS, ALPHAPO_BASE_URL="http://127.0.0.1:9")
    assert result.exit_code == 3
    assert "Run the same command again" in result.stdout
    assert outcomes(tmp_path / "payouts.csv.results.csv") == ["not_sent"] * 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (f"{HEADER}\n", "no rows"),
        ("address,amount\nx,1\n", "no column foreign_id"),
        (f"{HEADER},amuont\na,BTC,x,1,u,1\n", "is it amount?"),
        ("[{}]", "JSON array"),
    ],
)
def test_a_file_that_is_none_is_refused_before_anything_is_sent(
    local: Local, tmp_path: Path, text: str, words: str
) -> None:
    """Exit code 2 and what to do; neither journal nor results are made."""
    path = tmp_path / "payouts.csv"
    path.write_text(text, encoding="utf-8")
    for arguments in ((), ("--dry-run",)):
        result = local.invoke("batch", str(path), *arguments)
        assert result.exit_code == 2
        assert words in result.output
        assert "Nothing was sent." in result.output
    assert list(tmp_path.iterdir()) == [path]


def test_a_wrong_path_of_the_journal_is_wrong_input(local: Local, tmp_path: Path) -> None:
    """Exit code 2, and that nothing was sent, whether it is found out before or at the beginning."""
    path, notes = payouts(tmp_path), tmp_path / "notes.txt"
    notes.write_text("mine " * 100, encoding="utf-8")
    for journal, words in ((tmp_path / "missing" / "payouts.db", "does not exist"), (notes, "not a SQLite database")):
        result = local.invoke("batch", str(path), "--journal", str(journal))
        assert result.exit_code == 2
        assert words in result.output
        assert result.output.endswith(" Nothing was sent.\n")
        assert "release funds" not in result.output


def test_results_of_another_batch_are_not_overwritten(local: Local, tmp_path: Path) -> None:
    """Exit code 2, and the file is what it was."""
    results = tmp_path / "results.csv"
    assert local.invoke("batch", str(payouts(tmp_path)), "--results", str(results)).exit_code == 0
    before = results.read_bytes()
    result = local.invoke("batch", str(payouts(tmp_path)), "--results", str(results))
    assert result.exit_code == 2
    assert "another batch" in result.output
    assert results.read_bytes() == before


def test_a_dry_run_says_everything_and_sends_nothing(local: Local, tmp_path: Path) -> None:
    """Problems with their lines, totals beside balances, and what the journal has settled."""
    path = payouts(tmp_path, 2)
    assert local.invoke("batch", str(path), "--dry-run").exit_code == 0
    assert list(tmp_path.iterdir()) == [path]
    local.invoke("batch", str(path))
    with path.open("a", encoding="utf-8") as file:
        file.write("new,BTC,made-up,1,user\nnew,BTC,made-up,2,user\nwrong,BTC,made-up,x,user\n")
    result = local.invoke("batch", str(path), "--dry-run")
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert "line 5: foreign_id 'new' is also in line 4, with another payment: this one is not sent." in lines
    assert "line 6: amount 'x' is not a decimal number." in lines
    assert "to pay now:                      1" in lines
    assert "already in the journal:          2 accepted" in lines
    assert "accepted already: 1.0 BTC in 2 rows" in lines
    assert lines[-1] == "Nothing was sent."
    assert any(line.startswith("to pay now: 1 BTC in 1 row, balance ") for line in lines)
    assert outcomes(tmp_path / "payouts.csv.results.csv") == ["accepted"] * 2


def test_a_dry_run_names_the_paid_rows_that_were_changed(local: Local, tmp_path: Path) -> None:
    """The real run would not pay them: exit code 1, and which rows they are."""
    path = payouts(tmp_path, 2)
    local.invoke("batch", str(path))
    path.write_text(path.read_text(encoding="utf-8").replace(",0.5,", ",0.75,", 1), encoding="utf-8")
    shown = local.invoke("batch", str(path), "--dry-run")
    assert shown.exit_code == 1
    lines = shown.output.splitlines()
    assert "to pay now:                      0" in lines
    assert "already in the journal:          1 accepted, 1 in conflict (accepted)" in lines
    [line] = [line for line in lines if line.startswith("in conflict with the journal:")]
    assert line.startswith("in conflict with the journal:    1, not sent: ")


def test_the_report_is_written_for_machines(local: Local, tmp_path: Path) -> None:
    """What is shown, as JSON."""
    report = tmp_path / "report.json"
    assert local.invoke("batch", str(payouts(tmp_path, 4)), "--report", str(report)).exit_code == 0
    result = msgspec.json.decode(report.read_bytes())
    assert (result["rows"], result["outcomes"]["accepted"], result["totals_reconcile"]) == (4, 4, True)
    assert result["totals"]["BTC"]["accepted"] == "2.0"


def test_the_report_is_printed_as_json(local: Local, tmp_path: Path) -> None:
    """Alone on standard output, of a run and of a dry run; what ended a run stands on standard error."""
    path = payouts(tmp_path, 3, "wrong-row,BTC,,0.1,u")
    dry = local.invoke("batch", str(path), "--dry-run", "--json")
    shown = msgspec.json.decode(dry.stdout)
    assert (shown["rows"], shown["rows_to_pay_now"], shown["invalid"], shown["exit_code"]) == (4, 3, 1, 1)
    assert shown["to_pay_now"] == {"BTC": "1.5"}
    ended = local.invoke("batch", str(path), "--json")
    shown = msgspec.json.decode(ended.stdout)
    assert (shown["rows"], shown["outcomes"]["accepted"], shown["exit_code"]) == (4, 3, ended.exit_code)
    assert shown["invalid_sums"] == {"BTC": "0.1"}
    (tmp_path / "other").mkdir()
    refused = local.invoke("batch", str(payouts(tmp_path / "other")), "--json", ALPHAPO_KEY="another")
    assert msgspec.json.decode(refused.stdout)["exit_code"] == 4
    assert "bad_header_key" in refused.stderr


def test_the_journal_of_the_environment_is_not_repeated_as_an_option(local: Local, tmp_path: Path) -> None:
    """Its name may hold a password; a name that was given, or made from the file's, is shown in the advice."""
    path = payouts(tmp_path, 2)
    path.write_text(path.read_text(encoding="utf-8").replace("-1,BTC", "-0,BTC"), encoding="utf-8")
    journal = str(tmp_path / "named.db")
    assert f"status FOREIGN_ID --journal {path}.journal.db`" in local.invoke("batch", str(path)).stdout
    shown = local.invoke("batch", str(path), ALPHAPO_JOURNAL=journal).stdout
    assert "status FOREIGN_ID`" in shown


def test_json_lines_are_read_too(local: Local, tmp_path: Path) -> None:
    """With an amount as a JSON number, exactly."""
    path = tmp_path / "payouts.jsonl"
    row = '{"foreign_id": "json-%d", "currency": "BTC", "address": "made-up", "amount": 0.00000001, "end_user_reference": "u"}\n'
    path.write_text((row % 1) + (row % 2), encoding="utf-8")
    result = local.invoke("batch", str(path), "--max-rate", "50", "--concurrency", "2", "--give-up-after", "1h")
    assert result.exit_code == 0
    assert "0.00000002" in result.output


# ── what is not overwritten ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--report", "payouts.csv"), "is the input"),
        (("--report", "payouts.csv.journal.db"), "is the journal"),
        (("--report", "payouts.csv.results.csv"), "is the results file"),
        (("--results", "payouts.csv.journal.db"), "is the journal"),
        (("--report", "notes.txt"), "is not a report of"),
        (("--report", "folder/report.json"), "cannot be written"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_file_that_is_needed_is_refused_before_anything_is_sent(
    local: Local, tmp_path: Path, arguments: tuple[str, str], words: str, more: tuple[str, ...]
) -> None:
    """Exit code 2, for a dry run, too; and nothing is made or changed."""
    path = payouts(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    result = local.invoke("batch", str(path), arguments[0], str(tmp_path / arguments[1]), *more)
    assert result.exit_code == 2
    assert words in result.output
    assert "Nothing was sent." in result.output
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_report_that_cannot_be_written_any_more_is_told_after_all_the_rest(local: Local, tmp_path: Path) -> None:
    """With the exit code of what was paid."""
    folder, results = tmp_path / "reports", tmp_path / "payouts.csv.results.csv"
    folder.mkdir()

    def take_away() -> None:
        while not results.exists():
            time.sleep(0.01)
        folder.rmdir()

    taking = threading.Thread(target=take_away)
    taking.start()
    result = local.invoke("batch", str(payouts(tmp_path, 20)), "--report", str(folder / "r.json"), "--max-rate", "20")
    taking.join()
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert lines[-1].startswith("The report could not be written (No such file or directory). Everything else is done")
    assert any("accepted │   20" in line for line in lines)


def test_results_are_kept_where_the_journal_belongs_to_another_host(local: Local, tmp_path: Path) -> None:
    """A dry run says so with the same exit code; rows taken out of the input are told as such."""
    path = payouts(tmp_path)
    results = tmp_path / "payouts.csv.results.csv"
    assert local.invoke("batch", str(path)).exit_code == 0
    before = results.read_bytes()
    for option in ("--dry-run", "--yes"):
        result = local.invoke("batch", str(path), option, ALPHAPO_BASE_URL="https://alphapo.invalid")
        assert result.exit_code == 2
        assert "belongs to 'loopback' in this journal" in result.output
        assert result.output.count("Nothing was sent.") == 1
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]) + "\n", encoding="utf-8")
    for options in ([], ["--dry-run"]):
        result = local.invoke("batch", str(path), *options)
        assert result.exit_code == 2
        assert "which the rows to be paid do not have" in result.output
        assert result.output.endswith("Nothing was sent.\n")
    assert results.read_bytes() == before


def test_a_dry_run_tells_of_a_key_that_is_refused(local: Local, tmp_path: Path) -> None:
    """With the exit code that the run would have."""
    result = local.invoke("batch", str(payouts(tmp_path)), "--dry-run", ALPHAPO_KEY="another-key")
    assert result.exit_code == 4
    assert "bad_header_key" in result.output
    assert result.output.endswith("Nothing was sent.\n")


def test_a_file_that_changes_meanwhile_has_one_exit_code_and_one_instruction(local: Local, tmp_path: Path) -> None:
    """In the report, too."""
    path, report = payouts(tmp_path, 600), tmp_path / "report.json"
    command = command_line("batch", str(path), "--max-rate", "200", "--concurrency", "4", "--report", str(report))
    with started(
        command, env=clean_environment(**local.environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        results = tmp_path / "payouts.csv.results.csv"
        while not results.exists() or len(results.read_bytes().splitlines()) < 5:
            time.sleep(0.01)
        with path.open("a", encoding="utf-8") as file:
            file.write("more,BTC,made-up,1,user\n")
        output = process.stdout.read()
    assert process.returncode == 2
    assert msgspec.json.decode(report.read_bytes())["exit_code"] == 2
    assert output.count("It continues from there") == 1
    assert "Run the same command again" not in output


# ── who listens ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_stops_reading_stops_nothing(local: Local, tmp_path: Path) -> None:
    """That is said once, everything is paid and written, and the exit code is the true one."""
    path, report = payouts(tmp_path, 30, "x,ADA,unsupported,1,u"), tmp_path / "report.json"
    command = command_line("batch", str(path), "--report", str(report))
    with started(
        command, env=clean_environment(**local.environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 1
    assert said == "Standard output cannot be written any more (Broken pipe): continuing without it.\n"
    assert Counter(outcomes(tmp_path / "payouts.csv.results.csv")) == {"accepted": 30, "rejected": 1}
    assert msgspec.json.decode(report.read_bytes())["exit_code"] == 1


def test_an_empty_tag_may_be_meant(local: Local, tmp_path: Path) -> None:
    """What is said about a tag that is missing says how."""
    path = tmp_path / "xrp.csv"
    path.write_text(f"{HEADER},tag\nxrp-{os.getpid()},XRP,made-up,1,user,\n", encoding="utf-8")
    result = local.invoke("batch", str(path), "--dry-run")
    assert result.exit_code == 1
    assert "pass --no-tag" in result.output
    meant = local.invoke("batch", str(path), "--dry-run", "--no-tag")
    assert meant.exit_code == 0
    assert "XRP Ledger, without a tag:       1 row, on purpose" in meant.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--give-up-after", "soon"], "is not a duration"),
        (["--max-rate", "0"], "max-rate"),
        (["--concurrency", "0"], "concurrency"),
        (["--journal", "postgresql://a:b@c/d"], "password"),
    ],
)
def test_options_that_make_no_sense_are_refused(local: Local, tmp_path: Path, arguments: list[str], words: str) -> None:
    """Exit code 2, and nothing is sent."""
    result = local.invoke("batch", str(payouts(tmp_path)), *arguments)
    assert result.exit_code == 2
    assert words in result.output


# ── before money moves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_terminal_real_money_needs_yes(tmp_path: Path) -> None:
    """Exit code 2, and nothing is sent."""
    result = invoke("batch", str(payouts(tmp_path)), **ELSEWHERE)
    assert result.exit_code == 2
    assert "pass --yes" in result.output


def test_a_batch_of_real_money_needs_a_journal_that_outlives_it(tmp_path: Path) -> None:
    """Without one the same command could not go on."""
    result = invoke("batch", str(payouts(tmp_path)), "--journal", "memory", "--yes", **ELSEWHERE)
    assert result.exit_code == 2
    assert "Leave --journal and ALPHAPO_JOURNAL out" in result.output


_CONTROLLED = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


def at_a_terminal(answer: bytes, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command at a terminal of its own, type an answer, and return exit code and what it showed."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (30, 100))
    with started(
        [sys.executable, "-c", _CONTROLLED, *command_line(*arguments)],
        env=clean_environment(**environment, TERM="xterm"),
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    ) as process:
        os.close(end)
        shown, has_answered = b"", False
        with contextlib.suppress(OSError):  # the other end is gone: the command has ended
            while part := os.read(terminal, 4096):
                shown += part
                if b"[y/N]" in shown and not has_answered:
                    has_answered = True
                    # A person reads before typing; Python may miss a Ctrl-C in the moment before it waits for one.
                    time.sleep(0.3)
                    os.write(terminal, answer)
        os.close(terminal)
    return process.returncode, shown.decode()


@pytest.mark.parametrize("answer", [b"n\n", b"\x03"])
def test_a_person_is_asked_before_real_money_moves(tmp_path: Path, answer: bytes) -> None:
    """Host, account, key and totals are shown; whoever does not say yes sends nothing."""
    path = payouts(tmp_path, 4)
    code, shown = at_a_terminal(answer, "batch", str(path), **ELSEWHERE)
    assert code == 1
    for words in (
        "https://alphapo.invalid",
        "fingerprint",
        "2.0 BTC in 4 rows",
        "Not confirmed: this call sent nothing",
    ):
        assert words in shown
    assert SECRET not in shown
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("typed", [b"n\n", b""])
def test_whoever_does_not_agree_sends_nothing(tmp_path: Path, typed: bytes) -> None:
    """No, or the end of input: exit code 1, so that no cron job repeats what a person refused."""
    path = payouts(tmp_path, 1)
    result = invoke("batch", str(path), stdin=Terminal(typed), **ELSEWHERE)
    assert result.exit_code == 1
    assert "Not confirmed: this call sent nothing." in result.stderr
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("typed", "more"), [(b"y\n", ()), (b"", ("--yes",))])
def test_whoever_says_yes_pays(tmp_path: Path, typed: bytes, more: tuple[str, ...]) -> None:
    """As far as there is somebody to pay: here the name leads nowhere."""
    path = payouts(tmp_path, 1)
    result = invoke("batch", str(path), *more, stdin=Terminal(typed), **ELSEWHERE)
    assert "total to pay: 0.5 BTC in 1 row" in result.stderr
    assert result.exit_code == 3
    assert outcomes(tmp_path / "payouts.csv.results.csv") == ["not_sent"]


# ── what people expect of a command ──────────────────────────────────────────────────────────────────────────────────


def test_no_color_is_honoured_at_a_terminal(local: Local, tmp_path: Path) -> None:
    """The bar moves without colours."""
    path = payouts(tmp_path, 30)
    codes = []
    for environment in ({}, {"NO_COLOR": "1"}):
        code, shown = at_a_terminal(b"", "batch", str(path), **local.environment, **environment)
        assert code == 0
        codes.append("\x1b[3" in shown)
    assert codes == [True, False]


# ── what fails after paying ──────────────────────────────────────────────────────────────────────────────────────────


class NoTables(Console):
    """A console that cannot draw a table."""

    def print(self, *objects: object, **how: Any) -> None:
        """Print a sentence, or fail."""
        if objects and isinstance(objects[0], Table):
            raise RuntimeError
        super().print(*objects, **how)


def test_a_table_that_cannot_be_drawn_changes_no_outcome(
    local: Local, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows are paid: exit code 0, the report is written, and it is said where the results are."""
    path, results, reporting = payouts(tmp_path), tmp_path / "results.csv", ReportFile(tmp_path / "report.json")
    access = Access(local.environment, journal=str(tmp_path / "payouts.db"))
    source, index = InputFile(path, read_lines), new_index()
    sifter = Sifter(source, index, "number")
    work = _Work(source, index=index, sifter=sifter, access=access, console=NoTables(file=io.StringIO()))
    assert work.may_pay(Orders(), yes=True, strict=False)
    assert work.pay(results, reporting, Orders()) is Exit.ALL_ACCEPTED
    assert (
        "could not be shown or written (RuntimeError). Everything else is done: the results are in"
        in capsys.readouterr().err
    )
    assert outcomes(results) == ["accepted"] * 3
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes())["exit_code"] == 0


def test_a_file_whose_name_is_no_text_is_paid_and_reported(local: Local, tmp_path: Path) -> None:
    """A name on disk may be any bytes."""
    path = payouts(tmp_path).rename(tmp_path / "pay\udcff.csv")
    result = local.invoke("batch", str(path), "--report", str(tmp_path / "report.json"))
    assert result.exit_code == 0, result.output
    assert msgspec.json.decode((tmp_path / "report.json").read_bytes())["file"] == "pay\\udcff.csv"


@pytest.mark.parametrize("given", [["--journal", ""], ["--journal", "payouts.db "], ["--account", ""]])
def test_a_setting_that_may_be_meant_otherwise_pays_nobody(tmp_path: Path, given: list[str]) -> None:
    """An empty variable of a script is not taken for an option that is not given, which would be another journal."""
    result = invoke("batch", str(payouts(tmp_path)), *given, **KEYS, ALPHAPO_BASE_URL="http://127.0.0.1:9")
    assert result.exit_code == Exit.WRONG
    assert "Nothing was sent." in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["payouts.csv"]


WARNED = {
    "usdtt,made-up,1,,": "currency 'usdtt' is not in AlphaPo's list: is it USDTT?",
    "USDT,made-up,1,,": "currency 'USDT' is not in AlphaPo's list: is it USDTE, USDTT, USDTB?",
    f"BTC,{BITCOIN},0.123456789,,": "amount 0.123456789 has 9 decimals, and BTC has 8.",
    f"BTC,{BITCOIN},0.0001,,": "amount 0.0001 is below the minimum of BTC, 0.0002.",
    f"EUR,{BITCOIN},4,,BTC": "amount 4 is below the minimum of a conversion from EUR, 5.",
    f"EUR,{BITCOIN},5,,": "convert_to is missing: EUR is fiat, and a withdrawal pays out a cryptocurrency.",
    f"BTC,{BITCOIN[:-1]}b,1,,": f"address '{BITCOIN[:-1]}b' is mistyped or cut: its checksum does not fit.",
    f"USDTT,{BITCOIN},1,,": f"address '{BITCOIN}' is an address for Bitcoin, and USDTT needs one for Tron.",
}


def listed(folder: Path, rows: Iterable[str]) -> Path:
    """Write a file of rows with foreign_ids of their own."""
    path = folder / "payouts.csv"
    lines = [f"row-{number},user,{row}" for number, row in enumerate(rows, 1)]
    head = "foreign_id,end_user_reference,currency,address,amount,amount_to,convert_to"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return path


def test_each_warning_is_shown_once_with_its_line(tmp_path: Path) -> None:
    """In a dry run they change no exit code; with --strict it is 1, with and without --dry-run, and nothing is sent."""
    path = listed(tmp_path, WARNED)
    with RunningSandbox(minimums={"BTC": "0.0002", "EUR": 5}) as sandbox:
        environment = {**sandbox.environment, "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db")}
        shown = invoke("batch", str(path), "--dry-run", **environment)
        assert shown.exit_code == 0
        lines = [line for line in shown.output.splitlines() if "warning: " in line]
        address = "address 'made-up' is no address for"
        assert [line.partition(f" {address}")[0] for line in lines] == [
            f"line {number}: warning: {text}" for number, text in enumerate(WARNED.values(), 2)
        ]
        assert "with warnings:                   8" in shown.output
        assert shown.output.count("address not checked:             1 (no documented network for ") == 3
        for arguments in (("--dry-run",), ()):
            strict = invoke("batch", str(path), "--strict", *arguments, **environment)
            assert strict.exit_code == 1
            words = "With --strict nothing is paid while anything is wrong: 8 rows have warnings"
            assert words in strict.output
            assert "line 3: warning: currency 'USDT'" in strict.output
        assert sandbox.ledger.posts == 0
    assert not list(tmp_path.glob("payouts.db*"))


def test_every_run_shows_warnings_and_rows_that_are_not_paid_before_it_pays(tmp_path: Path) -> None:
    """Below the question, with line, cell and reason, also with --yes; then the rows are paid."""
    path = listed(tmp_path, [f"BTC,{BITCOIN[:-1]}b,1,,", f"XRP,{BITCOIN},1,,", f"BTC,{BITCOIN},1,,"])
    notices = [
        "rows not to be paid: 1",
        (
            "  line 3: tag is missing: money sent on the XRP Ledger to an exchange without a tag can be lost; if none is wanted, write "
            "true in a column without_tag, or leave a column tag empty and pass --no-tag."
        ),
        "rows with warnings, paid all the same: 1",
        f"  line 2: warning: address '{BITCOIN[:-1]}b' is mistyped or cut: its checksum does not fit.",
    ]
    asked = invoke("batch", str(path), stdin=Terminal(b"n\n"), **ELSEWHERE)
    shown = asked.stderr.replace(": n\n", ":")  # older versions of click do not repeat the answer
    assert shown.splitlines()[-5:] == [*notices, "Pay this? [y/N]:Not confirmed: this call sent nothing."]
    with RunningSandbox() as sandbox:
        paid = invoke("batch", str(path), **sandbox.environment)
        assert (paid.exit_code, sandbox.ledger.posts) == (1, 2)
    assert paid.stderr.splitlines() == notices


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([f"XRP,{BITCOIN},1,,"], "1 row cannot be paid as it is"),
        (["BTC,x,1,,"], "1 row has a warning"),
        ([f"BTC,{BITCOIN},1,,"] * 12, "12 rows cannot be paid as they are"),
    ],
)
def test_strict_is_all_or_nothing(tmp_path: Path, more: list[str], words: str) -> None:
    """An error, a warning or a foreign_id that comes twice, also with the same payment: no row is paid, and the code is 1."""
    path = listed(tmp_path, [f"BTC,{BITCOIN},1,,"])
    lines = [f"row-{1 if len(more) > 1 else number},user,{row}" for number, row in enumerate(more, 2)]
    path.write_text(path.read_text(encoding="utf-8") + "\n".join(lines) + "\n", encoding="utf-8")
    with RunningSandbox() as sandbox:
        for arguments in ((), ("--dry-run",)):
            shown = invoke("batch", str(path), "--strict", *arguments, **sandbox.environment)
            assert shown.exit_code == 1
            assert f"With --strict nothing is paid while anything is wrong: {words}." in shown.output
        assert sandbox.ledger.posts == 0
        if len(more) > 10:
            shown = invoke("batch", str(path), "--strict", **sandbox.environment)
            assert "  line 12: foreign_id 'row-1' is also in line 2" in shown.stderr
            assert "  and 2 more: --dry-run lists them" in shown.stderr


def test_strict_refuses_a_row_that_conflicts_with_the_journal(tmp_path: Path) -> None:
    """It is named, and the other rows are not paid either."""
    path = listed(tmp_path, [f"BTC,{BITCOIN},1,,"])
    with RunningSandbox() as sandbox:
        environment = {**sandbox.environment, "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db")}
        assert invoke("batch", str(path), **environment).exit_code == 0
        path = listed(tmp_path, [f"BTC,{BITCOIN},2,,", f"BTC,{BITCOIN},3,,"])
        shown = invoke("batch", str(path), "--strict", **environment)
        assert (shown.exit_code, sandbox.ledger.posts) == (1, 1)
    assert "in conflict with the journal: 1, not sent: row-1" in shown.stderr.splitlines()


def test_a_dry_run_needs_no_key(tmp_path: Path) -> None:
    """Addresses, tags, repetitions and conflicts with the journal are checked; what is left out is named. A run, and --strict, need it."""
    path = listed(tmp_path, [f"BTC,{BITCOIN},1,,"])
    with RunningSandbox() as sandbox:
        host = {"ALPHAPO_BASE_URL": sandbox.url, "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db")}
        assert invoke("batch", str(path), **{**sandbox.environment, **host}).exit_code == 0
        path = listed(tmp_path, [f"BTC,{BITCOIN},2,,", f"BTC,{BITCOIN[:-1]}b,3,,", f"XRP,{BITCOIN},3,,"])
        shown = invoke("batch", str(path), "--dry-run", **host)
    assert shown.exit_code == 1
    for words in (
        "line 4: tag is missing",
        f"line 3: warning: address '{BITCOIN[:-1]}b'",
        "in conflict with the journal:    1, not sent: row-1",
        "Currencies and balances were not compared: ALPHAPO_KEY is not set: it holds the public API key. ALPHAPO_SECRET is not set",
    ):
        assert words in shown.output
    for arguments in (("--dry-run", "--strict"), ("--yes",)):
        assert invoke("batch", str(path), *arguments, **host).exit_code == 2


def test_an_empty_journal_of_the_environment_is_refused(tmp_path: Path) -> None:
    """It never stands for another journal."""
    shown = invoke("batch", str(payouts(tmp_path)), **KEYS, ALPHAPO_BASE_URL="http://127.0.0.1:9", ALPHAPO_JOURNAL="")
    assert shown.exit_code == 2
    assert "ALPHAPO_JOURNAL: set, but empty." in shown.output


def test_a_balance_that_is_not_enough_ends_a_dry_run_with_1(tmp_path: Path) -> None:
    """With --strict, too, before anything is paid."""
    path = listed(tmp_path, [f"BTC,{BITCOIN},1,,", f"BTC,{BITCOIN},1,,"])
    with RunningSandbox(balances={"BTC": "1.99"}) as sandbox:
        shown = invoke("batch", str(path), "--dry-run", **sandbox.environment)
        assert shown.exit_code == 1
        assert "2 BTC in 2 rows, balance 1.99000000: NOT ENOUGH" in shown.output
        strict = invoke("batch", str(path), "--strict", **sandbox.environment)
        assert strict.exit_code == 1
        assert "the balance is not enough for BTC. Nothing was sent." in strict.output
        assert sandbox.ledger.posts == 0


def test_strict_needs_alphapos_list(tmp_path: Path) -> None:
    """Without it nothing is sent: exit code 3, and 4 for a refused key; where all is right the file is paid."""
    path = listed(tmp_path, [f"BTC,{BITCOIN},1,,"])
    with RunningSandbox(faults=Script({"*": {"currencies": [Fault.HTML_503_BEFORE] * 2}})) as sandbox:
        for arguments in ((), ("--dry-run",)):
            strict = invoke("batch", str(path), "--strict", *arguments, **sandbox.environment)
            assert strict.exit_code == 3
            assert "AlphaPo did not answer the currencies" in strict.output
            assert strict.output.endswith("Nothing was sent.\n")
        refused = invoke("batch", str(path), "--strict", **{**sandbox.environment, "ALPHAPO_SECRET": "another"})
        assert refused.exit_code == 4
        assert sandbox.ledger.posts == 0
        assert invoke("batch", str(path), "--strict", **sandbox.environment).exit_code == 0
        assert sandbox.ledger.posts == 1


@pytest.mark.parametrize("rows", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_right_rows_make_no_warning(tmp_path: Path, rows: int) -> None:
    """Read twice, compared with the list, and every address checked."""
    path = listed(tmp_path, (f"BTC,{BITCOIN},0.0{number},," for number in range(1_000, 1_000 + rows)))
    with RunningSandbox() as sandbox:
        shown = invoke("batch", str(path), "--dry-run", **sandbox.environment)
    assert (shown.exit_code, "warning" in shown.output, "not checked" in shown.output) == (0, False, False)
    assert f"to pay now:                      {rows:,}" in shown.output


def test_a_second_run_says_what_was_paid_before_and_what_needs_attention(local: Local, tmp_path: Path) -> None:
    """With line, foreign_id and reason of each wrong row, and the files to keep."""
    path = payouts(tmp_path, 3, "wrong-row,BTC,,0.1,u")
    for paid in ("Rows that need attention:", "0 paid now, 3 were paid before."):
        ended = local.invoke("batch", str(path))
        assert ended.exit_code == 1, ended.output
        assert paid in ended.stdout
        assert "line 5, wrong-row: invalid: address" in ended.stdout
        assert f"Keep payouts.csv, {path}.results.csv and the journal {path}.journal.db: they prove" in ended.stdout


def test_the_rows_that_need_attention_are_listed_with_the_fact_alone(local: Local, tmp_path: Path) -> None:
    """What to do stands once below them; in the results it stands beside each row, too."""
    refused = [f"wrong-{os.getpid()}-{next(_numbers)},ADA,unsupported,1,u" for _ in range(3)]
    path = payouts(tmp_path, 1, *refused)
    shown = local.invoke("batch", str(path)).stdout
    listed = [line for line in shown.splitlines() if line.startswith("line ")]
    assert [line.endswith("No money moved.") for line in listed] == [True] * 3
    assert shown.count("release the funds") == shown.count("--retry-rejected") == shown.count("same command again") == 1
    assert (tmp_path / "payouts.csv.results.csv").read_text().count("release the funds") == 3


def test_the_help_says_what_refuses_a_whole_file_and_what_pays_nothing_twice() -> None:
    """One cell with a decimal comma; the same command with the same journal."""
    text = " ".join(invoke("batch", "--help").stdout.split())
    assert "The same command again, with the same journal, continues" in text
    assert "One decimal comma, such as 0,5, refuses the whole FILE" in text
    assert "A decimal comma ends it at once" in text


def test_a_copy_of_a_paid_file_is_noticed_before_anything_is_paid(local: Local, tmp_path: Path) -> None:
    """By a dry run, by a run, and strictly: the journal that knows the rows is named, and its rows are not paid again in it."""
    path = payouts(tmp_path)
    assert local.invoke("batch", str(path)).exit_code == 0
    copied = path.rename(tmp_path / "renamed.csv")
    words = f"{path}.journal.db beside this journal has 3 rows of this file, such as "
    dry, strict = (local.invoke("batch", str(copied), "--dry-run", *more) for more in ((), ("--strict",)))
    assert (dry.exit_code, strict.exit_code) == (0, 1)
    assert words in dry.output
    assert f"{path}.journal.db has 3 rows of this file" in strict.output
    assert not (tmp_path / "renamed.csv.journal.db").exists()
    paid = local.invoke("batch", str(copied))
    assert words in paid.stderr
    assert "is the file a copy of one that was paid?" in paid.stderr
    lines = paid.stdout.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("0 paid now, 3 were found at AlphaPo, "))
    below = lines[first + 1 :]
    assert below[0].strip() == "Rows"
    end_of_counts = next(place for place, line in enumerate(below) if line.startswith("└"))
    assert below[end_of_counts + 1].startswith(f"warning: {words}")
    there = local.invoke("batch", str(copied), "--journal", f"{path}.journal.db")
    assert "beside this journal" not in there.output
    assert "0 paid now, 3 were paid before." in there.output
