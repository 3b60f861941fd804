"""The training loop: killed or not, the same weights to the bit; and no sum that went wrong goes on.

Run as a program, this file trains the problem below in a folder, so that a test can kill it.
"""

from __future__ import annotations

import csv
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import InputError
from stages.store import Job
from stages.training.loop import (
    LOG_EVERY,
    LOOK_SECONDS,
    TrainingDivergedError,
    steps_until_look,
    train,
)
from stages.training.sgd import Rates, SGDConfig

ROOT = Path(__file__).parents[3]
ITERATIONS = 30  # more than a look at the losses apart
CONFIG = SGDConfig(
    lr=0.05, iterations=ITERATIONS, lr_steps=(12, 20), warmup=5, dtype="float32", seed=3
)
NEW, FACTOR = ("scores.",), 3.0


class Net(nn.Module):
    """What resuming could lose: dropout's draws, batch norm's statistics, momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.scores = nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.norm(self.conv(images)))
        scores: Tensor = self.scores(self.drop(maps.mean(dim=(2, 3))))
        return scores


class Batches:
    """Images whose class is their brightest channel.

    Args:
        before: called with the iteration whose batch is about to be made.
        poisoned: iterations with a NaN among their pixels.
    """

    threads = False

    def __init__(
        self,
        seed: int = 3,
        before: Callable[[int], None] = lambda iteration: None,
        poisoned: tuple[int, ...] = (),
    ) -> None:
        self.seed, self.before, self.poisoned = seed, before, poisoned

    def __getitem__(self, iteration: int) -> dict[str, Any]:
        self.before(iteration)
        generator = torch.Generator().manual_seed(1000 * self.seed + iteration)
        labels = torch.randint(3, (6,), generator=generator)
        images = torch.rand(6, 3, 6, 6, generator=generator)
        images[torch.arange(6), labels] += 1
        if iteration in self.poisoned:
            images[2, 1, 3, 3] = torch.nan
        ids = [f"{iteration}-{n}" for n in range(6)]
        return {"images": images, "labels": labels, "image_ids": ids}


def losses_of(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
    scores = model(batch["images"])
    return {
        "classification": F.cross_entropy(scores.float(), batch["labels"]),
        "size": 0.01 * scores.float().square().mean(),
    }


def make_net() -> Net:
    torch.manual_seed(11)
    return Net()


def run(
    folder: Path,
    batches: Any = None,
    config: SGDConfig = CONFIG,
    seconds: float = 0.0,
    workers: int = 0,
) -> Net:
    """Train in `folder`, or go on there; a checkpoint every iteration unless `seconds` says else."""
    folder.mkdir(parents=True, exist_ok=True)
    net = make_net()
    job = Job(folder, workers=workers, checkpoint_seconds=seconds)
    train(job, net, batches or Batches(), losses_of, config, Rates(NEW, FACTOR))
    return net


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def assert_other_weights(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert any(not torch.equal(first[key], second[key]) for key in first)


def losses(folder: Path) -> list[dict[str, str]]:
    """`losses.csv` without what the clock says."""
    with open(folder / "losses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"]
    return rows


def dying_at(k: int) -> Callable[[int], None]:
    def before(iteration: int) -> None:
        if iteration == k:
            raise ZeroDivisionError

    return before


def die(folder: Path, k: int, seconds: float = 0.0, config: SGDConfig = CONFIG) -> None:
    with pytest.raises(ZeroDivisionError):
        run(folder, Batches(before=dying_at(k)), config, seconds)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Net]:
    """A training that nothing interrupted, and that saved no checkpoint on its way."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, seconds=1e9)


# Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, LOG_EVERY - 1, LOG_EVERY, LOG_EVERY + 1, ITERATIONS - 1])
def test_one_that_died_ends_as_one_that_did_not(
    whole: tuple[Path, Net], tmp_path: Path, k: int
) -> None:
    die(tmp_path, k)
    asked: list[int] = []
    net = run(tmp_path, Batches(before=asked.append))
    # It went on from where it was: nothing was trained twice.
    assert asked == list(range(k, ITERATIONS))
    assert_same_weights(net, whole[1])
    assert losses(tmp_path) == losses(whole[0])


def test_in_bfloat16_too(tmp_path: Path) -> None:
    config = replace(CONFIG, dtype="bfloat16")
    net = run(tmp_path / "whole", config=config, seconds=1e9)
    die(tmp_path / "died", 7, config=config)
    assert_same_weights(run(tmp_path / "died", config=config), net)


