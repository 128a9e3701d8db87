"""The judge of a scenario: what callers were answered and what processes reported, against AlphaPo's ledger and the journal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Final, NamedTuple

import msgspec

from tests.proof import failover_judge
from tests.proof.failover_client import Report

__all__ = ["BUSY", "FINAL", "HELD_MOST", "Accepted", "Evidence", "Verdict", "judge"]

BUSY: Final = 2.0
"""Seconds by which a busy machine may be late."""
FINAL: Final = frozenset({"accepted", "enqueued", "failed", "rejected", "conflict"})
"""Outcomes after which no caller calls again."""
HELD_MOST: Final = 160
"""Descriptors that a process may hold at a time: pooled connections, and its files."""


class Accepted(NamedTuple):
    """A withdrawal in AlphaPo's ledger that moved money."""

    id: str
    at: float


class Evidence(NamedTuple):
    """All that is known of a scenario at its end; every time is on one clock."""

    reports: Mapping[str, Sequence[Report]]
    """By process. An event `asked` precedes each call; a call of a killed process has no result."""
    accepted: Mapping[str, Sequence[Accepted]]
    states: Mapping[str, str]
    """Of the journal's rows."""
    waiting: frozenset[str]
    """Open rows that wait for `quiet` by rule."""
    pauses: Mapping[str, Sequence[tuple[float, float]]]
    """When a process was stopped, by process."""
    deadline: float
    """Of each `withdraw`, in seconds."""
    closing: float
    """Seconds within which a client closes."""


class Verdict(msgspec.Struct, kw_only=True):
    """What is wrong, by kind; every list is empty where all is well."""

    doubled: list[str] = []
    """Paid twice."""
    misreported: list[str] = []
    """A caller was answered, or the journal holds, what the ledger disproves."""
    lost: list[str] = []
    """Acknowledged, and not in the journal."""
    stuck: list[str] = []
    """Open at the end, or never answered for good, although the row does not wait for `quiet`; or a process that did not end."""
    over: list[str] = []
    """A call past its deadline, or a client that closed too late."""
    ended: list[str] = []
    """A background task or a process of ours that failed."""
    leaked: list[str] = []
    """Descriptors: too many at a time, or some left after closing."""

    @property
    def is_clean(self) -> bool:
        """Nothing is wrong."""
        return not any(msgspec.structs.astuple(self))


def judge(evidence: Evidence) -> Verdict:
    """Return what is wrong with a scenario."""
    found = failover_judge.judge(_answers(evidence))
    verdict = Verdict(
        doubled=found.doubled,
        misreported=[*found.wrong_no, *found.wrong_yes, *found.contradicts, *found.events, *_wrong_ids(evidence)],
        lost=found.lost,
        stuck=sorted(_left_open(evidence) - evidence.waiting),
    )
    for process, reports in evidence.reports.items():
        for report in reports:
            _judge_report(process, report, evidence, verdict)
    return verdict


def _left_open(evidence: Evidence) -> set[str]:
    """Return rows that are open, and withdrawals that some caller asked for and none has a final answer to."""
    reports = [report for each in evidence.reports.values() for report in each if report.foreign_id]
    answered = {report.foreign_id for report in reports if report.kind == "result" and report.outcome in FINAL}
    asked = {report.foreign_id for report in reports if report.foreign_id}
    return {name for name, state in evidence.states.items() if state == "open"} | (asked - answered)


def _answers(evidence: Evidence) -> failover_judge.Evidence:
    """Return the evidence about answers alone, for the judge of failovers: nothing freezes, and nothing may be lost."""
    return failover_judge.Evidence(
        calls=list(_calls(evidence)),
        accepted={name: [one.at for one in accepted] for name, accepted in evidence.accepted.items()},
        states=evidence.states,
        announced=sorted(
            process
            for process, reports in evidence.reports.items()
            if any(report.name == failover_judge.MOVED_BACK for report in reports)
        ),
    )


def _calls(evidence: Evidence) -> Iterator[Report]:
    """Yield every result, and every call without one: it may act for as long as anything does."""
    for reports in evidence.reports.values():
        asked = {report.number: report for report in reports if report.name == "asked"}
        for report in reports:
            if report.kind == "result":
                asked.pop(report.number, None)
                yield report
        yield from (msgspec.structs.replace(report, kind="result", ended=inf) for report in asked.values())


def _wrong_ids(evidence: Evidence) -> Iterator[str]:
    for reports in evidence.reports.values():
        for report in reports:
            if report.kind == "result" and report.outcome == "accepted":
                accepted = evidence.accepted.get(report.foreign_id or "", ())
                if report.text and accepted and report.text not in {one.id for one in accepted}:
                    yield f"{report.foreign_id}: accepted under id {report.text}, which AlphaPo does not have"


def _judge_report(process: str, report: Report, evidence: Evidence, verdict: Verdict) -> None:
    stopped = sum(
        max(0.0, min(until, report.ended) - max(since, report.began))
        for since, until in evidence.pauses.get(process, ())
    )
    longest = {"withdraw": evidence.deadline, "closed": evidence.closing}.get(report.name, inf)
    took = report.ended - report.began - stopped
    if took > longest + BUSY:
        verdict.over.append(f"{process}: {report.name} {report.foreign_id or ''} took {took:.1f} s of {longest:g} s")
    if report.name == "ended":
        verdict.ended.append(f"{process}: {report.text}")
    if report.name == "not ended":
        verdict.stuck.append(f"{process}: {report.text}")
    if report.name == "held" and report.number > HELD_MOST:
        verdict.leaked.append(f"{process}: {report.number} descriptors at a time")
    if report.name == "left" and report.number > 0:
        verdict.leaked.append(f"{process}: {report.number} descriptors left after closing")
