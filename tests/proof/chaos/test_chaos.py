"""Scenarios that need nothing but what PyPI brings, played for seconds; `nox -s chaos` plays all of them for longer."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.proof.chaos import __main__ as command
from tests.proof.chaos.payer import Order, paced, read
from tests.proof.chaos.scenarios import SCENARIOS, lacking
from tests.proof.chaos.stage import Plan, Scenario, play
from tests.support.long import LONG
from tests.support.processes import started

NAMED = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize(
    ("name", "withdrawals", "faults"),
    [
        pytest.param("network", 60, 3, marks=LONG),
        pytest.param("file", 300, 6, marks=LONG),
        pytest.param("few-descriptors", 300, 3, marks=LONG),
        pytest.param("postgresql-18", 300, 8, marks=LONG),
    ],
)
async def test_nothing_is_wrong(name: str, withdrawals: int, faults: int, tmp_path: Path) -> None:
    """Paid once, reported rightly, settled, closed, with every task alive and every descriptor given back."""
    plan = Plan(withdrawals, faults, seed=1, quiet=1.0)
    if withdrawals < 100:
        plan = plan._replace(verbs=("work", "withdraw", "enqueue"))
    result = await play(NAMED[name], plan, tmp_path)
    assert result.verdict.is_clean, result.verdict
    assert result.faults.total() == faults
    assert result.withdrawals == withdrawals


def test_what_a_machine_lacks_is_not_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named in one line; where everything is required, the command fails."""
    missing = Scenario("far", ("no-such-server", "celery"), NAMED["file"].set_up)
    assert "no-such-server" in lacking(missing)
    monkeypatch.setattr(command, "SCENARIOS", (missing,))
    assert command.main([]) == 0
    assert command.main(["--require-all"]) == 1
    assert "not run: 1: far (needs no-such-server" in capsys.readouterr().out


@LONG
def test_the_command_ends_what_it_has_started(tmp_path: Path) -> None:
    """A process that it started is gone once SIGTERM has ended the command."""
    arguments = [sys.executable, "-m", "tests.proof.chaos", "--only", "file", "--withdrawals", "5000", "--faults", "50"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with started(arguments, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while not [*tmp_path.glob("*/5-enqueue.log")]:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert b"interrupted" in process.stdout.read()
        assert process.wait(10) == 130
    assert not subprocess.run(["pgrep", "-f", str(tmp_path)], stdout=subprocess.PIPE, check=False).stdout  # noqa: S607


async def test_calls_are_spread() -> None:
    """Each number is due at its own time; those that are overdue come at once."""
    now = asyncio.get_running_loop().time()
    assert [number async for number in paced((3, 1, 2), now - 9.0, 9.03)] == [3, 1, 2]
    assert asyncio.get_running_loop().time() - now < 1.0


def test_a_line_cut_by_a_kill_is_no_report(tmp_path: Path) -> None:
    """The others are read."""
    notes = tmp_path / "notes"
    notes.write_text('{"kind":"event","name":"closed"}\n{"kind":"ev')
    assert [report.name for report in read(str(notes))] == ["closed"]
    assert read(str(tmp_path / "none")) == []
    assert Order(verb="work", url="", journal="", quiet=1.0, notes="").shares == 1
