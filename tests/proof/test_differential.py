"""The differential test: every kind of journal comes to the same, and a difference is shown."""

from __future__ import annotations

import msgspec
import pytest

from tests.proof import differential
from tests.proof.differential import Observed, concurrent, difference, main, sequential
from tests.support.long import long_after


@pytest.mark.parametrize("seed", long_after(8, range(20)))
def test_a_story_comes_to_the_same_in_every_kind_of_journal(seed: int) -> None:
    """Rows, history, events, totals and what was returned are equal, times included."""
    assert difference(seed) is None


@pytest.mark.parametrize("seed", range(4))
def test_payments_made_at_once_come_to_the_same_in_every_kind_of_journal(seed: int) -> None:
    """As far as it does not depend on which body came first."""
    assert difference(seed, concurrent) is None


def test_the_stories_have_everything_in_their_histories() -> None:
    """Otherwise the test would compare too little: each kind of line that a client writes, and counts."""
    history = "".join(str(sequential("memory", seed).history) for seed in range(30))
    for kind in ("request", "attempt", "look-up", "callback", "released", "lease_expired", "operator"):
        assert f"'{kind}'" in history, kind
    assert "does not fit" in history
    assert "revision 2" in history


def test_a_difference_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the seed, the kinds of journals and the texts around it; the command then ends with 1."""
    result = Observed([], [], "a line", [], {})  # type: ignore[arg-type]

    def play(kind: str, seed: int) -> Observed:
        return result if kind != "file" else msgspec.structs.replace(result, history="another line")

    assert "history in memory and in file differ" in (difference(7, play) or "")
    monkeypatch.setattr(differential, "difference", lambda seed, _play: f"seed {seed} differs" if seed else None)
    assert main(["--seeds", "1"]) == 0
    assert main(["--seeds", "2"]) == 1
    assert "seed 1 differs" in capsys.readouterr().out
