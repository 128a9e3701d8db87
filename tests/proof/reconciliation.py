"""Plant differences of every kind between a journal and an export, and count what `alphapo reconcile` finds.

`python -m tests.proof.reconciliation --rows 10000 --planted 1000` compares in a process of its own, and shows its largest memory.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import Transaction, TransactionPart, Withdrawal, WithdrawalRequest
from alphapo_async.core.row import Row
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.rows import SqliteRows

HEADER: Final = ("Foreign ID", "Amount", "Currency", "Status", "TxID", "ID", "Address", "Type")
KINDS: Final = ("missing_here", "twice", "missing_there", "amount", "currency", "status", "txid", "id", "address")
_DAY: Final = 86_400.0
_MEASURED: Final = (
    "import re, sys\nfrom pathlib import Path\nfrom alphapo_async.__main__ import main\ntry:\n    main()\nfinally:\n"
    "    peak = re.search('VmHWM:[^0-9]*([0-9]+)', Path('/proc/self/status').read_text())[1]\n"
    "    print('peak', peak, file=sys.stderr)"
)


def rows(count: int) -> Iterator[Row]:
    """Yield confirmed withdrawals."""
    for number in range(count):
        foreign_id, amount, address = (
            f"payout-{number}",
            f"{number % 1_000}.{number % 99_999_999 + 1:08d}",
            f"bc1q{number}",
        )
        payment = WithdrawalRequest(
            currency=("BTC", "ETH", "USDTT")[number % 3],
            address=address,
            amount=amount,
            foreign_id=foreign_id,
            end_user_reference=f"user-{number}",
        )
        yield Row(
            account="default",
            foreign_id=foreign_id,
            revision=Revision(encode_body(payment, "string"), payment),
            key_fingerprint="k",
            created_at=number * _DAY / 100,
            state="accepted",
            settled_at=number * _DAY / 100,
            withdrawal=Withdrawal(id=number + 1, foreign_id=foreign_id, status="confirmed", source="reply"),
            transaction=Transaction(
                id=number + 1, status="confirmed", transactions=(TransactionPart(txid=f"{number:064x}"),)
            ),
        )


def cells_of(row: Row) -> list[str]:
    """Return the line of a row in an export that agrees with it."""
    payment, known, shown = row.revision.payment, row.withdrawal, row.transaction
    assert payment is not None
    assert known is not None
    assert shown is not None
    figure, currency = row.revision.asked
    return [
        row.foreign_id,
        f"{figure:f}",
        currency,
        "Confirmed",
        *shown.txids,
        str(known.id),
        payment.address,
        "withdrawal",
    ]


def changed(kind: str, cells: list[str]) -> list[list[str]]:
    """Return the lines that stand in the export in place of this one."""
    foreign_id, amount, currency, status, txid, number, address, sort = cells
    last = f"{amount[:-1]}{(int(amount[-1]) + 1) % 10}"
    others = {
        "missing_here": [cells, [f"stolen-{number}", "3.5", currency, status, "f00d", f"9{number}", "thief", sort]],
        "twice": [cells, cells],
        "missing_there": [],
        "amount": [[foreign_id, last, currency, status, txid, number, address, sort]],
        "currency": [[foreign_id, amount, "DOGE", status, txid, number, address, sort]],
        "status": [[foreign_id, amount, currency, "Cancelled", txid, number, address, sort]],
        "txid": [[foreign_id, amount, currency, status, "f00d", number, address, sort]],
        "id": [[foreign_id, amount, currency, status, txid, f"9{number}", address, sort]],
        "address": [[foreign_id, amount, currency, status, txid, number, f"{address}x", sort]],
    }
    return others[kind]


def make(folder: Path, count: int, planted: int, seed: int = 0) -> Counter[str]:
    """Write a journal of so many rows and an export with so many differences; return how many of each kind were planted."""
    chance = random.Random(seed)
    kinds = {place: KINDS[turn % len(KINDS)] for turn, place in enumerate(chance.sample(range(count), planted))}
    asyncio.run(_make_journal(folder / "payouts.db"))
    with sqlite3.connect(folder / "payouts.db") as connection, (folder / "export.csv").open("w", newline="") as file:
        lines, table = csv.writer(file), SqliteRows(connection)
        lines.writerow(HEADER)
        for place, row in enumerate(rows(count)):
            table.insert([(place + 1, row)])
            cells = cells_of(row)
            lines.writerows(changed(kinds[place], cells) if place in kinds else [cells])
    connection.close()
    return Counter(kinds.values())


async def _make_journal(path: Path) -> None:
    journal = SqliteJournal(path)
    await journal.totals("default")
    await journal.aclose()


def reconciled(folder: Path) -> tuple[Counter[str], dict[str, Any], int, float]:
    """Run the command; return the findings by kind or field, the summary, the largest memory in KiB, and the seconds."""
    command = [sys.executable, "-c", _MEASURED, "reconcile", "--json", "--journal", str(folder / "payouts.db")]
    began = time.monotonic()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    outcome = subprocess.run(
        [*command, "--against", str(folder / "export.csv")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    *findings, last = map(json.loads, outcome.stdout.splitlines())
    found = Counter(str(one["field"] or one["finding"]) for one in findings)
    peak = int(outcome.stderr.rpartition("peak ")[2])
    return found, last["summary"], peak, time.monotonic() - began


def main() -> None:
    """Make, compare and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--planted", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planted = make(Path(folder), given.rows, given.planted, given.seed)
        found, summary, peak, seconds = reconciled(Path(folder))
    print(f"planted {planted.total():,}: {dict(sorted(planted.items()))}")
    print(f"found   {found.total():,}: {dict(sorted(found.items()))}")
    print(f"{summary['rows']:,} rows in {seconds:.0f} s, at most {peak / 1024:.0f} MiB")
    sys.exit(found != planted)


if __name__ == "__main__":
    main()
