"""What a run leaves: whole, recognised, and nothing is written over by another."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.errors import InputError
from stages.options import Options
from stages.run_folder import RunFolder, source_digest
from stages.seals import sealed
from stages.store import Job, Store, stage
from tests.stages.test_options import parsed

ROOT = Path(__file__).parents[2]


@stage(version=1)
def note(job: Job, text: str) -> None:
    (job.folder / "note.txt").write_text(text)


class Run:
    """A finished run in a temporary folder, and ways to look at it again."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.store = Store(tmp_path / "runs" / "store")
        artifact = self.store.run(note, "x")
        self.artifact = artifact.path
        self.first = self.folder()
        metrics = {"mAP": 12.5, "stages": [{"artifact": artifact.path.name}]}
        files = {"note.txt": artifact.path / "note.txt", "model": artifact.path}
        self.first.write(metrics, "all went well", files)

    def folder(self, fingerprint: str = "f", tag: str = "", data: str = "d", **over: Any) -> Any:
        options = Options("micro", self.tmp_path / "runs", "cpu", tag, 0)
        arguments = [part for name, value in over.items() for part in (f"--{name}", str(value))]
        _, config = parsed("--preset", "micro", *arguments)
        named = SimpleNamespace(name=data, fingerprint=fingerprint)
        return RunFolder(options, "rcnn", named, "tiny", config)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_several_may_write_it_at_once(run: Run) -> None:
    """As they do who were started together and have waited for one another's stages."""
    files = {"note.txt": run.artifact / "note.txt", "model": run.artifact}
    metrics = {"stages": [{"artifact": run.artifact.name}]}
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(run.folder().write, metrics, "all", files) for _ in range(40)]
        for one in writing:
            one.result()
    assert run.folder().is_finished(run.store)


def test_where_a_run_lies_and_what_it_leaves(run: Run) -> None:
    assert run.first.path == run.tmp_path / "runs" / "d-micro-tiny" / "rcnn"
    left = {p.name for p in run.first.path.iterdir()}
    assert left == {"metrics.json", "configuration.json", "summary.txt", "note.txt", "model"}
    assert (run.first.path / "model" / "note.txt").read_text() == "x"
    assert run.folder().summary().splitlines() == ["all went well", str(run.first.path)]
    tagged = run.folder(tag="wide", top=3)
    assert tagged.path == run.tmp_path / "runs" / "d-micro-tiny" / "rcnn-wide"
    assert not tagged.is_finished(run.store)


def test_the_same_run_is_finished(run: Run) -> None:
    assert run.folder().is_finished(run.store)


def test_what_makes_a_run_unfinished(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("stages.run_folder.source_digest", lambda: "other code")
        assert not run.folder().is_finished(run.store)
    assert run.folder().is_finished(run.store)
    (run.artifact / "note.txt").write_text("y")
    assert not run.folder().is_finished(run.store)
    (run.artifact / "note.txt").write_text("x")
    assert run.folder().is_finished(run.store)
    (run.first.path / "summary.txt").unlink()
    assert not run.folder().is_finished(run.store)


def test_another_configuration_is_refused_by_name(run: Run) -> None:
    before = (run.first.path / "metrics.json").read_bytes()
    with pytest.raises(InputError) as raised:
        run.folder(**{"fine-tune.sgd.lr": 0.5})
    message = str(raised.value)
    assert str(run.first.path) in message
    assert "fine_tune.sgd.lr 0.01 there, 0.5 here" in message
    assert "TAG=" in message
    assert "\n" not in message
    assert (run.first.path / "metrics.json").read_bytes() == before


def test_many_differences_are_still_one_line(run: Run) -> None:
    with pytest.raises(InputError, match="and 2 more") as raised:
        run.folder(**{"top": 1, "svms.c": 1, "svms.norm": 1, "svms.seed": 1, "detection.batch": 1})
    assert "top 60 there, 1 here" in str(raised.value)


def test_images_edited_since_are_refused(run: Run) -> None:
    before = (run.first.path / "metrics.json").read_bytes()
    with pytest.raises(InputError, match=r"holds a run of other images under that name.*TAG="):
        run.folder(fingerprint="other images")
    (run.first.path / "metrics.json").write_text("")
    with pytest.raises(InputError, match="other images"):
        run.folder(fingerprint="other images")
    run.folder()
    run.folder(fingerprint="other images", tag="edited").write({}, "", {})
    (run.first.path / "metrics.json").write_bytes(before)
    assert run.folder().is_finished(run.store)


def test_a_folder_of_another_data_set_of_that_name_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"data\.name shapes there, /x/d here"):
        run.folder(data="d", **{"data.name": "/x/d"})


