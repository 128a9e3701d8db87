"""Every exception class of the two database drivers, and a call of every verb of a journal that could meet one."""

from __future__ import annotations

import inspect
import sqlite3
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any, Final

import asyncpg

from alphapo_async.core.claims import Claim
from alphapo_async.core.history import Entry
from alphapo_async.journal import VERBS
from alphapo_async.journal.copying import Register
from tests.support.journal_suite import ACCOUNT, LOST, asked, buried, learn


def _classes(module: ModuleType) -> tuple[type[Exception], ...]:
    found = {each for each in vars(module).values() if inspect.isclass(each) and issubclass(each, Exception)}
    return tuple(sorted(found, key=lambda each: each.__name__))


ASYNCPG: Final = _classes(asyncpg.exceptions)
SQLITE: Final = _classes(sqlite3)
OTHERS: Final = (OSError, TimeoutError, MemoryError, RuntimeError, AttributeError, ValueError, EOFError)
"""What the drivers are known to raise besides, also by mistake."""


def verbs(journal: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return a call of each verb of a journal in a database."""
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "time": journal.time,
        "join": lambda: journal.join(ACCOUNT, "h", "w", 1e12),
        "renew": lambda: journal.renew("w", 1e12, 0.0),
        "leave": lambda: journal.leave("w", 0.0),
        "ended": lambda: journal.ended("w", 0.0),
        "find_dead": lambda: journal.find_dead(0.0),
        "find_held": lambda: journal.find_held("w", 9),
        "update, new": lambda: learn(journal, "new", asked("new")),
        "update, known": lambda: learn(journal, "old", LOST),
        "update, late": lambda: learn(journal, "late", asked("late"), may_lag=True),
        "find": lambda: journal.find(ACCOUNT, "old"),
        "find_control": lambda: journal.find_control(ACCOUNT, "key", 0.0),
        "find_open": lambda: journal.find_open(ACCOUNT, None, 9),
        "claim": lambda: journal.claim(ACCOUNT, Claim("w", 1, "key", 0.0, 9)),
        "begun": lambda: journal.begun("w"),
        "find_due": lambda: journal.find_due(ACCOUNT, 0.0, 9),
        "find_unreported": lambda: journal.find_unreported(ACCOUNT, 9),
        "history": lambda: journal.history(ACCOUNT, "old"),
        "totals": lambda: journal.totals(ACCOUNT),
        "raise_epoch": lambda: journal.raise_epoch(0.0),
        "equate_epochs": lambda: journal.equate_epochs(Entry(1.0, "unfrozen", "nothing was lost")),
        "count_frozen": lambda: journal.count_frozen(ACCOUNT),
        "remember": lambda: journal.remember(ACCOUNT, "n", "t"),
        "recall": lambda: journal.recall(ACCOUNT, "n"),
        "swap": lambda: journal.swap(ACCOUNT, "n", None, "t"),
        "forget": lambda: journal.forget(ACCOUNT, "old", buried, keeps_history=True),
        "hosts": journal.hosts,
        "register": journal.register,
        "find_living": lambda: journal.find_living(0.0),
        "dump": lambda: journal.dump(0, 9),
        "load": lambda: journal.load(Register({}, {}, {}), []),
        "hold": lambda: journal.hold(),  # noqa: PLW0108 - only a file has it
    }
    return {name: call for name, call in calls.items() if hasattr(journal, name.partition(",")[0])}


def missing_verbs(journal: Any) -> set[str]:
    """Return the verbs of a journal of which no call is made."""
    return set(VERBS) - {name.partition(",")[0] for name in verbs(journal)} - {"aclose"}
