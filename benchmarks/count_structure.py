"""How much code there is, and how much of it one `withdraw` enters: `python -m benchmarks.count_structure`.

Code lines are physical lines that hold a token which is no comment and no docstring. A file is entered when one of its functions is
called or resumed; a hop is a call, or a coroutine's resumption, in another file than the one before it: what a reader turns over to.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

import alphapo_async
from alphapo_async import AlphapoClient, WithdrawalRequest
from benchmarks.server import serving

PACKAGE: Final = Path(alphapo_async.__file__).parent
_EMPTY: Final = frozenset(
    {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)


def code_lines(text: str) -> int:
    """Return how many lines of a module hold code: no blank line, no comment, no docstring."""
    strings = {
        part.lineno
        for node in ast.walk(ast.parse(text))
        for part in ast.iter_child_nodes(node)
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_docstring = token.type == tokenize.STRING and token.start[0] in strings
        if token.type not in _EMPTY and not is_docstring:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines)


def counted_by_folder() -> Counter[str]:
    """Return the code lines of each folder of the package, and of the whole."""
    counts: Counter[str] = Counter()
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE)
        lines = code_lines(file.read_text(encoding="utf-8"))
        counts[place.parts[0] if len(place.parts) > 1 else "top level"] += lines
        counts["whole"] += lines
    return counts


class Walk:
    """The files that a program enters, in order, from the moment of `begin`."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.hops: Counter[tuple[str, str]] = Counter()
        self._current: str | None = None

    def begin(self) -> None:
        """Follow this thread."""
        sys.setprofile(self._follow)

    def end(self) -> None:
        """Follow it no more."""
        sys.setprofile(None)

    def _follow(self, frame: FrameType, event: str, _argument: object) -> None:
        if event != "call" or (entered := _place(frame)) is None:
            return
        self.files[entered] += 1
        if self._current not in (None, entered):
            self.hops[str(self._current), entered] += 1
        self._current = entered


def _place(frame: FrameType) -> str | None:
    """Return the file of the package that a frame belongs to; None for other code."""
    name = frame.f_code.co_filename
    return str(Path(name).relative_to(PACKAGE)) if name.startswith(str(PACKAGE)) else None


def _request(number: int) -> WithdrawalRequest:
    return WithdrawalRequest(
        currency="BTC", amount="0.0015", address="bc1qmadeup", foreign_id=f"walk-{number}", end_user_reference="user-1"
    )


async def walked(url: str) -> Walk:
    """Follow one withdrawal with the journal in memory; another one opened the connection before."""
    walk = Walk()
    async with AlphapoClient("benchmark-key", "benchmark-secret", base_url=url, journal="memory") as client:
        await client.withdraw(_request(0))
        request = _request(1)
        walk.begin()
        try:
            await client.withdraw(request)
        finally:
            walk.end()
    return walk


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hops", action="store_true", help="list each hop")
    wanted = parser.parse_args()
    for folder, lines in sorted(counted_by_folder().items()):
        print(f"{lines:7,d} code lines  {folder}")
    with serving() as url:
        walk = asyncio.run(walked(url))
    print(f"one withdraw in memory: {len(walk.files)} files entered, {walk.hops.total()} hops between files")
    if wanted.hops:
        for (left, entered), number in walk.hops.most_common():
            print(f"{number:5d}  {left} -> {entered}")


if __name__ == "__main__":
    main()
