"""Check an address offline: its checksum, and whether it belongs to the network of the currency. Pure.

Codes and networks: https://docs.cryptoprocessing.com/api-reference/currency-codes, and for Tether https://github.com/coinspaid/docs.
AlphaPo's own table is not known; a code that these tables do not name, or name for two networks, is not checked. Addresses of test networks
pass. The formats: base58check, BIP-173 and BIP-350 (bech32), the CashAddr specification, EIP-55, XLS-5 (X-addresses), Tron, Solana.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from hashlib import sha256
from typing import Final, Literal, TypeAlias

import msgspec

from alphapo_async.core.texts import shown

__all__ = ["AddressCheck", "check_address", "keccak_256"]

Keccak: TypeAlias = Callable[[bytes], bytes | None]
Verdict: TypeAlias = Literal["fine", "bad checksum", "wrong network", "not checked"]


class AddressCheck(msgspec.Struct, frozen=True, gc=False):
    """What an address shows by itself, and the problem in words; `fine` says nothing about its owner."""

    verdict: Verdict
    text: str = ""


def keccak_256(data: bytes) -> bytes | None:
    """Return the Keccak-256 hash, or None without the extra `addresses` (pycryptodome); Python's own SHA-3 is another function."""
    try:
        from Crypto.Hash import keccak  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return keccak.new(data=data, digest_bits=256).digest()


def check_address(currency: str, address: str, keccak: Keccak = keccak_256) -> AddressCheck:
    """Return what the address shows.

    Args:
        currency: AlphaPo's code of what arrives: `convert_to`, or `currency` without a conversion.
        address: where it goes.
        keccak: for addresses of Ethereum in mixed case.
    """
    network = _NETWORKS.get(currency)
    if network is None:
        return AddressCheck("not checked", f"no documented network for {shown(currency)}")
    verdict = _FORMATS[network](address, keccak)
    if verdict == "fine":
        return AddressCheck("fine")
    if verdict != "wrong network":
        return AddressCheck(verdict, _TEXTS[verdict].format(shown(address)))
    own = next((name for name, check in _FORMATS.items() if check(address, keccak) in ("fine", "not checked")), None)
    about = f"is an address for {own}, and {currency} needs one" if own else "is no address"
    return AddressCheck(verdict, f"{shown(address)} {about} for {network}.")


_TEXTS: Final = {
    "bad checksum": "{} is mistyped or cut: its checksum does not fit.",
    "not checked": "the checksum of 0x… addresses needs the extra addresses: pip install 'alphapo-async[addresses]'",
}
_BITCOIN_DIGITS: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE_DIGITS: Final = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"