def test_one_that_died_often(whole: tuple[Path, Net], tmp_path: Path) -> None:
    for k in (4, 9, 10, 26):
        die(tmp_path, k)
    assert_same_weights(run(tmp_path), whole[1])
    assert losses(tmp_path) == losses(whole[0])


def test_rows_past_the_checkpoint_are_written_once(whole: tuple[Path, Net], tmp_path: Path) -> None:
    die(tmp_path, 7)  # its checkpoint is of iteration 7
    die(tmp_path, 29, seconds=1e9)  # its rows go further, without another checkpoint
    assert len(losses(tmp_path)) > 20
    net = run(tmp_path, seconds=1e9)
    assert losses(tmp_path) == losses(whole[0])
    assert_same_weights(net, whole[1])


def test_a_damaged_log_is_begun_anew(
    whole: tuple[Path, Net], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    die(tmp_path, 10)
    log = tmp_path / "losses.csv"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0x80  # which is no UTF-8
    log.write_bytes(content)
    capsys.readouterr()
    assert_same_weights(run(tmp_path), whole[1])
    assert f"{log}: damaged" in capsys.readouterr().err
    assert losses(tmp_path) == losses(whole[0])[10:]


def test_without_a_checkpoint_it_starts_over(whole: tuple[Path, Net], tmp_path: Path) -> None:
    die(tmp_path, 25, seconds=1e9)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert_same_weights(run(tmp_path), whole[1])
    assert losses(tmp_path) == losses(whole[0])


def test_killed_anywhere_it_ends_the_same(whole: tuple[Path, Net], tmp_path: Path) -> None:
    k, wait = random.randrange(1, ITERATIONS - 4), random.uniform(0, 0.03)
    print(f"killed {wait} s after batch {k} was asked for")
    program = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with program:
        assert program.stdout is not None
        for line in program.stdout:
            if int(line) == k:
                time.sleep(wait)
                program.send_signal(signal.SIGKILL)
                break
    assert program.returncode == -signal.SIGKILL
    asked: list[int] = []
    net = run(tmp_path, Batches(before=asked.append))
    assert asked[0] >= k, "what was trained before was lost"
    assert_same_weights(net, whole[1])
    assert losses(tmp_path) == losses(whole[0])


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: raw[: len(raw) // 2], id="half"),
        pytest.param(lambda raw: raw[:-1], id="one byte short"),
        pytest.param(lambda raw: b"\0" * len(raw), id="zeros"),
        pytest.param(lambda raw: b"hello", id="text"),
        pytest.param(lambda raw: b"." + raw, id="shifted"),
    ],
)
def test_a_damaged_checkpoint_starts_over_and_says_so(
    whole: tuple[Path, Net],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
) -> None:
    die(tmp_path, 10)
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    capsys.readouterr()
    asked: list[int] = []
    net = run(tmp_path, Batches(before=asked.append))
    said = [line for line in capsys.readouterr().err.splitlines() if str(checkpoint) in line]
    assert len(said) == 1
    assert "damaged" in said[0]
    assert asked == list(range(ITERATIONS))
    assert_same_weights(net, whole[1])
    assert losses(tmp_path) == losses(whole[0])


def test_a_bit_flipped_anywhere_in_a_checkpoint_is_not_trained_on(
    whole: tuple[Path, Net], tmp_path: Path
) -> None:
    die(tmp_path, 10)
    checkpoint, log = tmp_path / "checkpoint.pt", tmp_path / "losses.csv"
    content, rows = checkpoint.read_bytes(), log.read_bytes()
    for byte in range(0, len(content), len(content) // 40):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << byte % 8
        checkpoint.write_bytes(flipped)
        log.write_bytes(rows)
        assert_same_weights(run(tmp_path, seconds=1e9), whole[1])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda state: state["model"].pop("scores.bias"), id="a weight is missing"),
        pytest.param(
            lambda state: state["model"].update({"scores.bias": torch.zeros(7)}), id="another shape"
        ),
        pytest.param(lambda state: state.pop("iteration"), id="no iteration"),
        pytest.param(lambda state: state["optimiser"]["param_groups"].pop(), id="fewer groups"),
        pytest.param(lambda state: state.update(iteration=-1), id="before the beginning"),
        pytest.param(lambda state: state.update(iteration=ITERATIONS + 1), id="after the end"),
        pytest.param(lambda state: state.update(iteration="7"), id="a word for the iteration"),
        pytest.param(
            lambda state: state["model"]["scores.bias"].fill_(torch.nan), id="no finite weight"
        ),
        pytest.param(
            lambda state: state["model"].update({"scores.bias": torch.zeros(3).double()}),
            id="another precision",
        ),
        pytest.param(
            lambda state: state["optimiser"]["state"][0].update(momentum_buffer=torch.zeros(7)),
            id="momentum of another shape",
        ),
        pytest.param(
            lambda state: state["optimiser"]["state"][0].update(momentum_buffer="fast"),
            id="momentum in words",
        ),
        pytest.param(lambda state: state["optimiser"].update(state=5), id="no momenta"),
    ],
)
def test_a_checkpoint_of_another_training_starts_over(
    whole: tuple[Path, Net],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], Any],
) -> None:
    die(tmp_path, 10)
    checkpoint = tmp_path / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    change(state)
    torch.save(state, checkpoint)
    capsys.readouterr()
    net = run(tmp_path)
    assert f"{checkpoint}: damaged" in capsys.readouterr().err
    assert_same_weights(net, whole[1])


