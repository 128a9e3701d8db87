"""Callbacks: whose they are, what they say, and which of them were handled."""

from __future__ import annotations

import email.message
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alphapo_async.core.callbacks import LARGEST, Handled, is_withdrawal, read_callback, read_handled
from alphapo_async.core.errors import CallbackError, ConfigurationError
from alphapo_async.core.models import Transaction
from alphapo_async.core.signer import Signer

CURRENT, RETIRED, STRANGER = Signer("key", "secret"), Signer("old-key", "old-secret"), Signer("another", "secret")
SIGNERS = (CURRENT, RETIRED)
BODY = b'{"id": 7, "status": "confirmed", "foreign_id": 17, "fees": [{"amount": 0.10}], "type": "withdrawal"}'


def refused(headers: Any, body: bytes, signers: Any = SIGNERS) -> str:
    """Return why a callback is refused."""
    with pytest.raises(CallbackError) as caught:
        read_callback(headers, body, signers)
    return caught.value.reason


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_genuine_callback_says_what_it_says(signer: Signer) -> None:
    """Under the current or a retired key; numbers and texts are read as they come."""
    result = read_callback(signer.headers(BODY), BODY, SIGNERS)
    assert (result.id, result.status, result.foreign_id) == (7, "confirmed", "17")
    assert result.fees[0].amount == Decimal("0.10")


@pytest.mark.parametrize(
    "form",
    [
        lambda headers: {name.upper(): value for name, value in headers.items()},
        lambda headers: list(headers.items()),
        lambda headers: [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        lambda headers: {**headers, "X-Processing-Signature": headers["X-Processing-Signature"].upper()},
        lambda headers: {name: f" {value} " for name, value in headers.items()},
    ],
)
def test_headers_come_in_every_form(form: Any) -> None:
    """A mapping or pairs, texts or bytes, in any case."""
    assert read_callback(form(CURRENT.headers(BODY)), bytes(BODY), SIGNERS).id == 7


def _headers(**changed: str | None) -> dict[str, str]:
    """Return the two headers that count, changed or left out."""
    genuine = {"key": "key", "signature": CURRENT.sign(BODY)}
    result = {name: value for name, value in {**genuine, **changed}.items() if value is not None}
    return {f"X-Processing-{name.title()}": value for name, value in result.items()}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "missing header"),
        (_headers(key=None), "missing header"),
        (_headers(signature=None), "missing header"),
        ([*_headers().items(), ("x-processing-key", "key")], "missing header"),
        (_headers(key="nobody"), "unknown key"),
        (_headers(key=""), "unknown key"),
        (_headers(key="\udc80"), "unknown key"),
        (_headers(key="old-key"), "signature"),
        (_headers(signature=""), "signature"),
        (_headers(signature="0" * 127), "signature"),
        (_headers(signature="0" * 129), "signature"),
        (_headers(signature="g" * 128), "signature"),
        (_headers(signature="\u0660" * 128), "signature"),
        (_headers(signature="0" * 128), "signature"),
        (_headers(signature=CURRENT.sign(BODY + b" ")), "signature"),
        (STRANGER.headers(BODY), "unknown key"),
    ],
)
def test_what_is_not_alphapos_is_refused(headers: Any, reason: str) -> None:
    """And says which header is to blame; with a key of nobody no signature is computed."""
    assert refused(headers, BODY) == reason


def test_every_secret_of_a_key_is_tried() -> None:
    """After a rotation of the secret alone, callbacks come under the old one and the new one for a while."""
    rotated = Signer("key", "the newer secret")

    for signer in (CURRENT, rotated):
        assert read_callback(signer.headers(BODY), BODY, [rotated, CURRENT]).id == 7


@pytest.mark.parametrize("headers", [None, 5, ["x-processing-key"], [("one", "two", "three")]])
def test_headers_that_are_none_are_the_callers_mistake(headers: Any) -> None:
    """No forgery, and no callback either."""
    with pytest.raises(ConfigurationError, match="must be a mapping or"):
        read_callback(headers, BODY, SIGNERS)


def test_whatever_has_items_is_taken_for_headers() -> None:
    """Such as those of the standard library's servers."""
    headers = email.message.Message()
    for name, value in CURRENT.headers(BODY).items():
        headers[name] = value

    assert read_callback(headers, BODY, SIGNERS).id == 7  # type: ignore[arg-type]


def test_one_more_status_leaves_the_claim_as_it_is() -> None:
    """Another worker may be at it meanwhile."""
    assert Handled(("pending",), "two").added("confirmed") == Handled(("pending", "confirmed"), "two")


@pytest.mark.parametrize("signature", ["0" * 127, "0" * 129, "g" * 128])
def test_what_cannot_be_a_signature_is_not_compared(signature: str) -> None:
    """It is told apart from one that is another body's."""
    with pytest.raises(CallbackError, match="hexadecimal digits"):
        read_callback(_headers(signature=signature), BODY, SIGNERS)


