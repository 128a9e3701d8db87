"""What one seed means: how AlphaPo answers, what goes wrong, when, and who pays what. Pure: no clock, no loop.

Each seed turns some families of trouble on and others off, so that no trouble always hides behind another.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import structs

from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.sandbox.callbacks import Mischief
from alphapo_async.sandbox.dialects import DIALECT_CHOICES, Dialect
from alphapo_async.sandbox.faults import Fault
from alphapo_async.sandbox.records import MAGIC_CANCELLED, MAGIC_DECLINED
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.schedules import Schedule

__all__ = ["ASSUMPTIONS", "EPOCH", "FAMILIES", "QUIET", "Intent", "Outage", "Rates", "Scenario", "drawn", "fresh"]

Assumption: TypeAlias = Literal["A1", "A2", "A3", "A4", "A5"]
ASSUMPTIONS: Final[tuple[Assumption, ...]] = ("A1", "A2", "A3", "A4", "A5")

FAMILIES: Final = (
    "network",
    "edge",
    "throttling",
    "outages",
    "storage",
    "crashes",
    "stops",
    "clocks",
    "leaving",
    "closing",
    "callbacks",
    "operator",
    "rotation",
    "refused",
    "releases",
    "people",
    "workers",
    "batches",
    "failovers",
    "claims",
)
"""Families of trouble, and of ways to use the client."""
_USUAL: Final = 0.6
_SHARES: Final = {"failovers": 0.3, "claims": 0.2}
"""Of all worlds: those in which a family is on, where that is not the usual share."""

KEY_NAMES: Final = ("key-one", "key-two")
"""The merchant's keys; the second is what the first is rotated to."""
EPOCH: Final = 1_800_000_000.0
"""What the storage's clock shows when the virtual clock shows zero."""
QUIET: Final = 1_800.0
_HOUR: Final = 3_600.0
_DAY: Final = 86_400.0
_SCHEDULES: Final[tuple[Schedule, ...]] = ("in order", "in order", "any order", "priorities")
"""Half of all worlds run what is ready as it came, as an event loop does."""
_CROWDED: Final = 0.04
"""Of all worlds: those in which many are paid while AlphaPo is away."""
_CROWD: Final = 300
_LEFT_ALONE: Final = 0.05
"""Of all worlds: those without callers, in which workers find out by themselves that an outage is over."""
_LONG: Final = 0.07
"""Of all worlds: those that last for hours, so that doubts grow old in them while others are paid."""
_MOST_IN_LONG: Final = 60
"""Withdrawals in one of them, and where AlphaPo is away for hours: what is in doubt for hours is looked up for hours."""

_EDGE: Final = tuple(
    fault
    for fault in Fault
    if fault not in (Fault.THROTTLE, Fault.LATE, Fault.OTHER_FOREIGN_ID, Fault.OTHER_AMOUNT, Fault.KEY_REFUSED)
)
_LIES: Final = (Fault.OTHER_FOREIGN_ID, Fault.OTHER_AMOUNT, Fault.KEY_REFUSED)

_DOUBTFUL: Final = ("stall", "stall", "404", "reset")
OUTAGES: Final = ("503", "stall", "reset", "refuse", "name not found", "throttle", "401", "404", "408", "502")


class Rates(NamedTuple):
    """How often what goes wrong, of 1."""

    refuse: float = 0.0
    connect_timeout: float = 0.0
    tls: float = 0.0
    name: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    stall: float = 0.0
    cut: float = 0.0
    twice: float = 0.0
    overtaken: float = 0.0
    late: float = 0.0
    cancelled: float = 0.0
    slow_commit: float = 0.0
    failed_commit: float = 0.0
    lost_commit: float = 0.0
    late_claim: float = 0.0
    """A claim that is answered after what was written behind it; and as often a request that comes behind a claim, and a lost renewal."""
    failed_read: float = 0.0
    crash_at_door: float = 0.0
    leave: float = 0.0
    handler_raises: float = 0.0
    handler_slow: float = 0.0


