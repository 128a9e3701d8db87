"""`alphapo withdraw` against a local sandbox, and what it asks before it pays anywhere else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest

from alphapo_async.cli.messages import AN_EARLIER_CALL
from alphapo_async.cli.options import Access
from alphapo_async.cli.withdraw import question, report
from alphapo_async.core.errors import WithdrawalRejected, WithdrawalUnknown
from alphapo_async.core.models import Totals, Withdrawal, WithdrawalRequest
from tests.cli.conftest import SECRET, Local, Terminal, clean_environment, command_line, invoke, withdrawing
from tests.support import postgres
from tests.support.processes import started

KEYS = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": SECRET}
ELSEWHERE = {**KEYS, "ALPHAPO_BASE_URL": "https://alphapo.invalid", "ALPHAPO_JOURNAL": "memory"}
NOBODY = "http://127.0.0.1:9"


def test_an_accepted_withdrawal_is_shown_and_never_paid_again(local: Local) -> None:
    """A second run with the same foreign_id finds the first withdrawal and says the same id."""
    first, again = (local.invoke(*withdrawing("paying-1")) for _ in range(2))
    assert (first.exit_code, again.exit_code) == (0, 0)
    shown = [dict(line.split(":", 1) for line in result.stdout.splitlines()) for result in (first, again)]
    assert shown[0]["outcome"].strip() == "accepted"
    assert shown[0]["id"] == shown[1]["id"]
    assert shown[1]["source"].strip() == "look-up"


@pytest.mark.parametrize(
    ("changed", "environment", "code", "words"),
    [
        ({}, {}, 0, "accepted"),
        ({"amount": None, "currency": "EUR", "convert_to": "BTC", "amount_to": "0.01"}, {}, 0, "accepted"),
        ({"currency": "XRP", "tag": "77", "amount_format": "string", "deadline": "20"}, {}, 0, "accepted"),
        ({"address": "unsupported"}, {}, 1, "may release funds: yes"),
        ({"amount": "-1"}, {}, 2, "--amount '-1' is negative."),
        ({"amount": None}, {}, 2, "--amount is required"),
        ({"currency": None}, {}, 2, "--currency"),
        ({"amount": "0.12345678901234567890"}, {}, 2, "--amount"),
        ({"deadline": "-1"}, {}, 2, "deadline"),
        ({"deadline": "nan"}, {}, 2, "deadline"),
        ({}, {"ALPHAPO_KEY": ""}, 2, "ALPHAPO_KEY"),
        ({"journal": "carrier://pigeon"}, {}, 2, "journal"),
        ({"deadline": "0.2"}, {"ALPHAPO_BASE_URL": NOBODY}, 3, "may release funds: yes"),
        ({}, {"ALPHAPO_KEY": "another-key"}, 4, "bad_header_key"),
    ],
)
def test_exit_codes(
    local: Local,
    request: pytest.FixtureRequest,
    *,
    changed: dict[str, str | None],
    environment: dict[str, str],
    code: int,
    words: str,
) -> None:
    """Accepted 0, refused 1, wrong 2, not sent 3, refused key 4; each says what happened, and never with a traceback."""
    result = local.invoke(*withdrawing(f"paying-{request.node.name}", **changed), **environment)
    assert result.exit_code == code
    assert words in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("host", [{}, {"ALPHAPO_BASE_URL": "https://alphapo.invalid"}])
def test_a_wrong_path_of_the_journal_is_wrong_input(local: Local, tmp_path: Path, host: dict[str, str]) -> None:
    """Exit code 2, with the withdrawal's name, and that nothing was sent; with and without a question beforehand."""
    path = tmp_path / "missing" / "payouts.db"
    result = local.invoke(*withdrawing("paying-nowhere"), "--journal", str(path), "--yes", **host)
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert lines[0].startswith("Withdrawal 'paying-nowhere': nothing was sent by this call. The journal ")
    assert lines[0].endswith(
        f"{str(path)!r}: its folder does not exist. Make it, or name another file. {AN_EARLIER_CALL}"
    )
    assert lines[1:] == []


def test_another_payment_under_a_used_foreign_id_is_a_conflict(local: Local) -> None:
    """Another address and another amount cannot be ours: exit code 1, the existing withdrawal is named, and no second payment advised."""
    assert local.invoke(*withdrawing("paying-taken")).exit_code == 0
    result = local.invoke(*withdrawing("paying-taken", amount="7", address="1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"))
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert "was already used for another payment (AlphaPo shows it: address: " in lines[0]
    assert lines[1] == "may release funds: no"
    assert lines[2].startswith(
        "next step: The existing withdrawal is accepted: it is being paid. If you meant the same payout, do nothing"
    )
    assert lines[3:] == ["or: `alphapo status paying-taken` shows how the existing withdrawal stands."]