def test_a_refusal_says_whether_it_was_forged() -> None:
    """A forgery carries no genuine signature; the rest is AlphaPo's own."""
    for body, headers, is_forged in ((BODY, {}, True), (b"[]", CURRENT.headers(b"[]"), False)):
        with pytest.raises(CallbackError) as caught:
            read_callback(headers, body, SIGNERS)
        assert caught.value.is_forged is is_forged
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": 1e999999999999999999999, "status": "x"}', "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'"id"', "not an object"),
        (b"{}", "no id or status"),
        (b'{"id": 7}', "no id or status"),
        (b'{"status": "confirmed"}', "no id or status"),
        (b'{"id": 7, "status": ""}', "no id or status"),
        (b'{"id": 7, "status": null}', "no id or status"),
        (b'{"id": true, "status": "confirmed"}', "no id or status"),
        (b'{"id": {}, "status": "confirmed"}', "no id or status"),
    ],
)
def test_what_is_signed_and_says_nothing_is_refused(body: bytes, reason: str) -> None:
    """It is AlphaPo's, and names no transaction or no status."""
    assert refused(CURRENT.headers(body), body) == reason


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, BODY),
        (_headers(key="nobody"), BODY),
        (_headers(signature="0"), BODY),
        (_headers(signature="0" * 128), BODY),
        (_headers(), b"x" * (LARGEST + 1)),
        (CURRENT.headers(b"{"), b"{"),
        (CURRENT.headers(b"[]"), b"[]"),
        (CURRENT.headers(b"{}"), b"{}"),
    ],
)
def test_a_refusal_is_a_sentence_about_the_callback(headers: Any, body: bytes) -> None:
    """For whoever reads the log; with neither key nor signature nor body."""
    with pytest.raises(CallbackError) as caught:
        read_callback(headers, body, SIGNERS)
    assert str(caught.value).startswith("The callback")
    assert str(caught.value).endswith(".")
    assert CURRENT.sign(BODY) not in str(caught.value)


def test_what_is_read_of_a_body_is_a_quarter_of_a_mebibyte() -> None:
    """A hundred times what AlphaPo sends."""
    assert LARGEST == 262_144


def test_a_body_that_is_too_large_is_not_even_hashed() -> None:
    """Whatever its headers; the refusal says how large it is."""
    assert refused({}, b"x" * (LARGEST + 1)) == "too large"
    with pytest.raises(CallbackError, match=f" {LARGEST + 1} bytes, more than {LARGEST}"):
        read_callback({}, b"x" * (LARGEST + 1), SIGNERS)
    assert refused({}, b"x" * LARGEST) == "missing header"


@pytest.mark.parametrize("body", ["{}", {"id": 7}, None])
def test_a_body_that_was_parsed_is_a_mistake_of_the_callers(body: Any) -> None:
    """Written again it would have another signature."""
    with pytest.raises(ConfigurationError, match=r"^A callback's body must be its raw bytes, not \w+: .*signature\.$"):
        read_callback({}, body, SIGNERS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["id", "status", "foreign_id", "type", "crypto_address", "currency_sent", "transactions", "fees", "error", "tag"]
)


# The first text ever drawn waits for tables of characters, seconds on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=400) | st.builds(msgspec.json.encode, st.dictionaries(NAMES, JSON)))
@example(b'{"id": 7, "status": "\\ud800"}')
def test_whatever_is_signed_is_read_or_refused(body: bytes) -> None:
    """Nothing else is ever raised."""
    try:
        result = read_callback(CURRENT.headers(body), body, SIGNERS)
    except CallbackError:
        return
    assert result.status


@given(st.dictionaries(st.text(), st.text()) | st.lists(st.tuples(st.binary() | st.text(), st.binary() | st.text())))
def test_whatever_the_headers_are_they_are_refused(headers: Any) -> None:
    """Nothing else is ever raised."""
    assert refused(headers, BODY) in ("missing header", "unknown key", "signature")


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        ("withdrawal", True),
        ("withdrawal_exchange", True),
        ("withdrawal_instant", True),
        ("Instant_Withdrawal", True),
        (None, True),
        ("deposit", False),
        ("deposit_exchange", False),
        ("exchange", False),
        ("", True),
    ],
)
def test_withdrawals_are_told_by_their_type(kind: str | None, is_one: bool) -> None:  # noqa: FBT001 - a column
    """Whatever is said to be something else is none, though it may have the foreign_id of one."""
    assert is_withdrawal(Transaction(id=7, type=kind)) is is_one


def test_a_status_is_new_until_it_was_handled_or_a_later_one_was() -> None:
    """Later than everything is `confirmed`, then `cancelled` and `declined`."""
    handled = Handled()
    assert handled.is_new("pending")
    handled = handled.done("pending")
    assert [handled.is_new(status) for status in ("pending", "not_confirmed", "confirmed")] == [False, True, True]
    handled = handled.done("cancelled")
    assert [handled.is_new(status) for status in ("not_confirmed", "cancelled", "declined", "confirmed")] == [
        False,
        False,
        True,
        True,
    ]
    handled = handled.done("confirmed")
    assert not any(handled.is_new(status) for status in ("declined", "processing", "confirmed"))
    assert handled.is_new("reversed")  # whatever it may mean, it has not been told before


def test_what_was_handled_is_kept_as_text() -> None:
    """With who handles one right now; nothing kept, nothing handled; what is kept does not grow for ever."""
    taken = Handled(("pending",)).taken("worker")
    assert read_handled(taken.text()) == Handled(("pending",), "worker")
    assert read_handled(taken.let_go().text()) == Handled(("pending",))
    assert read_handled(None) == Handled()
    assert "by" not in taken.let_go().text()
    assert Handled().done(None).statuses == ("",)
    many = Handled()
    for number in range(100):
        many = many.done(str(number))
    assert many.statuses == tuple(str(number) for number in range(84, 100))
    assert many.done("99") == many
