"""The public names."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alphapo_async
from alphapo_async.core import errors
from tests.support import documents


def test_the_public_names_are_sorted_and_there() -> None:
    """What `__all__` names exists, once, in order, and every error is among it."""
    names = alphapo_async.__all__

    assert names == sorted(set(names))
    assert all(hasattr(alphapo_async, name) for name in names)
    assert set(errors.__all__) <= set(names)


def test_every_public_name_has_a_docstring() -> None:
    """A name without a word about it is not public."""
    undocumented = [name for name in alphapo_async.__all__ if not getattr(alphapo_async, name).__doc__]

    assert undocumented == []


def test_names_are_loaded_when_they_are_asked_for() -> None:
    """Importing the package alone loads nothing, and a name that does not exist is told as Python does."""
    assert dir(alphapo_async) == alphapo_async.__all__
    with pytest.raises(AttributeError, match="module 'alphapo_async' has no attribute 'AlphapoClientt'"):
        _ = alphapo_async.AlphapoClientt
    script = "import sys, alphapo_async; print('aiohttp' in sys.modules); alphapo_async.AlphapoClient; print('aiohttp' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]


def test_who_does_not_ask_for_the_log_does_not_hear_it() -> None:
    """Whatever of the package is imported, and on Python's last resort, too: the logger has a handler that says nothing."""
    script = "import logging, {}; logging.getLogger('alphapo_async').error('heard'); logging.getLogger('alphapo_async.x').error('heard')"
    for name in ("alphapo_async", "alphapo_async.journal.sqlite.file", "alphapo_async.contrib._answers"):
        result = subprocess.run([sys.executable, "-c", script.format(name)], capture_output=True, text=True, check=True)
        assert (result.stdout, result.stderr) == ("", "")


_SAYING = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def _said(source: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SAYING:
            yield node


def _names_the_withdrawal(call: ast.Call) -> bool:
    extra = next((keyword.value for keyword in call.keywords if keyword.arg == "extra"), None)
    return isinstance(extra, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value == "foreign_id" for key in extra.keys
    )


def test_every_log_record_has_its_foreign_id() -> None:
    """Structured logs find a withdrawal by a field, which is None where a line is about none."""
    package = Path(alphapo_async.__file__).parent
    calls = {
        f"{path.relative_to(package)}:{call.lineno}": _names_the_withdrawal(call)
        for path in sorted(package.rglob("*.py"))
        for call in _said(path.read_text(encoding="utf-8"))
        if ast.unparse(call.func).startswith("logger.")
    }
    assert len(calls) > 8
    assert [place for place, has_it in calls.items() if not has_it] == []


def test_no_text_that_users_read_names_an_assumption_by_its_letter() -> None:
    """`P2` or `A1` mean something in the design alone: messages, helps, docstrings and pages say the thing itself."""
    package = Path(alphapo_async.__file__).parent
    by_letter = re.compile(r"\b[PA]\d\d?\b")
    found = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and by_letter.search(node.value)
    ]
    pages = [page for page in documents.PAGES if by_letter.search(documents.text_of(page))]
    assert (found, pages) == ([], [])
