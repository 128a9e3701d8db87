"""The changes: what each kind of place may say instead, and what is left alone."""

from __future__ import annotations

import ast

import pytest

from tests.proof.mutation.changes import changed, changes, told


def all_of(source: str) -> list[str]:
    """Return every changed source."""
    count = len(list(changes(ast.parse(source))))
    return [ast.unparse(changed(source, number)) for number in range(count)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["a <= b", "a >= b"]),
        ("a == b", ["a != b"]),
        ("a is None", ["a is not None"]),
        ("a in b", ["a not in b"]),
        ("x = a and b", ["x = a or b"]),
        ("x = not a", ["x = not not a"]),
        ("x = a + b", ["x = a - b"]),
        ("x += b", ["x -= b"]),
        ("x = -a", ["x = +a"]),
        ("x = True", ["x = False"]),
        ("x = 1", ["x = 2", "x = 0"]),
        ("x = 'a'", ["x = 'XXaXX'"]),
        ("x = b'a'", ["x = b'XXaXX'"]),
        ("x = min(a, b)", ["x = max(a, b)"]),
        ("x = replace(row, a=b, c=d)", ["x = replace(row, c=d)", "x = replace(row, a=b)"]),
        ("f(a)", ["None"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("if a:\n    pass", ["if not a:\n    pass"]),
        ("x = [a for a in b if c]", ["x = [a for a in b if not c]"]),
        ("for a in b:\n    break", ["for a in b:\n    continue"]),
        ("async def f():\n    await g()", ["async def f():\n    None"]),
    ],
)
def test_each_place_says_something_else(source: str, expected: list[str]) -> None:
    """One change at a time, each of them once."""
    assert all_of(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        '__all__ = ["a"]',
        'x: Literal["a"]',
        'State = Literal["a", "b"]',
        "Proof: TypeAlias = A | B",
        "if TYPE_CHECKING:\n    x = 1",
        "assert_never(x)",
        "def f(a: 'int') -> 'str':\n    return None",
    ],
)
def test_what_no_run_can_show_is_left_alone(source: str) -> None:
    """Texts for people and types for the checker."""
    assert not all_of(source)


def test_a_change_is_told_with_its_line_and_both_words() -> None:
    """Of a keyword that is gone, that it is left out."""
    assert told("a = 1\nb = c < d\n", 2) == (2, "c < d", "c <= d")
    assert told("replace(row, a=b)", 1) == (1, "a=b", "left out")
