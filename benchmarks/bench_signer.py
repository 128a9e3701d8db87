"""Encoding and signing, as a ratio to `json.dumps` and `hmac.new(...).hexdigest()`: `python -m benchmarks.bench_signer`."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from alphapo_async import WithdrawalRequest
from alphapo_async.core.codec import encode_body
from alphapo_async.core.signer import Signer
from benchmarks.contenders import KEY, SECRET, fields
from benchmarks.measuring import measured, parser, report

REQUEST = WithdrawalRequest(**fields(17))
SIGNER = Signer(KEY, SECRET)


def by_hand() -> Any:
    """Encode and sign as one would in a hurry."""
    body = json.dumps(fields(17)).encode()
    return body, hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest()


def ours() -> Any:
    """Encode a request and sign the bytes."""
    body = encode_body(REQUEST)
    return body, SIGNER.sign(body)


def ours_with_request() -> Any:
    """Check and make the request, too."""
    body = encode_body(WithdrawalRequest(**fields(17)))
    return body, SIGNER.sign(body)


def each(job: Callable[[], Any], number: int) -> float:
    """Return microseconds of CPU for each time."""
    began = time.process_time()
    for _ in range(number):
        job()
    return (time.process_time() - began) / number * 1e6


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__, repeats=9)
    made.add_argument("--number", type=int, default=50_000)
    wanted = made.parse_args()
    whole = {
        "json.dumps + hmac.new": by_hand,
        "ours: encode + sign": ours,
        "ours: check + encode + sign": ours_with_request,
    }
    body = encode_body(REQUEST)
    parts: dict[str, Callable[[], Any]] = {
        "hmac.new(...).hexdigest()": lambda: hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest(),
        "ours: Signer.sign": lambda: SIGNER.sign(body),
        "ours: Signer.headers": lambda: SIGNER.headers(body),
    }
    tables = [
        measured(title, "µs", {name: partial(each, job, wanted.number) for name, job in jobs.items()}, wanted.repeats)
        for title, jobs in (("Encode and sign", whole), ("Sign", parts))
    ]
    report("bench_signer", wanted.out, tables)


if __name__ == "__main__":
    main()
