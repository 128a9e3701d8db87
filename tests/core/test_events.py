from pathlib import Path
from typing import get_args

import msgspec
import pytest

from alphapo_async.core import events
from alphapo_async.core.events import Event, EventName, EventOutcome
from alphapo_async.core.replies import AnswerName, ProofName
from alphapo_async.core.results import Why
from alphapo_async.core.row import State


def test_an_event_holds_what_it_was_told_and_nothing_else() -> None:
    """An event is its name, its time and its account; everything else is empty until told."""
    event = Event(name="attempt", at=1_700_000_000.5, account="default")
    assert (event.name, event.at, event.account) == ("attempt", 1_700_000_000.5, "default")
    assert (event.foreign_id, event.outcome, event.reason) == (None, None, None)
    assert (event.attempts, event.look_ups, event.base_url) == (0, 0, "")


def test_an_event_has_no_place_for_secrets() -> None:
    """The fields are these and no more, so that no key, signature, body or address can ride along."""
    fields = (
        "name",
        "at",
        "account",
        "foreign_id",
        "outcome",
        "proof",
        "code",
        "alphapo_status",
        "task",
        "reason",
        "attempts",
        "look_ups",
        "began",
        "until",
        "http_status",
        "base_url",
        "key_fingerprint",
    )
    assert Event.__struct_fields__ == fields


def test_an_event_cannot_be_changed() -> None:
    """A listener cannot alter what the next one hears."""
    event = Event(name="settled", at=0.0, account="default")
    with pytest.raises(AttributeError):
        event.outcome = "accepted"  # type: ignore[misc]


def test_equal_events_are_one_in_a_set() -> None:
    """Events are values: equal where all they tell is equal."""
    events = {Event(name="settled", at=at, account="default", outcome="accepted") for at in (1.0, 1.0, 2.0)}
    assert len(events) == 2


@pytest.mark.parametrize("name", get_args(EventName))
def test_an_event_can_go_into_a_json_log(name: EventName) -> None:
    """Every event of every name survives the way through JSON."""
    event = Event(name=name, at=1.5, account="a", foreign_id="f", outcome="unknown", reason="r", attempts=2, look_ups=3)
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


def test_the_names_of_events_are_a_contract() -> None:
    """None disappears or changes without a major release."""
    assert set(get_args(EventName)) == {
        "begun",
        "recorded",
        "attempt",
        "look-up",
        "callback",
        "settled",
        "unknown",
        "waiting",
        "ended",
        "contradiction",
        "figures differ",
        "outage began",
        "outage ended",
        "journal failed",
        "journal went back",
        "key refused",
        "key accepted",
        "task failed",
        "not final",
    }


def test_an_outcome_is_a_state_or_unknown() -> None:
    """What a row can be settled as, and the two ways of not being settled."""
    assert set(get_args(EventOutcome)) == {*get_args(State), "unknown"}


def test_every_judgement_that_can_be_a_reason_is_told_of() -> None:
    """What replies prove, what look-ups answer, and why a flight knows less than its row."""
    text = Path(events.__file__).read_text(encoding="utf-8")
    kinds = [*get_args(ProofName), *get_args(AnswerName)]
    assert len(kinds) == 10
    reasons = [*kinds, *filter(None, get_args(Why))]
    assert [reason for reason in reasons if f"`{reason}" not in text] == []
