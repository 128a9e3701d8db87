"""The plausible answers of AlphaPo where its documents are silent.

Nobody outside AlphaPo knows which of them is true, so the local sandbox speaks them all, one value per question, and tests run through
combinations of them. The defaults are the most plausible values, each for the reason written beside it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import combinations, product
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

import msgspec

__all__ = ["DIALECT_CHOICES", "Dialect", "bucket", "covering_dialects", "fold"]


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One plausible AlphaPo. Each field is one undocumented answer."""

    success_status: Literal[200, 201] = 201
    """Status of an accepted withdrawal: 201 in the older pages (https://github.com/coinspaid/docs), not stated in the current one."""
    reused_status: Literal[400, 409, 422] = 400
    """Status for a reused foreign_id: 400 on the sibling's V2 invoices/create, 422 on its V1, never shown for withdrawals."""
    reused_shape: Literal["text", "list"] = "text"
    """Whether a field error is one text, as in every sample, or a list of texts."""
    reused_company: Literal["alone", "with others"] = "alone"
    """Whether a reused foreign_id is blamed alone or beside other fields (a V1 sample merges several errors into one body)."""
    reused_order: Literal["before", "after"] = "before"
    """Whether a foreign_id is checked for reuse before or after everything else, the balance included."""
    reused_answer: Literal["refused", "original"] = "refused"
    """Whether a reused foreign_id is refused, or answered with the object of the first withdrawal."""
    foreign_id_form: Literal["kept", "trimmed", "caseless", "string only"] = "kept"
    """What AlphaPo makes of a foreign_id (documented type: "any") before it compares."""
    failed_uses_up: bool = False
    """Whether a refused request uses its foreign_id up."""
    cancelled_frees: bool = False
    """Whether a withdrawal that ended cancelled or declined frees its foreign_id."""
    look_up_unknown: Literal["404", "400", "200 null", "200 {}", "403"] = "404"
    """The answer to a look-up of something AlphaPo does not have or does not show."""
    visibility: Literal["at once", "delayed", "never"] = "at once"
    """When a look-up first shows an accepted withdrawal."""
    visibility_delay: float = 0.2
    """Seconds until then, where it is delayed."""
    look_up_transport: Literal["body", "dropped"] = "body"
    """Whether the body of a GET passes the edge; without it the signature cannot match."""
    figures: Literal["numbers", "strings", "doubles"] = "strings"
    """Whether AlphaPo writes figures as JSON strings, as in the current samples, as JSON numbers, as in an older look-up sample, or as
    numbers with all 17 digits of a double: 0.0015000000000000001, as several JSON writers do. Which of them it uses is unknown."""
    byte_order_mark: bool = False
    """Whether a byte order mark stands before the JSON of replies and callbacks. No page shows one; some servers write it."""
    sides: Literal["unless ended", "always", "unless final"] = "unless ended"
    """For which statuses a look-up or a callback gives `currency_sent` and `currency_received`: one page says only for confirmed, verifying
    and processing ones, older samples have them always, and the newest sample of a confirmed one has none. AlphaPo's rule is unknown."""
    parts: Literal["blockchain", "internal", "exchange", "none"] = "blockchain"
    """What stands in `transactions`: the payment on a blockchain or inside AlphaPo, besides the exchange of a conversion; the exchange
    alone; or nothing. All four are documented, and when which of them appears is unknown."""
    entries: Literal["one", "several"] = "one"
    """Whether a payment is one entry of `transactions`, as in every sample, or several that add up. The field is a list; why is unknown."""
    ids: Literal["same", "apart"] = "same"
    """Whether look-ups and callbacks give the id of the reply, or count apart from it. No page states that it is the same number."""
    receiver_amount: Literal["given", "missing"] = "given"
    """Whether a reply gives `receiver_amount`; a client of 2024 has seen replies without it."""
    end_user_reference: Literal["required", "optional"] = "required"
    """Whether a withdrawal needs an end_user_reference: AlphaPo's two pages disagree. Where it is optional, look-ups and callbacks leave it
    out."""
    tag: Literal["text", "number", "0", "null", "missing"] = "text"
    """How a look-up or a callback gives the tag: as it was sent, as a JSON number, with 0 for none, always null, or not at all. The samples
    have null and texts, another endpoint numbers; what AlphaPo does for a withdrawal with a tag is unknown."""
    fees: Literal["none", "inside", "outside", "unnamed"] = "none"
    """Whether a fee is taken: from what the receiver gets, on top of what the sender pays, or from `currency_sent` without being named in
    `fees`, as a page about test cases suggests. It depends on the merchant's contract; AlphaPo's form is unknown."""
    places: Literal["exact", "cut", "rounded"] = "exact"
    """Whether replies give all decimals, or only 8 (the `precision` in every sample), cut or rounded."""
    address_form: Literal["kept", "other case", "with scheme", "other form"] = "kept"
    """How AlphaPo writes the address: as it was sent, in another case, with a scheme before it, or in another form of the same address,
    such as a classic one for an X-address. Every sample has it as it was sent; the rest is unknown."""
    throttling: Literal["bare", "seconds", "date"] = "seconds"
    """Whether a 429 carries Retry-After, and in which of its two forms."""
    throttle_body: Literal["json", "text"] = "text"
    """Whether the body of a 429 is JSON; the only sample is not (https://docs.alphapo.net exchange/calculate, code 1015)."""
    insufficient: Literal["refused", "cancelled later"] = "refused"
    """Whether a withdrawal beyond the balance is refused at once, or accepted and cancelled."""
    over_limit_status: Literal["pending", "processing"] = "pending"
    """The status in the reply to a withdrawal that waits for a person's approval."""
    race: Literal["checked", "broken"] = "checked"
    """Whether two simultaneous requests with one foreign_id are distinguished. "broken" breaks an assumption on purpose."""
    race_window: float = 0.05
    """What counts as simultaneous where the race is broken, in seconds."""


