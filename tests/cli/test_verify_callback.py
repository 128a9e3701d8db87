"""`alphapo verify-callback`: an operator's question about a delivery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alphapo_async.cli.verify_callback import callback_pairs
from alphapo_async.core.callbacks import LARGEST
from alphapo_async.core.models import CryptoAddress, Transaction, TransactionPart
from alphapo_async.core.signer import Signer
from tests.cli.conftest import SECRET, invoke

SIGNER = Signer("made-up-key", SECRET)
BODY = b'{"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "confirmed"}'
KEYS = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": SECRET}


def verified(folder: Path, body: bytes, signature: str, **environment: str) -> tuple[int, str]:
    """Ask, and return exit code and answer."""
    path = folder / "callback.json"
    path.write_bytes(body)
    result = invoke("verify-callback", "--body", str(path), "--signature", signature, **(environment or KEYS))
    assert SECRET not in result.output
    return result.exit_code, result.output


def test_a_genuine_callback_is_shown(tmp_path: Path) -> None:
    """With what it says."""
    code, result = verified(tmp_path, BODY, SIGNER.sign(BODY).upper())
    assert code == 0
    for words in ("AlphaPo's: signed", SIGNER.fingerprint, "payout-17", "confirmed, final"):
        assert words in result


def test_a_genuine_callback_is_given_as_json(tmp_path: Path) -> None:
    """With the fingerprint of its key."""
    path = tmp_path / "callback.json"
    path.write_bytes(BODY)
    ended = invoke("verify-callback", "--body", str(path), "--signature", SIGNER.sign(BODY), "--json", **KEYS)
    shown = json.loads(ended.stdout)
    assert (shown["key_fingerprint"], shown["callback"]["foreign_id"]) == (SIGNER.fingerprint, "payout-17")


@pytest.mark.parametrize(
    ("body", "signed", "words"),
    [
        (BODY, b"another", "not that of its body"),
        (BODY + b"\n", BODY, "ends with a line end"),
        (b"[]", b"[]", "no JSON object"),
        (b"x" * (LARGEST + 9), b"", "more than"),
    ],
)
def test_what_is_not_is_told_with_the_reason(tmp_path: Path, body: bytes, signed: bytes, words: str) -> None:
    """Exit code 1."""
    code, result = verified(tmp_path, body, SIGNER.sign(signed))
    assert code == 1
    assert words in result


@pytest.mark.parametrize(("signature", "environment", "code"), [("abc", {}, 1), ("0" * 128, {"ALPHAPO_KEY": "k"}, 2)])
def test_a_signature_or_a_setting_that_is_none_is_refused(
    tmp_path: Path, signature: str, environment: dict[str, str], code: int
) -> None:
    """A signature has 128 digits; a secret is needed."""
    assert verified(tmp_path, BODY, signature, **environment)[0] == code


def test_what_is_not_said_is_left_out() -> None:
    """A deposit is called one; control characters are shown as what they are."""
    deposit = Transaction(id=8, type="deposit", status="pending")
    assert callback_pairs(deposit) == [("id", "8"), ("type", "deposit: not a withdrawal"), ("status", "pending")]
    whole = Transaction(
        id=9,
        type="withdrawal",
        status="cancelled",
        crypto_address=CryptoAddress(address="a"),
        transactions=(TransactionPart(txid="t"),),
        error="no\x1b",
    )
    assert callback_pairs(whole)[-3:] == [("address", "a"), ("txids", "t"), ("error", "no\\x1b")]


def test_a_body_may_come_from_standard_input() -> None:
    """And what is not told is not shown."""
    body = b'{"id": 7, "status": "confirmed"}'
    result = invoke("verify-callback", "--body", "-", "--signature", SIGNER.sign(body), stdin=body, **KEYS)
    assert result.exit_code == 0
    assert "type" not in result.output
