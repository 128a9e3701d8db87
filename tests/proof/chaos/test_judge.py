"""The judge of chaos: each kind of fault is seen, and what is explained is none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.proof.chaos.judge import BUSY, HELD_MOST, Accepted, Evidence, Verdict, judge
from tests.proof.failover_client import Report

PAID = {"a": [Accepted("1", 5.0)]}


def call(outcome: str, *, name: str = "withdraw", **fields: Any) -> Report:
    """Return the answer of a call that lasted from 4 to 6."""
    usual: dict[str, Any] = {"foreign_id": "a", "began": 4.0, "ended": 6.0, "number": 1}
    return Report(kind="result", name=name, outcome=outcome, **(usual | fields))


LATER = call("accepted", number=9, began=20.0, ended=21.0)


def event(name: str, number: int = 0, **fields: Any) -> Report:
    """Return something that a process reported."""
    return Report(kind="event", name=name, number=number, **fields)


def judged(*reports: Report, **fields: Any) -> Verdict:
    """Return the verdict on one process."""
    usual: dict[str, Any] = {
        "accepted": PAID,
        "states": {"a": "accepted"},
        "waiting": frozenset(),
        "pauses": {},
        "deadline": 8.0,
        "closing": 5.0,
    }
    return judge(Evidence(reports={"one": reports}, **(usual | fields)))


def kinds(verdict: Verdict) -> set[str]:
    """Return the kinds of what is wrong."""
    return {kind for kind in Verdict.__struct_fields__ if getattr(verdict, kind)}


def test_what_is_well_is_clean() -> None:
    """Paid once, told so under AlphaPo's id, everything closed in time."""
    well = (call("accepted", text="1"), event("closed", began=6.0, ended=8.0), event("held", 90), event("left", 0))
    assert judged(*well).is_clean


@pytest.mark.parametrize(
    ("reports", "fields", "kind"),
    [
        pytest.param([call("accepted")], {"accepted": {"a": [*PAID["a"], Accepted("2", 7.0)]}}, "doubled", id="twice"),
        pytest.param([call("not_sent", may_release=True), LATER], {}, "misreported", id="released, and it was paid"),
        pytest.param(
            [call("rejected", may_release=True, began=1.0, ended=2.0)], {}, "misreported", id="released, and paid later"
        ),
        pytest.param([call("accepted", text="7")], {}, "misreported", id="another id"),
        pytest.param(
            [call("accepted")],
            {"accepted": {}, "states": {"a": "open"}, "waiting": {"a"}},
            "misreported",
            id="never paid",
        ),
        pytest.param([], {"states": {"a": "rejected"}}, "misreported", id="the journal against the ledger"),
        pytest.param([event("journal went back")], {}, "misreported", id="a journal that lost nothing"),
        pytest.param([call("accepted")], {"states": {}}, "lost", id="not in the journal"),
        pytest.param(
            [call("enqueued", name="enqueue")], {"states": {}, "accepted": {}}, "lost", id="enqueued and gone"
        ),
        pytest.param([], {"states": {"a": "open"}}, "stuck", id="open at the end"),
        pytest.param([call("unknown")], {}, "stuck", id="never answered for good"),
        pytest.param([event("not ended")], {}, "stuck", id="a process that stayed"),
        pytest.param([call("unknown", ended=12.1 + BUSY), LATER], {}, "over", id="past its deadline"),
        pytest.param([event("closed", began=1.0, ended=6.1 + BUSY)], {}, "over", id="closed too late"),
        pytest.param([event("ended", text="heartbeat")], {}, "ended", id="a task that failed"),
        pytest.param([event("held", HELD_MOST + 1)], {}, "leaked", id="too many descriptors"),
        pytest.param([event("left", 1)], {}, "leaked", id="one left after closing"),
    ],
)
def test_each_fault_is_seen(reports: list[Report], fields: dict[str, Any], kind: str) -> None:
    """As its own kind, and as no other."""
    assert kinds(judged(*reports, **fields)) == {kind}


def test_a_row_that_waits_for_the_quiet_time_is_not_stuck() -> None:
    """The rule says that it stays open so long."""
    assert judged(states={"a": "open"}, waiting=frozenset({"a"})).is_clean


def test_a_call_of_a_killed_process_explains_a_later_payment() -> None:
    """It has no result, and its row may be sent at any time after."""
    refused = call("not_sent", may_release=True, began=1.0, ended=2.0)
    assert judged(refused, event("asked", 2, foreign_id="a", began=3.0), LATER).is_clean
    assert kinds(judged(refused, event("asked", 1, foreign_id="a", began=1.0), LATER)) == {"misreported"}


def test_a_stopped_process_is_not_late() -> None:
    """What it slept does not count."""
    late = call("unknown", ended=16.0 + BUSY)
    assert judged(late, LATER, pauses={"one": [(1.0, 5.0), (7.0, 11.0)]}).is_clean
