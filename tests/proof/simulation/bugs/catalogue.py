"""The mistakes: what each of them is, who makes it, and how it is planted."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["BUGS", "Bug", "Edit", "FoundBy"]

FoundBy: TypeAlias = Literal["simulation", "model check", "test"]


class Edit(NamedTuple):
    """A place in the package, and what is to stand there instead."""

    file: str
    """Relative to the package."""
    old: str
    """Redated there exactly once."""
    new: str


class Bug(NamedTuple):
    """One mistake."""

    name: str
    why: str
    """Who makes it, and what it costs."""
    edits: tuple[Edit, ...]
    found_by: FoundBy = "simulation"
    test: str = ""
    """Where a test of the suite is what finds it: pytest's name of that test. It shows what no simulated journal has."""
    crowd: int = 1
    """How many times as many withdrawals the worlds hold: some mistakes need three that meet."""


_SENT: Final = "context, body = self._context, row.revision.body"
_SENT_OTHERWISE: Final = "context = self._context"
_EXCHANGED: Final = (
    'return self._parts.session.exchange("POST", context.withdrawal_url, body=body, headers=headers, timeout=timeout)'
)
_ASKED: Final = "return self._session.exchange(method, url, body=body, headers=headers, timeout=timeout)"
_REFUSAL_JUDGED: Final = '    return _judge_refusal(reply) or InDoubt(f"HTTP {reply.status}")\n'


def _raised_raw(file: str, exchanged: str) -> Edit:
    """Return the edit after which a reply that is cut short is raised."""
    return Edit(
        file,
        exchanged,
        "\n        async def raw() -> Reply | NoReply:\n"
        f"            reply = await {exchanged.removeprefix('return ')}\n"
        '            if isinstance(reply, NoReply) and reply.reason == "answer cut short":\n'
        "                raise OSError(reply.reason)\n"
        "            return reply\n\n"
        "        return raw()",
    )


_REPLIES: Final = (
    Bug(
        "a network error told as rejected",
        "Clients that know only success and failure: a lost reply counts as a refusal, and the payment is made again under another name.",
        (
            Edit(
                "core/replies.py",
                "return InDoubt(reply.reason) if reply.may_have_left else NotSent(reply.reason)",
                'return Rejected({"network": [reply.reason]}) if reply.may_have_left else NotSent(reply.reason)',
            ),
        ),
    ),
    Bug(
        "a time-out taken for not sent",
        "Clients that retry on every time-out as on a refused connection: the server was merely slow, and has paid.",
        (
            Edit(
                "core/replies.py",
                "return InDoubt(reply.reason) if reply.may_have_left else NotSent(reply.reason)",
                'is_doubtful = reply.may_have_left and reply.reason != "no answer in time"\n'
                "        return InDoubt(reply.reason) if is_doubtful else NotSent(reply.reason)",
            ),
        ),
    ),
    Bug(
        "a 502 taken for not processed",
        "Clients for which a gateway's error is the server's: what stood behind the gateway has paid.",
        (
            Edit(
                "core/replies.py",
                _REFUSAL_JUDGED,
                f'    if reply.status == 502:\n        return NotSent("bad gateway")\n{_REFUSAL_JUDGED}',
            ),
        ),
    ),
    Bug(
        "a 404 taken for not sent",
        "Clients for which every 4xx means that nothing came of it: the edge lost its answer, and said what it says then.",
        (
            Edit(
                "core/replies.py",
                _REFUSAL_JUDGED,
                f'    if reply.status in (401, 404, 408):\n        return NotSent(f"HTTP {{reply.status}}")\n{_REFUSAL_JUDGED}',
            ),
        ),
    ),
    Bug(
        "only 200 taken for success",
        "Clients that compare the status with 200: a 201 is told as refused, and the payment is made again.",
        (
            Edit(
                "core/replies.py",
                "    if reply.status in _OK:\n        return _judge_success(reply, asked)\n",
                "    if reply.status == 200:\n        return _judge_success(reply, asked)\n"
                '    if reply.status in _OK:\n        return Rejected({"status": [str(reply.status)]})\n',
            ),
        ),
    ),
    Bug(
        "a page with status 200 taken for success",
        "Clients that look at the status alone: a proxy's page counts as an acceptance, and nobody is ever paid.",
        (
            Edit(
                "core/replies.py",
                'return InDoubt(f"HTTP {reply.status} without a withdrawal")',
                'return Accepted(Withdrawal(id="", foreign_id=asked.foreign_id))',
            ),
        ),
    ),
    Bug(
        "a reply that is cut short is raised raw",
        "Clients that catch refused connections and time-outs only: the library's own error reaches whoever pays, and says nothing.",
        (
            _raised_raw("engine/flight.py", _EXCHANGED),
            _raised_raw("engine/questions.py", _ASKED),
        ),
    ),
    Bug(
        "a duplicate taken for success",
        'Clients that read "has already been taken" as "it worked": the name may be another payment\'s, or a refused one\'s.',
        (
            Edit(
                "core/replies.py",
                _REFUSAL_JUDGED,
                f"    if isinstance(_judge_refusal(reply), Duplicate):\n"
                f'        return Accepted(Withdrawal(id="", foreign_id=asked.foreign_id))\n{_REFUSAL_JUDGED}',
            ),
        ),
    ),
)