class Outage(NamedTuple):
    """AlphaPo is away for a while."""

    start: float
    end: float
    how: str


class Refusal(NamedTuple):
    """AlphaPo does not accept a key for a while: it was blocked, or the address is missing on its list."""

    key: str
    start: float
    end: float


class Failover(NamedTuple):
    """The database is lost, and one that lags takes its place."""

    at: float
    lag: float
    """Seconds of acknowledged commits that are lost; 0 for a planned switchover."""
    down: float
    """Seconds until the other one answers."""
    kills: bool
    """Every process dies with it, as where a whole site is lost."""


class Intent(NamedTuple):
    """A payment that somebody wants to make, once."""

    number: int
    at: float
    request: WithdrawalRequest
    how: Literal["withdraw", "batch", "enqueue"]
    correction: WithdrawalRequest | None = None
    """What is paid instead if the first is refused."""
    is_doubled: bool = False
    """It is asked for twice, at the same time or soon after, in two processes."""
    confused: WithdrawalRequest | None = None
    """Somebody asks for another payment under the same foreign_id."""
    is_urgent: bool = False
    """With a short deadline of its own."""
    expires_in: float | None = None
    """Left to the workers for so long; None for as long as usual."""


class Scenario(NamedTuple):
    """One world."""

    seed: int
    families: frozenset[str]
    dialect: Dialect
    processes: int
    is_durable: bool
    intents: tuple[Intent, ...]
    ends: float
    """From then on nothing goes wrong any more."""
    rates: Rates
    edge: dict[Fault, float]
    outages: tuple[Outage, ...]
    refusals: tuple[Refusal, ...]
    failovers: tuple[Failover, ...]
    """From the first to the last, one at a time."""
    is_lossless: bool
    """The operator has said that failovers lose nothing, and they do not."""
    full: tuple[float, float] | None
    """When the journal's disk is full."""
    mischief: Mischief
    balance: Decimal | None
    """Of bitcoin; None for plenty."""
    told_share: float
    """Of how many withdrawals AlphaPo tells by itself: each callback comes many times over."""
    settle_after: float
    latency: float
    max_connections: int
    rates_of_clients: tuple[float | None, ...]
    """Of withdrawals that one may start in a second, one of these."""
    is_one_machine: bool
    """All processes go by one clock, and so does the journal, which is a file: it may be set all the same."""
    resend_within: float
    """After so many seconds AlphaPo frees an id (A2)."""
    broken: Assumption | None = None
    schedule: Schedule = "in order"
    """In which order what is ready at the same time runs."""
    is_left_alone: bool = False
    """All that is wanted is left to the workers, and for long no caller asks again."""

    def has(self, family: str) -> bool:
        """Tell whether this family is on."""
        return family in self.families


