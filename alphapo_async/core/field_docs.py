"""Shows the texts under a class's fields in `help()`, which reads the docstring of a class alone.

An editor shows the text under a field where the field is used. `help()` gets the same texts, read from the source when `help()` asks.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import SupportsIndex, TypeVar

__all__ = ["field_docs", "with_field_docs"]

T = TypeVar("T")
_WRAPPED = textwrap.TextWrapper(100, initial_indent=" " * 4, subsequent_indent=" " * 8, break_on_hyphens=False)


class _Docstring(str):
    """The docstring of a class, with its fields listed at the end once it is asked for.

    Python asks a class for its docstring with `__get__`. pydoc takes that of a struct as it is stored, and calls `expandtabs` first.
    """

    __slots__ = ("_owner",)
    _owner: type

    def __get__(self, _: object, owner: type) -> str:
        return self.expandtabs()

    def expandtabs(self, tabsize: SupportsIndex = 8) -> str:
        lines = [_WRAPPED.fill(f"{name}: {text}") for name, text in field_docs(self._owner).items()]
        text = inspect.cleandoc(str.expandtabs(self, tabsize))
        return "\n".join([text, "", "Attributes:", *lines]) if lines else text


def with_field_docs(kind: type[T]) -> type[T]:
    """Return the class, whose docstring from now on lists its fields and those of its bases; nothing is read before it is asked for."""
    docstring = _Docstring(kind.__doc__ or "")
    docstring._owner = kind  # noqa: SLF001 - its own class, which a str cannot be made with
    kind.__doc__ = docstring
    return kind


def field_docs(kind: type) -> dict[str, str]:
    """Return the text under each field and property of a class and of its bases in this package; nothing where there is no source."""
    ours = [base for base in reversed(kind.__mro__) if base.__module__.startswith("alphapo_async.")]
    return {name: " ".join(text.split()) for base in ours for name, text in _own_docs(base)}


def _own_docs(kind: type) -> Iterator[tuple[str, str]]:
    import ast  # noqa: PLC0415 - it is for `help()` alone

    try:
        (parsed,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(kind))).body
    except (OSError, TypeError):  # installed without its source, or made at run time
        return
    body = getattr(parsed, "body", [])
    for field, text in pairwise([*body, None]):
        if isinstance(field, ast.FunctionDef) and "property" in map(ast.unparse, field.decorator_list):
            yield field.name, ast.get_docstring(field) or ""
            continue
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield field.target.id, str(text.value.value)
