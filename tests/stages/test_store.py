"""The store: work once, never take half-made for finished, go on after a kill, share, mend."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.errors import DamagedError
from stages.seals import digest
from stages.store import Artifact, Job, Store, describe, stage
from stages.writing import hdf5

ROOT = Path(__file__).parents[2]
CALLS: list[tuple[Any, ...]] = []


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Config:
    name: str = "a"
    top: int | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


@dataclass(frozen=True)
class SameFields:
    name: str = "a"
    top: int | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


@dataclass(frozen=True)
class Input:
    """Something with a fingerprint, and something else that must not matter."""

    fingerprint: str
    path: str = ""


@stage(version=1)
def work(job: Job, *inputs: Any) -> None:
    CALLS.append(inputs)
    (job.folder / "deep").mkdir(exist_ok=True)
    (job.folder / "result.txt").write_text("the result")
    (job.folder / "deep" / "more.bin").write_bytes(bytes(range(256)))


@stage(version=1)
def other_work(job: Job, *inputs: Any) -> None:
    work(job, *inputs)


@stage(version=1)
def idle(job: Job) -> None:
    """Writes nothing."""


@pytest.fixture(autouse=True)
def no_calls_yet() -> None:
    CALLS.clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


# ------------------------------------------------------------------ once, and named by its inputs


def test_the_second_time_nothing_is_done(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first = store.run(work, Config(), 3)
    assert [(Config(), 3)] == CALLS
    before = {path: path.stat().st_mtime_ns for path in first.path.rglob("*")}
    capsys.readouterr()
    assert store.run(work, Config(), 3) == first
    assert Store(store.root).run(work, Config(), 3) == first
    assert len(CALLS) == 1
    assert {path: path.stat().st_mtime_ns for path in first.path.rglob("*")} == before
    assert capsys.readouterr().err == ""


def test_where_an_artifact_lies(store: Store) -> None:
    artifact = store.run(work)
    assert artifact.path == store.root / f"work-{artifact.fingerprint}"
    assert (artifact.path / "result.txt").read_text() == "the result"
    assert list((store.root / "unfinished").iterdir()) == []


def test_a_stage_that_writes_nothing_is_done_once(store: Store) -> None:
    assert store.run(idle) == store.run(idle)
    assert store.run(idle).manifest["files"] == {}


VARIANTS: list[tuple[Any, ...]] = [
    (),
    (None,),
    (0,),
    (1,),
    (True,),
    ("1",),
    (1, 2),
    ((1, 2),),
    (Config(),),
    (SameFields(),),
    (Config(name="b"),),
    (Config(top=1),),
    (Config(inner=Inner(rate=0.1 + 1e-16)),),
    (Config(inner=Inner(steps=(1, 3))),),
    (Input("f"),),
    (Input("g"),),
    (Input("f"), Input("g")),
    (Input("g"), Input("f")),
    ("f",),
]


def test_other_inputs_have_other_folders(store: Store) -> None:
    paths = {store.run(work, *inputs).path for inputs in VARIANTS}
    assert len(paths) == len(CALLS) == len(VARIANTS)


def test_another_stage_or_version_has_another_folder(store: Store) -> None:
    @stage(version=2)
    def second(job: Job, *inputs: Any) -> None:
        work(job, *inputs)

    second.__name__, second.__qualname__, second.__module__ = "work", "work", work.__module__
    paths = {store.run(function, 1).path for function in (work, other_work, second)}
    assert len(paths) == len(CALLS) == 3


def test_stages_of_one_name_in_two_modules_are_two(store: Store) -> None:
    @stage(version=1)
    def twin(job: Job, *inputs: Any) -> None:
        work(job, *inputs)

    twin.__name__, twin.__qualname__, twin.__module__ = "work", "work", "elsewhere"
    assert store.run(work).path != store.run(twin).path
    assert len(CALLS) == 2


def test_an_inputs_place_does_not_matter(store: Store) -> None:
    assert store.run(work, Input("f", "here")) == store.run(work, Input("f", "there"))
    assert store.run(work, [1, 2]) == store.run(work, (1, 2))
    assert len(CALLS) == 2


def test_how_it_is_worked_on_does_not_matter(tmp_path: Path) -> None:
    jobs: list[Job] = []

    @stage(version=1)
    def note(job: Job) -> None:
        jobs.append(job)

    root = tmp_path / "store"
    assert Store(root, "cpu", 3, 7.0).run(note) == Store(root, "cpu", 0, 1.0).run(note)
    (job,) = jobs
    assert (job.device, job.workers, job.checkpoint_seconds) == ("cpu", 3, 7.0)


def test_artifacts_are_inputs(store: Store) -> None:
    first, second = store.run(work, 1), store.run(work, 2)
    assert store.run(other_work, first) != store.run(other_work, second)
    assert CALLS[-2:] == [(first,), (second,)]
    assert store.run(other_work, first).manifest["inputs"] == [
        {"is": "Artifact", "fingerprint": first.fingerprint}
    ]


def test_the_store_remembers_what_was_asked_for(store: Store) -> None:
    first, second = store.run(work, 1), store.run(work, 2)
    assert store.run(work, 1) == first
    assert store.used == [first, second]


@pytest.mark.parametrize(
    "value",
    [object(), {"a": 1}, {1}, Path("x"), np.zeros(2), np.int64(1), b"x", 1j, Config, len],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_described_is_refused(store: Store, value: Any) -> None:
    for hidden in (value, [value], (1, (value,)), Inner(steps=(value,))):
        with pytest.raises(TypeError, match=type(value).__name__):
            store.run(work, hidden)
    assert CALLS == []
    assert not store.root.exists()


def test_descriptions_survive_json() -> None:
    described = describe(Config(inner=Inner(rate=1e-300)))
    assert json.loads(json.dumps(described)) == described
    assert digest(described) == digest(json.loads(json.dumps(described)))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


# ------------------------------------------------------------------ the manifest


def test_the_manifest(store: Store) -> None:
    manifest = store.run(work, Config(), Input("f")).manifest
    assert manifest["stage"] == f"{work.__module__}.work"
    assert manifest["version"] == 1
    assert manifest["inputs"] == [
        {
            "is": "Config",
            "name": "a",
            "top": None,
            "inner": {"is": "Inner", "rate": 0.1, "steps": [1, 2]},
        },
        {"is": "Input", "fingerprint": "f"},
    ]
    assert manifest["attempts"] == 1
    assert manifest["seconds"] >= 0
    assert manifest["peak_memory_bytes"] > 2**20
    assert manifest["peak_cuda_bytes"] == 0
    assert manifest["workers"] == 0
    assert "cores" in manifest["device"]
    assert manifest["versions"]["python"] == sys.version.split()[0]
    assert manifest["versions"]["numpy"] == np.__version__
    assert "commit" in manifest


def test_the_manifests_checksums(store: Store) -> None:
    artifact = store.run(work)
    contents = {"result.txt": b"the result", "deep/more.bin": bytes(range(256))}
    assert artifact.manifest["files"] == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }


# ------------------------------------------------------------------ damage


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "deep/more.bin").read_bytes())
    content[77] ^= 1
    (path / "deep/more.bin").write_bytes(content)


def put_a_folder_in_its_place(path: Path) -> None:
    (path / "result.txt").unlink()
    (path / "result.txt").mkdir()


def put_a_file_in_the_place_of_a_folder(path: Path) -> None:
    (path / "deep/more.bin").unlink()
    (path / "deep").rmdir()
    (path / "deep").write_text("")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a bit": flip_a_bit,
    "cut short": lambda path: (path / "result.txt").write_text("the res"),
    "longer": lambda path: (path / "result.txt").write_text("the result!"),
    "a file missing": lambda path: (path / "result.txt").unlink(),
    "a folder for a file": put_a_folder_in_its_place,
    "a file for a folder": put_a_file_in_the_place_of_a_folder,
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "empty manifest": lambda path: (path / "manifest.json").write_text(""),
    "half a manifest": lambda path: (path / "manifest.json").write_text('{"files": {"resu'),
    "binary manifest": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "manifest of nothing": lambda path: (path / "manifest.json").write_text("{}"),
    "manifest of another kind": lambda path: (path / "manifest.json").write_text("[]"),
    "other numbers": lambda path: (path / "manifest.json").write_text(
        (path / "manifest.json").read_text().replace('"workers": 0', '"workers": 1')
    ),
    "files of another kind": lambda path: (path / "manifest.json").write_text('{"files": []}'),
    "no files": lambda path: (path / "manifest.json").write_text('{"files": null}'),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_is_made_again(
    store: Store, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any]
) -> None:
    artifact = store.run(work)
    whole = artifact.manifest["files"]
    damage(artifact.path)
    assert not store.is_sound(artifact.path.name)
    capsys.readouterr()
    assert store.run(work) == artifact
    assert len(CALLS) == 2
    assert artifact.manifest["files"] == whole
    assert artifact.manifest["attempts"] == 1
    assert store.is_sound(artifact.path.name)
    said = [line for line in capsys.readouterr().err.splitlines() if "making it again" in line]
    assert len(said) == 1
    assert said[0].startswith(f"{artifact.path}: ")
    assert store.run(work) == artifact
    assert len(CALLS) == 2


def in_its_place(path: Path, put: Callable[[Path], Any]) -> None:
    path.rename(path.with_name("aside"))
    put(path)


@pytest.mark.parametrize(
    "put",
    [
        Path.touch,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.with_name("aside"), target_is_directory=True),
    ],
    ids=["a file", "a link to nowhere", "a link to a damaged one"],
)
def test_what_is_no_artifact_is_replaced_by_one(store: Store, put: Callable[[Path], Any]) -> None:
    artifact = store.run(work)
    in_its_place(artifact.path, put)
    flip_a_bit(artifact.path.with_name("aside"))
    assert store.run(work) == artifact
    assert len(CALLS) == 2
    assert store.is_sound(artifact.path.name)
    assert not artifact.path.is_symlink()
    assert artifact.path.with_name("aside").is_dir()  # a link's target is not the store's to remove


def test_a_linked_artifact_is_as_good(store: Store) -> None:
    artifact = store.run(work)
    in_its_place(artifact.path, lambda path: path.symlink_to(path.with_name("aside")))
    assert store.run(work) == artifact
    assert len(CALLS) == 1


def test_damage_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = store.run(work)
    flip_a_bit(artifact.path)
    store.run(work)
    (artifact.path / "result.txt").unlink()
    store.run(work)
    again = [line for line in capsys.readouterr().err.splitlines() if "making it again" in line]
    assert len(again) == 2
    assert "deep/more.bin" in again[0]
    assert "result.txt is missing" in again[1]


def test_damage_elsewhere_is_left_alone(store: Store) -> None:
    first, second = store.run(work, 1), store.run(work, 2)
    flip_a_bit(first.path)
    assert not store.is_sound(first.path.name)
    assert store.is_sound(second.path.name)
    store.run(work, 2)
    assert len(CALLS) == 2


def test_what_was_never_made_is_not_sound(store: Store) -> None:
    assert not store.is_sound("work-0123456789abcdef")


def test_large_hdf5_files_are_trusted_to_their_own_checksums(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.seals.LARGE", 10)

    @stage(version=1)
    def large(job: Job) -> None:
        CALLS.append(())
        (job.folder / "a.h5").write_bytes(b"0123456789A")
        (job.folder / "small.h5").write_bytes(b"0123456789")
        (job.folder / "a.bin").write_bytes(b"0123456789A")

    artifact = store.run(large)
    assert "sha256" not in artifact.manifest["files"]["a.h5"]
    (artifact.path / "a.h5").write_bytes(b"0123456789B")
    store.run(large)
    assert len(CALLS) == 1
    for calls, (name, content) in enumerate(
        [("a.h5", b"0123456789"), ("small.h5", b"012345678A"), ("a.bin", b"0123456789B")], start=2
    ):
        (artifact.path / name).write_bytes(content)
        store.run(large)
        assert len(CALLS) == calls


# ------------------------------------------------------------------ stages that fail


def busy(seconds: float) -> float:
    """Work for at least so long; returns how long it was."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        pass
    return time.monotonic() - started


