"""Bytes to values and back, as a ratio to `json`: `python -m benchmarks.bench_codec`.

The library's side checks, compares and keeps amounts exact; `json` merely turns them into floats.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from alphapo_async import WithdrawalRequest
from alphapo_async.core.codec import decode_body, digest, encode_body, read_json, read_withdrawal
from alphapo_async.core.replies import Reply, judge_look_up, judge_reply
from benchmarks.bench_signer import each
from benchmarks.contenders import fields
from benchmarks.measuring import measured, parser, report

REQUEST = WithdrawalRequest(**fields(17))
BODY = encode_body(REQUEST)
REPLY = Reply(
    201,
    b'{"data":{"id":134702815,"foreign_id":"payout-17","end_user_reference":"user-17","type":"withdrawal",'
    b'"status":"processing","amount":"0.0015","sender_amount":"0.0015","sender_currency":"BTC",'
    b'"receiver_currency":"BTC","receiver_amount":"0.0015"}}',
    "application/json",
)
REFUSAL = Reply(400, b'{"errors":{"amount":"Not enough amount","currency":"Invalid balance."}}', "application/json")
LOOKED_UP = Reply(
    200,
    b'{"id":134702815,"foreign_id":"payout-17","type":"withdrawal","status":"confirmed","crypto_address":'
    b'{"id":1,"currency":"BTC","address":"bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh","tag":null},'
    b'"currency_sent":{"currency":"BTC","amount":"0.0015"},"currency_received":{"currency":"BTC","amount":"0.0015"},'
    b'"transactions":[],"fees":[]}',
    "application/json",
)


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__, repeats=9)
    made.add_argument("--number", type=int, default=30_000)
    wanted = made.parse_args()
    jobs: dict[str, dict[str, Callable[[], Any]]] = {
        "Out": {
            "json.dumps(...).encode()": lambda: json.dumps(fields(17)).encode(),
            "ours: WithdrawalRequest(...)": lambda: WithdrawalRequest(**fields(17)),
            "ours: encode_body": lambda: encode_body(REQUEST),
            "ours: digest": lambda: digest(REQUEST),
            "ours: decode_body": lambda: decode_body(BODY),
        },
        "In": {
            "json.loads": lambda: json.loads(REPLY.body),
            "ours: read_json": lambda: read_json(REPLY.body),
            "ours: read_withdrawal": lambda: read_withdrawal(read_json(REPLY.body)["data"]),
            "ours: judge an acceptance": lambda: judge_reply(REPLY, REQUEST, 0.0),
            "ours: judge a refusal": lambda: judge_reply(REFUSAL, REQUEST, 0.0),
            "ours: judge a look-up": lambda: judge_look_up(LOOKED_UP, 0.0),
        },
    }
    tables = [
        measured(title, "µs", {name: partial(each, job, wanted.number) for name, job in some.items()}, wanted.repeats)
        for title, some in jobs.items()
    ]
    report("bench_codec", wanted.out, tables)


if __name__ == "__main__":
    main()
