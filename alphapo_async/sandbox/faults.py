"""What can go wrong between a request and its reply, and plans that say when.

A plan answers one question, `next(call)`: which fault, if any, strikes this request? Plans are pure; chance comes from a hash of the
seed and the call, so that it does not depend on the order in which requests arrive.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Literal, Protocol, TypeAlias

import msgspec

__all__ = ["AllFail", "Call", "Fault", "FaultPlan", "Faults", "OutagePlan", "RequestKind", "Script", "Several"]


class Fault(enum.StrEnum):
    """One way in which a request can go wrong. "Before" and "after" are counted from the moment AlphaPo processes the body."""

    RESET_BEFORE = "reset_before"
    """The connection is reset before AlphaPo has processed anything."""
    RESET_AFTER = "reset_after"
    """AlphaPo processes the body, then the connection is reset without a byte of reply."""
    STALL_BEFORE = "stall_before"
    """Nothing is processed and nothing is ever answered."""
    STALL_AFTER = "stall_after"
    """The body is processed, and nothing is ever answered."""
    SLOW = "slow"
    """The right answer, late."""
    CUT_BODY = "cut_body"
    """Processed; the reply breaks off in the middle of its body."""
    GARBAGE = "garbage"
    """Processed; 200 with bytes that are no JSON."""
    HTML_200_BEFORE = "html_200_before"
    """A page with status 200 from the edge; AlphaPo has seen nothing."""
    HTML_200_AFTER = "html_200_after"
    """A page with status 200 instead of the reply to a processed body."""
    HTML_502_BEFORE = "html_502_before"
    """502 from the edge; AlphaPo has seen nothing."""
    HTML_502_AFTER = "html_502_after"
    """502 from the edge, instead of the reply to a processed body."""
    HTML_503_BEFORE = "html_503_before"
    """503 from the edge; AlphaPo has seen nothing."""
    HTML_520_BEFORE = "html_520_before"
    """520 from the edge; AlphaPo has seen nothing."""
    EMPTY_200_AFTER = "empty_200_after"
    """Processed; 200 without a body."""
    THROTTLE = "throttle"
    """429 in the form of the dialect; nothing is processed."""
    ERROR_500_BEFORE = "error_500_before"
    """500 with JSON; nothing was processed."""
    ERROR_500_AFTER = "error_500_after"
    """500 with JSON, although the body was processed."""
    LATE = "late"
    """No answer; the body is processed later, even if the client has left and a later attempt was refused."""
    REDIRECT_302 = "redirect_302"
    """302 to the same path; nothing is processed."""
    REDIRECT_307 = "redirect_307"
    """307 to the same path; nothing is processed."""
    OTHER_FOREIGN_ID = "other_foreign_id"
    """A success that names another foreign_id; nothing is processed."""
    OTHER_AMOUNT = "other_amount"
    """Processed as asked; the reply shows another amount."""
    INSUFFICIENT = "insufficient"
    """A definite refusal: not enough balance."""
    FORBIDDEN_HTML = "forbidden_html"
    """403 as a page from the edge; nothing is processed."""
    UNAUTHORIZED = "unauthorized"
    """401 with JSON; nothing is processed."""
    NOT_FOUND_HTML = "not_found_html"
    """404 as a page; nothing is processed."""
    TIMEOUT_408 = "timeout_408"
    """408 as a page; nothing is processed."""
    KEY_REFUSED = "key_refused"
    """403 with the documented code `bad_header_key`; nothing is processed."""
    UNKNOWN_CODE = "unknown_code"
    """403 with JSON and a code that no document knows; nothing is processed."""
    CLOSE_KEEPALIVE = "close_keepalive"
    """The right answer; then the connection is closed without having said so."""

    @property
    def accepts(self) -> bool | None:
        """Whether AlphaPo processes (and, if it is valid, accepts) the body; None: as its rules decide, now or later."""
        if self in _BY_THE_RULES:
            return None
        return self in _PROCESSED


_BY_THE_RULES = frozenset({Fault.SLOW, Fault.CLOSE_KEEPALIVE, Fault.LATE})
_PROCESSED = frozenset(
    {
        Fault.RESET_AFTER,
        Fault.STALL_AFTER,
        Fault.CUT_BODY,
        Fault.GARBAGE,
        Fault.HTML_200_AFTER,
        Fault.HTML_502_AFTER,
        Fault.EMPTY_200_AFTER,
        Fault.ERROR_500_AFTER,
        Fault.OTHER_AMOUNT,
    }
)

RequestKind: TypeAlias = Literal["withdrawal", "look-up", "ping", "accounts", "currencies", "rates", "quote"]
"""What a request asks for."""


class Call(msgspec.Struct, frozen=True):
    """One request that may be struck: what it asks for, of which withdrawal, the how manieth of its kind for it, and when."""

    kind: RequestKind
    foreign_id: str
    number: int
    at: float


class FaultPlan(Protocol):
    """Anything that can say which fault strikes a call."""

    def next(self, call: Call, /) -> Fault | None:
        """Return the fault for this call, or None."""
        ...


class Script:
    """Plays written faults: for each foreign_id (or "*", any other) and kind, one after the other.

    Args:
        steps: `{foreign_id or "*": {kind: [fault or None, ...]}}`.
        then: what follows after the last step: no fault, or the last one again and again.
    """

    def __init__(
        self,
        steps: Mapping[str, Mapping[str, Sequence[Fault | None]]],
        *,
        then: Literal["none", "repeat last"] = "none",
    ) -> None:
        self._steps = {name: {kind: tuple(faults) for kind, faults in kinds.items()} for name, kinds in steps.items()}
        self._repeats = then == "repeat last"

    def next(self, call: Call, /) -> Fault | None:
        """Return the fault at this call's place."""
        kinds = self._steps.get(call.foreign_id, self._steps.get("*", {}))
        faults = kinds.get(call.kind, ())
        if call.number <= len(faults):
            return faults[call.number - 1]
        return faults[-1] if faults and self._repeats else None