def test_the_advice_about_a_conflict_names_the_journal(local: Local, tmp_path: Path) -> None:
    """As it was named: without that option `alphapo status` would ask for a journal, or read another."""
    path = str(tmp_path / "payouts.db")
    assert local.invoke(*withdrawing("paying-named"), "--journal", path).exit_code == 0
    result = local.invoke(*withdrawing("paying-named", amount="7"), "--journal", path)
    assert result.stderr.splitlines()[-1] == (
        f"or: `alphapo status paying-named --journal {path}` shows how the existing withdrawal stands."
    )


def test_what_was_rejected_is_sent_again_if_that_is_asked_for(local: Local, tmp_path: Path) -> None:
    """Otherwise the recorded rejection is told."""
    arguments = [*withdrawing("paying-rejected", address="unsupported"), "--journal", str(tmp_path / "payouts.db")]
    for more, attempts in ((), 1), ((), 1), (("--retry-rejected",), 2):
        assert local.invoke(*arguments, *more).exit_code == 1
        shown = invoke("journal", "show", "paying-rejected", "--journal", str(tmp_path / "payouts.db")).stdout
        assert f"attempts: {attempts}\n" in re.sub(" +", " ", shown)
        time.sleep(0.6)  # a call that comes at once is answered by the rejection


def test_the_outcome_is_told_before_what_is_under_way_is_waited_for(tmp_path: Path) -> None:
    """At the deadline, and the command that goes on with it is named; closing takes its time afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url, path = f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path / "payouts.db"
        command = command_line(*withdrawing("paying-late", deadline="0.3"), "--journal", str(path), "--base-url", url)
        with started(command, env=clean_environment(**KEYS), stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            lines = [process.stderr.readline() for _ in range(4)]
            assert process.poll() is None
            assert process.wait(20) == 3
            assert process.stderr.read() == ""
    assert "its deadline is over" in lines[0]
    assert lines[1] == "may release funds: no\n"
    assert lines[3] == f"or: `alphapo resume --journal {path} --base-url {url}` continues it.\n"


def test_an_attempt_of_an_earlier_run_leaves_its_doubt(local: Local) -> None:
    """With --attempted-before a refusal proves nothing: the outcome is unknown, and funds stay where they are."""
    arguments = withdrawing("paying-before", address="unsupported", deadline="0.3")
    result = local.invoke(*arguments, "--attempted-before")
    assert result.exit_code == 3
    assert "may release funds: no" in result.stderr


MISTYPED = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"


# ── before money moves ───────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_terminal_a_real_host_needs_yes() -> None:
    """A script has to say that it means it: exit code 2, nothing sent."""
    result = invoke(*withdrawing("paying-2"), **ELSEWHERE)
    assert result.exit_code == 2
    assert "pass --yes" in result.stderr


@pytest.mark.parametrize("typed", [b"n\n", b"\n", b""])
def test_whoever_does_not_agree_pays_nothing(typed: bytes) -> None:
    """No, nothing at all, or the end of input: exit code 1, nothing sent, and everything was shown before."""
    result = invoke(*withdrawing("paying-3"), stdin=Terminal(typed), **ELSEWHERE)
    assert result.exit_code == 1
    assert "this call sent nothing" in result.stderr
    assert "https://alphapo.invalid" in result.stderr
    assert "0.5 BTC" in result.stderr


@pytest.mark.parametrize(("typed", "more"), [(b"y\n", []), (b"", ["--yes"])])
def test_whoever_agrees_pays(typed: bytes, more: list[str]) -> None:
    """The answer, or --yes, lets the body leave; here for a host that does not exist, so that it never arrives."""
    result = invoke(*withdrawing("paying-4", deadline="20"), *more, stdin=Terminal(typed), **ELSEWHERE)
    assert result.exit_code == 3
    assert "never arrived" in result.stderr


def test_a_journal_in_a_database_is_asked_first_and_then_used() -> None:
    """The question has an event loop of its own, to which no connection is tied."""
    result = invoke(
        *withdrawing("paying-5", deadline="20"), "--yes", **{**ELSEWHERE, "ALPHAPO_JOURNAL": postgres.url()}
    )
    assert result.exit_code == 3
    assert "durable" in result.stderr
    assert "never arrived" in result.stderr


def test_an_outcome_is_given_as_json(local: Local, tmp_path: Path) -> None:
    """With whether funds may be released and what to do now, on standard output alone."""
    path = str(tmp_path / "payouts.db")
    paid = json.loads(local.invoke(*withdrawing("paying-json"), "--json", "--journal", path).stdout)
    assert (paid["outcome"], paid["may_release_funds"], paid["exit_code"]) == ("accepted", False, 0)
    assert (paid["withdrawal"]["foreign_id"], paid["error"], paid["next_step"]) == ("paying-json", None, None)
    assert "has_numbers" not in paid["withdrawal"]
    ended = local.invoke(*withdrawing("paying-no", address="unsupported"), "--json", "--journal", path)
    refused = json.loads(ended.stdout)
    assert (refused["outcome"], refused["may_release_funds"], refused["exit_code"]) == ("rejected", True, 1)
    assert "AlphaPo refused it" in refused["error"]
    assert refused["withdrawal"] is None
    assert "--retry-rejected" in refused["next_step"]


def test_a_mistyped_address_is_shown_before_anything_is_paid(local: Local) -> None:
    """Below the question, without a terminal, and for the local sandbox, too; the payment is the caller's to decide."""
    words = f"warning: address '{MISTYPED}' is mistyped or cut: its checksum does not fit."
    asked = invoke(*withdrawing("paying-typo", address=MISTYPED), stdin=Terminal(b"n\n"), **ELSEWHERE)
    assert asked.exit_code == 1
    shown = asked.stderr.replace(": n\n", ":")  # older versions of click do not repeat the answer
    assert shown.splitlines()[-2:] == [words, "Pay this? [y/N]:Not confirmed: this call sent nothing."]
    meant = invoke(*withdrawing("paying-typo", address=MISTYPED, deadline="0.1"), "--yes", **ELSEWHERE)
    assert words in meant.stderr.splitlines()
    paid = local.invoke(*withdrawing("paying-typo", address=MISTYPED))
    assert (paid.exit_code, paid.stderr) == (0, f"{words}\n")