_BODIES: Final = (
    Bug(
        "a new foreign_id for every attempt",
        "Clients that draw the idempotency key where they send: a retry after a lost reply is another payment.",
        (
            Edit(
                "engine/flight.py",
                _SENT,
                'names = self._foreign_id.encode(), f"{self._foreign_id}-{self._counts.sent}".encode()\n'
                "        body = row.revision.body.replace(*names) if self._counts.sent else row.revision.body\n"
                f"        {_SENT_OTHERWISE}",
            ),
        ),
    ),
    Bug(
        "the body written anew for every attempt",
        "Clients that serialize where they sign: the second attempt has other bytes than the journal and the first.",
        (
            Edit(
                "engine/flight.py",
                _SENT,
                f'body = row.revision.body + b" " * self._counts.sent\n        {_SENT_OTHERWISE}',
            ),
        ),
    ),
    Bug(
        "amounts kept as floats",
        "Clients that take money for a float and print five places of it: the sixth is paid to nobody.",
        (
            Edit(
                "core/codec.py",
                "    text = plain(amount)\n    if len(text)",
                '    text = f"{float(amount):.5f}"\n    if len(text)',
            ),
            Edit(
                "core/codec.py",
                "    return plain(amount)\n\n\ndef _as_number",
                '    return f"{float(amount):.5f}"\n\n\ndef _as_number',
            ),
        ),
    ),
    Bug(
        "ids made of row numbers",
        "Scripts that number the rows of a list: the next list's first row has the name of this one's.",
        (
            Edit(
                "batch.py",
                "self._start(_Row(index, request))",
                'self._start(_Row(index, msgspec.structs.replace(request, foreign_id=f"row-{index}")))',
            ),
        ),
    ),
    Bug(
        "a conflict found by bytes instead of by payment",
        "Stores that compare a hash of the request: another release writes other bytes, and what was paid is told as another's.",
        (
            Edit(
                "core/evidence.py",
                "return is_same_payment(self.payment, other.payment)",
                "return self.body == other.body",
            ),
        ),
    ),
)