def test_a_stage_that_raises_leaves_nothing_finished(store: Store) -> None:
    worked: list[float] = []
    found: list[bool] = []

    @stage(version=1)
    def fragile(job: Job) -> None:
        found.append((job.folder / "half.txt").exists())
        worked.append(busy(0.02))
        (job.folder / "half.txt").write_text("half")
        if len(found) < 3:
            raise ZeroDivisionError("on purpose")
        (job.folder / "result.txt").write_text("whole")

    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            store.run(fragile)
        assert list(store.root.glob("fragile-*")) == []
        (unfinished,) = (store.root / "unfinished").glob("fragile-????????????????")
        assert (unfinished / "half.txt").read_text() == "half"
        assert store.used == []
    artifact = store.run(fragile)
    assert found == [False, True, True]
    assert set(artifact.manifest["files"]) == {"half.txt", "result.txt"}
    assert artifact.manifest["attempts"] == 3
    assert artifact.manifest["seconds"] >= sum(worked) - 0.001  # it is rounded to milliseconds
    assert list((store.root / "unfinished").iterdir()) == []


def test_a_failure_holds_no_lock(store: Store) -> None:
    @stage(version=1)
    def fragile(job: Job) -> None:
        raise ZeroDivisionError

    for _ in range(2):  # the second would wait for ever
        with pytest.raises(ZeroDivisionError):
            store.run(fragile)


