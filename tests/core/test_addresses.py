"""Addresses, checked against published test vectors. Money is not sent to any of them."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.addresses import check_address, keccak_256

VALID = [
    # BIP-173 and BIP-350, valid segwit addresses
    ("BTC", "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4"),
    ("BTC", "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7"),
    ("BTC", "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y"),
    ("BTC", "BC1SW50QGDZ25J"),
    ("BTC", "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs"),
    ("BTC", "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy"),
    ("BTC", "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c"),
    ("BTC", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"),
    # base58check, from Bitcoin's wiki and the genesis block
    ("BTC", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("BTC", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"),
    ("BTC", "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"),
    # CashAddr specification: examples and test vectors
    ("BCH", "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"),
    ("BCH", "qr95sy3j9xwd2ap32xkykttr4cvcu7as4y0qverfuy"),
    ("BCH", "QR95SY3J9XWD2AP32XKYKTTR4CVCU7AS4Y0QVERFUY"),
    ("BCH", "bitcoincash:ppm2qsznhks23z7629mms6s4cwef74vcwvn0h829pq"),
    ("BCH", "bitcoincash:qr6m7j9njldwwzlg9v7v53unlr4jkmx6eylep8ekg2"),
    ("BCH", "bchtest:pr6m7j9njldwwzlg9v7v53unlr4jkmx6eyvwc0uz5t"),
    ("BCH", "bitcoincash:q9adhakpwzztepkpwp5z0dq62m6u5v5xtyj7j3h2ws4mr9g0"),
    ("BCH", "1BpEi6DfDAUFd7GtittLSdBeYJvcoaVggu"),
    # EIP-55
    ("ETH", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    ("USDTE", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"),
    ("USDTB", "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"),
    ("USDCA", "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"),
    ("ETHBASE", "0x52908400098527886E0F7030069857D2E4169EE7"),
    ("POL", "0xde709f2102306220921060314715629080e2fb77"),
    # Tron's documentation (the USDT contract), Litecoin, Dogecoin
    ("USDTT", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"),
    ("LTC", "ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9"),
    ("DOGE", "DH5yaieqoZN36fDVciNyRueRGvGLR3mr7L"),
    # XLS-5: a classic address, and X-addresses of it without a tag and with the tag 1, and of the test network
    ("XRP", "r9cZA1mLK5R5Am25ArfXFmqgNwjZgnfk59"),
    ("XRP", "X7AcgcsBL6XDcUb289X4mJ8djcdyKaB5hJDWMArnXr61cqZ"),
    ("XRP", "X7AcgcsBL6XDcUb289X4mJ8djcdyKaGZMhc9YTE92ehJ2Fu"),
    ("CSC", "T719a5UwUCnEs54UsxG9CJYYDhwmFCqkr7wxCcNcfZ6p5GZ"),
    # Solana: the system program and the USDC mint
    ("SOL", "11111111111111111111111111111111"),
    ("USDCS", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
]
BITCOIN, ETHEREUM, TRON = VALID[8][1], VALID[19][1], VALID[25][1]


@pytest.mark.parametrize(("currency", "address"), VALID)
def test_published_addresses_are_fine(currency: str, address: str) -> None:
    """On the network of their currency."""
    assert check_address(currency, address).verdict == "fine"


@pytest.mark.parametrize(
    ("currency", "address"),
    [
        # BIP-173 and BIP-350, invalid segwit addresses
        ("BTC", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
        ("BTC", "BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2"),
        ("BTC", "bc1rw5uspcuh"),
        ("BTC", "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P"),
        ("BTC", "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7"),
        ("BTC", "bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du"),
        ("BTC", "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3pjxtptv"),
        ("BTC", "bc1gmk9yu"),
        ("BTC", "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd"),
        ("BTC", "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL"),
        ("BTC", "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R"),
        ("BTC", f"bc1{'q' * 90}"),
        ("BCH", "bitcoincash:qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6b"),
        ("BCH", "bitcoincash:qpm2"),
        ("BCH", "bitcoincash:Qpm2qsznhks23z7629mms6s4cwef74vcwvy22gdx6a"),
        ("ETH", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD"),
        ("ETH", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe"),
        ("USDTT", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6u"),
        ("XRP", "r9cZA1mLK5R5Am25ArfXFmqgNwjZgnfk58"),
        ("XRP", "X7AcgcsBL6XDcUb289X4mJ8djcdyKaB5hJDWMArnXr61cqX"),
    ],
)
def test_a_wrong_checksum_is_named(currency: str, address: str) -> None:
    """Also a form that no checksum can have."""
    found = check_address(currency, address)
    assert found.verdict == "bad checksum"
    assert found.text.endswith(" is mistyped or cut: its checksum does not fit.")


@pytest.mark.parametrize(
    ("currency", "address", "words"),
    [
        ("BTC", TRON, "is an address for Tron, and BTC needs one for Bitcoin."),
        ("USDTT", ETHEREUM, "is an address for Ethereum and networks like it (0x…), and USDTT needs one for Tron."),
        ("USDTE", TRON, "is an address for Tron, and USDTE needs one for Ethereum and networks like it (0x…)."),
        ("SOL", BITCOIN, "is an address for Bitcoin, and SOL needs one for Solana."),
        ("XRP", BITCOIN, "is an address for Bitcoin, and XRP needs one for the XRP Ledger."),
        ("BTC", "tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "is no address for Bitcoin."),
        ("BTC", "made-up", "is no address for Bitcoin."),
        ("BCH", "made-up", "is no address for Bitcoin Cash."),
        ("SOL", "2" * 32, "is no address for Solana."),
    ],
)
def test_the_network_of_another_currency_is_named(currency: str, address: str, words: str) -> None:
    """Where the address has one."""
    found = check_address(currency, address)
    assert (found.verdict, found.text) == ("wrong network", f"'{address}' {words}")


@pytest.mark.parametrize("currency", ["ADA", "BNB", "USDTA", "DAI", "btc", "EUR", "QQQ"])
def test_without_a_documented_network_nothing_is_checked(currency: str) -> None:
    """A guess would warn of right addresses."""
    assert check_address(currency, "anything").verdict == "not checked"


def test_without_keccak_mixed_case_is_not_checked() -> None:
    """Everything else about the address is, and it still is one for Ethereum."""
    found = check_address("ETH", ETHEREUM, lambda _: None)
    assert found.verdict == "not checked"
    assert "alphapo-async[addresses]" in found.text
    assert check_address("ETH", ETHEREUM.lower(), lambda _: None).verdict == "fine"
    assert "for Ethereum" in check_address("TRX", ETHEREUM, lambda _: None).text


def test_keccak_is_the_one_of_ethereum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nothing, and without pycryptodome."""
    digest = keccak_256(b"")
    assert digest is not None
    assert digest.hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    monkeypatch.setitem(sys.modules, "Crypto.Hash", None)
    assert keccak_256(b"") is None


@given(st.sampled_from(VALID), st.data())
def test_one_wrong_character_is_found(valid: tuple[str, str], data: st.DataObject) -> None:
    """In every format that has a checksum; lower and upper case of Ethereum count as none."""
    currency, address = valid
    place = data.draw(st.integers(0, len(address) - 1))
    other = data.draw(st.sampled_from("023456789acdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"))
    wrong = address[:place] + other + address[place + 1 :]
    has_checksum = currency not in ("SOL", "USDCS") and address not in (address.lower(), f"0x{address[2:].upper()}")
    if wrong.lower() != address.lower() and (has_checksum or currency in ("BTC", "BCH", "LTC")):
        assert check_address(currency, wrong).verdict != "fine"


@given(st.sampled_from([currency for currency, _ in VALID]), st.text())
def test_any_text_has_a_verdict(currency: str, address: str) -> None:
    """And no error."""
    assert check_address(currency, address).verdict in {"fine", "bad checksum", "wrong network", "not checked"}
