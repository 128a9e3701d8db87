"""The mapping from a simulated withdrawal to steps of the specification; needs no Java."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from msgspec.structs import replace

from alphapo_async.core.evidence import Attempt, Requested
from alphapo_async.core.history import Entry
from alphapo_async.core.replies import InDoubt, NoReply, Rejected
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import apply, new_row
from tests.proof.simulation.scenario import EPOCH, drawn
from tests.proof.simulation.simulation import simulated
from tests.proof.spec.mapping import MOST_WORKERS, NO_ROW, OutOfScope, Step, steps_of, ticks
from tests.proof.spec.recording import Event, RecordedSimulation
from tests.proof.spec.traces import Trace, is_described, traces
from tests.proof.test_row_model import FIRST

ASKED = Requested("one", FIRST, "key")
RECORDED = new_row("account", "f", ASKED, EPOCH + 1.0, is_durable=True)
SEED = next(seed for seed in range(1_000) if is_described(drawn(seed, 4)))


def written(at: float, before: Row | None, row: Row, *lines: tuple[str, str]) -> Event:
    """Return a write with these lines, all of the first worker."""
    entries = [Entry(EPOCH + at, kind, what, "one") for kind, what in lines]
    return Event(at=EPOCH + at, kind="written", before=before, row=row, lines=entries, visible_at=EPOCH + at)


def attempted(row: Row, proof: InDoubt | Rejected, at: float = 2.0, until: float = 3.0) -> Row:
    """Return the row after an attempt between these times."""
    return apply(row, Attempt("one", proof, EPOCH + at, EPOCH + until), EPOCH + until)


REQUEST = written(1.0, None, RECORDED, ("request", "recorded"))
LEFT = Event(at=EPOCH + 2.0, kind="left", worker="one")
LOST = NoReply("connection lost", may_have_left=True)
BACK = Event(at=EPOCH + 3.0, kind="back", worker="one", is_body=True, sent_at=EPOCH + 2.0, reply=LOST)
DOUBTED = attempted(RECORDED, InDoubt("connection lost"))
IN_DOUBT = written(3.5, RECORDED, DOUBTED, ("attempt", "in_doubt: connection lost"))


def actions(*events: Event) -> list[tuple[int, str, str, str]]:
    """Return the steps' times, actions, workers and words."""
    return [step[:4] for step in steps_of(events)]


def test_a_doubtful_attempt_is_five_steps() -> None:
    """It is decided, sent, comes back with nothing, and is recorded; each at its own time, in milliseconds from 1 on."""
    assert actions(REQUEST, LEFT, BACK, IN_DOUBT) == [
        (1_001, "call", "none", ""),
        (1_001, "ask", "w1", "same"),
        (2_001, "decide", "w1", ""),
        (2_001, "send", "w1", ""),
        (3_001, "return", "w1", "nothing"),
        (3_501, "record", "w1", ""),
    ]


def test_the_row_is_given_after_each_write() -> None:
    """Field for field as the specification has it."""
    asked, recorded = [step.row for step in steps_of([REQUEST, LEFT, BACK, IN_DOUBT]) if step.row is not None]
    assert (asked.state, asked.holder, asked.since, asked.made, asked.doubt) == ("open", "w1", 1_001, 1_001, 0)
    assert (recorded.doubt, recorded.until, recorded.arrivals, recorded.owes) == (2_001, 3_001, 1, True)


def test_a_refusal_takes_the_body_away() -> None:
    """AlphaPo answered it: it cannot be accepted later."""
    refused = attempted(RECORDED, Rejected({"amount": ["no"]}))
    steps = actions(REQUEST, LEFT, BACK, written(3.5, RECORDED, refused, ("attempt", "rejected")))
    assert [step[1:] for step in steps[4:]] == [
        ("deliver", "w1", "refused"),
        ("return", "w1", "refused"),
        ("record", "w1", ""),
    ]


def test_a_settled_no_has_one_name() -> None:
    """The specification does not distinguish rejected, not sent and key refused."""
    refused = attempted(RECORDED, Rejected({"amount": ["no"]}))
    last = steps_of([REQUEST, LEFT, BACK, written(3.5, RECORDED, refused, ("attempt", "rejected"))])[-1]
    assert last.row is not None
    assert (last.row.state, last.row.holder, last.row.refused) == ("no", "none", "never")


def test_a_change_without_a_line_is_not_explained() -> None:
    """TLC does not accept it."""
    assert actions(REQUEST, written(2.0, RECORDED, replace(RECORDED, look_ups_only=True)))[-1][1] == "unexplained"