def test_cut_off_just_before_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest that an earlier attempt wrote is no file of the stage's."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "rename", stop)
        store.run(work)
    artifact = store.run(work)
    calls = len(CALLS)
    assert set(artifact.manifest["files"]) == {"result.txt", "deep/more.bin"}
    capsys.readouterr()
    assert store.run(work) == artifact
    assert len(CALLS) == calls
    assert capsys.readouterr().err == ""


def test_cut_off_just_after_the_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier making counted is not counted again when the artifact is made anew."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", stop)
        store.run(work)
    artifact = store.run(work)
    assert len(CALLS) == 1  # it was finished
    flip_a_bit(artifact.path)
    assert store.run(work).manifest["attempts"] == 1
    assert len(CALLS) == 2


# ------------------------------------------------------------------ kill -9

# Forks attempts at one sharded stage; each is killed at a given step of its own or the store's
# code (calls, returns, and calls of C functions such as open, write and rename).
DRIVER = r"""
import json, os, shutil, signal, sys
from pathlib import Path
from stages import store as store_module
from stages.errors import DamagedError
from stages.shards import shards, unmade
from stages.store import Store, stage
from stages.writing import replacing

base, points = Path(sys.argv[1]), json.loads(sys.argv[2])
store_module.machine = lambda device: {}  # runs git, which is slow and not what is tested
OURS = {"store.py", "shards.py", "writing.py", "meter.py", "<string>"}
IMAGES = 8


@stage(version=1)
def squares(job, starts):
    with open(starts, "a") as file:
        file.write("start\n")
    every = shards(job.folder / "shards", IMAGES, 3, ".txt")
    for shard in unmade(every):
        with replacing(shard.path) as file:
            for n in range(shard.start, shard.stop):
                file.write(f"{n * n}\n".encode())
                file.flush()
    (job.folder / "squares.txt").write_bytes(b"".join(s.path.read_bytes() for s in every))
    shutil.rmtree(job.folder / "shards")


def attempt(root, die_at):
    # Its exit status, and how many steps it had (without a kill).
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        steps = 0

        def count(frame, event, argument):
            nonlocal steps
            if frame.f_code.co_filename.rpartition("/")[2] in OURS:
                steps += 1
                if steps == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.stderr = open(os.devnull, "w")
        sys.setprofile(count)
        Store(root / "store").run(squares, str(root / "starts"))
        sys.setprofile(None)
        os.write(writer, b"%d" % steps)
        os._exit(0)
    os.close(writer)
    steps = int(os.read(reader, 20) or 0)
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), steps


def lines(root):
    return len((root / "starts").read_text().splitlines()) if (root / "starts").exists() else 0


def outcome(root, kills):
    # Run until finished with kills at these steps; then once more.
    root.mkdir(parents=True)
    statuses = [attempt(root, die_at)[0] for die_at in kills]
    killed_starts = lines(root)
    statuses.append(attempt(root, 0)[0])
    starts = lines(root)
    (artifact,) = (root / "store").glob("squares-*")
    manifest = json.loads((artifact / "manifest.json").read_text())
    attempt(root, 0)
    return {
        "kills": kills,
        "statuses": statuses,
        "killed_starts": killed_starts,
        "starts": starts,
        "starts_after": lines(root),
        "attempts": manifest["attempts"],
        "files": {str(f.relative_to(artifact)): f.read_bytes().decode()
                  for f in sorted(artifact.rglob("*")) if f.is_file() and f.name != "manifest.json"},
        "listed": manifest["files"],
    }


if points is None:
    (base / "one").mkdir(parents=True)
    print(json.dumps({"steps": attempt(base / "one", 0)[1], **outcome(base / "two", [])}))
else:
    print(json.dumps([outcome(base / str(i), kills) for i, kills in enumerate(points)]))
"""
SQUARES = "".join(f"{n * n}\n" for n in range(8))