_PACE: Final = (
    Bug(
        "Retry-After ignored",
        "Clients with a back-off of their own: they go on while AlphaPo asks them to wait.",
        (
            Edit(
                "core/rate_limit.py",
                "return ReplyClass.THROTTLED, judged.retry_after",
                "return ReplyClass.THROTTLED, None",
            ),
            Edit("core/transitions.py", "wait = min(retry_after or 0.0, _LONGEST_WAIT)", "wait = 0.0"),
        ),
    ),
    Bug(
        "waiting beyond the caller's deadline",
        "Clients that sleep for as long as they are asked to: whoever gave himself three seconds hears nothing for a minute.",
        (
            Edit(
                "engine/waiters.py",
                "            self._arm(waiter, due)\n        elif",
                "            self._arm(waiter, max(due, self._loop.time() + 60.0))\n        elif",
            ),
        ),
    ),
    Bug(
        "Retry-After obeyed beyond the deadline",
        "Clients that wait for as long as they are asked to, whatever their caller said: three seconds become a minute.",
        (
            Edit(
                "client.py",
                'due = self._lifecycle.enter().time() + check_seconds("deadline", deadline)\n',
                'due = self._lifecycle.enter().time() + check_seconds("deadline", deadline)\n'
                "            due = max(due, self._engine.limiter.state.held_until + 1.0)\n",
            ),
        ),
    ),
    Bug(
        "a budget that never refills",
        "Budgets that are counted down only: after a bad hour nothing is ever tried twice again.",
        (
            Edit(
                "core/rate_limit.py",
                "return min(BUDGET, state.tokens + (now - state.counted_at) * REFILL)",
                "return state.tokens",
            ),
            Edit("core/rate_limit.py", "gift = 1.0 if permit.took_token else REFILL", "gift = 0.0"),
        ),
    ),
    Bug(
        "no budget",
        "Clients that retry each call for itself: when AlphaPo staggers, all of them together knock it over.",
        (
            Edit(
                "core/rate_limit.py",
                "when = max(state.held_until, now if priority.is_first or is_probe else _token_at(state, now))",
                "when = max(state.held_until, now)",
            ),
            Edit(
                "core/rate_limit.py",
                "tokens=_tokens(state, now) - 1, counted_at=now",
                "tokens=_tokens(state, now), counted_at=now",
            ),
        ),
    ),
    Bug(
        "look-ups for free",
        "Budgets that count bodies only: AlphaPo answers questions from the same machines.",
        (
            Edit(
                "core/rate_limit.py",
                "when = max(state.held_until, now if priority.is_first or is_probe else _token_at(state, now))",
                "is_free = priority.is_first or is_probe or priority is Priority.LOOK_UP\n"
                "    when = max(state.held_until, now if is_free else _token_at(state, now))",
            ),
            Edit(
                "core/rate_limit.py",
                "    return replace(state, tokens=_tokens(state, now) - 1, counted_at=now), _PAID[priority]",
                "    if priority is Priority.LOOK_UP:\n        return state, _PERMITS[priority]\n"
                "    return replace(state, tokens=_tokens(state, now) - 1, counted_at=now), _PAID[priority]",
            ),
        ),
    ),
    Bug(
        "an outage that nobody notices",
        "Clients that look at one call at a time: each new one adds its first attempt to what is too much already.",
        (Edit("core/rate_limit.py", "    if is_outage(state) or streak < STREAK:", "    if True:"),),
    ),
    Bug(
        "a deadline that is a hundred times as long",
        "Time-outs in the wrong unit, or none: whoever waits for an answer gives up long before it comes.",
        (
            Edit("engine/waiters.py", "self._deadline = deadlines.seconds", "self._deadline = 100 * deadlines.seconds"),
            Edit(
                "engine/engine.py", "FixedDelayTimers(self.context.policy", "FixedDelayTimers(100 * self.context.policy"
            ),
        ),
    ),
    Bug(
        "one retry object for all",
        "A decorator's state shared by all calls: a call goes on with another's last result.",
        (
            Edit("retrying.py", "from collections.abc", "import asyncio\nfrom collections.abc"),
            Edit("retrying.py", 'T = TypeVar("T")\n', 'T = TypeVar("T")\n_SHARED: dict = {}\n'),
            Edit(
                "retrying.py",
                "        self._round: AttemptManager | None = None\n",
                "        self._round: AttemptManager | None = None\n"
                "        self.__dict__ = _SHARED.setdefault(asyncio.get_running_loop(), self.__dict__)\n",
            ),
        ),
    ),
)

