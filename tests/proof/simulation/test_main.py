"""The command that runs worlds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.proof.simulation.__main__ import Progress, Worlds, main
from tests.support.long import LONG


def test_worlds_are_run_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With what came of them, and 0 where every promise was kept."""
    assert main(["--seeds", "3", "--each", "3", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "3 worlds in" in shown
    assert "0 violations" in shown


def test_one_world_is_run_again_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """In any order that is asked for."""
    assert main(["--seed", "3", "--each", "2", "--trace", "--schedule", "any order"]) == 0
    assert "seed 3: every promise kept" in capsys.readouterr().out


@LONG
def test_a_failure_is_shrunk_and_says_how_it_is_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Of many worlds the first that failed."""
    assert main(["--seeds", "12", "--each", "8", "--jobs", "1", "--break", "A1", "--shrink", "40"]) == 1
    shown = capsys.readouterr().out
    assert "--each 8 --break A1 --trace" in shown
    assert "shrunk in" in shown
    assert Worlds(8, None, "priorities").again(4).endswith("--seed 4 --each 8 --schedule 'priorities'")


@LONG
def test_a_long_run_shows_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next one continues there."""
    kept = tmp_path / "progress"
    assert main(["--hours", "0.0003", "--each", "2", "--jobs", "1", "--progress", str(kept)]) == 0
    first = json.loads(kept.read_text())
    assert first["next"] >= 10
    assert first["withdrawals"] > 0
    assert f"the next seed is {first['next']}" in capsys.readouterr().out


def test_seeds_that_had_begun_and_not_ended_are_run_again(tmp_path: Path) -> None:
    """A long run continues at the first of them, whatever ended behind it."""
    kept = tmp_path / "progress"
    progress = Progress(kept)
    shares = progress.shares(float("inf"))
    early, late = next(shares), next(shares)
    progress.ended(late, 5)
    assert (Progress(kept).next, early.start) == (0, 0)
    progress.ended(early, 7)
    assert (Progress(kept).next, Progress(kept).withdrawals) == (late.stop, 12)
    assert list(progress.shares(0.0)) == []