def test_a_checkpoints_rates_are_the_configurations(
    whole: tuple[Path, Net], tmp_path: Path
) -> None:
    die(tmp_path, 10)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for group in state["optimiser"]["param_groups"]:
        group.update(momentum=0.0, weight_decay=5.0, lr="fast", factor=None)
    torch.save(state, tmp_path / "checkpoint.pt")
    assert_same_weights(run(tmp_path), whole[1])


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Also where the tests run with it ignored, as a shell's `make test &` has it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("k", [0, 7, ITERATIONS - 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_one_leaves_a_checkpoint_of_its_last_step(
    whole: tuple[Path, Net], tmp_path: Path, k: int, number: int, hears_ctrl_c: None
) -> None:
    made = []

    def before(iteration: int) -> None:
        made.append(iteration)
        if iteration == k:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Batches(before=before), seconds=1000.0)
    assert made[-1] == k
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["iteration"] == k + 1
    assert_same_weights(run(tmp_path, Batches(before=made.append)), whole[1])
    assert made == list(range(ITERATIONS))
    assert losses(tmp_path) == losses(whole[0])
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("seconds", [0.0, 1e-3, 0.2, 0.3, 2.5, 5.0, 60.0])
def test_several_ranks_look_often_enough_to_hear_torchrun(seconds: float) -> None:
    steps = steps_until_look(seconds)
    assert 1 <= steps <= LOG_EVERY
    assert steps == 1 or steps * seconds <= LOOK_SECONDS
    assert steps == LOG_EVERY or (steps + 1) * seconds > LOOK_SECONDS


def test_a_checkpoint_made_on_a_gpu_goes_on_without_one(
    whole: tuple[Path, Net], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU's tensors are written: each storage with the device it was on."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        die(tmp_path, 13)
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    made: list[int] = []
    assert_same_weights(run(tmp_path, Batches(before=made.append)), whole[1])
    assert made == list(range(13, ITERATIONS))


def test_a_checkpoint_half_written_is_not_one(whole: tuple[Path, Net], tmp_path: Path) -> None:
    die(tmp_path, 10)
    (tmp_path / ".checkpoint.pt").write_bytes(b"half")
    asked: list[int] = []
    net = run(tmp_path, Batches(before=asked.append))
    assert asked[0] == 10
    assert_same_weights(net, whole[1])
    assert not (tmp_path / ".checkpoint.pt").exists()


# What shapes the result, and what does not ---------------------------------------------------


def test_workers_do_not_shape_the_result(whole: tuple[Path, Net], tmp_path: Path) -> None:
    net = run(tmp_path, workers=2)
    assert_same_weights(net, whole[1])
    assert losses(tmp_path) == losses(whole[0])


def test_what_is_wrong_in_a_worker_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTorch waits so long for each worker of a loader that an exception had kept alive.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)

    def complain(iteration: int) -> None:
        if iteration == 4:
            raise InputError("photo.jpg: missing")

    said = None
    try:
        run(tmp_path, Batches(before=complain), workers=2)
    except InputError as error:
        said = error.line
    gc.collect()
    assert said == "photo.jpg: missing"


def test_what_was_drawn_before_does_not_shape_the_result(
    whole: tuple[Path, Net], tmp_path: Path
) -> None:
    net = make_net()
    torch.manual_seed(12345)
    train(Job(tmp_path), net, Batches(), losses_of, CONFIG, Rates(NEW, FACTOR))
    assert_same_weights(net, whole[1])


