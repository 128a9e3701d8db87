"""The judge of the failovers, and that nothing of them is left behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import started
from tests.proof.failover_client import Report
from tests.proof.failover_judge import Evidence, judge
from tests.proof.replication import FOLDERS, PREFIX


def test_nothing_is_left_after_ctrl_c() -> None:
    """Servers and client processes end, and their files are removed."""
    command = [sys.executable, "-m", "tests.proof.failover", "--asynchronous", "1000"]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        both = _ports_of(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(20)

    assert not any(_listens(port) for port in both)
    assert list(_folders_of(process.pid)) == []


def _ports_of(process: int) -> list[int]:
    """Return the ports of primary and standby, once both run."""
    for _ in range(300):
        files = [file for folder in _folders_of(process) for file in folder.glob("*/postmaster.pid")]
        lines = [file.read_text().split() for file in files]
        if len(lines) == 2 and all(line[-1] in ("ready", "standby") for line in lines):
            return [int(line[3]) for line in lines]
        time.sleep(0.1)
    pytest.fail("the servers did not start")


def _folders_of(process: int) -> Iterator[Path]:
    return FOLDERS.glob(f"{PREFIX}*-{process}")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


# ── the judge ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _call(outcome: str, began: float, ended: float, *, may_release: bool = False) -> Report:
    return Report(
        kind="result",
        name="withdraw",
        foreign_id="p",
        outcome=outcome,
        may_release=may_release,
        began=began,
        ended=ended,
    )


NOTHING = Evidence(
    calls=(),
    accepted={},
    states={},
    frozen=frozenset(),
    abandoned=frozenset(),
    unfrozen={},
    silent=(),
    unannounced=(),
    announced=(),
    loses=True,
    freezes=True,
)
NO = _call("rejected", 1.0, 2.0, may_release=True)


@pytest.mark.parametrize(
    ("evidence", "kind"),
    [
        (NOTHING._replace(accepted={"p": [1.0, 2.0]}), "doubled"),
        (NOTHING._replace(calls=[NO], accepted={"p": [1.5]}), "wrong_no"),
        (NOTHING._replace(calls=[NO], accepted={"p": [3.0]}), "wrong_no"),
        (NOTHING._replace(calls=[NO], accepted={"p": [3.0]}, unfrozen={"p": 4.0}), "wrong_no"),
        (NOTHING._replace(calls=[NO, _call("accepted", 4.0, 5.0)], accepted={"p": [3.0]}), "wrong_no"),
        (NOTHING._replace(calls=[_call("accepted", 1.0, 2.0)]), "wrong_yes"),
        (NOTHING._replace(calls=[NO], loses=False), "lost"),
        (NOTHING._replace(accepted={"p": [1.0]}, states={"p": "rejected"}), "contradicts"),
        (NOTHING._replace(states={"p": "accepted"}), "contradicts"),
        (NOTHING._replace(accepted={"p": [1.0]}, frozen=frozenset("p"), abandoned=frozenset("p")), "thawed"),
        (NOTHING._replace(states={"p": "open"}, frozen=frozenset("p")), "stuck"),
        (NOTHING._replace(silent=["worker-0"]), "events"),
        (NOTHING._replace(unannounced=["p"]), "events"),
        (NOTHING._replace(announced=["worker-0"], freezes=False), "events"),
    ],
)
def test_the_judge_finds_every_kind_of_fault(evidence: Evidence, kind: str) -> None:
    """Each where it belongs."""
    assert getattr(judge(evidence), kind)


@pytest.mark.parametrize(
    "evidence",
    [
        NOTHING,
        NOTHING._replace(calls=[NO, _call("accepted", 2.5, 3.5)], accepted={"p": [3.0]}, states={"p": "accepted"}),
        NOTHING._replace(calls=[NO], accepted={"p": [3.0]}, unfrozen={"p": 2.5}, states={"p": "accepted"}),
        NOTHING._replace(calls=[NO], states={"p": "open"}, frozen=frozenset("p"), abandoned=frozenset("p")),
        NOTHING._replace(announced=["worker-0"]),
    ],
)
def test_the_judge_lets_what_is_right_pass(evidence: Evidence) -> None:
    """A later call or the operator may pay what was refused; a frozen row stays open."""
    assert judge(evidence).is_clean