_JUDGES: Final = (
    Bug(
        "the last outcome wins over a doubt",
        "Clients that return what the last attempt brought: the first has arrived all the same.",
        (
            Edit(
                "core/transitions.py",
                "    if row.doubt_since is None and not row.look_ups_only and not row.earlier_request_possible:\n"
                '        return settle(refused, "rejected", now)\n'
                "    return replace(refused, needs_look_up=True)\n",
                '    return settle(refused, "rejected", now)\n',
            ),
        ),
    ),
    Bug(
        "not found taken for proof",
        "Clients that look up and believe it: the body is still on its way, or the look-up is another key's.",
        (
            Edit(
                "core/transitions.py",
                "    if row.refusal is None or row.look_ups_only or row.holder != worker:\n        return answered\n",
                '    return settle(answered, "not_sent", now)\n',
            ),
        ),
    ),
    Bug(
        "ended withdrawal believed at once though an earlier attempt may still arrive",
        "Clients for which `cancelled` is the end: it has freed the name, and the attempt that was lost before arrives and is paid.",
        (Edit("core/transitions.py", "    return row.arrivals >= MANY and not is_quiet\n", "    return False\n"),),
    ),
    Bug(
        "a quiet exit without a control",
        "An early design: refused after the quiet time and not found is believed by look-ups of which nobody knows what they see.",
        (
            Edit(
                "core/transitions.py",
                "is_last_word = row.control_seen_at is not None and now",
                "is_last_word = now",
            ),
            Edit(
                "core/next_step.py",
                "return LOOK_UP if control_is_useless else LookUp(accepted_after=quiet)",
                "return LOOK_UP",
            ),
        ),
    ),
    Bug(
        "no quiet time",
        "An early design: refused once more and not found is believed at once, while the first body is still on its way.",
        (
            Edit(
                "core/row.py",
                "return (row.could_leave_until or 0.0) + (assumptions.quiet if assumptions else row.quiet or QUIET)",
                "return row.could_leave_until or 0.0",
            ),
        ),
    ),
    Bug(
        "a quiet exit that never comes",
        "Caution that never ends: what AlphaPo has refused for certain stays open for ever, and its funds are held.",
        (
            Edit(
                "engine/flight.py",
                "return await self._look_up(await self._apply(ControlFound(self._worker, other.created_at)))",
                "return row",
            ),
        ),
    ),
    Bug(
        "old doubts sent again",
        "Retries without an end: the other side keeps its idempotency keys for a day, and takes the old one for a new one.",
        (Edit("core/next_step.py", "return SEND if arrives_by <= freed_from else LOOK_UP", "return SEND"),),
    ),
    Bug(
        "a stale holder's no believed",
        "An early design: a worker that lost its row says no by what it knew, while its successor's body is on its way.",
        (
            Edit(
                "core/transitions.py",
                'if row.state != "open" or row.holder != attempt.worker:',
                'if row.state != "open":',
            ),
            Edit(
                "core/transitions.py",
                "    if row.doubt_since is None and not row.look_ups_only and not row.earlier_request_possible:",
                "    if row.holder != attempt.worker or "
                "(row.doubt_since is None and not row.look_ups_only and not row.earlier_request_possible):",
            ),
        ),
        "model check",
    ),
    Bug(
        "an acceptance refused for want of a holder",
        "Fencing taken too far: AlphaPo says that it has the payment, and the store does not listen.",
        (
            Edit(
                "core/transitions.py",
                "        case Accepted():\n            return _replied(_arrived(row, attempt), proof.withdrawal, sight)",
                "        case Accepted():\n"
                "            return _replied(_arrived(row, attempt), proof.withdrawal, sight) if row.holder == attempt.worker else row",
            ),
        ),
        "model check",
    ),
    Bug(
        "another's withdrawal taken for ours",
        "Clients that look up by name and do not compare: another payment of that name counts as this one.",
        (
            Edit(
                "core/transitions.py",
                '    if comparison.differences:\n        return "; ".join(map(str, comparison.differences))\n',
                "    if shown.foreign_id == row.foreign_id:\n        return None\n",
            ),
        ),
        "model check",
    ),
    Bug(
        "figures required from an accepted row",
        "An early design: a conversion that AlphaPo has cancelled is shown without figures, and stays accepted for ever.",
        (
            Edit("core/transitions.py", "    if _is_known(row):\n        return None\n", ""),
            Edit("core/transitions.py", "    elif why is None or _is_known(row):\n", "    elif why is None:\n"),
        ),
        "model check",
    ),
    Bug(
        "the wrong side of a conversion compared",
        "Clients that compare what they asked for with what arrives: every conversion is another payment, and stays unknown.",
        (
            Edit(
                "core/comparison.py",
                "        yield transaction.currency_sent\n",
                "        yield transaction.currency_received if has_conversion(request) else transaction.currency_sent\n",
            ),
        ),
        found_by="test",
        test="tests/core/test_ours_matrix.py",
    ),
    Bug(
        "the tag not compared",
        "Clients that compare amount and address: an exchange has one address for all its customers, and another one of them was paid.",
        (
            Edit(
                "core/comparison.py",
                "    if place is not None and place.tag_is_given:\n",
                "    if place is not None and place.tag_is_given and not request.tag:\n",
            ),
            Edit("core/comparison.py", "bool(request.tag)", "False"),
        ),
        "model check",
    ),
    Bug(
        "a lease that lapses without a doubt",
        "Queues that hand a dead worker's job to the next: the dead one has sent it.",
        (
            Edit(
                "core/transitions.py",
                'replace(put_in_doubt(row, row.held_since, until, "its worker is gone"), holder=None, claim=0)',
                "replace(row, holder=None, claim=0)",
            ),
        ),
    ),
    Bug(
        "an older call that undoes a younger no",
        'Waiters whose question was on its way while another was told "no money moved", and who send all the same.',
        (
            Edit(
                "core/transitions.py",
                "    return asked.requested_at < row.settled_at + unsure",
                "    return False",
            ),
        ),
    ),
    Bug(
        "workers that reopen what was settled",
        "Workers that act on a list they read a while ago: whoever was told no meanwhile has given the funds back.",
        (Edit("engine/registry.py", "requested_at=0.0", "requested_at=None"),),
    ),
    Bug(
        "conflict that may release",
        "Clients for which a used id means that nothing was paid: a retry with another amount is paid a second time under a new id.",
        (Edit("core/errors.py", 'return self.existing.state == "failed"', "return True"),),
    ),
)

