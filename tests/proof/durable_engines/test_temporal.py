"""The activity of the operations guide's program for Temporal, as it stands there: what Temporal is to run again, and what it is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox import Fault, Script
from tests.support.documents import GUIDE
from tests.support.programs import program_with

PAYMENT = {"currency": "BTC", "address": "bc1qmadeup", "amount": "0.0015", "end_user_reference": "user-42"}


@pytest.fixture
def pay(
    alphapo_sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Coroutine[Any, Any, str]]:
    """Give the guide's activity, with the sandbox in its environment."""
    for name, value in {**alphapo_sandbox.environment, "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db")}.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"__name__": "refunds"}
    exec(compile(program_with(GUIDE, "from temporalio"), "OPERATIONS.md", "exec"), names)  # noqa: S102 - our own guide
    activity: Callable[..., Coroutine[Any, Any, str]] = names["pay"]
    return activity


@pytest.mark.alphapo_sandbox(faults=Script({"*": {"withdrawal": [Fault.RESET_AFTER]}}))
async def test_another_run_of_the_workflow_pays_nothing_more(alphapo_sandbox: RunningSandbox, pay: Any) -> None:
    """Another run id, activity id and attempt, the same refund: one acceptance, one body, also where its reply was lost."""
    environment = ActivityEnvironment()
    first = await environment.run(pay, "17", PAYMENT)
    environment.info = dataclasses.replace(
        environment.info, workflow_run_id="another", activity_id="another", attempt=2
    )
    assert await environment.run(pay, "17", PAYMENT) == first
    (accepted,) = alphapo_sandbox.ledger.all_accepted()
    assert (first, alphapo_sandbox.ledger.posts) == (str(accepted.id), 1)


@pytest.mark.parametrize(("amount", "kind"), [("0", "WithdrawalRejected"), ("much", "InvalidRequest")])
async def test_an_answer_is_not_tried_again(alphapo_sandbox: RunningSandbox, pay: Any, amount: str, kind: str) -> None:
    """A refusal, or a request that is wrong: the engine must not ask the same once more."""
    with pytest.raises(ApplicationError) as answer:
        await ActivityEnvironment().run(pay, "17", {**PAYMENT, "amount": amount})
    assert (answer.value.type, answer.value.non_retryable) == (kind, True)
    assert not alphapo_sandbox.ledger.all_accepted()


@pytest.mark.alphapo_sandbox(faults="unknown")
async def test_an_unknown_outcome_is_tried_again(alphapo_sandbox: RunningSandbox, pay: Any) -> None:
    """Temporal is given how long to wait."""
    with pytest.raises(ApplicationError, match="Keep it pending") as answer:
        await ActivityEnvironment().run(pay, "17", PAYMENT)
    assert not answer.value.non_retryable
    assert answer.value.next_retry_delay is not None
    assert alphapo_sandbox.ledger.posts == 1