def drawn(seed: int, each: int = 40, broken: Assumption | None = None) -> Scenario:
    """Return the world of a seed.

    Args:
        seed: which.
        each: withdrawals, about.
        broken: an assumption that does not hold in it.
    """
    chance = Chance(seed)
    families = frozenset(family for family in FAMILIES if chance.happens(_SHARES.get(family, _USUAL), "family", family))
    is_durable = not chance.happens(0.08, "volatile") or broken is not None
    if broken is not None:
        families |= _NEEDED[broken]
    is_long = broken is None and is_durable and chance.happens(_LONG, "long")
    length = chance.between(60.0, 900.0, "length") if broken != "A3" else 4 * 3_600.0
    if is_long:
        length = chance.between(7_200.0, 14_400.0, "length", "long")
        families |= {"network"}
    is_crowded = not is_long and broken is None and chance.happens(_CROWDED, "crowded")
    if is_crowded:  # with all that works on them to the end
        families -= {"crashes", "stops", "closing", "storage", "leaving", "claims"}
    is_left_alone = (
        not is_long and not is_crowded and broken is None and is_durable and chance.happens(_LEFT_ALONE, "alone")
    )
    if is_left_alone:  # by workers that remember what they saw
        families = families - {"crashes", "closing", "failovers", "people", "rotation", "claims"} | {"workers"}
    if broken is not None or not is_durable:
        families -= {"failovers", "claims"}
    if "claims" in families:
        families |= {"workers", "storage"}
    is_lossless = chance.happens(0.2, "lossless")
    outages = _outages(chance, length) if "outages" in families else ()
    number = max(1, int(each * chance.between(0.4, 1.6, "number")))
    if is_long or any(outage.end - outage.start > _HOUR for outage in outages):
        number = min(number, _MOST_IN_LONG)
    dialect = _dialect(chance, broken, is_long=is_long)
    intents = tuple(_intent(chance, one, length, families, dialect, is_durable=is_durable) for one in range(number))
    if is_crowded:
        outages, intents = _crowd(chance, length, families, dialect, is_durable=is_durable)
    if is_left_alone:
        outages, intents = _queue(chance, length, intents)
    refusals = _refusals(chance, length) if "refused" in families else ()
    ends = max((length, *(outage.end for outage in outages), *(refusal.end for refusal in refusals))) + 30.0
    return Scenario(
        seed=seed,
        families=families,
        dialect=dialect,
        processes=chance.whole(1, 2 if is_long or "claims" in families else 4, "processes")
        if is_durable and not is_crowded
        else 1,
        is_durable=is_durable,
        intents=intents,
        ends=ends,
        rates=_rates(chance, families, broken, is_long=is_long),
        edge={Fault.INSUFFICIENT: 0.5} if is_long or broken == "A3" else _edge(chance, families),
        outages=outages,
        refusals=refusals,
        failovers=_failovers(chance, length, intents, is_lossless=is_lossless) if "failovers" in families else (),
        is_lossless=is_lossless,
        full=_full(chance, length) if "storage" in families else None,
        mischief=_mischief(chance, families),
        balance=Decimal(number) / 10 if broken is None and chance.happens(0.15, "poor") else None,
        told_share=min(1.0, 20 / number),
        settle_after=chance.pick((1.0, 30.0, 600.0, 5_400.0), "settles"),
        latency=chance.pick((0.02, 0.2, 1.0), "latency") if not is_crowded else 1.0,
        max_connections=chance.pick((2, 10, 100), "connections") if not is_crowded else 300,
        rates_of_clients=(None,) if is_crowded else (None, None, 5.0, 50.0),
        is_one_machine=broken is None and "failovers" not in families and chance.happens(0.4, "one machine"),
        resend_within=chance.pick((5_400.0, _DAY), "resend within") if is_long else _DAY,
        broken=broken,
        schedule="in order" if broken is not None else chance.pick(_SCHEDULES, "schedule"),
        is_left_alone=is_left_alone,
    )


_NEEDED: Final[dict[str, frozenset[str]]] = {
    "A1": frozenset({"network", "workers"}),
    "A2": frozenset({"network", "workers"}),
    "A3": frozenset({"network", "people", "workers"}),
    "A4": frozenset({"throttling"}),
    "A5": frozenset({"crashes", "network"}),
}


def _dialect(chance: Chance, broken: Assumption | None, *, is_long: bool) -> Dialect:
    told: dict[str, Any] = {name: chance.pick(options, "dialect", name) for name, options in DIALECT_CHOICES.items()}
    told["visibility_delay"] = chance.pick((0.2, 5.0, 600.0, 3_600.0), "dialect", "visibility_delay")
    # A withdrawal that is shown otherwise than it was requested stays in doubt: half of the worlds show it as it was.
    if chance.happens(0.5, "dialect", "readable"):
        told |= {"tag": "text", "address_form": "kept"}
    # What nobody can look up ends few doubts: half of the worlds can.
    if chance.happens(0.5, "dialect", "seeing"):
        told |= {"visibility": "at once", "look_up_transport": "body"}
    if broken == "A1":
        told |= {"race": "broken", "race_window": 60.0}
    elif broken == "A2":
        told |= {"visibility": "never"}
    elif broken == "A3":
        told |= {"visibility": "at once", "look_up_transport": "body", "failed_uses_up": False}
    elif is_long:  # a name that is blamed has no quiet exit
        told |= {"failed_uses_up": False}
    return Dialect(**told)


