"""The operations guide's programs for durable engines, as they stand there: a step that is run again pays once."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox import Fault, Script
from tests.processes import started

GUIDE = (Path(__file__).resolve().parents[2] / "alphapo_async" / "OPERATIONS.md").read_text(encoding="utf-8")
_, _, DBOS, TEMPORAL = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.alphapo(faults=Script({"*": {"withdrawal": [Fault.STALL_AFTER]}}))
def test_a_worker_killed_between_send_and_record_pays_once(alphapo_sandbox: RunningSandbox, tmp_path: Path) -> None:
    """DBOS runs the step again in the next process; the journal knows that it may have been sent, and AlphaPo says that it was."""
    program = tmp_path / "refunds.py"
    program.write_text(DBOS)
    environment = {
        **alphapo_sandbox.environment,
        "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db"),
        "DBOS_SYSTEM_DATABASE_URL": f"sqlite:///{tmp_path / 'dbos.db'}",
        "HOME": str(tmp_path),
    }
    command = [sys.executable, str(program), "17"]
    how: dict[str, Any] = {"env": environment, "cwd": tmp_path, "text": True, "stderr": subprocess.DEVNULL}
    with started(command, stdout=subprocess.DEVNULL, **how) as first:
        _wait_for_acceptance(alphapo_sandbox)
        first.kill()
    with started(command, stdout=subprocess.PIPE, **how) as second:
        said, _ = second.communicate(timeout=60)
    (paid,) = alphapo_sandbox.ledger.all_accepted()
    assert (second.returncode, said.split()[-1]) == (0, str(paid.id))
    assert alphapo_sandbox.ledger.paid_more_than_once() == []


def _wait_for_acceptance(sandbox: RunningSandbox) -> None:
    until = time.monotonic() + 30
    while not sandbox.ledger.all_accepted():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.alphapo(faults=Script({"*": {"withdrawal": [Fault.RESET_AFTER], "look-up": [Fault.HTML_502_BEFORE]}}))
async def test_an_activity_that_is_tried_again_looks_first(
    alphapo_sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first try lost the reply, its second one finds the withdrawal; nothing was sent twice."""
    for name, value in alphapo_sandbox.environment.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(TEMPORAL, "OPERATIONS.md", "exec"), names)  # noqa: S102 - our own guide
    environment = ActivityEnvironment()
    with pytest.raises(ApplicationError):
        await environment.run(names["pay"], "bc1qmadeup", "0.0015")
    environment.info = dataclasses.replace(environment.info, attempt=2)
    paid = await environment.run(names["pay"], "bc1qmadeup", "0.0015")
    (accepted,) = alphapo_sandbox.ledger.all_accepted()
    assert paid == str(accepted.id)
    assert alphapo_sandbox.ledger.posts == 1