_KEYS: Final = (
    Bug(
        "settle on a refused key",
        "Workers that take a 403 for the end of each row: one wrong secret empties the outbox, and nothing is paid when it is right again.",
        (
            Edit(
                "core/transitions.py",
                "or row.look_ups_only or row.stays_open or is_new_since_rollback(row)\n",
                "or row.look_ups_only or is_new_since_rollback(row)\n",
            ),
        ),
    ),
    Bug(
        "direct caller released while the row stays open",
        "Clients that report what this call did, and not what the row is: the caller gives the funds back, and a worker pays.",
        (
            Edit(
                "core/results.py",
                '        return WithdrawalUnknown(\n            f"{name} was not sent by this call: {why}.',
                '        return WithdrawalNotSent(\n            f"{name} was not sent by this call: {why}.',
            ),
        ),
    ),
)

_JOURNAL: Final = (
    Bug(
        "the journal written after sending",
        "Clients that log what they did: whoever dies in between has paid, and nobody knows.",
        (
            Edit(
                "engine/recorder.py",
                "            row = await self._journal.update(",
                "            known = await self._journal.find(self._account, foreign_id)\n"
                "            if known is None:\n"
                "                return change(known)[0]\n"
                "            row = await self._journal.update(",
            ),
        ),
    ),
    Bug(
        "a no told before it is written",
        "Writing behind for speed: the process dies, and the next one sends what somebody has given the funds back for.",
        (Edit("engine/flight.py", 'if learned.state == "accepted":', 'if learned.state != "open":'),),
    ),
    Bug(
        "a slow no told as it was",
        "Stores whose commit takes long: a call that could not see the no has paid, and then the no is told.",
        (
            Edit(
                "engine/flight.py",
                "        return self._loop.time() - self._worked_out_at > COMMIT_GRACE\n",
                "        return False\n",
            ),
        ),
    ),
    Bug(
        "a no that is remembered",
        "Answers kept by foreign_id for speed: another process has paid since, and the old word says that no money moved.",
        (
            Edit(
                "client.py",
                "        if isinstance(outcome, Withdrawal):\n            return outcome\n        raise outcome\n",
                "        if isinstance(outcome, Withdrawal):\n            return outcome\n"
                '        if getattr(outcome, "may_release_funds", False):\n'
                '            self.__dict__.setdefault("_noes", {})[request.foreign_id] = outcome\n'
                "        raise outcome\n",
            ),
            Edit(
                "client.py",
                "        outcome = await self._registry.withdraw(\n",
                '        if (known := self.__dict__.get("_noes", {}).get(request.foreign_id)) is not None:\n'
                "            raise known\n"
                "        outcome = await self._registry.withdraw(\n",
            ),
        ),
    ),
    Bug(
        "closing that ends no work",
        "Clients that close their pool and go: what is under way goes on without one, and nobody hears how it ended.",
        (
            Edit(
                "engine/registry.py",
                "for grace in (_CANCEL_GRACE, _LAST_GRACE, _LAST_GRACE):",
                "for grace in ():",
            ),
        ),
    ),
    Bug(
        "an unwritten word told at closing",
        "A hasty end: what the journal would not take is told as if it had.",
        (
            Edit(
                "engine/flight.py",
                '        if self._unwritten or self._is_slow(row):\n            return self._result(row, "journal")\n',
                "",
            ),
        ),
    ),
    Bug(
        "a row left held after a lost answer",
        "The commit happened and its answer was lost: nobody works on the row, and nobody else may.",
        (
            Edit(
                "engine/flight.py",
                "self._may_stand_unheard = error.recorded is not False",
                "self._may_stand_unheard = False",
            ),
        ),
    ),
    Bug(
        "a retry that does not ask the journal first",
        "Loops that go by what they knew when they began: others have settled it, and it is sent again.",
        (
            Edit(
                "engine/flight.py",
                "if self._has_asked and self._parts.is_shared:",
                "if row is None:",
            ),
        ),
    ),
    Bug(
        "a lease prolonged after it was told over",
        "Locks that their old owner renews when he wakes up: two hold the same row.",
        (
            Edit(
                "journal/memory.py",
                "if worker in self._over or self._workers.get(worker, now) <= now:",
                "if worker not in self._workers:",
            ),
        ),
    ),
    Bug(
        "a lease counted by a clock that may be set",
        "Locks with a time-out by the wall clock: it is set back, and the lease seems to run on.",
        (
            Edit(
                "engine/lease.py",
                "return min(self._until - self.clock.latest(), self._steady_until - asyncio.get_running_loop().time())",
                "return self._until - self.clock._local() - self.clock._ahead",
            ),
        ),
    ),
    Bug(
        "a lease as long as a clock says that was set meanwhile",
        "Locks whose end is worked out while the storage is asked for the time: what is written down ends earlier than what is believed.",
        (
            Edit(
                "engine/clock.py",
                "        return steady if steady - wall > _TICK ",
                "        return steady if wall - steady > _TICK ",
            ),
        ),
    ),
    Bug(
        "a no that was long on its way from the journal",
        "Answers taken for news however long they took: another process has paid since, and the old word says that no money moved.",
        (
            Edit(
                "engine/recorder.py",
                "            if is_lasting or time() - read_at <= COMMIT_GRACE:\n",
                "            if row.state:\n",
            ),
        ),
        crowd=10,
    ),
    Bug(
        "a row as it was when it was asked for",
        "Loops that read before they write: the reading took long, and what it says is over.",
        (
            Edit(
                "engine/recorder.py",
                "            if time() - requested_at <= COMMIT_GRACE:\n",
                "            if requested_at:\n",
            ),
        ),
        crowd=10,
    ),
    Bug(
        "a claim kept while AlphaPo asks to wait",
        "Limits that are asked once: whoever has his claim and does something else first leaves in the midst of the pause.",
        (
            Edit(
                "engine/flight.py",
                "return row, is_let and not is_late and self._would_send(",
                "return row, self._would_send(",
            ),
        ),
    ),
    Bug(
        "a cancellation that forgets",
        "Clients that clean up and go when they are cancelled: the body had left.",
        (
            Edit(
                "engine/flight.py",
                "await self._apply(Attempt(self._worker, interrupted, began, latest()))",
                "pass",
            ),
        ),
    ),
    Bug(
        "errors of jobs that nobody hears",
        "GroupCommit of which the first error is raised and the others are dropped.",
        (
            Edit(
                "engine/streaming.py",
                "await asyncio.gather(*running, *done, return_exceptions=True)",
                "await asyncio.gather(*running, return_exceptions=True)",
            ),
        ),
    ),
)