def test_a_claimed_row_that_was_not_begun_is_let_go_without_a_line() -> None:
    """By its worker, or because that is gone; a call of the worker itself takes it again."""
    claimed = replace(RECORDED, claim=3)
    free = replace(claimed, holder=None, claim=0)
    assert actions(REQUEST, written(2.0, claimed, free))[-1] == (2_001, "release", "w1", "")
    again = written(2.0, claimed, replace(RECORDED, held_since=EPOCH + 2.0), ("request", "taken on"))
    assert [step[1] for step in actions(REQUEST, again)[2:]] == ["release", "call", "ask"]


def test_a_claim_counts_from_when_it_was_made() -> None:
    """Which is a moment before it is written; nothing of the row is written in between."""
    free = replace(RECORDED, holder=None)
    let_go = written(1.5, RECORDED, free, ("released", ""))
    claimed = replace(RECORDED, claim=1, held_since=EPOCH + 1.9)
    assert actions(REQUEST, let_go, written(2.0, free, claimed))[-1] == (1_901, "take", "w1", "")
    with pytest.raises(OutOfScope, match="written after the claim was made"):
        steps_of([REQUEST, let_go, written(2.0, free, replace(claimed, held_since=EPOCH + 1.4))])


def test_a_write_that_changes_nothing_is_no_step() -> None:
    """The specification allows it."""
    assert len(actions(REQUEST, written(2.0, RECORDED, RECORDED, ("look-up", "none")))) == 2


def test_a_commit_that_never_happened_is_no_step() -> None:
    """A failover has undone it."""
    lost = Event(at=EPOCH + 2.0, kind="written", before=RECORDED)
    assert len(actions(REQUEST, lost)) == 2


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ((REQUEST, LEFT, LEFT), "sends again before its attempt is recorded"),
        ((REQUEST, LEFT, BACK, written(4.0, RECORDED, DOUBTED, ("attempt", "mismatch"))), "another withdrawal"),
        ((REQUEST, written(4.0, RECORDED, DOUBTED, ("attempt", "in_doubt: x"))), "answer was lost"),
        ((REQUEST, written(4.0, RECORDED, replace(RECORDED, state="conflict"))), "another withdrawal"),
        ((written(4.0, None, DOUBTED, ("attempt", "in_doubt: x")),), "the journal has forgotten"),
        ((REQUEST, replace(IN_DOUBT, visible_at=EPOCH + 9.0), LEFT), "answer was lost"),
    ],
)
def test_what_the_specification_does_not_describe_is_left_out(events: tuple[Event, ...], why: str) -> None:
    """With its reason."""
    with pytest.raises(OutOfScope, match=why):
        steps_of(events)


def test_times_are_whole_milliseconds() -> None:
    """0 stands for never."""
    assert (ticks(None), ticks(EPOCH), ticks(EPOCH + 0.0014)) == (0, 1, 2)


@pytest.fixture(scope="module")
def some() -> tuple[list[Trace], Counter[str]]:
    """Give the traces of a small world."""
    left_out: Counter[str] = Counter()
    return list(islice(traces(range(SEED, SEED + 1), left_out, each=4), 4)), left_out


def test_recording_changes_nothing_of_a_world() -> None:
    """The same seed has the same ledger."""
    assert RecordedSimulation(drawn(SEED, 4)).run().ledger == simulated(drawn(SEED, 4)).ledger


def test_the_simulator_s_traces_are_mapped(some: tuple[list[Trace], Counter[str]]) -> None:
    """Steps are in the order of time, each by a worker that TLC knows, and the last one gives a row."""
    found, _ = some
    known = {"none", *(f"w{number}" for number in range(1, MOST_WORKERS + 1))}
    assert found
    for trace in found:
        assert [step.at for step in trace.steps] == sorted(step.at for step in trace.steps)
        assert {step.worker for step in trace.steps} <= known
        assert any(step.row not in (None, NO_ROW) for step in trace.steps)


def test_worlds_that_the_specification_does_not_describe_are_counted() -> None:
    """None of their withdrawals is mapped."""
    other = next(seed for seed in range(100) if not is_described(drawn(seed, 4)))
    left_out: Counter[str] = Counter()
    assert list(traces(range(other, other + 1), left_out, each=4)) == []
    assert left_out == {"worlds with several clocks, keys or journals": 1}


def test_a_step_is_a_plain_tuple() -> None:
    """It compares by its fields."""
    assert Step(1, "call") == (1, "call", "none", "", 0, None)
