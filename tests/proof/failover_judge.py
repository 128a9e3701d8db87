"""The judge of a failover: what callers were answered, compared with AlphaPo's ledger and with the journal at the end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Self

import msgspec

from tests.proof.failover_client import Report

__all__ = ["Evidence", "Verdict", "judge"]

MOVED_BACK = "journal went back"
"""The event that says so."""


class Evidence(NamedTuple):
    """All that is known of one round at its end."""

    calls: Sequence[Report]
    """Results of `withdraw` and `enqueue`, of all processes."""
    accepted: Mapping[str, Sequence[float]]
    """When AlphaPo accepted a payment of this foreign_id that moved money, on the clock of the calls."""
    states: Mapping[str, str]
    """Of the journal's rows at the end."""
    frozen: frozenset[str] = frozenset()
    """Rows that were open when the standby became the primary."""
    abandoned: frozenset[str] = frozenset()
    """Of these, rows that no caller asks for again and no operator unfreezes."""
    unasked: frozenset[str] = frozenset()
    """Frozen rows that nothing settles: AlphaPo does not have them, no call has returned since the failover, and the operator left them."""
    unfrozen: Mapping[str, float] = MappingProxyType({})
    """When the operator unfroze a row."""
    silent: Sequence[str] = ()
    """Processes that lived through the failover and reported no event of it."""
    unannounced: Sequence[str] = ()
    """Callbacks that the journal had no row for, without an event at ERROR."""
    announced: Sequence[str] = ()
    """Processes that reported the event."""
    loses: bool = False
    """Acknowledged commits are lost: the standby is asynchronous."""
    freezes: bool = False
    """Open rows freeze: the operator has not said that failovers lose nothing."""


class Verdict(msgspec.Struct, kw_only=True):
    """What is wrong, by kind; every list is empty where all is well."""

    doubled: list[str] = []
    """Paid twice."""
    wrong_no: list[str] = []
    """A caller was told that no money moved and none will, and it had, or it did without a later call or unfreezing."""
    wrong_yes: list[str] = []
    """A caller was told `accepted`, and AlphaPo has nothing."""
    lost: list[str] = []
    """Acknowledged, and not in the journal although the failover loses nothing."""
    contradicts: list[str] = []
    """The journal's state and the ledger disagree at the end."""
    thawed: list[str] = []
    """Frozen rows that were paid although nothing ended their freeze."""
    stuck: list[str] = []
    """Frozen rows that should have settled, and did not."""
    events: list[str] = []
    """Events that are missing, or should not be."""

    @property
    def is_clean(self) -> bool:
        """Nothing is wrong."""
        return not any(msgspec.structs.astuple(self))

    def __iadd__(self, other: Verdict) -> Self:
        for name in self.__struct_fields__:
            getattr(self, name).extend(getattr(other, name))
        return self


def judge(evidence: Evidence) -> Verdict:
    """Return what is wrong with a round."""
    by_name: dict[str, list[Report]] = {}
    for call in evidence.calls:
        by_name.setdefault(call.foreign_id or "", []).append(call)
    verdict = Verdict(events=list(_wrong_events(evidence)))
    for name in sorted(by_name.keys() | evidence.accepted.keys() | evidence.states.keys()):
        _judge_one(name, by_name.get(name, []), evidence, verdict)
    return verdict


def _wrong_events(evidence: Evidence) -> Iterator[str]:
    if evidence.freezes:
        yield from (f"{process}: no event" for process in evidence.silent)
    else:
        yield from (f"{process}: reported that a lossless journal went back" for process in evidence.announced)
    yield from (f"{name}: a callback without a row, and no event" for name in evidence.unannounced)


def _judge_one(name: str, calls: list[Report], evidence: Evidence, verdict: Verdict) -> None:
    accepted, state = evidence.accepted.get(name, ()), evidence.states.get(name)
    if len(accepted) > 1:
        verdict.doubled.append(name)
    verdict.wrong_no.extend(
        f"{name}: {call.name} answered {call.outcome} at {call.ended:.3f}, accepted at {at:.3f}"
        for call in calls
        for at in accepted[:1]
        if call.may_release and _is_proved_wrong(call, calls, at, evidence.unfrozen.get(name))
    )
    if not accepted and any(call.outcome == "accepted" for call in calls):
        verdict.wrong_yes.append(name)
    if state is None:
        if not evidence.loses and any(call.outcome in ("accepted", "enqueued", "rejected") for call in calls):
            verdict.lost.append(name)
    elif state != "open" and (state in ("accepted", "failed")) != bool(accepted):
        verdict.contradicts.append(f"{name}: {state}, and accepted {len(accepted)} times")
    if name in evidence.frozen & evidence.abandoned:
        if accepted and evidence.freezes:
            verdict.thawed.append(name)
    elif name in evidence.frozen - evidence.unasked and state == "open":
        verdict.stuck.append(name)


def _is_proved_wrong(call: Report, calls: list[Report], accepted_at: float, unfrozen_at: float | None) -> bool:
    """The money had moved when this "no" was reported, or it moved later and nothing that happened since explains why."""
    if accepted_at <= call.ended:
        return True
    if unfrozen_at is not None and call.ended <= unfrozen_at <= accepted_at:
        return False
    return not any(other.ended > call.ended and other.began <= accepted_at for other in calls if other is not call)