def _outages(chance: Chance, length: float) -> tuple[Outage, ...]:
    outages = []
    for one in range(chance.whole(1, 2, "outages")):
        start = chance.between(0.0, length, "outage", one, "start")
        is_long = chance.happens(0.1, "outage", one, "long")
        seconds = chance.between(_HOUR, 3 * _HOUR, "outage", one) if is_long else chance.between(5, 600, "outage", one)
        outages.append(Outage(start, start + seconds, chance.pick(OUTAGES, "outage", one, "how")))
    return tuple(outages)


def _refusals(chance: Chance, length: float) -> tuple[Refusal, ...]:
    """Return when each of the merchant's keys is refused, if at all."""
    refusals = []
    for key in KEY_NAMES:
        if chance.happens(0.6, "refusal", key):
            start = chance.between(0.0, length, "refusal", key, "start")
            refusals.append(Refusal(key, start, start + chance.between(5.0, 300.0, "refusal", key)))
    return tuple(refusals)


def _crowd(
    chance: Chance, length: float, families: frozenset[str], dialect: Dialect, *, is_durable: bool
) -> tuple[tuple[Outage, ...], tuple[Intent, ...]]:
    """Return an outage that begins while hundreds are being paid, and these."""
    start = chance.between(0.0, length / 3, "crowd", "start")
    away = Outage(start, start + chance.between(60.0, 300.0, "crowd"), chance.pick(_DOUBTFUL, "crowd", "how"))
    intents = []
    for one in range(_CROWD):
        at = start + chance.between(0.0, 1.0 if one % 3 else 100.0, "crowd", one)
        intents.append(
            _intent(chance, one, length, families, dialect, is_durable=is_durable)._replace(at=at, how="withdraw")
        )
    return (away,), tuple(intents)


def _queue(chance: Chance, length: float, intents: tuple[Intent, ...]) -> tuple[tuple[Outage, ...], tuple[Intent, ...]]:
    """Return an outage that begins while workers send what was left to them, and that payments as they are left to workers."""
    start = chance.between(0.0, length, "queue", "start")
    end = start + chance.between(60.0, 600.0, "queue")
    away = Outage(start, end, chance.pick(OUTAGES, "queue", "how"))
    left = (
        intent._replace(how="enqueue", at=chance.between(0.0, end, "queue", intent.number), expires_in=None)
        for intent in intents
    )
    return (away,), tuple(left)


def _full(chance: Chance, length: float) -> tuple[float, float] | None:
    if not chance.happens(0.3, "full"):
        return None
    start = chance.between(0.0, length, "full", "start")
    return start, start + chance.between(1.0, 120.0, "full", "seconds")


def _failovers(
    chance: Chance, length: float, intents: tuple[Intent, ...], *, is_lossless: bool
) -> tuple[Failover, ...]:
    """Return one or two, soon after somebody asks for something, and far enough from each other that the second does not undo the first."""
    number = chance.whole(1, 2, "failovers")
    share = length / number
    found = []
    for one in range(number):
        about = ("failover", one)
        is_planned = is_lossless or chance.happens(0.2, *about, "planned")
        lag = (
            0.0
            if is_planned
            else chance.pick((0.5, 5.0, 60.0), *about, "lag") * chance.between(0.2, 1.0, *about, "lag")
        )
        lag = min(lag, share / 2)
        first, last = share * one + lag, share * (one + 0.8)
        asked = [intent.at for intent in intents if first <= intent.at <= last] or [first]
        at = min(last, chance.pick(asked, *about, "soon after") + chance.between(0.0, 5.0, *about))
        found.append(Failover(at, lag, chance.between(0.0, 15.0, *about, "down"), chance.happens(0.2, *about, "kills")))
    return tuple(found)