def test_the_seed_shapes_dropout(whole: tuple[Path, Net], tmp_path: Path) -> None:
    # The same batches; only what dropout draws differs.
    net = run(tmp_path, Batches(), replace(CONFIG, seed=4))
    assert_other_weights(net, whole[1])


def test_dropout_differs_from_one_iteration_to_the_next(tmp_path: Path) -> None:
    class Drawn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(64))

    masks: list[tuple[float, ...]] = []

    def loss(model: Drawn, batch: dict[str, Any]) -> dict[str, Tensor]:
        dropped = F.dropout(model.weight, 0.5)
        masks.append(tuple((dropped != 0).float().tolist()))
        return {"sum": dropped.sum()}

    config = SGDConfig(lr=0.0, iterations=8, dtype="float32")
    train(Job(tmp_path), Drawn(), Batches(), loss, config)
    assert len(set(masks)) == 8


def test_new_layers_learn_faster(tmp_path: Path) -> None:
    # A step without momentum or decay: each parameter moves by its rate times its gradient.
    config = SGDConfig(lr=0.1, iterations=1, momentum=0, weight_decay=0, dtype="float32")
    nets = []
    for factor in (1.0, 10.0):
        folder = tmp_path / str(factor)
        folder.mkdir()
        net = make_net()
        train(Job(folder), net, Batches(), losses_of, config, Rates(NEW, factor))
        nets.append(net.state_dict())
    start = make_net().state_dict()
    slow, fast = nets[0]["scores.weight"], nets[1]["scores.weight"]
    assert (slow - start["scores.weight"]).abs().max() > 0
    torch.testing.assert_close(
        fast - start["scores.weight"],
        10 * (slow - start["scores.weight"]),
        rtol=1e-3,
        atol=1e-6,
    )
    assert torch.equal(nets[0]["conv.weight"], nets[1]["conv.weight"])


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    net = make_net()
    net.conv.requires_grad_(False)
    before = net.conv.weight.clone()
    train(Job(tmp_path), net, Batches(), losses_of, CONFIG)
    assert torch.equal(net.conv.weight, before)
    assert not torch.equal(net.scores.weight, make_net().scores.weight)


def test_it_learns(tmp_path: Path) -> None:
    # Eight fixed images, learnt by heart.
    class Same(Batches):
        def __getitem__(self, iteration: int) -> dict[str, Any]:
            return super().__getitem__(0)

    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"classification": F.cross_entropy(model(batch["images"]), batch["labels"])}

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    config = SGDConfig(lr=0.1, iterations=60, lr_steps=(40,), dtype="float32", weight_decay=0)
    train(Job(tmp_path), net, Same(), loss, config)
    rows = losses(tmp_path)
    assert float(rows[0]["loss"]) > 0.5
    assert float(rows[-1]["loss"]) < 0.02
    batch = Same()[0]
    assert (net(batch["images"]).argmax(dim=1) == batch["labels"]).all()


# What is left behind -------------------------------------------------------------------------


def test_what_a_finished_training_leaves(whole: tuple[Path, Net], tmp_path: Path) -> None:
    net = run(tmp_path)
    assert not net.training
    assert {path.name for path in tmp_path.iterdir()} == {"losses.csv", "tensorboard"}
    assert list((tmp_path / "tensorboard").iterdir())


def test_losses_has_a_row_an_iteration(tmp_path: Path) -> None:
    run(tmp_path)
    with open(tmp_path / "losses.csv", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == [
        "iteration",
        "lr",
        "classification",
        "size",
        "loss",
        "gradient_norm",
        "seconds",
    ]
    assert [int(row["iteration"]) for row in rows] == list(range(ITERATIONS))
    for s, row in enumerate(rows):
        assert float(row["lr"]) == pytest.approx(CONFIG.lr_at(s), rel=1e-5)
        assert float(row["loss"]) == pytest.approx(
            float(row["classification"]) + float(row["size"]), rel=1e-4
        )
        assert float(row["seconds"]) >= 0


def test_the_gradients_norm_is_of_all_that_learns(tmp_path: Path) -> None:
    net = make_net()
    net.drop.p = 0.0
    net.conv.bias.requires_grad_(False)
    batch = Batches()[0]
    sum(losses_of(net, batch).values(), torch.tensor(0.0)).backward()
    expected = sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None)
    other = make_net()
    other.drop.p = 0.0
    other.conv.bias.requires_grad_(False)
    train(Job(tmp_path), other, Batches(), losses_of, replace(CONFIG, iterations=1))
    assert float(losses(tmp_path)[0]["gradient_norm"]) == pytest.approx(expected**0.5, rel=1e-4)