def drive(base: Path, points: list[list[int]] | None) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(base), json.dumps(points)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return drive(tmp_path_factory.mktemp("whole"), None)


@pytest.fixture(scope="module")
def killed(
    tmp_path_factory: pytest.TempPathFactory, uninterrupted: dict[str, Any]
) -> list[dict[str, Any]]:
    """What became of runs killed once, at steps all over the run, and of runs killed many times."""
    steps = uninterrupted["steps"]
    once = [[die_at] for die_at in range(1, steps, max(1, steps // 30))]
    late = [[die_at] for die_at in range(steps - 12, steps)]  # manifest, rename and after
    rng = random.Random(0)
    often = [sorted(rng.randrange(1, steps) for _ in range(6)) for _ in range(4)]
    return drive(tmp_path_factory.mktemp("killed"), once + late + often)


def test_an_uninterrupted_run(uninterrupted: dict[str, Any]) -> None:
    assert uninterrupted["files"] == {"squares.txt": SQUARES}
    assert uninterrupted["steps"] > 100
    assert uninterrupted["starts"] == uninterrupted["attempts"] == 1


def test_the_kills_hit(killed: list[dict[str, Any]]) -> None:
    assert sum(run["statuses"].count(-9) for run in killed) > len(killed)
    assert any(run["statuses"].count(-9) > 2 for run in killed)
    assert max(run["starts"] for run in killed) > 2
    assert all(run["statuses"][-1] == 0 for run in killed)


def test_killed_at_any_moment_the_result_is_the_same(
    killed: list[dict[str, Any]], uninterrupted: dict[str, Any]
) -> None:
    for run in killed:
        assert run["files"] == uninterrupted["files"], run["kills"]
        assert run["listed"] == uninterrupted["listed"], run["kills"]


def test_killed_at_any_moment_what_is_finished_is_not_made_again(
    killed: list[dict[str, Any]],
) -> None:
    for run in killed:
        assert run["starts_after"] == run["starts"], run["kills"]


def test_killed_attempts_are_counted(killed: list[dict[str, Any]]) -> None:
    for run in killed:
        assert run["starts"] <= run["attempts"] <= len(run["statuses"]), run["kills"]


def test_seconds_of_killed_attempts_are_counted(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from stages.store import Store, stage\n"
        "@stage(version=1)\n"
        "def slow(job):\n"
        "    clock = job.folder.with_name(f'{job.folder.name}.seconds')\n"
        "    if not (job.folder / 'again').exists():\n"
        "        (job.folder / 'again').touch()\n"
        "        while not clock.exists() or '\"seconds\": 0.0' in clock.read_text():\n"
        "            pass\n"  # until the heartbeat has written
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(Path(sys.argv[1])).run(slow)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT, timeout=120, capture_output=True).returncode == -9
    (clock,) = (tmp_path / "unfinished").glob("*.seconds")
    before = json.loads(clock.read_text())["seconds"]
    assert before > 0
    assert subprocess.run(command, cwd=ROOT, timeout=120, capture_output=True).returncode == 0
    (artifact,) = tmp_path.glob("slow-*")
    manifest = Artifact(artifact, "").manifest
    assert manifest["attempts"] == 2
    assert manifest["seconds"] >= before - 0.001


# ------------------------------------------------------------------ several processes

# A stage that notes that it began and works until its standard input ends.
SHARER = r"""
import os, sys
from pathlib import Path
from stages.store import Store, stage

@stage(version=1)
def shared(job, notes):
    with open(notes, "a") as file:
        file.write("began\n")
    sys.stdin.read()
    (job.folder / "result.txt").write_text("shared")

artifact = Store(Path(sys.argv[1])).run(shared, sys.argv[2])
print(artifact.path, (artifact.path / "result.txt").read_text())
"""


class Crowd:
    """Processes that run the same stage."""

    def __init__(self, tmp_path: Path) -> None:
        self.root, self.notes = tmp_path / "store", tmp_path / "notes"
        self.processes: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SHARER, str(self.root), str(self.notes)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def finish(self) -> list[str]:
        """Let those that work go on to their end; what each printed."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        return [process.communicate()[0] for process in self.processes]

    def began(self) -> int:
        return len(self.notes.read_text().splitlines())

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


def says(process: subprocess.Popen[str]) -> str:
    """Its next line on stderr; empty when it has ended."""
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    crowd = Crowd(tmp_path)
    guard = threading.Timer(120, crowd.kill)  # a failure, not a hang, when one waits for ever
    guard.start()
    yield crowd
    guard.cancel()
    crowd.kill()
    for process in crowd.processes:
        process.communicate()


@pytest.mark.parametrize("number", [2, 5])
def test_of_several_at_once_one_works(crowd: Crowd, number: int) -> None:
    for _ in range(number):
        crowd.start()
    said = [says(process) for process in crowd.processes]
    assert said.count("-- shared\n") == 1
    assert sum("waiting" in line for line in said) == number - 1
    results = crowd.finish()
    assert [process.returncode for process in crowd.processes] == [0] * number
    assert len(set(results)) == 1
    assert results[0].endswith(" shared\n")
    assert crowd.began() == 1


def test_who_waits_takes_over_from_who_is_killed(crowd: Crowd) -> None:
    first = crowd.start()
    assert says(first) == "-- shared\n"
    second = crowd.start()
    assert "waiting" in says(second)
    first.kill()
    assert says(second) == "-- shared\n"
    _, result = crowd.finish()
    assert second.returncode == 0
    assert result.endswith(" shared\n")
    assert crowd.began() == 2


def test_other_work_does_not_wait(crowd: Crowd) -> None:
    assert says(crowd.start()) == "-- shared\n"
    assert Store(crowd.root).run(work).manifest["attempts"] == 1


# Damage that is found only in reading ---------------------------------------------------------


@stage(version=1)
def make_cache(job: Job) -> None:
    CALLS.append(("make_cache",))
    with hdf5(job.folder / "cache.h5") as file:
        file.create_dataset("rows", data=np.arange(9_000.0), chunks=(1000,), fletcher32=True)


@stage(version=1)
def add_up(job: Job, cache: Artifact) -> None:
    path = cache.path / "cache.h5"
    try:
        with h5py.File(path) as file:
            total = file["rows"][:].sum()
    except OSError as error:
        raise DamagedError(path, str(error)) from None
    (job.folder / "sum.txt").write_text(str(total))


def test_a_large_cache_found_damaged_as_it_is_read_is_made_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stages.seals.LARGE", 1000)  # bytes: it is not hashed on every run
    path = store.run(make_cache).path / "cache.h5"
    whole = path.read_bytes()
    raw = bytearray(whole)
    raw[-2000] ^= 1  # in the rows
    path.write_bytes(raw)

    store.used.clear()
    result = store.again(lambda: store.run(add_up, store.run(make_cache)))
    assert float((result.path / "sum.txt").read_text()) == np.arange(9_000.0).sum()
    assert path.read_bytes() == whole
    assert CALLS == [("make_cache",)] * 2
    said = [line for line in capsys.readouterr().err.splitlines() if "making it again" in line]
    assert len(said) == 1 and said[0].startswith(str(path))
    assert [a.path.name.partition("-")[0] for a in store.used] == ["make_cache", "add_up"]


def test_what_is_damaged_again_or_not_the_stores_is_an_error(store: Store, tmp_path: Path) -> None:
    def always() -> None:
        made = store.run(make_cache)
        raise DamagedError(made.path / "cache.h5", "is always damaged")

    with pytest.raises(DamagedError, match="always damaged"):
        store.again(always)
    assert CALLS == [("make_cache",)] * 2

    theirs = tmp_path / "theirs.h5"
    theirs.write_text("the user's own")

    def not_ours() -> None:
        raise DamagedError(theirs, "is not readable")

    with pytest.raises(DamagedError, match="not readable"):
        store.again(not_ours)
    assert theirs.exists()
