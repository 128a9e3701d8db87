"""AlphaPo's desk: takes one request, asks the faults and the rules, writes the ledger, and returns how to react. No sockets, no clock."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox import answers
from alphapo_async.sandbox.answers import HttpAnswer
from alphapo_async.sandbox.checks import NO_KEY, NotJson, authentication_problem, read_object, spell
from alphapo_async.sandbox.edge import Behaviour, Way, behaviour, throttled
from alphapo_async.sandbox.faults import AllFail, Call, Fault, FaultPlan, RequestKind
from alphapo_async.sandbox.ledger import Ledger, SeenBody
from alphapo_async.sandbox.records import CANCELLED, SandboxWithdrawal
from alphapo_async.sandbox.rules import Judgement, MerchantState, Original, Refusal, asked_by, look_up_problem

__all__ = ["OUT_OF_SCOPE", "Desk", "Late", "Question", "Reaction"]


class Question(msgspec.Struct, frozen=True):
    """What counts of a request: its body and three headers."""

    body: bytes
    key: str | None
    signature: str | None
    content_type: str

    def __repr__(self) -> str:
        return f"Question(body=<{len(self.body)} bytes>)"


class Late(msgspec.Struct, frozen=True):
    """A body that is processed later, and where it stands in the ledger."""

    question: Question
    foreign_id: str
    place: int


class Reaction(msgspec.Struct, frozen=True):
    """What happens on the connection, and what is left to do besides."""

    way: Way
    answer: HttpAnswer
    record: SandboxWithdrawal | None = None
    """What was just accepted."""
    late: Late | None = None


class _Processed(msgspec.Struct, frozen=True):
    answer: HttpAnswer
    outcome: str
    record: SandboxWithdrawal | None = None
    accepted: bool = False


_NOTHING = HttpAnswer(200, b"")
_OK = HttpAnswer(200, b"OK", "text/html; charset=UTF-8")
_INVALID = 400

OUT_OF_SCOPE = frozenset(
    {
        "addresses/take",
        "crypto/withdrawal_instant",
        "crypto/withdrawal_instant_exchange",
        "currencies/pairs",
        "exchange/fixed",
        "exchange/now",
        "futures/confirm",
        "futures/rates",
        "invoices/create",
    }
)
"""Documented endpoints that the local sandbox does not have: deposits, invoices, exchanges, instant withdrawals."""


class Desk:
    """Reacts to requests.

    Args:
        world: AlphaPo's rules and books.
        ledger: where every POST is recorded.
        signers: the merchant's keys.
        faults: what goes wrong; may be replaced at any time.
    """

    def __init__(self, state: MerchantState, ledger: Ledger, signers: Mapping[str, Signer], faults: FaultPlan) -> None:
        self.state = state
        self.ledger = ledger
        self.faults = faults
        self.throttle_seconds = 1.0
        self._signers = signers
        self._numbers: dict[tuple[RequestKind, str], int] = {}
        self._doors: Mapping[tuple[str, str], Callable[[Question, float, float], Reaction]] = {
            ("POST", "/api/v2/withdrawal/crypto"): self.withdrawal,
            ("GET", "/api/v2/transactions/info"): self.look_up,
            ("GET", "/api/v2/ping"): self.ping,
            ("POST", "/api/v2/accounts/list"): self.accounts,
            ("POST", "/api/v2/currencies/list"): self.currencies,
            ("POST", "/api/v2/currencies/rates"): self.rates,
            ("POST", "/api/v2/exchange/calculate"): self.quote,
            ("GET", "/sandbox/ledger"): self.books,
        }

    def react(self, method: str, path: str, question: Question, now: float, today: float) -> Reaction:
        """React to a request.

        Args:
            method: GET or POST.
            path: where it goes; a path that is not there gives 403, not 404
                (https://docs.cryptoprocessing.com/api-reference/errors). A documented one that the sandbox does not have gives 404.
            question: its body and the headers that count.
            now: the present moment on the sandbox's clock.
            today: seconds since the epoch, for dates in headers.
        """
        door = self._doors.get((method, path))
        if door is not None:
            return door(question, now, today)
        is_documented = method == "POST" and path.removeprefix("/api/v2/") in OUT_OF_SCOPE
        return Reaction(Way.ANSWER, answers.out_of_scope(path) if is_documented else answers.not_let_in(NO_KEY))

    def books(self, _question: Question, _now: float, _today: float) -> Reaction:
        """Return the ledger: the sandbox's own page, for other processes."""
        return Reaction(Way.ANSWER, HttpAnswer(200, self.ledger.to_json().encode()))

    # ── withdrawals ──────────────────────────────────────────────────────────────────────────────────────────────────

    def withdrawal(self, question: Question, now: float, today: float) -> Reaction:
        """React to POST /api/v2/withdrawal/crypto."""
        foreign_id = spell(_fields(question.body).get("foreign_id"))
        fault = self._strike("withdrawal", foreign_id, now)
        acting = behaviour(fault, self.state.dialect, self.throttle_seconds, today)
        processed = self._processed(question, fault, acting, now)
        place = self.ledger.note(
            foreign_id,
            SeenBody(
                at=now,
                body=question.body,
                fault=fault and fault.value,
                outcome=processed.outcome,
                accepted_id=processed.record.id if processed.record and processed.accepted else None,
                key=question.key or "",
            ),
        )
        late = Late(question, foreign_id, place) if fault is Fault.LATE else None
        record = processed.record if processed.accepted else None
        return Reaction(acting.way, acting.instead or processed.answer, record, late)

    def process_late(self, late: Late, now: float) -> SandboxWithdrawal | None:
        """Process a body whose time has come, by the rules of that moment; returns what was accepted."""
        processed = self._process(late.question, now)
        accepted = processed.record if processed.accepted else None
        self.ledger.amend(late.foreign_id, late.place, processed.outcome, accepted.id if accepted else None)
        return accepted

    def _processed(self, question: Question, fault: Fault | None, acting: Behaviour, now: float) -> _Processed:
        if fault is Fault.LATE:
            return _Processed(_NOTHING, "late")
        if acting.processed:
            return self._process(question, now, has_other_amount=fault is Fault.OTHER_AMOUNT)
        if fault is Fault.OTHER_FOREIGN_ID:
            return self._lie(question, now)
        return _Processed(_NOTHING, "not processed")

    def _process(self, question: Question, now: float, *, has_other_amount: bool = False) -> _Processed:
        fields = self._let_in(question)
        if isinstance(fields, _Processed):
            return fields
        ends = CANCELLED if isinstance(self.faults, AllFail) else None
        verdict = self.state.withdraw(fields, question.key or "", now, ends)
        return self._told(verdict, now, has_other_amount=has_other_amount)

    def _told(self, verdict: Judgement, now: float, *, has_other_amount: bool = False) -> _Processed:
        dialect = self.state.dialect
        if isinstance(verdict, Refusal):
            return _Processed(answers.refused(verdict, dialect), "reused" if verdict.is_reuse else "refused")
        first = isinstance(verdict, Original)
        record = verdict.record if isinstance(verdict, Original) else verdict
        answered = _another_amount(record) if has_other_amount else record
        answer = answers.accepted(answered, dialect, now)
        return _Processed(answer, "original" if first else "accepted", record, accepted=not first)

    def _lie(self, question: Question, now: float) -> _Processed:
        """Answer as if another foreign_id had been accepted, and remember nothing."""
        fields = self._let_in(question)
        if isinstance(fields, _Processed):
            return fields
        verdict = self.state.judge(fields, question.key or "", now)
        if isinstance(verdict, Refusal):
            return self._told(verdict, now)
        record = verdict.record if isinstance(verdict, Original) else verdict
        return _Processed(answers.accepted(_another_name(record), self.state.dialect, now), "not processed")

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def look_up(self, question: Question, now: float, today: float) -> Reaction:
        """React to GET /api/v2/transactions/info."""
        self.ledger.look_ups += 1
        fault = self._strike("look-up", spell(_fields(question.body).get("foreign_id")), now)
        if fault is Fault.INSUFFICIENT:
            # A question costs no money.
            fault = None
        acting = behaviour(fault, self.state.dialect, self.throttle_seconds, today)
        return Reaction(acting.way, acting.instead or self._shown(question, fault, now))

    def _shown(self, question: Question, fault: Fault | None, now: float) -> HttpAnswer:
        dialect = self.state.dialect
        if dialect.look_up_transport == "dropped":
            question = msgspec.structs.replace(question, body=b"")
        fields = self._let_in(question)
        if isinstance(fields, _Processed):
            return fields.answer
        if problem := look_up_problem(fields):
            return answers.textual(*problem)
        record = self.state.look_up(fields, question.key or "", now)
        if record is None:
            return answers.unknown(asked_by(fields), dialect)
        if fault is Fault.OTHER_FOREIGN_ID:
            record = _another_name(record)
        elif fault is Fault.OTHER_AMOUNT:
            record = _another_amount(record)
        return answers.shown(record, dialect, now)

    def ping(self, _question: Question, now: float, today: float) -> Reaction:
        """React to GET /api/v2/ping: no key needed (https://docs.cryptoprocessing.com/api-reference/openapi.yaml)."""
        self.ledger.pings += 1
        acting = self._acting("ping", now, today)
        return Reaction(acting.way, acting.instead or _OK)

    def accounts(self, question: Question, now: float, today: float) -> Reaction:
        """React to POST /api/v2/accounts/list."""
        answer = lambda _fields: answers.accounts(self.state.balances(now), self.state.dialect)  # noqa: E731
        return self._answered("accounts", question, now, today, answer)

    def currencies(self, question: Question, now: float, today: float) -> Reaction:
        """React to POST /api/v2/currencies/list."""
        answer = lambda _fields: answers.currencies(self.state.minimums, self.state.dialect)  # noqa: E731
        return self._answered("currencies", question, now, today, answer)

    def rates(self, question: Question, now: float, today: float) -> Reaction:
        """React to POST /api/v2/currencies/rates."""
        answer = lambda fields: answers.rates(fields, self.state.minimums, self.state.dialect)  # noqa: E731
        return self._answered("rates", question, now, today, answer)

    def quote(self, question: Question, now: float, today: float) -> Reaction:
        """React to POST /api/v2/exchange/calculate."""

        def answer(fields: dict[str, Any]) -> HttpAnswer:
            quoted, dialect = self.state.quote(fields, now), self.state.dialect
            if quoted is None:
                return throttled(dialect, self.throttle_seconds, today)
            if isinstance(quoted, dict):
                return answers.refused(Refusal(quoted, _INVALID), dialect)
            return answers.quote(*quoted, dialect, today)

        return self._answered("quote", question, now, today, answer)

    def _answered(
        self,
        kind: RequestKind,
        question: Question,
        now: float,
        today: float,
        answer: Callable[[dict[str, Any]], HttpAnswer],
    ) -> Reaction:
        """React to a signed question that is about no withdrawal."""
        acting = self._acting(kind, now, today)
        fields = self._let_in(question)
        usual = fields.answer if isinstance(fields, _Processed) else answer(fields)
        return Reaction(acting.way, acting.instead or usual)

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _let_in(self, question: Question) -> dict[str, Any] | _Processed:
        problem = authentication_problem(self._signers, question.key, question.signature, question.body)
        if problem is not None:
            return _Processed(answers.not_let_in(problem), problem.code)
        if _says_json(question.content_type):
            with contextlib.suppress(NotJson):
                return read_object(question.body)
        return _Processed(answers.bad_format(), "bad_content_format")

    def _strike(self, kind: RequestKind, foreign_id: str, now: float) -> Fault | None:
        number = self._numbers[kind, foreign_id] = self._numbers.get((kind, foreign_id), 0) + 1
        return self.faults.next(Call(kind, foreign_id, number, now))

    def _acting(self, kind: RequestKind, now: float, today: float) -> Behaviour:
        return behaviour(self._strike(kind, "", now), self.state.dialect, self.throttle_seconds, today)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return read_object(body)
    except NotJson:
        return {}


def _says_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _another_name(record: SandboxWithdrawal) -> SandboxWithdrawal:
    asked = msgspec.structs.replace(record.asked, foreign_id=f"not-{spell(record.asked.foreign_id)}")
    return msgspec.structs.replace(record, asked=asked)


def _another_amount(record: SandboxWithdrawal) -> SandboxWithdrawal:
    one = Decimal(1)
    return msgspec.structs.replace(record, sent=record.sent + one, received=record.received + one)
