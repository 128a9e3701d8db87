"""The command that runs worlds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.proof.simulation.__main__ import Progress, Worlds, main


def test_worlds_are_run_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With what came of them, and 0 where every promise was kept."""
    assert main(["--seeds", "3", "--each", "3", "--jobs", "1"]) == 0
    told = capsys.readouterr().out
    assert "3 worlds in" in told
    assert "0 violations" in told


def test_one_world_is_run_again_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    """In any order that is asked for."""
    assert main(["--seed", "3", "--each", "2", "--trace", "--schedule", "any order"]) == 0
    assert "seed 3: every promise kept" in capsys.readouterr().out


def test_a_failure_is_shrunk_and_says_how_it_is_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Of many worlds the first that failed."""
    assert main(["--seeds", "12", "--each", "8", "--jobs", "1", "--break", "A1", "--shrink", "40"]) == 1
    told = capsys.readouterr().out
    assert "--each 8 --break A1 --trace" in told
    assert "shrunk in" in told
    assert Worlds(8, None, "priorities").again(4).endswith("--seed 4 --each 8 --schedule 'priorities'")


def test_a_long_run_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds that had begun and not ended are run again."""
    kept = tmp_path / "progress"
    assert main(["--hours", "0.0003", "--each", "2", "--jobs", "1", "--progress", str(kept)]) == 0
    first = json.loads(kept.read_text())
    assert first["next"] >= 10
    assert first["withdrawals"] > 0
    assert f"the next seed is {first['next']}" in capsys.readouterr().out

    progress = Progress(kept)
    shares = progress.shares(float("inf"))
    early, late = next(shares), next(shares)
    progress.ended(late, 5)
    assert early.start == first["next"] == json.loads(kept.read_text())["next"]
    progress.ended(early, 5)
    assert Progress(kept).next == late.stop
    assert list(progress.shares(0.0)) == []