@pytest.mark.parametrize("part", [0.25, 4.0])
def test_a_longer_gradient_is_shortened_and_a_shorter_is_not(tmp_path: Path, part: float) -> None:
    # A step without momentum or decay is as long as the gradient times the rate.
    config = SGDConfig(lr=0.1, iterations=1, momentum=0, weight_decay=0, dtype="float32")
    start = make_net()
    moved: list[Tensor] = []
    norms: list[float] = []
    for clips in (False, True):
        clip_norm = part * norms[0] if clips else None
        folder = tmp_path / str(clip_norm)
        folder.mkdir()
        net = make_net()
        train(Job(folder), net, Batches(), losses_of, config, clip_norm=clip_norm)
        norms.append(float(losses(folder)[0]["gradient_norm"]))
        pairs = zip(net.parameters(), start.parameters(), strict=True)
        moved.append(torch.cat([(after - before).detach().flatten() for after, before in pairs]))
    assert norms[1] == norms[0]  # the log has it as it was
    assert float(moved[0].norm()) == pytest.approx(0.1 * norms[0], rel=1e-3)
    torch.testing.assert_close(moved[1], min(part, 1.0) * moved[0], rtol=1e-3, atol=1e-6)


# What went wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 5, LOG_EVERY - 1, LOG_EVERY, ITERATIONS - 1])
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_loss_that_is_no_number_stops_it(tmp_path: Path, k: int, seconds: float) -> None:
    with pytest.raises(TrainingDivergedError) as caught:
        run(tmp_path, Batches(poisoned=(k,)), seconds=seconds)
    said = str(caught.value)
    assert isinstance(caught.value, InputError)
    assert "\n" not in said
    # The first that went wrong, although the losses are looked at only now and then.
    assert f"iteration {k}:" in said
    assert all(f"{k}-{n}" in said for n in range(6))
    assert f"{k + 1}-0" not in said
    assert "nan" in losses(tmp_path)[-1]["loss"]
    checkpoint = tmp_path / "checkpoint.pt"
    if seconds or not k:
        assert not checkpoint.exists()
        assert "no checkpoint" in said
    else:
        assert str(checkpoint) in said
        state = torch.load(checkpoint, weights_only=True)
        assert state["iteration"] == k
        assert_finite(state)


def test_the_checkpoint_kept_is_the_one_before(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError):
        run(tmp_path / "bad", Batches(poisoned=(9,)))
    die(tmp_path / "good", 9)
    bad, good = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("bad", "good")
    )
    for key, value in good["model"].items():
        assert torch.equal(bad["model"][key], value)


def test_a_gradient_that_is_no_number_stops_it(tmp_path: Path) -> None:
    def root_of_nothing(model: Net, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"root": (model.scores.bias * 0).sum().sqrt()}  # 0, with a slope of infinity

    with pytest.raises(TrainingDivergedError, match="iteration 0:"):
        train(Job(tmp_path), make_net(), Batches(), root_of_nothing, CONFIG)
    assert not (tmp_path / "checkpoint.pt").exists()


class Number(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(1))


def steep(model: Number, batch: dict[str, Any]) -> dict[str, Tensor]:
    return {"loss": 1e30 * model.number.sum()}


@pytest.mark.parametrize("iterations", [1, 3])
def test_a_step_that_overflows_is_not_kept(tmp_path: Path, iterations: int) -> None:
    # Loss and gradient are finite; a rate of 1e10 makes of them a weight that is not.
    net = Number()
    config = SGDConfig(lr=1e10, iterations=iterations, dtype="float32")
    with pytest.raises(TrainingDivergedError):
        train(Job(tmp_path, checkpoint_seconds=0.0), net, Batches(), steep, config)
    checkpoint = tmp_path / "checkpoint.pt"
    if checkpoint.exists():
        assert_finite(torch.load(checkpoint, weights_only=True))


def assert_finite(state: Any) -> None:
    if isinstance(state, Tensor):
        assert torch.isfinite(state).all()
    elif isinstance(state, dict):
        for value in state.values():
            assert_finite(value)
    elif isinstance(state, (list, tuple)):
        for value in state:
            assert_finite(value)


if __name__ == "__main__":

    def announce(iteration: int) -> None:
        print(iteration, flush=True)
        time.sleep(0.02)

    run(Path(sys.argv[1]), Batches(before=announce))
