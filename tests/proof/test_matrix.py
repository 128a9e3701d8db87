"""Every fault, at the first or a later attempt, under every pair of dialects, over real sockets: the outcome told is the truth.

The local sandbox speaks a covering array of dialects: every pair of plausible answers of AlphaPo meets every fault.
Chance is seeded with 7. In a test run each dialect plays half of the cases, by turns; `python -m tests.proof.test_matrix` plays all of
them and prints the table of outcomes by fault.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import WithdrawalError
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.sandbox import Dialect, Fault, Sandbox, Script, covering_dialects
from alphapo_async.session import SessionManager
from tests.proof.truth import FlightResult, lies, outcome_of
from tests.support.long import long_after
from tests.support.wire import real_world

SEED = 7
DIALECTS = covering_dialects(SEED)
POLICY = RetryPolicy(attempts=4, deadline=8.0, attempt_timeout=0.25, wait_initial=0.02, wait_max=0.3)
# For what is said of an attempt that nothing befell but its fault: a busy machine can take a quarter of a second for the rest.
PATIENT = RetryPolicy(attempts=4, deadline=30.0, attempt_timeout=2.0, wait_initial=0.02, wait_max=0.3)
BEFORE: dict[str, list[Fault | None]] = {
    "at once": [],
    "after a lost body": [Fault.RESET_BEFORE],
    "after a lost reply": [Fault.RESET_AFTER],
    "after a stall that is accepted": [Fault.STALL_AFTER],
    "after a stall that is accepted late": [Fault.LATE],
    "after throttling": [Fault.THROTTLE],
}
CASES = {
    f"{fault.value}-{number}": [*before, fault] for fault in Fault for number, before in enumerate(BEFORE.values())
}


def _request(foreign_id: str) -> WithdrawalRequest:
    return WithdrawalRequest(
        currency="BTC",
        address=f"bc1q{foreign_id}",
        amount="0.123456789",
        foreign_id=foreign_id,
        end_user_reference="user-42",
    )


async def _pay(url: str, session: SessionManager, foreign_id: str, policy: RetryPolicy) -> FlightResult:
    """Pay with a client of its own, so that no case feels the pace of another."""
    client = AlphapoClient(
        "matrix-key",
        "matrix-secret",
        base_url=url,
        session=session,
        policy=policy,
        amount_format="string",
        _runtime=real_world(SEED),
    )
    async with client:
        try:
            return await client.withdraw(_request(foreign_id))
        except WithdrawalError as error:
            return error


async def run_dialect(
    dialect: Dialect, policy: RetryPolicy = POLICY, cases: Iterable[str] = CASES
) -> tuple[dict[str, str], list[str]]:
    """Return the outcome of every case under this dialect, and every lie."""
    names = tuple(cases)
    script = Script({foreign_id: {"withdrawal": faults} for foreign_id, faults in CASES.items()})
    sandbox = Sandbox("matrix-key", "matrix-secret", dialect=dialect, faults=script, seed=SEED, throttle_seconds=1)
    session = SessionManager(max_connections=len(CASES))
    async with sandbox:
        paying = (_pay(sandbox.url, session, one, policy) for one in names)
        result = dict(zip(names, await asyncio.gather(*paying), strict=True))
        await sandbox.drain()
        found = [lie for foreign_id, outcome in result.items() for lie in lies(foreign_id, outcome, sandbox.ledger)]
        found += [f"paid more than once: {twice}" for twice in sandbox.ledger.paid_more_than_once()]
        await session.aclose()
    return {foreign_id: outcome_of(outcome) for foreign_id, outcome in result.items()}, found


@pytest.mark.parametrize(
    "number",
    long_after(len(DIALECTS) // 6, range(len(DIALECTS))),
    ids=[f"dialect-{number}" for number in range(len(DIALECTS))],
)
async def test_the_outcome_told_is_the_truth(number: int) -> None:
    """No payment moves twice, no body changes, and nothing told is contradicted by the ledger, late acceptances included.

    Under one dialect a fault strikes after three of the six beginnings, under the next after the other three.
    """
    outcomes, found = await run_dialect(DIALECTS[number], cases=list(CASES)[number % 2 :: 2])

    assert found == []
    assert len(outcomes) == len(CASES) / 2


async def test_under_the_usual_dialect_most_faults_end_in_certainty() -> None:
    """Where look-ups see what was accepted, a lost reply ends as accepted; the truth is found, not merely never contradicted."""
    outcomes, found = await run_dialect(Dialect(), PATIENT)

    assert found == []
    assert {
        outcomes[f"{fault.value}-{number}"] for fault in (Fault.RESET_AFTER, Fault.CUT_BODY) for number in (0, 1, 2)
    } == {"accepted"}
    assert outcomes["insufficient-0"] == "rejected"
    assert outcomes["key_refused-0"] == "key_refused"
    assert Counter(outcomes.values())["accepted"] > len(CASES) * 0.8


def main() -> int:
    """Print the outcomes of every fault over all dialects."""
    table: dict[str, Counter[str]] = {fault.value: Counter() for fault in Fault}
    all_lies = []
    for dialect in DIALECTS:
        outcomes, found = asyncio.run(run_dialect(dialect))
        all_lies += found
        for foreign_id, outcome in outcomes.items():
            table[foreign_id.rpartition("-")[0]][outcome] += 1
    for fault, outcomes_of_fault in table.items():
        print(f"{fault:<18}", dict(outcomes_of_fault.most_common()))  # noqa: T201 - a command prints
    total = len(DIALECTS) * len(CASES)
    print(f"{len(DIALECTS)} dialects x {len(CASES)} cases = {total}; told wrong or paid twice: {len(all_lies)}")  # noqa: T201
    return 1 if all_lies else 0


if __name__ == "__main__":
    sys.exit(main())
