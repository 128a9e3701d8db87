"""`help()` of a public class lists its fields, with the texts that stand under them in the source."""

import inspect
import pydoc
import re
import typing
from types import MemberDescriptorType
from typing import Any

import pytest

import alphapo_async
from alphapo_async.core import errors, models, results
from alphapo_async.core.field_docs import field_docs, with_field_docs

RESULTS = [
    getattr(alphapo_async, name)
    for name in alphapo_async.__all__
    if inspect.isclass(getattr(alphapo_async, name))
    and name not in {"AlphapoClient", "SessionManager", "WithdrawalRequest"}  # their Args say it
]
PARTS = [models.Money, models.CryptoAddress, models.TransactionPart, models.Fee]


def _fields(kind: Any) -> set[str]:
    """Return the public fields: those of a struct, and the annotated ones of an exception."""
    own = kind.__struct_fields__ if hasattr(kind, "__struct_fields__") else inspect.get_annotations(kind)
    return {name for name in own if not name.startswith("_")}


@pytest.mark.parametrize("kind", [*RESULTS, *PARTS], ids=lambda kind: kind.__name__)
def test_every_field_of_a_result_is_documented_where_help_shows_it(kind: Any) -> None:
    """And where an editor does: under the field."""
    if kind is alphapo_async.Signer:
        return  # it hides what it holds
    assert _fields(kind) <= set(field_docs(kind))
    shown = pydoc.plain(pydoc.render_doc(kind))
    assert [name for name in _fields(kind) if not re.search(rf"^ \|\s+{name}: \S", shown, re.MULTILINE)] == []


def test_an_error_lists_the_fields_of_its_bases_first() -> None:
    """They are what every error of a withdrawal has."""
    names = list(field_docs(errors.WithdrawalUnknown))

    assert names.index("foreign_id") < names.index("reason") == len(names) - 1
    assert "The withdrawal this is about" in str(errors.WithdrawalUnknown("", reason="closing", foreign_id="a").__doc__)


def test_a_class_without_fields_or_source_keeps_its_docstring() -> None:
    """A package may be installed without its source, and one may be run without docstrings."""

    class Empty:
        """Nothing in it."""

    assert with_field_docs(Empty).__doc__ == "Nothing in it."
    made: Any = type("Made", (), {"__module__": "alphapo_async.nowhere"})
    assert (field_docs(made), with_field_docs(made).__doc__) == ({}, "")
    assert isinstance(models.Fee.__dict__["amount"], MemberDescriptorType)  # the field itself cannot hold a text


def test_the_words_of_reasons_are_those_that_are_given() -> None:
    """What the results put into `reason` is in the types that editors complete."""
    not_sent, unknown = ({*typing.get_args(each)} for each in (errors.NotSentReason, errors.UnknownReason))
    known = not_sent | {word for each in unknown for word in (typing.get_args(each) or [each])}

    assert {*results._LESS, *results._WORDS} <= known