Choices: TypeAlias = Mapping[str, tuple[Any, ...]]
_Pair: TypeAlias = tuple[str, Any, str, Any]


def _choices() -> Choices:
    hints = get_type_hints(Dialect)
    # Not choices: a race that is broken on purpose (it breaks an assumption, it is no dialect) and the two durations.
    names = [name for name in Dialect.__struct_fields__ if name != "race" and hints[name] is not float]
    return {name: (False, True) if hints[name] is bool else get_args(hints[name]) for name in names}


DIALECT_CHOICES: Choices = MappingProxyType(_choices())
"""Every plausible value of every field, without the broken race and the durations."""


def covering_dialects(seed: int = 0) -> list[Dialect]:
    """Return few dialects in which every pair of values of two different fields appears together at least once.

    Args:
        seed: another seed gives another, equally covering list; the same seed gives the same list.
    """
    chance = random.Random(seed)  # noqa: S311 - a reproducible order, nothing secret
    missing = {
        (one, left, other, right)
        for one, other in combinations(DIALECT_CHOICES, 2)
        for left, right in product(DIALECT_CHOICES[one], DIALECT_CHOICES[other])
    }
    dialects = []
    while missing:
        values = _most_covering(missing, chance)
        missing -= _pairs(values)
        dialects.append(Dialect(**values))
    return dialects


def _most_covering(missing: set[_Pair], chance: random.Random) -> dict[str, Any]:
    """Start from one missing pair and give each other field the value that meets the most missing pairs."""
    one, left, other, right = min(missing, key=repr)
    values = {one: left, other: right}
    rest = [name for name in DIALECT_CHOICES if name not in values]
    chance.shuffle(rest)
    for name in rest:
        options = list(DIALECT_CHOICES[name])
        chance.shuffle(options)
        gains = [len(missing & _pairs_with(values, name, option)) for option in options]
        values[name] = options[gains.index(max(gains))]
    return values


def _pairs(values: dict[str, Any]) -> set[_Pair]:
    return {(one, values[one], other, values[other]) for one, other in combinations(DIALECT_CHOICES, 2)}


def _pairs_with(values: dict[str, Any], name: str, option: Any) -> set[_Pair]:
    place = _PLACES[name]
    return {
        (known, value, name, option) if _PLACES[known] < place else (name, option, known, value)
        for known, value in values.items()
    }


_PLACES = {name: place for place, name in enumerate(DIALECT_CHOICES)}


def fold(foreign_id: str, dialect: Dialect) -> str:
    """Return what this AlphaPo compares when it asks whether a foreign_id was used."""
    if dialect.foreign_id_form == "trimmed":
        return foreign_id.strip()
    if dialect.foreign_id_form == "caseless":
        return foreign_id.casefold()
    return foreign_id


def bucket(foreign_id: str) -> str:
    """Return a name that all foreign_ids share that any dialect may hold for the same: where to look for them."""
    return foreign_id.casefold().strip()
