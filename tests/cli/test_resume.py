"""`alphapo resume` against a local sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import threading
from pathlib import Path

from msgspec.structs import replace

from alphapo_async import AlphapoClient, WithdrawalError, WithdrawalRequest
from alphapo_async.cli.resume import result_line, row_fields, row_line, stopping
from alphapo_async.core.errors import WithdrawalNotSent
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.results import result_of
from tests.cli.conftest import SECRET, Local
from tests.support.rows import ACCEPTED_ROW, FAILED_ROW


def request(foreign_id: str) -> WithdrawalRequest:
    """Return a well-formed request."""
    return WithdrawalRequest(
        currency="BTC", address="made-up", amount="0.001", foreign_id=foreign_id, end_user_reference="made-up-user"
    )


def enqueue(local: Local, path: Path, *foreign_ids: str) -> None:
    """Leave withdrawals to the workers."""

    async def story() -> None:
        async with AlphapoClient("made-up-key", SECRET, base_url=local.url, journal=path) as client:
            for foreign_id in foreign_ids:
                await client.enqueue(request(foreign_id))

    asyncio.run(story())


def test_resume_pays_what_was_left_open_and_tells_it(local: Local, tmp_path: Path) -> None:
    """A line each, the counts, exit code 0; the second pass finds nothing."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "resume-1", "resume-2")
    result = local.invoke("resume", "--journal", str(path))
    assert result.exit_code == 0, result.output
    assert "resume-1  accepted  " in result.stdout
    assert "2 of 2 finished: 2 accepted" in result.stdout
    again = local.invoke("resume", ALPHAPO_JOURNAL=str(path))
    assert (again.exit_code, again.stdout) == (0, "Nothing is open.\n")


def test_resume_as_json_has_an_object_for_each_row_and_one_for_the_pass(local: Local, tmp_path: Path) -> None:
    """Also of what became final; errors with what happened and what to do."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "resume-json-1")
    options = ("resume", "--json", "--journal", str(path))
    refused = [json.loads(line) for line in local.invoke(*options, ALPHAPO_SECRET="wrong").stdout.splitlines()]
    assert (refused[0]["outcome"], refused[0]["alphapo_id"]) == ("unknown", None)
    assert "Check ALPHAPO_KEY" in refused[0]["error"]
    assert refused[1]["summary"]["exit_code"] == 4
    row, *changes, summary = [json.loads(line) for line in local.invoke(*options, "--refresh").stdout.splitlines()]
    assert (row["foreign_id"], row["outcome"], row["error"]) == ("resume-json-1", "accepted", None)
    assert {tuple(change) for change in changes} == {tuple(row)}
    assert (changes[-1]["status"], len(changes[-1]["txids"])) == ("confirmed", 1)
    summary = summary["summary"]
    assert summary["outcomes"] == {"accepted": 1}
    assert (summary["became_final"], summary["not_final"]) == ({"confirmed": 1}, 0)
    assert (summary["error"], summary["exit_code"]) == (None, 0)


def test_resume_with_a_wrong_secret_keeps_what_is_open(local: Local, tmp_path: Path) -> None:
    """Each row says that a worker may still send it, and the exit code that the key is refused; with the right secret all are paid."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "wrong-1", "wrong-2")
    result = local.invoke("resume", "--journal", str(path), ALPHAPO_SECRET="not-the-secret")
    assert result.exit_code == 4, result.stdout
    assert result.stdout.count("a worker may still send it. Check ALPHAPO_KEY") == 2
    again = local.invoke("resume", "--journal", str(path))
    assert again.exit_code == 0
    assert again.stdout.count("  accepted  ") == 2


def test_resume_without_resending_leaves_it_unknown(local: Local, tmp_path: Path) -> None:
    """A restored journal's row is looked up, and not sent: exit code 3."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "resume-3")
    result = local.invoke("resume", "--restored", "--no-resend", "--journal", str(path))
    assert result.exit_code == 3
    assert "resume-3  unknown  " in result.stdout


def test_resume_wants_a_journal_that_is_there(local: Local, tmp_path: Path) -> None:
    """A mistyped path, or one in memory, must not read as "nothing is open": exit code 2, and nothing is made."""
    result = local.invoke("resume", "--journal", str(tmp_path / "mistyped.db"))
    check = "Check --journal, or ALPHAPO_JOURNAL. Nothing was sent."
    assert (result.exit_code, result.output) == (2, f"no such journal: {tmp_path}/mistyped.db. {check}\n")
    assert list(tmp_path.iterdir()) == []
    result = local.invoke("resume")
    assert result.exit_code == 2
    assert "Set ALPHAPO_JOURNAL=payouts.db" in result.stderr


def test_a_journal_that_breaks_while_rows_are_resumed_asks_for_another_pass(local: Local, tmp_path: Path) -> None:
    """Something may have been sent by then: exit code 3, and no word of a withdrawal that there is not."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "resume-4")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("drop index withdrawals_unreported")
        connection.execute("alter table withdrawals rename column reported to forgotten")
    result = local.invoke("resume", "--journal", str(path))
    assert result.exit_code == 3
    assert "run the same command again" in result.stderr
    assert "release funds" not in result.output
    assert "Nothing is open" not in result.output


