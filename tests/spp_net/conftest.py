"""The toy data set's maps and SPPnet's weights, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spp_net.config import PyramidConfig
from spp_net.maps import MapCache, cache_maps, cache_mirrored_maps
from spp_net.network import add_pyramid
from stages.backbones.weights import Weights
from stages.store import Artifact, Job

RANDOM = Weights(None, "random")
# The toy's images are 60 x 48: as they are, and doubled.
PYRAMID = PyramidConfig(scales=(48, 96), longest=500, window_side=64, levels=(4, 2, 1))


@dataclass(frozen=True)
class Made:
    """Artifacts that later stages read."""

    maps: tuple[Artifact, ...]
    network: Artifact
    cache: MapCache
    mirrored: tuple[Artifact, ...]
    mirrored_cache: MapCache


def make_maps(
    folder: Path,
    data: Any,
    pyramid: PyramidConfig = PYRAMID,
    dtype: Any = "float32",
    stage: Any = cache_maps,
) -> tuple[Artifact, ...]:
    artifacts = []
    for scale in pyramid.scales:
        job = Job(folder / str(scale))
        job.folder.mkdir(parents=True, exist_ok=True)
        stage(job, data, RANDOM, "tiny", scale, pyramid.longest, dtype)
        artifacts.append(Artifact(job.folder, str(scale)))
    return tuple(artifacts)


@pytest.fixture(scope="session")
def made(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("spp")
    add_pyramid(Job(folder), RANDOM, "tiny", PYRAMID.levels)
    maps = make_maps(folder, toy)
    mirrored = make_maps(folder / "mirrored", toy, stage=cache_mirrored_maps)
    return Made(
        maps,
        Artifact(folder, "network"),
        MapCache(maps, toy.train),
        mirrored,
        MapCache(mirrored, toy.train),
    )
