"""The operations guide's program for Django under WSGI, as it stands there: one event loop per request, one journal for all."""

from __future__ import annotations

import importlib
import io
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.util import setup_testing_defaults

import msgspec
import pytest

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox import Fault, Script
from tests.support import documents
from tests.support.documents import text_of

(PROGRAM,) = [
    program
    for program in re.findall(r"```python\n(.*?)```", text_of(documents.GUIDE), re.DOTALL)
    if "get_wsgi_application" in program
]
Ask = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the guide's site, made once: Django is configured once in a process."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "refund_site.py").write_text(PROGRAM, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_SECRET_KEY", "made up")
        patch.syspath_prepend(folder)
        site = importlib.import_module("refund_site")
    yield site.application
    del sys.modules["refund_site"]


@pytest.fixture
def ask(application: Any, alphapo_sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ask:
    """Give a function that makes one request, as a WSGI server does in a thread of its own."""
    for name, value in {**alphapo_sandbox.environment, "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db")}.items():
        monkeypatch.setenv(name, value)

    def post(name: str, amount: str = "0.0015") -> tuple[int, dict[str, Any]]:
        body = urlencode({"address": "bc1qmadeup", "amount": amount}).encode()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": f"/refunds/{name}",
            "HTTP_HOST": "127.0.0.1",
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
        }
        setup_testing_defaults(environ)
        statuses: list[str] = []
        told = b"".join(application(environ, lambda status, _headers: statuses.append(status)))
        return int(statuses[0].split()[0]), msgspec.json.decode(told)

    return post


def test_each_name_is_paid_once_from_many_threads(ask: Ask, alphapo_sandbox: RunningSandbox) -> None:
    """Each request has a loop, a client and connections of its own; the same name again hears the same."""
    names = [f"{number}" for number in range(6)] * 2
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, names))
    assert {status for status, _ in answers} == {HTTPStatus.CREATED}
    assert answers[:6] == answers[6:]
    accepted = sorted(str(each.id) for each in alphapo_sandbox.ledger.all_accepted())
    assert sorted(told["id"] for _, told in answers[:6]) == accepted


@pytest.mark.alphapo_sandbox(faults=Script({"*": {"withdrawal": [Fault.RESET_AFTER]}}))
def test_a_lost_answer_is_looked_up(ask: Ask, alphapo_sandbox: RunningSandbox) -> None:
    """Within the request; the next one hears the same."""
    for _ in range(2):
        status, told = ask("17")
        assert (status, told["id"]) == (HTTPStatus.CREATED, str(alphapo_sandbox.ledger.all_accepted()[0].id))
    assert alphapo_sandbox.ledger.posts == 1


def test_a_refusal_is_an_answer(ask: Ask, alphapo_sandbox: RunningSandbox) -> None:
    """The view says that no money moved."""
    status, told = ask("17", "0")
    assert status == HTTPStatus.CONFLICT
    assert "No money moved" in told["why"]
    assert not alphapo_sandbox.ledger.all_accepted()