def test_every_result_is_a_line() -> None:
    """With AlphaPo's id, or with what to do."""
    paid = request("f")
    assert result_line(result_of(0, paid, Withdrawal(id=7))) == "f  accepted  7"
    error: WithdrawalError = WithdrawalNotSent("f never arrived.", reason="queue")
    assert result_line(result_of(0, paid, error)).startswith("f  not_sent  f never arrived. Request it again")


def test_resume_refreshes_until_all_is_final(local: Local, tmp_path: Path) -> None:
    """A line for each change, with the txid; exit code 0 once all is confirmed; the second time nothing is asked."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "refresh-1", "refresh-2")
    result = local.invoke("resume", "--refresh", "--max-look-up-rate", "100", "--journal", str(path))
    assert result.exit_code == 0, result.output
    final = [line for line in result.stdout.splitlines() if "  confirmed  " in line]
    assert sorted(line.split()[0] for line in final) == ["refresh-1", "refresh-2"]
    assert all(len(line.split()[-1]) == 64 for line in final)
    assert result.stdout.endswith("2 became final: 2 confirmed. 0 are not final.\n")
    again = local.invoke("resume", "--refresh", "--journal", str(path))
    assert (again.exit_code, again.stdout) == (0, "Nothing is open.\n0 became final. 0 are not final.\n")


def test_resume_that_gives_up_before_all_is_final_asks_for_another_run(local: Local, tmp_path: Path) -> None:
    """Exit code 3."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "refresh-3")
    result = local.invoke("resume", "--refresh", "--give-up-after", "0.05s", "--journal", str(path))
    assert result.exit_code == 3, result.output
    assert "Looking up 1 withdrawal until final, for at most " in result.stderr
    assert result.stdout.endswith("1 is not final.\n")


def test_resume_that_meets_a_refused_key_while_it_refreshes_says_so(local: Local, tmp_path: Path) -> None:
    """Exit code 4, and what is not final stays so."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "refresh-4")
    assert local.invoke("resume", "--journal", str(path)).exit_code == 0
    result = local.invoke("resume", "--refresh", "--journal", str(path), ALPHAPO_SECRET="not-the-secret")
    assert result.exit_code == 4, result.output
    assert "does not accept the key or the signature" in result.stderr
    assert result.stdout.endswith("1 is not final.\n")


def test_ctrl_c_while_the_body_is_out_asks_for_another_pass(tmp_path: Path) -> None:
    """Exit code 3 and the reason: click alone would end with 1, which says that something was refused."""
    path = tmp_path / "payouts.db"
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = Local(f"http://127.0.0.1:{server.getsockname()[1]}")
        enqueue(silent, path, "resume-interrupted")
        thread = threading.Thread(target=interrupt_and_hang_up, args=(server,))
        thread.start()
        result = silent.invoke("resume", "--journal", str(path))
        thread.join()
    assert result.exit_code == 3, result.output
    assert result.stderr.endswith("What was sent is in the journal: the same command continues from there.\n")


def interrupt_and_hang_up(server: socket.socket) -> None:
    """Press Ctrl-C as soon as a request arrives, and close its connection."""
    connection, _ = server.accept()
    with connection:
        connection.recv(1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


async def test_ctrl_c_and_sigterm_set_an_event_instead_of_ending_the_process() -> None:
    """While the block runs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with stopping() as stop:
            os.kill(os.getpid(), number)
            await asyncio.wait_for(stop.wait(), 1.0)


def test_a_changed_row_is_a_line() -> None:
    """With what is known of it."""
    assert row_line(replace(ACCEPTED_ROW, withdrawal=None)) == f"{ACCEPTED_ROW.foreign_id}  accepted"


def test_a_row_that_failed_at_alphapo_says_why_as_json() -> None:
    """In AlphaPo's words; an accepted row has no error, whatever was in doubt before."""
    shown = Transaction(id=7, status="declined", error="Not approved")
    fields = row_fields(replace(FAILED_ROW, transaction=shown))
    assert (fields["outcome"], fields["error"]) == ("failed", "Not approved")
    assert row_fields(replace(ACCEPTED_ROW, reason="connection lost"))["error"] is None
