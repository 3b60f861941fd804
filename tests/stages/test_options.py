"""Command lines: what they may say, and what is said of what they may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rcnn_v1.config import PRESETS, Config
from stages.errors import InputError
from stages.options import Options, parse, store_of


def parsed(*arguments: str) -> tuple[Options, Config]:
    return parse("rcnn_v1", Config, PRESETS, ["--device", "cpu", *arguments])


def complaint(*arguments: str) -> str:
    with pytest.raises(InputError) as raised:
        parse("rcnn_v1", Config, PRESETS, arguments)
    message = str(raised.value)
    assert message == raised.value.line
    assert "\n" not in message
    return message


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


@pytest.mark.parametrize("option", ["--tag", "--runs", "--top"])
def test_two_dashes_are_no_value(option: str) -> None:
    assert complaint(f"{option}=--") == f"{option}=--: '--' is no value"


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


@pytest.mark.parametrize("tag", ["a/b", "../up", "a b", "a\nb", "*", "$HOME", "a:b", "t" * 300])
def test_a_tag_that_is_no_part_of_a_folders_name(tag: str) -> None:
    assert "TAG=" in complaint("--tag", tag)


def test_runs_that_can_be_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert complaint("--runs", str(tmp_path / "file")).endswith("is a file")
    assert complaint("--runs", str(tmp_path / "link")).endswith("is a link to nowhere")


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


def test_ranks_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.options.cores", lambda: 9)
    workers = []
    for ranks in ("1", "2", "12"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
        workers.append(parsed()[0].workers)
    assert workers == [9, 4, 1]
    assert parsed("--workers", "3")[0].workers == 3


def test_runs_share_a_store() -> None:
    options, _ = parsed("--runs", "somewhere", "--workers", "3")
    store = store_of(options)
    assert (store.root, store.device, store.workers) == (Path("somewhere/store"), "cpu", 3)
