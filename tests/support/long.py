"""Which cases of a test only the long run plays: `pytest -m long`, which `.ci/run` starts once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pytest

LONG: Final = pytest.mark.long


def long_after(number: int, cases: Iterable[object]) -> list[object]:
    """Return the cases as parameters, all of them after the first `number` marked as long."""
    return [case if index < number else pytest.param(case, marks=LONG) for index, case in enumerate(cases)]