def _rates(chance: Chance, families: frozenset[str], broken: Assumption | None, *, is_long: bool) -> Rates:
    def up_to(share: float, name: str, family: str) -> float:
        return share * chance.draw("rate", name) ** 2 if family in families else 0.0

    return Rates(
        refuse=up_to(0.3, "refuse", "network"),
        connect_timeout=up_to(0.1, "connect", "network"),
        tls=up_to(0.1, "tls", "network"),
        name=up_to(0.1, "name", "network"),
        lost_before=up_to(0.2, "before", "network"),
        lost_after=up_to(0.3, "after", "network"),
        stall=up_to(0.2, "stall", "network"),
        cut=up_to(0.2, "cut", "network"),
        twice=up_to(0.2, "twice", "network"),
        overtaken=up_to(0.3, "overtaken", "network"),
        late=up_to(0.3, "late", "network") + (0.3 if broken in ("A2", "A3") else 0.2 if is_long else 0.0),
        cancelled=up_to(0.2, "cancelled", "network"),
        slow_commit=up_to(0.2, "slow", "storage"),
        failed_commit=up_to(0.2, "failed", "storage"),
        lost_commit=up_to(0.2, "lost", "storage"),
        late_claim=up_to(0.6, "late claim", "claims"),
        failed_read=up_to(0.1, "read", "storage"),
        crash_at_door=0.01 if broken == "A5" else up_to(0.004, "crash", "crashes"),
        leave=up_to(0.3, "leave", "leaving"),
        handler_raises=up_to(0.5, "raises", "callbacks"),
        handler_slow=up_to(0.3, "slow handler", "callbacks"),
    )


def _edge(chance: Chance, families: frozenset[str]) -> dict[Fault, float]:
    rates: dict[Fault, float] = {}
    if "edge" in families:
        chosen = [fault for fault in _EDGE if chance.happens(0.4, "edge", fault)]
        whole = chance.between(0.0, 0.5, "edge")
        rates |= dict.fromkeys(chosen, whole / max(1, len(chosen)))
        rates |= {fault: 0.01 for fault in _LIES if chance.happens(0.3, "edge", fault)}
    if "throttling" in families:
        rates[Fault.THROTTLE] = chance.between(0.0, 0.2, "throttle")
    if "network" in families:
        rates[Fault.LATE] = chance.between(0.0, 0.05, "late")
    return rates


def _mischief(chance: Chance, families: frozenset[str]) -> Mischief:
    if "callbacks" not in families:
        return Mischief()
    names = ("duplicates", "reordering", "forgeries", "deposits")
    return Mischief(**{name: chance.happens(0.6, "mischief", name) for name in names})


# ── payments ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _intent(
    chance: Chance, one: int, length: float, families: frozenset[str], dialect: Dialect, *, is_durable: bool
) -> Intent:
    about = ("intent", one)
    request, correction = _request(chance, one, dialect)
    how: Literal["withdraw", "batch", "enqueue"] = "withdraw"
    is_claimed = "claims" in families and is_durable and chance.happens(0.7, *about, "claimed")
    if is_claimed:
        how = "enqueue"
    elif "batches" in families and chance.happens(0.4, *about, "batch"):
        how = "batch"
    elif "workers" in families and is_durable and chance.happens(0.3, *about, "enqueue"):
        how = "enqueue"
    people = "people" in families
    confused = None
    if people and chance.happens(0.08, *about, "confused"):
        confused = _confused(chance, one, request)
    at = chance.between(0.0, length, *about, "at")
    # Some come together, as from a loop over a list; those of a batch always do.
    if how == "batch":
        at = length * chance.whole(0, 2, *about, "at") / 3
    elif chance.happens(0.8 if is_claimed else 0.3, *about, "together"):
        at = length * chance.whole(0, 4, *about, "at") / 5
    return Intent(
        number=one,
        at=at,
        request=request,
        how=how,
        correction=correction if people else None,
        is_doubled=is_claimed
        or (people and is_durable and how == "withdraw" and chance.happens(0.1, *about, "doubled")),
        confused=confused,
        is_urgent=chance.happens(0.1, *about, "urgent"),
        expires_in=chance.pick(_EXPIRES, *about, "expires in") if how == "enqueue" else None,
    )