class Faults:
    """Strikes by chance, reproducibly.

    Args:
        rates: how often each fault strikes, of 1; together at most 1.
        seed: another seed, other strikes.
        kinds: the kinds of calls that are struck.
        later: what the rates are multiplied with from the second call of a kind for one foreign_id on.

    Raises:
        ValueError: a rate is negative, or they add up to more than 1.
    """

    def __init__(
        self, rates: Mapping[Fault, float], seed: int = 0, kinds: Sequence[str] = ("withdrawal",), *, later: float = 1.0
    ) -> None:
        if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1 + 1e-9:
            raise ValueError("Fault rates are at least 0 and together at most 1.")
        self._rates = tuple(rates.items())
        self._seed = seed
        self._kinds = frozenset(kinds)
        self._later = later

    def next(self, call: Call, /) -> Fault | None:
        """Return the fault that the hash of the seed and this call falls on."""
        if call.kind not in self._kinds:
            return None
        share = 1.0 if call.number == 1 else self._later
        point = self._point(call)
        for fault, rate in self._rates:
            point -= rate * share
            if point < 0:
                return fault
        return None

    def _point(self, call: Call) -> float:
        text = f"{self._seed}|{call.kind}|{call.foreign_id}|{call.number}"
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()
        return int.from_bytes(digest, "big") / 2.0**48


class OutagePlan:
    """Nothing gets through for a while.

    Args:
        start: when it begins, on the clock of `Call.at`.
        seconds: how long it lasts.
        mode: how it looks from outside.
        every: it comes back after so many seconds, for ever; None: it comes once.
    """

    def __init__(
        self,
        start: float,
        seconds: float,
        mode: Literal["503", "stall", "reset"] = "503",
        *,
        every: float | None = None,
    ) -> None:
        self._start = start
        self._seconds = seconds
        self._every = every
        self._fault = {"503": Fault.HTML_503_BEFORE, "stall": Fault.STALL_BEFORE, "reset": Fault.RESET_BEFORE}[mode]

    def next(self, call: Call, /) -> Fault | None:
        """Return the fault of the outage while it lasts."""
        since = call.at - self._start
        if self._every is not None and since >= 0:
            since %= self._every
        return self._fault if 0 <= since < self._seconds else None


class AllFail:
    """Nothing goes wrong on the way, and AlphaPo ends every withdrawal that it accepts at once: cancelled, no money moved."""

    def next(self, _call: Call, /) -> Fault | None:
        """Return no fault."""
        return None


class Several:
    """Several plans: the first that strikes counts."""

    def __init__(self, *plans: FaultPlan) -> None:
        self._plans = plans

    def next(self, call: Call, /) -> Fault | None:
        """Return the fault of the first plan that has one."""
        return next((fault for plan in self._plans if (fault := plan.next(call)) is not None), None)