_HISTORY: Final = (
    Bug(
        "history copied early",
        "Journals that take the lines before the change has made them: the row is right, and what led to it is gone.",
        (
            Edit(
                "journal/postgres/journal.py",
                "    return row, entries\n",
                "    return row, ()\n",
            ),
        ),
        found_by="test",
        test="tests/proof/test_differential.py::test_a_story_comes_to_the_same_in_every_kind_of_journal[0]",
    ),
)

_LIVENESS: Final = (
    Bug(
        "missing lock means dead",
        "Workers that are known by a file: it is cleaned away, or the journal is mounted alone, and two processes send at once.",
        (
            Edit(
                "journal/sqlite/liveness.py",
                "            place = os.open(self._folder / worker, os.O_RDWR | os.O_CLOEXEC)\n        except OSError:\n",
                "            place = os.open(self._folder / worker, os.O_RDWR | os.O_CLOEXEC)\n"
                "        except FileNotFoundError:\n            return True\n        except OSError:\n",
            ),
        ),
        found_by="test",
        test="tests/journal/sqlite/test_liveness.py::test_a_missing_lock_file_proves_nothing",
    ),
    Bug(
        "free lock after a failover means dead",
        "Advisory locks taken for life itself: a promoted standby has none, and every worker's rows are sent once more.",
        (
            Edit(
                "engine/clock.py",
                "return until if until < requested_at else max(until, self.latest())",
                "return until if until < requested_at else self.latest()",
            ),
        ),
        found_by="test",
        test="tests/engine/test_work_loop.py::test_what_a_worker_without_connection_holds_is_looked_up_at_once_and_sent_after_its_lease",
    ),
)