@pytest.mark.parametrize("left", ["", '{"config": ', "[]", "\x00"])
def test_broken_metrics_are_no_run(run: Run, left: str) -> None:
    (run.first.path / "metrics.json").write_text(left)
    again = run.folder()
    assert not again.is_finished(run.store)
    again.write({"stages": [{"artifact": run.artifact.name}]}, "once more", {})
    assert run.folder().is_finished(run.store)


@pytest.mark.parametrize("left", ["", '{"config": ', "[]", "\x00"])
def test_broken_metrics_of_another_configuration_are_not_written_over(run: Run, left: str) -> None:
    (run.first.path / "metrics.json").write_text(left)
    with pytest.raises(InputError, match="top 60 there, 1 here"):
        run.folder(top=1)


def test_broken_metrics_of_nobody_knows_what_are_refused(run: Run) -> None:
    (run.first.path / "metrics.json").write_text("{")
    (run.first.path / "configuration.json").unlink()
    with pytest.raises(InputError, match=r"metrics\.json: damaged.*remove it.*TAG=") as raised:
        run.folder()
    assert "\n" not in str(raised.value)
    (run.first.path / "metrics.json").unlink()
    assert not run.folder(top=1).is_finished(run.store)


def test_a_folder_in_the_place_of_the_metrics_is_refused(run: Run) -> None:
    (run.first.path / "metrics.json").unlink()
    (run.first.path / "metrics.json").mkdir()
    with pytest.raises(InputError, match=r"metrics\.json: is no file"):
        run.folder()


@pytest.mark.parametrize("folder", ["d-micro-tiny", "d-micro-tiny/rcnn"])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, folder: str) -> None:
    run = Run(tmp_path)
    shutil.rmtree(run.tmp_path / "runs" / folder)
    (run.tmp_path / "runs" / folder).touch()
    with pytest.raises(InputError, match=f"{folder}: is a file"):
        run.folder()


def test_a_name_that_the_system_does_not_take_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="too long"):
        run.folder(tag="t" * 100, data="d" * 240)


def test_of_two_of_one_name_at_once_the_later_is_refused(run: Run) -> None:
    """Neither found the other when it began."""
    one, other = run.folder(tag="same", top=30), run.folder(tag="same", top=60)
    one.write({}, "one", {})
    before = (one.path / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="top 30 there, 60 here"):
        other.write({}, "other", {})
    assert (one.path / "metrics.json").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("files", None), ("files", ["a"]), ("files", {"a\0b": {}}), ("stages", [{}]), ("stages", 5)],
)
def test_metrics_that_list_nothing_are_no_finished_run(run: Run, key: str, value: Any) -> None:
    path = run.first.path / "metrics.json"
    assert run.folder().is_finished(run.store)
    metrics = json.loads(path.read_text())
    del metrics["digest"]
    path.write_text(json.dumps(sealed({**metrics, key: value})))
    assert not run.folder().is_finished(run.store)


def flip_a_bit(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << byte % 8
    path.write_bytes(content)


def test_a_bit_flipped_in_any_of_its_files_is_no_finished_run(run: Run) -> None:
    files = [path for path in run.first.path.rglob("*") if path.is_file()]
    assert {"metrics.json", "summary.txt"} < {path.name for path in files}
    for path in files:
        whole = path.read_bytes()
        for byte in range(0, len(whole), max(1, len(whole) // 50)):
            flip_a_bit(path, byte)
            assert not run.folder().is_finished(run.store), (path, byte)
        path.write_bytes(whole)
    assert run.folder().is_finished(run.store)


def test_a_run_of_before_there_was_a_digest_still_has_its_configuration(run: Run) -> None:
    path = run.first.path / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["digest"]
    path.write_text(json.dumps(metrics))
    assert not run.folder().is_finished(run.store)
    with pytest.raises(InputError, match="holds a run with another configuration"):
        run.folder(top=1)


def test_the_source_digest_knows_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    digest = source_digest()
    assert digest == source_digest()
    assert len(digest) == 16
    read: list[Path] = []
    genuine = Path.read_bytes

    def reading(path: Path) -> bytes:
        read.append(path.relative_to(ROOT))
        return genuine(path) + b"#"

    monkeypatch.setattr(Path, "read_bytes", reading)
    assert source_digest() != digest
    assert {Path("stages/store.py"), Path("stages/data/voc.py"), Path("rcnn_v1/svm.py")} <= {*read}
    assert not any({".venv", "tests", "benchmarks", "notebooks"} & {*path.parts} for path in read)
