"""A finished `micro` run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rcnn_v1.command import command as rcnn


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    rcnn(["--preset", "micro", "--runs", str(folder), "--device", "cpu", "--workers", "0"])
    return folder