def test_the_question_shows_everything_that_matters() -> None:
    """Host, account, fingerprint of the key, what the journal knows, and where how much goes."""
    access = Access(ELSEWHERE, account="main")
    request = WithdrawalRequest(
        currency="EUR",
        convert_to="XRP",
        amount_to="5",
        address="made-up",
        tag="77",
        foreign_id="f",
        end_user_reference="u",
    )
    totals = {"BTC": Totals(requested=Decimal(3), accepted=Decimal(2))}
    shown = "\n".join(question(request, access, totals, is_durable=True))
    for word in (
        "alphapo.invalid",
        "main",
        access.fingerprint,
        "3 BTC requested, 2 accepted",
        "durable",
        "5 XRP",
        "EUR",
        "made-up, tag 77",
    ):
        assert word in shown
    assert SECRET not in shown


def test_the_question_warns_of_a_journal_that_forgets() -> None:
    """A journal in memory is told as what it is."""
    request = WithdrawalRequest(currency="BTC", amount="5", address="a", foreign_id="f", end_user_reference="u")
    shown = "\n".join(question(request, Access(ELSEWHERE), {}, is_durable=False))
    assert "forgets" in shown
    assert "nothing in this journal" in shown


# ── what is said at the end ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("result", "resuming", "code", "last"),
    [
        (Withdrawal(id=7), None, 0, "source:             reply"),
        (
            WithdrawalRejected("no", errors={}),
            "alphapo resume",
            1,
            "or release the funds; --retry-rejected sends the same request again.",
        ),
        (
            WithdrawalRejected("no", errors={}),
            None,
            1,
            "this outcome proves nothing about it: run again with --attempted-before.",
        ),
        (
            WithdrawalUnknown("no", reason="held"),
            "alphapo resume",
            3,
            "`alphapo resume` continues it.",
        ),
        (WithdrawalUnknown("no", reason="held"), None, 3, "ends with it: run again with --attempted-before."),
    ],
)
def test_a_journal_that_forgets_is_told_with_the_outcome(
    result: Withdrawal | WithdrawalRejected | WithdrawalUnknown, *, resuming: str | None, code: int, last: str
) -> None:
    """Where the journal ends with the process, the next run has to be told of this one; where it does not, a command goes on with it."""
    lines, ended = report(result, resuming=resuming)
    assert ended == code
    assert lines[-1].endswith(last)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_withdrawal_is_unknown(number: signal.Signals) -> None:
    """Ctrl-C or SIGTERM while the body is out: nobody can say, exit code 3, keep it pending."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=interrupt_at_first_byte, args=(server, number))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        result = invoke(*withdrawing("paying-5"), **KEYS, ALPHAPO_BASE_URL=url)
        thread.join()
    assert result.exit_code == 3
    assert "was interrupted" in result.stderr
    assert "may release funds: no" in result.stderr


def interrupt_at_first_byte(server: socket.socket, number: signal.Signals) -> None:
    """Press Ctrl-C, or end the process, as soon as a request arrives, and answer nothing."""
    connection, _ = server.accept()
    with connection, contextlib.suppress(ConnectionError):  # the client ends it with a reset
        connection.recv(1)
        # To the main thread, as a terminal's Ctrl-C goes: delivered to this one it would not wake the event loop.
        signal.pthread_kill(threading.main_thread().ident or 0, number)
        while connection.recv(65536):
            pass


def test_a_closed_pipe_changes_no_exit_code(local: Local) -> None:
    """The withdrawal is accepted: exit code 0, though nothing reads that."""
    end, start = os.pipe()
    os.close(end)
    with open(start, "wb") as pipe:  # noqa: PTH123 - a number, no path
        result = subprocess.run(
            command_line(*withdrawing("closed-pipe"), "--journal", "memory"),
            env=clean_environment(**local.environment),
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert result.returncode == 0
    assert result.stderr.startswith(b"Standard output cannot be written any more (Broken pipe)")