def _confused(chance: Chance, one: int, request: WithdrawalRequest) -> WithdrawalRequest:
    """Return another payment under the same name: quite another, or one that differs in a single field."""
    point = chance.draw("confusion", one)
    if request.tag and point < 0.8:
        return structs.replace(request, tag=f"{request.tag}9".lstrip("0"))
    if point < 0.4 or request.amount is None:
        return _simple(f"confused-{one}", request.foreign_id, "0.75")
    if point < 0.7:
        return structs.replace(request, address=f"{request.address}x")
    return structs.replace(request, end_user_reference=f"confused-{one}")


def _name(chance: Chance, one: int, dialect: Dialect) -> str:
    """Return a name: some have capitals and blanks in them, and some differ by their case alone where AlphaPo tells them apart."""
    if dialect.foreign_id_form != "caseless" and one % 2 and chance.happens(0.15, "twin", one):
        return _name(chance, one - 1, dialect).swapcase()
    return chance.pick((f"payout-{one}", f"payout-{one}", f"Payout No {one}"), "name", one)


_EXPIRES: Final = (None, None, None, None, 600.0, 60.0, 5.0, 0.01)


def fresh(number: int) -> WithdrawalRequest:
    """Return a payment that is made in the end, when all is well."""
    return _simple(f"fresh-{number}", f"fresh-{number}", "0.125", currency="ETH")


def _simple(reference: str, foreign_id: str, amount: str | None, **fields: Any) -> WithdrawalRequest:
    usual = {"currency": "BTC", "address": f"bc1q{reference}"}
    return WithdrawalRequest(
        foreign_id=foreign_id, end_user_reference=reference, **{**usual, "amount": amount, **fields}
    )


def _request(chance: Chance, one: int, dialect: Dialect) -> tuple[WithdrawalRequest, WithdrawalRequest | None]:
    """Return a payment, and what it is corrected to if AlphaPo refuses it."""
    reference, foreign_id = f"user-{one}", _name(chance, one, dialect)
    plain = f"{chance.whole(1, 400_000, 'amount', one) / 1e6:.6f}"
    good = _simple(reference, foreign_id, plain)
    point = chance.draw("kind", one)
    for share, fields, is_corrected in (
        (0.06, {"amount": "0.000000001"}, True),
        (0.04, {"currency": "XYZ"}, True),
        (0.04, {"address": MAGIC_CANCELLED}, False),
        (0.04, {"address": f"{MAGIC_DECLINED}-{one}"}, False),
        (0.04, {"currency": "XRP", "tag": f"{one}", "address": f"r{reference}"}, False),
        (0.04, {"currency": "USDTE", "convert_to": "BTC"}, False),
        (0.02, {"currency": "USDTE", "convert_to": "BTC", "address": MAGIC_CANCELLED}, False),
        (0.02, {"currency": "USDTE", "convert_to": "BTC", "address": f"{MAGIC_DECLINED}-{one}"}, False),
        (0.04, {"currency": "USDTE", "convert_to": "ETH", "amount": None, "amount_to": plain}, False),
    ):
        point -= share
        if point < 0:
            return _simple(reference, foreign_id, **{"amount": plain, **fields}), good if is_corrected else None
    return good, None
