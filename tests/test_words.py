"""The word check: what it counts, and that no count rises."""

from __future__ import annotations

import pytest

from tests import words


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Whoever hears of it goes on.", ["whoever, whatever befalls", "hear, heard", "go on, goes on"]),
        ("told = tell_it(his_row)", ["tell, told", "tell, told", "he, his, him"]),
        ("written it down. Nor is it", ["write down", "nor is"]),
        ("the_one_that nobody mends", ["the one that, those that", "nobody, somebody, everybody", "mend"]),
        ("The caller, then the heart, other, theme.", []),
    ],
)
def test_a_word_counts_wherever_it_stands(text: str, kinds: list[str]) -> None:
    """In prose and in names, at any place of a sentence, and never as a part of another word."""
    assert sorted(words.counted(text).elements()) == sorted(kinds)


def test_no_count_rises(capsys: pytest.CaptureFixture[str]) -> None:
    """A change that brings such words back is refused here, with the count and the file that has most of them."""
    assert words.main() == 0, capsys.readouterr().out
