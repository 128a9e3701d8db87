"""The operations guide's program for Celery, as it stands there, in a worker: each task has an event loop of its own."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox import Fault, Script
from tests.support import documents
from tests.support.programs import program_with

PROGRAM = program_with(documents.GUIDE, "from celery")


def _payment(amount: str = "0.0015") -> dict[str, str]:
    return {"currency": "BTC", "address": "bc1qmadeup", "amount": amount, "end_user_reference": "user-42"}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give the guide's module, with a worker that runs its task; the broker is in memory."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "refund_tasks.py").write_text(PROGRAM, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", "memory://")
        patch.setenv("CELERY_RESULT_BACKEND", "cache+memory://")
        patch.syspath_prepend(folder)
        module = importlib.import_module("refund_tasks")
    with start_worker(module.app, pool="solo", perform_ping_check=False, shutdown_timeout=30.0):
        yield module
    del sys.modules["refund_tasks"]


@pytest.fixture
def pay(tasks: Any, alphapo_sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Give the guide's task, with the sandbox in its environment."""
    for name, value in {**alphapo_sandbox.environment, "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db")}.items():
        monkeypatch.setenv(name, value)
    return tasks.pay


def test_a_task_that_is_delivered_twice_pays_once(pay: Any, alphapo_sandbox: RunningSandbox) -> None:
    """As a broker does whose worker was killed: the second delivery finds the first in the journal."""
    asked = [pay.delay(f"{number % 5}", _payment()) for number in range(10)]
    paid = [each.get(timeout=30) for each in asked]
    assert paid[:5] == paid[5:]
    assert sorted(paid[:5]) == sorted(str(each.id) for each in alphapo_sandbox.ledger.all_accepted())


@pytest.mark.alphapo_sandbox(faults=Script({"*": {"withdrawal": [Fault.RESET_AFTER]}}))
def test_a_lost_answer_is_looked_up(pay: Any, alphapo_sandbox: RunningSandbox) -> None:
    """One acceptance, one body."""
    paid = pay.delay("17", _payment()).get(timeout=30)
    assert paid == str(alphapo_sandbox.ledger.all_accepted()[0].id)
    assert alphapo_sandbox.ledger.posts == 1


def test_a_refusal_is_not_tried_again(pay: Any, alphapo_sandbox: RunningSandbox) -> None:
    """The task fails with the error that says so."""
    asked = pay.delay("17", _payment("0"))
    with pytest.raises(Exception, match=r"WithdrawalRejected.*No money moved"):  # as Celery's serializer hands it back
        asked.get(timeout=30)
    assert not alphapo_sandbox.ledger.all_accepted()