def _base58(text: str, digits: str = _BITCOIN_DIGITS) -> bytes | None:
    """Return the bytes, or None where the text is not base58."""
    values = [digits.find(char) for char in text]
    if -1 in values:
        return None
    number = reduce(lambda number, value: number * 58 + value, values, 0)
    zeros = len(text) - len(text.lstrip(digits[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base58check(text: str, prefixes: tuple[bytes, ...], length: int, digits: str = _BITCOIN_DIGITS) -> Verdict:
    """Return the verdict on a version, a payload and four bytes of checksum."""
    data = _base58(text, digits) if 25 <= len(text) <= 50 else None  # noqa: PLR2004 - longer and shorter ones are none
    if data is None or not data.startswith(prefixes):
        return "wrong network"
    is_right = sha256(sha256(data[:-4]).digest()).digest()[:4] == data[-4:]
    return "fine" if is_right and len(data) == length else "bad checksum"


_BECH32_DIGITS: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CASH_SIZES: Final = (20, 24, 28, 32, 40, 48, 56, 64)


def _table(*steps: int) -> tuple[int, ...]:
    """Return what each value of the highest five bits adds to a checksum."""
    return tuple(
        reduce(int.__xor__, (step for bit, step in enumerate(steps) if top >> bit & 1), 0) for top in range(32)
    )


_BECH32: Final = _table(0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CASH: Final = _table(0x98F2BC8E61, 0x79B76D99E2, 0xF33E5FB3C4, 0xAE2EABE2A8, 0x1E4F43E470)


def _checksum(values: Iterable[int], table: tuple[int, ...], bits: int) -> int:
    """Return the remainder of the polynomial over 5-bit values; the checksum has 5 bits more than `bits`."""
    check, mask = 1, (1 << bits) - 1
    for value in values:
        check = (check & mask) << 5 ^ value ^ table[check >> bits]
    return check


def _digits_of(address: str, prefixes: Iterable[str], separator: str) -> tuple[str, list[int]] | None:
    """Return prefix and 5-bit values of an address in one case with one of these prefixes; -1 for what is no digit."""
    prefix, _, rest = address.lower().rpartition(separator)
    if prefix not in prefixes:
        return None
    values = [_BECH32_DIGITS.find(char) for char in rest]
    return prefix, [-1] if address not in (address.lower(), address.upper()) else values


def _bytes_of(values: list[int]) -> bytes | None:
    """Return the bytes of 5-bit values; None where the padding is too long or not zero."""
    number = reduce(lambda number, value: number << 5 | value, values, 0)
    spare = len(values) * 5 % 8
    is_padded = spare < 5 and not number & ((1 << spare) - 1)  # noqa: PLR2004 - bits of a value
    return (number >> spare).to_bytes(len(values) * 5 // 8, "big") if is_padded else None


def _segwit(address: str, prefixes: Iterable[str]) -> Verdict:
    found = _digits_of(address, prefixes, "1")
    if found is None:
        return "wrong network"
    prefix, values = found
    if len(values) < 8 or min(values) < 0 or len(address) > 90:  # noqa: PLR2004 - BIP-173
        return "bad checksum"
    version, program = values[0], _bytes_of(values[1:-6])
    expanded = [*(ord(char) >> 5 for char in prefix), 0, *(ord(char) & 31 for char in prefix)]
    is_right = _checksum(expanded + values, _BECH32, 25) == (0x2BC830A3 if version else 1)
    lengths = (20, 32) if version == 0 else range(2, 41)
    is_program = program is not None and len(program) in lengths and version <= 16  # noqa: PLR2004 - BIP-141
    return "fine" if is_right and is_program else "bad checksum"


def _cash(address: str) -> Verdict:
    if re.fullmatch(r"[qpQP][0-9a-zA-Z]{41,}", address):
        address = f"{'BITCOINCASH' if address.isupper() else 'bitcoincash'}:{address}"
    found = _digits_of(address, ("bitcoincash", "bchtest"), ":")
    if found is None:
        return "wrong network"
    prefix, values = found
    if len(values) < 9 or min(values) < 0:  # noqa: PLR2004 - the checksum has eight
        return "bad checksum"
    is_right = _checksum([*(ord(char) & 31 for char in prefix), 0, *values], _CASH, 35) == 1
    data = _bytes_of(values[:-8])
    is_hash = data is not None and data[0] < 128 and len(data) == _CASH_SIZES[data[0] & 7] + 1  # noqa: PLR2004
    return "fine" if is_right and is_hash else "bad checksum"


def _ethereum(address: str, keccak: Keccak) -> Verdict:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", address):
        return "bad checksum" if re.fullmatch(r"0x[0-9a-zA-Z]{30,50}", address) else "wrong network"
    digits = address[2:]
    if digits in (digits.lower(), digits.upper()):  # without a checksum
        return "fine"
    digest = keccak(digits.lower().encode())
    if digest is None:
        return "not checked"
    nibbles = zip(digits, digest.hex(), strict=False)
    is_right = all(char.isdigit() or char.isupper() is (int(nibble, 16) > 7) for char, nibble in nibbles)  # noqa: PLR2004
    return "fine" if is_right else "bad checksum"


def _bitcoin_like(address: str, versions: bytes, prefixes: tuple[str, ...] = (), *, has_cash: bool = False) -> Verdict:
    verdict = _cash(address) if has_cash else _segwit(address, prefixes)
    return (
        _base58check(address, tuple(bytes([each]) for each in versions), 25) if verdict == "wrong network" else verdict
    )


def _xrp_ledger(address: str) -> Verdict:
    if address[:1] in ("X", "T"):
        return _base58check(address, (b"\x05\x44", b"\x04\x93"), 35, _RIPPLE_DIGITS)
    return _base58check(address, (b"\x00",), 25, _RIPPLE_DIGITS) if address[:1] == "r" else "wrong network"


_ETHEREUM: Final = "Ethereum and networks like it (0x…)"
_BITCOIN: Final = b"\x00\x05\x6f\xc4"
_FORMATS: Final[Mapping[str, Callable[[str, Keccak], Verdict]]] = {
    "Bitcoin": lambda address, _: _bitcoin_like(address, _BITCOIN, ("bc", "tb")),
    "Litecoin": lambda address, _: _bitcoin_like(address, b"\x30\x32\x05\x6f\x3a\xc4", ("ltc", "tltc")),
    "Dogecoin": lambda address, _: _bitcoin_like(address, b"\x1e\x16\x71\xc4"),
    "Bitcoin Cash": lambda address, _: _bitcoin_like(address, _BITCOIN, has_cash=True),
    _ETHEREUM: _ethereum,
    "Tron": lambda address, _: _base58check(address, (b"\x41",), 25),
    "the XRP Ledger": lambda address, _: _xrp_ledger(address),
    "Solana": lambda address, _: "fine" if len(_base58(address[:45]) or b"") == 32 else "wrong network",  # noqa: PLR2004
}
_TOKENS: Final = "EURCE EURCBASE EURS POL SNACK USDC USDCE USDCA USDCBASE USDGE USDTB USDTE WBTC XED"
_COINS: Final = f"BNB-BSC ETH ETHA ETHBASE {_TOKENS}"
_CODES: Final = ("BTC", "LTC", "DOGE", "BCH", _COINS, "TRX USDTT", "XRP CSC", "SOL EURCS USDCS USDGS")
_NETWORKS: Final = {code: name for name, codes in zip(_FORMATS, _CODES, strict=True) for code in codes.split()}
