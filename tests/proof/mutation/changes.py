"""The small changes that a test must notice: each makes one place of a module's source say something else.

Left alone is what no run can show: docstrings, annotations, `__all__`, the texts of a `Literal`, aliases of types and
`assert_never`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["Change", "changed", "changes", "told"]


class Change(NamedTuple):
    """One place of a tree, and what makes it say something else."""

    node: Any
    kind: str
    apply: Callable[[], None]


_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}


def changes(tree: ast.Module) -> Iterator[Change]:
    """Yield every change of a module, always in the same order; one that is applied stays in the tree."""
    for node in _running(tree):
        for kind, place, apply in _OF.get(type(node), _none)(node):
            yield Change(place, kind, apply)


def changed(source: str, number: int) -> ast.Module:
    """Return the tree of a source with one change applied."""
    tree = ast.parse(source)
    list(changes(tree))[number].apply()
    return ast.fix_missing_locations(tree)


def told(source: str, number: int) -> tuple[int, str, str]:
    """Return the line of a change, and the place as it was and as it became."""
    change = list(changes(ast.parse(source)))[number]
    before = _words(change)
    change.apply()
    after = _words(change)
    return change.node.lineno, before, after if after != before else "left out"


def _words(change: Change) -> str:
    part = change.node.test if change.kind == "condition" else change.node
    return ast.unparse(ast.fix_missing_locations(part)).splitlines()[0]


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _running(node: ast.AST) -> Iterator[ast.AST]:
    if _never_runs(node):
        return
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns") or (field == "slice" and _is_literal(node)):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _running(child)


def _never_runs(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant() | ast.Call(func=ast.Name(id="assert_never"))):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.AnnAssign(annotation=ast.Name(id="TypeAlias")):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _is_literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal"


# ── what each kind of place may say instead ──────────────────────────────────────────────────────────────────────────

Ways = Iterator[tuple[str, ast.AST, Callable[[], None]]]


def _put(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


def _set(values: list[Any], at: int, value: Any) -> Callable[[], None]:
    return lambda: values.__setitem__(at, value)


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _none(_: Any) -> Ways:
    return iter(())


def _comparison(node: ast.Compare) -> Ways:
    for at, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            yield "comparison", node, _set(node.ops, at, other())


def _boolean(node: ast.BoolOp) -> Ways:
    yield "boolean", node, _put(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())


def _unary(node: ast.UnaryOp) -> Ways:
    if isinstance(node.op, ast.Not):
        yield "not", node, _put(node, "operand", _negated(node.operand))
    elif isinstance(node.op, ast.USub):
        yield "sign", node, _put(node, "op", ast.UAdd())


def _arithmetic(node: ast.BinOp | ast.AugAssign) -> Ways:
    other = _ARITHMETIC.get(type(node.op))
    if other is not None:
        yield "arithmetic", node, _put(node, "op", other())


def _constant(node: ast.Constant) -> Ways:
    for value in _other_values(node.value):
        yield "constant", node, _put(node, "value", value)


def _other_values(value: Any) -> tuple[Any, ...]:
    match value:
        case bool():
            return (not value,)
        case int() | float():
            return (value + 1, value - 1)
        case str():
            return (f"XX{value}XX",)
        case bytes():
            return (b"XX" + value + b"XX",)
    return ()


def _return(node: ast.Return) -> Ways:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value in (None, False)):
        yield "return", node, _put(node, "value", ast.Constant(None))


def _statement(node: ast.Expr) -> Ways:
    called = node.value.value if isinstance(node.value, ast.Await) else node.value
    if isinstance(called, ast.Call):
        yield "call", node, _put(node, "value", ast.Constant(None))


def _call(node: ast.Call) -> Ways:
    if not isinstance(node.func, ast.Name):
        return
    if node.func.id in _OPPOSITES:
        yield "opposite", node, _put(node.func, "id", _OPPOSITES[node.func.id])
    if node.func.id == "replace":
        for at, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                yield "keyword", keyword, _put(node, "keywords", node.keywords[:at] + node.keywords[at + 1 :])


def _condition(node: ast.If | ast.IfExp | ast.While | ast.Assert) -> Ways:
    if not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield "condition", node, _put(node, "test", _negated(node.test))


def _comprehension(node: Any) -> Ways:
    for generator in node.generators:
        for at, test in enumerate(generator.ifs):
            if not isinstance(test, ast.Compare | ast.UnaryOp):
                yield "filter", node, _set(generator.ifs, at, _negated(test))


def _leaving(node: ast.Break | ast.Continue) -> Ways:
    other = ast.Continue if isinstance(node, ast.Break) else ast.Break
    yield "leaving", node, _put(node, "__class__", other)


_OF: dict[type[ast.AST], Callable[[Any], Ways]] = {
    ast.Compare: _comparison,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.BinOp: _arithmetic,
    ast.AugAssign: _arithmetic,
    ast.Constant: _constant,
    ast.Return: _return,
    ast.Expr: _statement,
    ast.Call: _call,
    ast.If: _condition,
    ast.IfExp: _condition,
    ast.While: _condition,
    ast.Assert: _condition,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.Break: _leaving,
    ast.Continue: _leaving,
}
