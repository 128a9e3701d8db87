"""A coverage-guided search for a callback that raises what it should not: `python -m tests.proof.fuzzing [INPUTS]`, a million by default.

It needs the extra `fuzz` (atheris, which has no wheels for every platform), and is a command, not a test. Half of the inputs are signed, so
that they reach the parser; the others bring their own headers.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["alphapo_async.core"]):
    from alphapo_async.core.callbacks import Handled, Headers, is_withdrawal, read_callback
    from alphapo_async.core.codec import encode_body
    from alphapo_async.core.errors import CallbackError
    from alphapo_async.core.evidence import CalledBack, Requested, Revision
    from alphapo_async.core.history import entry_of
    from alphapo_async.core.models import WithdrawalRequest
    from alphapo_async.core.row_format import to_record
    from alphapo_async.core.signer import Signer
    from alphapo_async.core.transitions import apply, new_row, why_not_ours

_INPUTS: Final = 1_000_000
_SIGNER: Final = Signer("key", "secret")
_PAYMENT: Final = WithdrawalRequest(currency="BTC", address="a", amount="1", foreign_id="f", end_user_reference="user")
_ROW: Final = new_row(
    "default", "f", Requested("worker", Revision(encode_body(_PAYMENT), _PAYMENT), "key"), 0.0, is_durable=True
)


def one_input(data: bytes) -> None:
    """Deliver one; whatever is read goes on through all that is pure."""
    is_signed, head, body = data[:1] < b"\x80", data[1:65], data[65:]
    half = len(head) // 2
    own: Headers = [
        (head[:half], head[half:]),
        ("X-Processing-Key", "key"),
        ("X-Processing-Signature", head.decode("latin-1")),
    ]
    body = data[1:] if is_signed else body
    try:
        result = read_callback(_SIGNER.headers(body) if is_signed else own, body, [_SIGNER])
    except CallbackError:
        return
    evidence = CalledBack(result, doubt=why_not_ours(_ROW, result))
    to_record(apply(_ROW, evidence, 1.0))
    entry_of(evidence, 1.0, "release")
    is_withdrawal(result)
    Handled().done(result.status).is_new(result.status)


_SEED: Final = (
    b'{"id":7,"foreign_id":"f","type":"withdrawal","status":"confirmed","crypto_address":{"address":"a","tag":null},'
    b'"currency_sent":{"currency":"BTC","amount":"1.00000000"},"fees":[{"type":"mining","currency":"BTC","amount":0.1}],'
    b'"transactions":[{"id":1,"transaction_type":"blockchain","amount":"1","txid":"bb"}],"error":""}'
)


def main() -> None:
    """Search, from a callback as AlphaPo's samples have it."""
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else _INPUTS
    with tempfile.TemporaryDirectory() as corpus:
        (Path(corpus) / "sample").write_bytes(b"\x00" + _SEED)
        (Path(corpus) / "unsigned").write_bytes(b"\xff" + b"X-Processing-Key" + b"0" * 48 + _SEED)
        atheris.Setup([sys.argv[0], f"-runs={inputs}", "-max_len=4096", "-seed=7", corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
