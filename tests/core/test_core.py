"""The core: values that nothing changes."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest

from alphapo_async import core
from alphapo_async.core.events import Event
from alphapo_async.core.models import Health, Totals, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.rate_limit import LimiterState
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row

MODULES = [importlib.import_module(f"{core.__name__}.{module.name}") for module in pkgutil.iter_modules(core.__path__)]
VALUES = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
]
PUBLIC = [kind for kind in VALUES if not kind.__name__.startswith("_")]


@pytest.mark.parametrize("kind", PUBLIC)
def test_no_value_of_the_core_can_be_changed(kind: type[msgspec.Struct]) -> None:
    """What was judged, told or written down stays as it was."""
    assert kind.__struct_config__.frozen


@pytest.mark.parametrize("kind", PUBLIC)
def test_the_garbage_collector_visits_no_value_of_the_core(kind: type[msgspec.Struct]) -> None:
    """They hold no cycles; ten thousand withdrawals that wait must not make every pass of it long."""
    assert not kind.__struct_config__.gc


@pytest.mark.parametrize(
    "kind", [Event, Health, LimiterState, RetryPolicy, Row, Totals, Transaction, Withdrawal, WithdrawalRequest]
)
def test_values_of_many_fields_are_made_by_name(kind: type[msgspec.Struct]) -> None:
    """So that no field is taken for its neighbour."""
    with pytest.raises(TypeError, match="positional"):
        kind("by place")
