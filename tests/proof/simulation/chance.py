"""Chance out of one integer: every draw is a hash of the seed and of what it is about.

So a draw does not depend on the order in which others are made, and the same seed means the same everywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import inf, log
from typing import TypeVar

__all__ = ["Chance"]

T = TypeVar("T")
_OF_ALL = 2.0**-48


class Chance:
    """Draws for one seed.

    Args:
        seed: another seed, another world.
        allowed: of all that happens by chance, only what is about one of these; None for all of it.
    """

    def __init__(self, seed: int, allowed: frozenset[str] | None = None) -> None:
        self.seed = seed
        self.happened: dict[str, None] = {}
        """What happened by chance, as `allowed` names it."""
        self._allowed = allowed

    def draw(self, *about: object) -> float:
        """Return a figure from 0 to 1, always the same for the same thing."""
        text = "|".join(map(str, (self.seed, *about)))
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).digest()
        return int.from_bytes(digest, "big") * _OF_ALL

    def which(self, shares: Mapping[str, float], *about: object) -> str:
        """Return which of several things happens, each in its share of all cases; nothing if none of them does."""
        point = self.draw(*about) if any(shares.values()) else 1.0
        for name, share in shares.items():
            point -= share
            if point < 0:
                return name if self._happens(about) else ""
        return ""

    def happens(self, share: float, *about: object) -> bool:
        """Tell whether something happens that happens in this share of all cases."""
        return share > 0 and self.draw(*about) < share and self._happens(about)

    def _happens(self, about: tuple[object, ...]) -> bool:
        name = "|".join(map(str, about))
        if self._allowed is not None and name not in self._allowed:
            return False
        self.happened[name] = None
        return True

    def first(self, share: float, *about: object) -> float:
        """Return which of many is the first to which something happens that happens to this share of them; infinity if it never does."""
        return 1.0 + log(1.0 - self.draw(*about)) // log(1.0 - share) if share > 0 else inf

    def between(self, low: float, high: float, *about: object) -> float:
        """Return a figure between two."""
        return low + (high - low) * self.draw(*about)

    def whole(self, low: int, high: int, *about: object) -> int:
        """Return a whole number between two, both included."""
        return low + int((high - low + 1) * self.draw(*about))

    def pick(self, options: Sequence[T], *about: object) -> T:
        """Return one of several."""
        return options[int(len(options) * self.draw(*about))]

    def stream(self, *about: object) -> Callable[[], float]:
        """Return a function that draws one figure after another."""
        counted = itertools.count()
        return lambda: self.draw(*about, next(counted))
