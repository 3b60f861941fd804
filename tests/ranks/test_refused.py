"""What every rank finds wrong by itself is said once, and before anything is made."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.ranks.test_trainings import ENVIRONMENT, ROOT, TORCHRUN


def test_more_ranks_than_images_a_step(tmp_path: Path) -> None:
    options = ["--preset", "micro", "--runs", str(tmp_path), "--sampling.images", "1"]
    ended = subprocess.run(
        [*TORCHRUN, "-m", "fast_rcnn", *options, "--workers", "0"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert said == ["error: images of a step: 1 for 2 ranks (processes)"], ended.stderr[-3000:]
    assert "terminated" not in ended.stderr
    made = [path.name.partition("-")[0] for path in (tmp_path / "store").glob("*-*")]
    assert made == ["draw_shapes"]
