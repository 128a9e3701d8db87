"""Plans of faults: scripts, chance and outages."""

from __future__ import annotations

from collections import Counter

import pytest

from alphapo_async.sandbox.faults import AllFail, Call, Fault, Faults, OutagePlan, Script, Several


def call(foreign_id: str = "a", number: int = 1, kind: str = "withdrawal", at: float = 0.0) -> Call:
    """Return a call."""
    return Call(kind, foreign_id, number, at)  # type: ignore[arg-type]


def test_a_fault_says_whether_the_body_is_processed() -> None:
    """`accepts` follows the names: after is processed, before is not, and the rules decide the rest."""
    for fault in Fault:
        if fault.value.endswith("_after"):
            assert fault.accepts is True
        if fault.value.endswith("_before"):
            assert fault.accepts is False
    assert {fault for fault in Fault if fault.accepts is None} == {Fault.SLOW, Fault.LATE, Fault.CLOSE_KEEPALIVE}
    assert Fault.OTHER_FOREIGN_ID.accepts is False
    assert Fault.OTHER_AMOUNT.accepts is True


def test_a_script_is_played_in_order() -> None:
    """Faults strike the call whose number is theirs; other names play the star's; afterwards nothing strikes."""
    script = Script(
        {
            "a": {"withdrawal": [Fault.SLOW, None, Fault.LATE], "look-up": []},
            "*": {"withdrawal": [Fault.GARBAGE]},
        }
    )
    assert [script.next(call(number=number)) for number in (1, 2, 3, 4)] == [Fault.SLOW, None, Fault.LATE, None]
    assert script.next(call(kind="look-up")) is None
    assert script.next(call(kind="ping")) is None
    assert script.next(call("b")) is Fault.GARBAGE
    assert Script({}).next(call()) is None


def test_a_script_may_repeat_its_last_step() -> None:
    """With `then="repeat last"` the last fault goes on for ever."""
    script = Script({"*": {"withdrawal": [None, Fault.SLOW]}}, then="repeat last")
    assert [script.next(call(number=number)) for number in (1, 2, 3, 99)] == [None, Fault.SLOW, Fault.SLOW, Fault.SLOW]


def test_chance_keeps_its_rates_and_its_word() -> None:
    """Faults strike about as often as they should, and the same calls every time."""
    plan = Faults({Fault.SLOW: 0.2, Fault.GARBAGE: 0.1}, seed=5)
    strikes = Counter(plan.next(call(f"payout-{number}")) for number in range(5000))
    assert 850 < strikes[Fault.SLOW] < 1150
    assert 400 < strikes[Fault.GARBAGE] < 600
    again = Faults({Fault.SLOW: 0.2, Fault.GARBAGE: 0.1}, seed=5)
    calls = [call(f"payout-{number}") for number in range(200)]
    assert [again.next(one) for one in reversed(calls)] == [plan.next(one) for one in reversed(calls)]


def test_chance_strikes_its_kinds_only_and_later_calls_less() -> None:
    """Other kinds are left alone; `later` thins out the strikes from the second call on."""
    plan = Faults({Fault.SLOW: 1.0}, kinds=("look-up",), later=0.0)
    assert plan.next(call()) is None
    assert plan.next(call(kind="look-up")) is Fault.SLOW
    assert plan.next(call(kind="look-up", number=2)) is None


@pytest.mark.parametrize("rates", [{Fault.SLOW: -0.1}, {Fault.SLOW: 0.6, Fault.LATE: 0.6}])
def test_impossible_rates_are_refused(rates: dict[Fault, float]) -> None:
    """Rates are shares of one."""
    with pytest.raises(ValueError, match="together at most 1"):
        Faults(rates)


@pytest.mark.parametrize(
    ("mode", "fault"),
    [("503", Fault.HTML_503_BEFORE), ("stall", Fault.STALL_BEFORE), ("reset", Fault.RESET_BEFORE)],
)
def test_an_outage_lasts_its_time(mode: str, fault: Fault) -> None:
    """Everything is struck from its start to its end, and nothing before or after."""
    plan = OutagePlan(10.0, 5.0, mode)  # type: ignore[arg-type]
    struck = [plan.next(call(at=at, kind="ping")) for at in (9.9, 10.0, 14.9, 15.0)]
    assert struck == [None, fault, fault, None]


def test_an_outage_may_come_back() -> None:
    """A periodic outage begins anew after each period, but not before its first start."""
    plan = OutagePlan(10.0, 5.0, every=20.0)
    assert [plan.next(call(at=at)) is not None for at in (0.0, 12.0, 16.0, 31.0, 36.0)] == [
        False,
        True,
        False,
        True,
        False,
    ]


def test_where_all_fail_nothing_is_struck_on_the_way() -> None:
    """What becomes of the withdrawals is the desk's."""
    assert AllFail().next(call()) is None


def test_of_several_plans_the_first_counts() -> None:
    """Plans are asked in order."""
    plan = Several(Script({"a": {"withdrawal": [Fault.SLOW]}}), Script({"*": {"withdrawal": [Fault.LATE]}}))
    assert plan.next(call("a")) is Fault.SLOW
    assert plan.next(call("b")) is Fault.LATE
    assert plan.next(call("b", 2)) is None