_EPOCHS: Final = (
    Bug(
        "no freeze",
        "Databases that are believed after a failover: a refusal that was reported is lost with the last commits, and a worker pays it.",
        (
            Edit(
                "core/next_step.py",
                "row.needs_look_up or row.look_ups_only or is_frozen(row)",
                "row.needs_look_up or row.look_ups_only",
            ),
        ),
        found_by="model check",
    ),
    Bug(
        "freeze by time instead of identity",
        "A pause after a failover instead of a comparison: half an hour later the worker pays what was refused.",
        (
            Edit(
                "core/next_step.py",
                "row.needs_look_up or row.look_ups_only or is_frozen(row)",
                "row.needs_look_up or row.look_ups_only or (is_frozen(row) and now < (row.journal_epoch.since or 0.0) + assumptions.quiet)",
            ),
        ),
        found_by="model check",
    ),
    Bug(
        "recorded no repeated after the journal went back",
        "What is written is reported: it was paid in the commits that are lost, and the funds are released.",
        (
            Edit(
                "core/row.py",
                "return row.state in NEGATIVE_STATES and max(row.epoch, row.reaffirmed_in) < row.journal_epoch.number",
                "return False",
            ),
        ),
        found_by="model check",
    ),
)

_CLAIMS: Final = (
    Bug(
        "claims without a watermark",
        "Queues that free whatever a dead worker had fetched: some of it was sent, and its successor takes the next refusal for the truth.",
        (
            Edit(
                "core/claims.py",
                "    if row.claim > (inf if begun is None else begun):\n",
                "    if row.claim > 0:\n",
            ),
        ),
        found_by="test",
        test="tests/core/test_claims.py::test_rows_of_the_last_claim_of_a_dead_worker_were_not_begun",
    ),
    Bug(
        "a watermark that is one too high",
        "Workers that begin what they have just fetched: the journal does not know yet that it may have been sent.",
        (
            Edit(
                "engine/claims.py",
                "            self._let_begin()\n            self._take(claimed.rows, taken_over)\n",
                "            self._take(claimed.rows, taken_over)\n            self._let_begin()\n",
            ),
        ),
    ),
    Bug(
        "a claim without the lease guard",
        "Workers that fetch whether or not they count as alive: rows are held by a worker that another one has buried.",
        (
            Edit(
                "journal/memory.py",
                "if claim.worker in self._over or self._workers.get(claim.worker, claim.now) <= claim.now:",
                "if claim.worker not in self._workers and claim.worker not in self._claims and claim.number > 1:",
            ),
        ),
        found_by="test",
        test="tests/journal/test_memory.py::TestMemory::test_a_claim_needs_a_lease_that_runs",
    ),
    Bug(
        "a claimed row that is not registered",
        "Workers whose process does not know what it has fetched: a call for the same payment meets its own worker as the holder.",
        (
            Edit(
                "engine/registry.py",
                "        self.flights[row.foreign_id] = flight\n        return flight\n",
                "        return flight\n",
            ),
        ),
        found_by="test",
        test="tests/engine/test_claims.py::test_a_call_joins_the_row_that_its_own_worker_has_claimed",
    ),
    Bug(
        "an expired row sent",
        "Outboxes that look at the clock when they fetch: the payment that its owner has given up leaves an hour later.",
        (
            Edit(
                "engine/flight.py",
                "is_useless = self._is_key_refused(row) or has_expired(row, now)",
                "is_useless = self._is_key_refused(row)",
            ),
        ),
        found_by="test",
        test="tests/engine/test_claims.py::test_a_row_that_expires_while_it_lies_ready_is_not_sent",
    ),
    Bug(
        "a lost claim sent twice",
        "Workers that fetch again after a lost answer: what the first one took is held by a worker that knows nothing of it.",
        (
            Edit(
                "engine/claims.py",
                "            self._is_unanswered = True\n            claimed = await",
                "            self._made += 1\n            claimed = await",
            ),
        ),
        found_by="test",
        test="tests/engine/test_claims.py::test_a_claim_whose_answer_was_lost_is_made_again_under_its_number",
    ),
    Bug(
        "a barrier that starves rows in doubt",
        "Workers that fetch new work whenever a slot is free: with a full outbox nobody ever looks up what is in doubt.",
        (
            Edit(
                "engine/work_loop.py",
                "if not ((is_first and self._begin_job()) or self._begin_claimed() or self._begin_job()):",
                "is_full = bool(self._claims.ready or self._claims.waiting)\n"
                "            if not (self._begin_claimed() or (not is_full and self._begin_job())):",
            ),
        ),
        found_by="test",
        test="tests/engine/test_claims.py::test_a_row_in_doubt_waits_for_no_empty_outbox",
    ),
    Bug(
        "a late answer to a claim believed",
        "Workers that ask which calls began since they fetched: one that began before has ended, and its stale row is sent.",
        (
            Edit(
                "engine/registry.py",
                "        if self.ended_since is not None:\n            self.ended_since.add(foreign_id)\n",
                "",
            ),
            Edit(
                "engine/registry.py",
                "Flight(self._parts, asked, request, loop, **how)\n        return flight\n",
                "Flight(self._parts, asked, request, loop, **how)\n"
                "        if self.ended_since is not None:\n"
                "            self.ended_since.add(request.foreign_id)\n"
                "        return flight\n",
            ),
        ),
    ),
    Bug(
        "an outage that only a call ends",
        "Workers that fetch nothing while the server is away: no call comes, nothing is sent, and nothing shows that it is back.",
        (
            Edit(
                "engine/work_loop.py",
                "(is_outage(state) and not is_probe_due)",
                "is_outage(state)",
            ),
        ),
    ),
    Bug(
        "a lease that ended while it was renewed",
        "Heartbeats that look at the answer and not at the clock: the rows were freed before it came, and are sent all the same.",
        (
            Edit(
                "engine/lease.py",
                "if is_renewed and self.clock.latest() < self._granted:",
                "if is_renewed:",
            ),
        ),
    ),
    Bug(
        "cancelled work that begins more",
        "Workers whose slots fill themselves: the work was cancelled, and what had been read ahead is sent one after the other.",
        (
            Edit(
                "engine/work_loop.py",
                "not (self._failures or self._has_ended or self._is_closed())",
                "not (self._failures or self._is_closed())",
            ),
        ),
    ),
    Bug(
        "claims without a pause",
        "Workers that ask again as long as something waits: without a lease no claim takes anything, and nothing else is asked.",
        (
            Edit(
                "engine/work_loop.py",
                "is_time = asyncio.get_running_loop().time() >= self._next_claim",
                "is_time = bool(self._claims.waiting) or asyncio.get_running_loop().time() >= self._next_claim",
            ),
        ),
    ),
)

