"""The front door: what the user can mend is one line that names it, and nothing is overwritten."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rcnn_v1.command import command
from rcnn_v1.config import PRESETS, Config
from stages.data.images import load_images
from stages.data.records import Record
from stages.errors import InputError
from stages.run import Options, RunFolder, main, parse, source_digest, store_of
from stages.seals import sealed
from stages.store import Job, Store, stage

ROOT = Path(__file__).parents[2]


def parsed(*arguments: str) -> tuple[Options, Config]:
    return parse("rcnn_v1", Config, PRESETS, ["--device", "cpu", *arguments])


def complaint(*arguments: str) -> str:
    with pytest.raises(InputError) as raised:
        parse("rcnn_v1", Config, PRESETS, arguments)
    message = str(raised.value)
    assert message == raised.value.line
    assert "\n" not in message
    return message


# ------------------------------------------------------------------ options


def test_defaults() -> None:
    options, config = parsed()
    assert options == Options("small", Path("runs"), "cpu", "", options.workers)
    assert options.workers >= 1
    assert config.data == PRESETS["small"].data
    assert config.fine_tune.sgd.lr == PRESETS["small"].fine_tune.sgd.lr
    assert config.svms == PRESETS["small"].svms


def test_a_preset_and_fields_over_it() -> None:
    more = ("--svms.easy-score", "-1")
    arguments = ("--fine-tune.sgd.lr", "0.25", "--preset", "micro", "--top=7", *more)
    _, config = parsed(*arguments)
    assert config.fine_tune.sgd.lr == 0.25
    assert config.top == 7
    assert config.svms.easy_score == -1
    assert config.fine_tune.sgd.iterations == PRESETS["micro"].fine_tune.sgd.iterations
    assert PRESETS["micro"].fine_tune.sgd.lr != 0.25


def test_names_shared_by_all_papers() -> None:
    options, config = parsed(
        *("--data", "/some where/voc", "--backbone", "alexnet", "--weights", "none"),
        *("--runs", "/elsewhere", "--tag", "wide-2.0_b+", "--workers", "0"),
    )
    assert options == Options("small", Path("/elsewhere"), "cpu", "wide-2.0_b+", 0)
    assert config.data.name == "/some where/voc"
    assert (config.backbone.name, config.backbone.weights) == ("alexnet", "none")


def test_no_auto_is_left_where_it_shapes_results() -> None:
    _, config = parsed()
    assert config.features.dtype in ("float32", "bfloat16")
    assert config.box_regression.dtype in ("float32", "bfloat16")
    _, config = parsed("--features.dtype", "bfloat16", "--box-regression.dtype", "float32")
    assert (config.features.dtype, config.box_regression.dtype) == ("bfloat16", "float32")


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--fine-tune.lr", "--fine-tune.sgd.lr"),
        ("--fine_tune.sgd.lrr", "--fine-tune.sgd.lr"),
        ("--detection.nms", "--detection.nms-iou"),
        ("--data.shapes.trian", "--data.shapes.train"),
        ("--svm.c=1", "--svms.c"),
    ],
)
def test_an_unknown_option_is_named_and_one_suggested(option: str, meant: str) -> None:
    message = complaint(option, "0.1")
    assert option in message
    assert message.endswith(f"did you mean {meant}?")


@pytest.mark.parametrize("option", ["--data", "--runs", "--fine-tune.sgd.lr", "--top"])
def test_an_option_of_megabytes_is_refused_at_once(option: str) -> None:
    message = complaint(option, "1" * 2_000_000)
    assert message.startswith("an option of 2000000 characters: 111")
    assert len(message) < 2000


@pytest.mark.parametrize("argument", ["--nothing-like-it-at-all", "stray", "--prese"])
def test_what_is_like_no_option_is_named(argument: str) -> None:
    assert complaint(argument, "micro").startswith(f"unknown option {argument};")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--fine-tune.sgd.lr", "fast"),
        ("--fine-tune.sgd.iterations", "1.5"),
        ("--fine-tune.sgd.lr-steps", "ten"),
        ("--top", "many"),
        ("--proposals.mode", "slow"),
        ("--backbone.name", "resnet1001"),
        ("--backbone", "resnet1001"),
        ("--workers", "two"),
        ("--workers", "-1"),
        ("--device", "tpu"),
        ("--preset", "huge"),
    ],
)
def test_a_value_that_does_not_fit_is_named(option: str, value: str) -> None:
    message = complaint(option, value)
    assert value in message
    assert option.removeprefix("--").split(".")[0].casefold() in message.casefold()


@pytest.mark.parametrize(
    "option", ["--preset", "--runs", "--workers", "--top", "--fine-tune.sgd.lr"]
)
def test_a_value_left_out(option: str) -> None:
    assert option in complaint(option)


def test_an_unknown_preset_lists_those_there_are() -> None:
    message = complaint("--preset", "huge")
    assert all(preset in message for preset in PRESETS)


@pytest.mark.parametrize("tag", ["a/b", "../up", "a b", "a\nb", "*", "$HOME", "a:b"])
def test_a_tag_that_is_no_part_of_a_folders_name(tag: str) -> None:
    assert "TAG=" in complaint("--tag", tag)


def test_a_configuration_refuses_what_no_scene_can_be_drawn_from() -> None:
    assert "objects" in complaint("--preset", "micro", "--data.shapes.objects", "0")


def test_cuda_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDA" in complaint("--device", "cuda")
    options, _ = parse("rcnn_v1", Config, PRESETS, ["--device", "auto"])
    assert options.device == "cpu"


def test_help_shows_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed("--help")
    assert stopped.value.code in (0, None)
    shown = capsys.readouterr().out
    for option in ("--preset", "--tag", "--runs", "--fine-tune.sgd.lr", "--detection.nms-iou"):
        assert option in shown


# ------------------------------------------------------------------ the run's folder


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
    assert left == {"metrics.json", "summary.txt", "note.txt", "model"}
    assert (run.first.path / "model" / "note.txt").read_text() == "x"
    assert run.folder().summary().splitlines() == ["all went well", str(run.first.path)]
    tagged = run.folder(tag="wide", top=3)
    assert tagged.path == run.tmp_path / "runs" / "d-micro-tiny" / "rcnn-wide"
    assert not tagged.is_finished(run.store)


def test_the_same_run_is_finished(run: Run) -> None:
    assert run.folder().is_finished(run.store)


def test_what_makes_a_run_unfinished(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run.folder(fingerprint="other images").is_finished(run.store)
    with monkeypatch.context() as patch:
        patch.setattr("stages.run.source_digest", lambda: "other code")
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


def test_a_folder_of_another_data_set_of_that_name_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"data\.name shapes there, /x/d here"):
        run.folder(data="d", **{"data.name": "/x/d"})


@pytest.mark.parametrize("left", ["", '{"config": ', "[]", "\x00"])
def test_broken_metrics_are_no_run(run: Run, left: str) -> None:
    (run.first.path / "metrics.json").write_text(left)
    again = run.folder(top=1)
    assert not again.is_finished(run.store)


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


def test_runs_share_a_store() -> None:
    options, _ = parsed("--runs", "somewhere", "--workers", "3")
    store = store_of(options)
    assert (store.root, store.device, store.workers) == (Path("somewhere/store"), "cpu", 3)


# ------------------------------------------------------------------ errors


def ending(
    body: Callable[[Sequence[str]], None], capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[str]]:
    """How a command ended as a program: exit code, lines on stderr."""
    with pytest.raises(SystemExit) as stopped:
        main(body)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, capsys.readouterr().err.splitlines()


def raiser(error: BaseException) -> Callable[[Sequence[str]], None]:
    def body(_: Sequence[str]) -> None:
        raise error

    return body


def missing_image(tmp_path: Path) -> Record:
    nothing = np.zeros(0, bool)
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return Record("a", tmp_path / "a.jpg", 4, 4, boxes, labels, nothing, nothing)


def test_main_hands_the_arguments_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Sequence[str]] = []
    monkeypatch.setattr(sys, "argv", ["rcnn_v1", "--top", "3"])
    main(seen.append)
    assert seen == [["--top", "3"]]


def test_main_prints_an_input_error(capsys: pytest.CaptureFixture[str]) -> None:
    body = raiser(InputError("a.xml: no such file"))
    assert ending(body, capsys) == (2, ["error: a.xml: no such file"])


@pytest.mark.parametrize("workers", [0, 1])
def test_main_prints_a_loading_workers_error_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    def body(_: Sequence[str]) -> None:
        list(load_images([missing_image(tmp_path)], workers))

    assert ending(body, capsys) == (2, [f"error: {tmp_path / 'a.jpg'}: missing"])


def test_a_message_with_a_line_break_is_one_line_and_whole(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, lines = ending(raiser(InputError("odd\nname.xml: no such file")), capsys)
    assert code == 2
    assert lines == ["error: odd name.xml: no such file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_main_prints_what_the_disk_refuses(capsys: pytest.CaptureFixture[str], number: int) -> None:
    code, lines = ending(raiser(OSError(number, os.strerror(number), "/x/y")), capsys)
    assert code == 2
    (line,) = lines
    assert line.startswith(f"error: /x/y: {os.strerror(number)}")


def test_main_leaves_our_own_mistakes_their_traceback() -> None:
    for error in (OSError(errno.EBADF, "x"), ZeroDivisionError(), KeyError("x"), TypeError()):
        with pytest.raises(type(error)):
            main(raiser(error))


def test_interrupted(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = ending(raiser(KeyboardInterrupt()), capsys)
    assert code == 130
    assert len(lines) == 1


# ------------------------------------------------------------------ the whole command

OBJECTS = [("cat", 3, 4, 20, 30), ("dog", 10, 2, 40, 33)]


@pytest.fixture
def made(make_voc: Callable[..., Path]) -> Path:
    return make_voc({"one": OBJECTS, "two": OBJECTS, "three": OBJECTS})


def cut_short(made: Path) -> str:
    path = made / "JPEGImages" / "two.jpg"
    path.write_bytes(path.read_bytes()[:400])
    return str(path)


def broken_xml(made: Path) -> str:
    path = made / "Annotations" / "two.xml"
    path.write_text(path.read_text().replace("</object>", "", 1))
    return str(path)


def absent_image(made: Path) -> str:
    with open(made / "ImageSets/Main/test.txt", "a") as file:
        file.write("four\n")
    return "four"


def image_gone(made: Path) -> str:
    (made / "JPEGImages" / "two.jpg").unlink()
    return "two"


def other_size(made: Path) -> str:
    path = made / "Annotations" / "two.xml"
    path.write_text(path.read_text().replace("<width>48<", "<width>47<"))
    return "two.jpg"


def empty_split(made: Path) -> str:
    (made / "ImageSets/Main/test.txt").write_text("\n")
    return str(made / "ImageSets/Main/test.txt")


def no_annotations(made: Path) -> str:
    (made / "Annotations").rename(made / "annotations-elsewhere")
    return str(made / "Annotations")


FAULTS = [
    cut_short,
    broken_xml,
    absent_image,
    image_gone,
    other_size,
    empty_split,
    no_annotations,
]


def arguments_for(made: Path, tmp_path: Path) -> list[str]:
    runs = tmp_path / "runs"
    return ["--preset", "micro", "--data", str(made), "--runs", str(runs), "--device", "cpu"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_data_is_named(
    made: Path, tmp_path: Path, fault: Callable[[Path], str]
) -> None:
    name = fault(made)
    with pytest.raises(InputError) as raised:
        command([*arguments_for(made, tmp_path), "--workers", "0"])
    assert name in raised.value.line
    assert raised.value.line == str(raised.value)
    assert list((tmp_path / "runs").glob("store/*-????????????????")) == []
    assert list((tmp_path / "runs").glob("made-*")) == []


@pytest.mark.parametrize("data", ["nowhere", "a file", "~no-such-user-here/voc"])
def test_no_folder_of_data(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")
    with pytest.raises(InputError) as raised:
        command(arguments_for(Path(data), tmp_path))
    assert data in raised.value.line


def test_runs_that_is_a_file(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").write_text("")
    monkeypatch.setattr(sys, "argv", ["rcnn_v1", *arguments_for(made, tmp_path)])
    code, lines = ending(command, capsys)
    assert code == 2
    assert lines[-1].startswith("error: ")
    assert str(tmp_path / "runs") in lines[-1]


def test_a_program_that_cannot_go_on_says_why_in_one_line(made: Path, tmp_path: Path) -> None:
    name = cut_short(made)
    arguments = [*arguments_for(made, tmp_path), "--workers", "2"]
    program = subprocess.run(
        [sys.executable, "-m", "rcnn_v1", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert program.returncode == 2, program.stderr
    assert "Traceback" not in program.stdout + program.stderr
    errors = [line for line in program.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert program.stderr.splitlines()[-1] == errors[0]
    assert name in errors[0]
