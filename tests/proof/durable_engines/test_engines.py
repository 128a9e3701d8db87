"""The operations guide's programs for durable engines, as they stand there: a step that is run again pays once."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox import Fault, Script
from tests.support import documents
from tests.support.documents import text_of
from tests.support.processes import started

GUIDE = text_of(documents.GUIDE)
*_, DBOS, TEMPORAL = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


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


@pytest.fixture
def pay(alphapo_sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Coroutine[Any, Any, str]]:
    """Give the guide's activity, with the sandbox in its environment."""
    for name, value in alphapo_sandbox.environment.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    exec(compile(TEMPORAL, "OPERATIONS.md", "exec"), names)  # noqa: S102 - our own guide
    activity: Callable[..., Coroutine[Any, Any, str]] = names["pay"]
    return activity


REFUND = ("17", "bc1qmadeup", "0.0015", False)


@pytest.mark.alphapo(faults=Script({"*": {"withdrawal": [Fault.RESET_AFTER], "look-up": [Fault.HTML_502_BEFORE]}}))
async def test_an_activity_that_is_tried_again_looks_first(alphapo_sandbox: RunningSandbox, pay: Any) -> None:
    """Its first try lost the reply, its second one finds the withdrawal; nothing was sent twice."""
    environment = ActivityEnvironment()
    with pytest.raises(ApplicationError) as lost:
        await environment.run(pay, *REFUND)
    assert (lost.value.type, lost.value.non_retryable) == ("WithdrawalUnknown", False)
    environment.info = dataclasses.replace(environment.info, attempt=2)
    paid = await environment.run(pay, *REFUND)
    (accepted,) = alphapo_sandbox.ledger.all_accepted()
    assert paid == str(accepted.id)
    assert alphapo_sandbox.ledger.posts == 1


@pytest.mark.parametrize(("again", "posts"), [(False, 2), (True, 1)])
async def test_another_run_of_the_workflow_pays_nothing_more(
    alphapo_sandbox: RunningSandbox, pay: Any, *, again: bool, posts: int
) -> None:
    """Another run id and activity id, the same refund: one acceptance; no second request where the workflow says so."""
    environment = ActivityEnvironment()
    first = await environment.run(pay, *REFUND)
    environment.info = dataclasses.replace(environment.info, workflow_run_id="another run", activity_id="another")
    assert await environment.run(pay, *REFUND[:3], again) == first
    (accepted,) = alphapo_sandbox.ledger.all_accepted()
    assert (first, alphapo_sandbox.ledger.posts) == (str(accepted.id), posts)


@pytest.mark.parametrize(("amount", "kind"), [("0", "WithdrawalRejected"), ("much", "InvalidRequest")])
async def test_an_answer_is_not_tried_again(alphapo_sandbox: RunningSandbox, pay: Any, amount: str, kind: str) -> None:
    """A refusal, or a request that is wrong: the engine must not ask the same once more."""
    with pytest.raises(ApplicationError) as told:
        await ActivityEnvironment().run(pay, "17", "bc1qmadeup", amount, False)
    assert (told.value.type, told.value.non_retryable) == (kind, True)
    assert not alphapo_sandbox.ledger.all_accepted()