_CALLBACKS: Final = (
    Bug(
        "callbacks told apart by id alone",
        "Handlers that have seen this id: they never hear that it was confirmed.",
        (Edit("core/callbacks.py", "        if status in self.statuses:\n", "        if self.statuses:\n"),),
    ),
    Bug(
        "a callback marked as seen before its handler",
        "Handlers that write first and work then: an exception, and nobody ever works on it.",
        (
            Edit(
                "engine/inbox.py",
                "            claim = CallbackClaim(name, transaction.status, taken, asyncio.get_running_loop().time())\n",
                "            claim = CallbackClaim(name, transaction.status, taken, asyncio.get_running_loop().time())\n"
                "            await self._finish(name, taken, transaction.status)\n",
            ),
        ),
    ),
    Bug(
        "a final status moved back by a late callback",
        "Clients that take the newest message for the newest news: confirmed becomes processing again.",
        (Edit("core/transitions.py", "return _rank(status) < _rank(known)", "return False"),),
    ),
    Bug(
        "a forged callback believed",
        "Handlers that see that there is a signature: whoever knows the URL says what was paid.",
        (Edit("core/callbacks.py", "    if not any(tried):\n", "    if not tried:\n"),),
    ),
)

BUGS: Final = (
    *_REPLIES,
    *_BODIES,
    *_PACE,
    *_JUDGES,
    *_KEYS,
    *_JOURNAL,
    *_HISTORY,
    *_LIVENESS,
    *_EPOCHS,
    *_CLAIMS,
    *_CALLBACKS,
)
