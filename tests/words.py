"""The word check: words that the project's plain English does without are counted, and their number may only fall.

`python -m tests.words` prints each word's count and where it stands most often, and fails if a count is above `ALLOWED`.
A commit that lowers a count lowers the number here as well.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["ALLOWED", "counted", "main"]

ROOT: Final = Path(__file__).resolve().parent.parent
PATTERNS: Final = {
    "whoever, whatever befalls": r"\b(whoever|whomever|befalls?|befell)\b",
    "nobody, somebody, everybody": r"\b(nobody|somebody|everybody)\b",
    "the one that, those that": r"\b(the one that|those that)\b",
    "he, his, him": r"\b(he|his|him)\b",
    "tell, told": r"\b(tells?|told|telling)\b",
    "hear, heard": r"\b(hears?|heard)\b",
    "write down": r"\b(write|writes|wrote|written) (it |them |that )?down\b",
    "mend": r"\bmend(s|ed|ing)?\b",
    "go on, goes on": r"\b(go|goes|went|going) on\b",
    "nor is": r"(^|[.:;] )Nor (is|does|can|are|do)\b",
}
ALLOWED: Final = {
    "package": {
        "whoever, whatever befalls": 7,
        "nobody, somebody, everybody": 2,
        "the one that, those that": 29,
        "he, his, him": 0,
        "tell, told": 69,
        "hear, heard": 9,
        "write down": 6,
        "mend": 0,
        "go on, goes on": 4,
        "nor is": 0,
    },
    "tests": {
        "whoever, whatever befalls": 145,
        "nobody, somebody, everybody": 317,
        "the one that, those that": 56,
        "he, his, him": 46,
        "tell, told": 768,
        "hear, heard": 418,
        "write down": 84,
        "mend": 5,
        "go on, goes on": 82,
        "nor is": 0,
    },
}
_SKIPPED: Final = frozenset({"words.py", "test_words.py", "found.md"})
"""This check, and the texts of what tests found, which quote earlier lines."""


def counted(text: str) -> Counter[str]:
    """Return how often each kind of word stands in a text; a name in code counts like a word, an underscore divides it."""
    plain = text.replace("_", " ")
    return Counter(
        {kind: len(re.findall(pattern, plain, re.IGNORECASE | re.MULTILINE)) for kind, pattern in PATTERNS.items()}
    )


def _texts(part: str) -> Iterator[tuple[Path, str]]:
    roots = [ROOT / "alphapo_async"] if part == "package" else [ROOT / "tests", ROOT / "benchmarks"]
    files = [path for root in roots for path in root.rglob("*") if path.suffix in {".py", ".md", ".sql"}]
    if part == "package":
        files += [ROOT / name for name in ("README.md", "CHANGELOG.md", "noxfile.py")]
    for path in sorted(files):
        if path.name not in _SKIPPED:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")


def main() -> int:
    """Print the counts, and return 1 if one has risen."""
    has_risen = False
    for part, allowed in ALLOWED.items():
        by_file = {path: counted(text) for path, text in _texts(part)}
        for kind in PATTERNS:
            total = sum(counts[kind] for counts in by_file.values())
            worst = max(by_file, key=lambda path: by_file[path][kind])
            risen = total > allowed.get(kind, 0)
            has_risen |= risen
            verdict = f"above the {allowed.get(kind, 0)} allowed" if risen else f"of {allowed.get(kind, 0)} allowed"
            most = f", most in {worst}" if total else ""
            sys.stdout.write(f"{part:8} {kind:28} {total:5} {verdict}{most}\n")
    return int(has_risen)


if __name__ == "__main__":
    sys.exit(main())
