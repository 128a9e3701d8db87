"""`alphapo verify-callback`: was this callback AlphaPo's, and what does it say?"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.options import json_option
from alphapo_async.cli.output import clean, echo, json_text, pairs
from alphapo_async.core.callbacks import LARGEST, is_withdrawal, read_callback
from alphapo_async.core.errors import CallbackError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.models import Transaction
from alphapo_async.core.signer import Signer
from alphapo_async.settings import all_signers, from_environment

__all__ = ["callback_pairs", "verify_callback"]

_EPILOG = """\b
Example:
  alphapo verify-callback --body callback.json --signature 5c0e...

FILE holds the raw bytes of the delivery, not what a log or an editor made of them; - is standard input. It is checked under the key of
the environment and those of ALPHAPO_RETIRED_KEYS_FILE. Exit code 0: AlphaPo's, and readable; 1: not.
"""


@click.command(name="verify-callback", epilog=_EPILOG)
@click.option(
    "--body",
    "path",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="The file that holds the body.",
)
@click.option("--signature", required=True, help="The header X-Processing-Signature: 128 hexadecimal digits.")
@json_option
def verify_callback(*, path: Path, signature: str, as_json: bool) -> None:
    """Check whether a callback was signed with this key, and show its content. Sends nothing, and needs no journal."""
    signers = _signers(os.environ)
    with click.open_file(str(path), "rb") as file:
        body = file.read(LARGEST + 1)
    signer = next((one for one in signers if one.is_genuine(body, signature)), signers[0])
    try:
        # Built in the call, so that no local variable of this frame holds the key.
        transaction = read_callback(
            {"X-Processing-Key": signer.key, "X-Processing-Signature": signature}, body, [signer]
        )
    except CallbackError as error:
        echo(f"Not AlphaPo's: {error}" if error.is_forged else str(error), err=True)
        if not error.is_forged:
            sys.exit(Exit.REFUSED)
        echo(f"Checked under the key with fingerprint {signer.fingerprint}, over {len(body)} bytes.", err=True)
        if body.endswith(b"\n"):
            echo("The file ends with a line end, which AlphaPo's bodies do not: was it saved by an editor?", err=True)
        sys.exit(Exit.REFUSED)
    if as_json:
        click.echo(json_text({"key_fingerprint": signer.fingerprint, "callback": transaction}))
        return
    echo(f"AlphaPo's: signed with the key of fingerprint {signer.fingerprint}.")
    for line in pairs(callback_pairs(transaction)):
        echo(line, indent="  ")


@hides_arguments
def _signers(environment: Mapping[str, str]) -> tuple[Signer, ...]:
    """Return the signers of the key pairs that the environment names, the current one first."""
    settings = from_environment(environment)
    return all_signers(Signer(settings["key"], settings["secret"]), settings.get("retired_keys", ()))


def callback_pairs(transaction: Transaction) -> list[tuple[str, str]]:
    """Return what a callback says, name by name; what it does not say is left out."""
    place = transaction.crypto_address
    named = [
        ("id", str(transaction.id)),
        ("foreign_id", transaction.foreign_id),
        ("type", transaction.type if is_withdrawal(transaction) else f"{transaction.type}: not a withdrawal"),
        ("status", f"{transaction.status}{', final' if transaction.is_final else ''}"),
        ("address", place.address if place else None),
        ("txids", ", ".join(transaction.txids)),
        ("error", transaction.error),
    ]
    return [(name, clean(value)) for name, value in named if value]
