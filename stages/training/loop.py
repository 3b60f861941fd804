"""The training loop of the whole family.

Batch s is a pure function of (seed, s), and so is the dropout in it; a run that was
killed and taken up again ends with the weights of one that was not.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from stages.ahead import ahead
from stages.device import autocast, choose_dtype
from stages.errors import InputError, one_line
from stages.interrupts import held, leave_to_parent
from stages.ranks import Ranks
from stages.store import Job
from stages.tensor_files import is_plain, load_tensors
from stages.training.sgd import Rates, SGDConfig, make_sgd, set_lr
from stages.writing import replacing

EVEN = Rates()
LOG_EVERY = 20  # iterations between looks at the losses: each look waits for the device
# Seconds between looks by several ranks, who notice an interruption only then: torchrun kills 30 s after
# its SIGTERM, and the step under way and a checkpoint take theirs.
LOOK_SECONDS = 5.0


class Batches(Protocol):
    """Batch s of a training, for any s, drawn from (seed, s) alone.

    Attributes:
        threads: whether making a batch leaves Python's lock alone most of the time, as decoding does:
            it is then made ahead in threads, otherwise in processes.
    """

    threads: bool

    def __getitem__(self, iteration: int) -> dict[str, Any]:
        """Tensors by name, or lists of them, and `image_ids`: the images they are from."""
        ...


class TrainingDivergedError(InputError):
    """A loss, a gradient or a weight was no longer finite. The last good checkpoint is kept."""


def train(
    job: Job,
    model: nn.Module,
    batches: Batches,
    losses_of: Callable[[Any, dict[str, Any]], dict[str, Tensor]],
    config: SGDConfig,
    rates: Rates = EVEN,
    label: str = "training",
    clip_norm: float | None = None,
) -> None:
    """Train `model` in place, on `job.device`.

    Writes into `job.folder`: `losses.csv` (a row an iteration: rate, each loss, their sum, the
    gradient's norm, seconds), `tensorboard/`, and while it runs `checkpoint.pt`.

    Args:
        batches: see `Batches`.
        losses_of: (model, batch on the device) -> scalar losses by name; their sum is minimised.
        rates: of some parameters apart.
        clip_norm: a longer gradient of all parameters together is shortened to this length; None:
            as it is. `losses.csv` has its length before.

    Ctrl-C and SIGTERM end it after the step that is under way, with a checkpoint of it.

    Raises:
        TrainingDivergedError: naming the first iteration whose loss or gradient was not finite,
            or whose step left a weight that is not, and its images.
        KeyboardInterrupt: it was interrupted.
    """
    device, folder = job.device, job.folder
    dtype = choose_dtype(config.dtype, device)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    optimiser = make_sgd(model, config, rates)
    step: nn.Module = _Step(model, losses_of)
    if job.ranks.world > 1:
        # A branch without RoIs in a rank's images has no gradient there. Norms' statistics are frozen.
        step = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)
    checkpoint, log = folder / "checkpoint.pt", _Log(folder) if job.ranks.leads else None
    first = _resume(checkpoint, model, optimiser, device, config.iterations)
    job.ranks.wait()  # until all have read it
    if log is not None:
        log.start(first)
    stream = _stream(batches, first, config.iterations, job)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    pending: list[tuple[int, float, Tensor]] = []
    ids: list[Sequence[Any]] = []
    names: list[str] = []
    saved_at = looked_at = time.monotonic()
    # Nobody knows yet how long a step takes; one process looks at the clock after each anyway.
    until_look = LOG_EVERY if job.ranks.world == 1 else 1
    with (
        held() as interruption,
        tqdm(total=config.iterations, initial=first, unit="it", desc=label) as bar,
    ):
        for iteration, batch in enumerate(stream, start=first):
            moved = {key: _to(value, device) for key, value in batch.items()}
            # Dropout too is a function of (seed, s). The generator takes 32 bits; the prime keeps
            # neighbouring seeds apart, the other the ranks.
            seed = config.seed * 1_000_003 + job.ranks.rank * 15_485_863 + iteration
            torch.manual_seed(seed % 2**32)
            set_lr(optimiser, config.lr_at(iteration))
            with autocast(device, dtype):
                losses = step(moved)
            total = torch.stack([value.float() for value in losses.values()]).sum()
            optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            if clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
            optimiser.step()
            names = [*losses, "loss", "gradient_norm"]
            row = torch.stack(
                [*(value.detach().float() for value in losses.values()), total.detach(), norm]
            )
            pending.append((iteration, config.lr_at(iteration), row))
            ids.append(batch["image_ids"])
            bar.update()
            last = iteration + 1 == config.iterations
            # The ranks' clocks differ, so several look by a count that the leading one has told them.
            due = job.ranks.world == 1 and (
                interruption.asked or time.monotonic() - saved_at > job.checkpoint_seconds
            )
            if len(pending) == until_look or last or due:
                now = time.monotonic()
                seconds = (now - looked_at) / len(pending)
                loss = _write(log, names, pending, ids, seconds, checkpoint, job.ranks)
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                pending, ids, looked_at = [], [], now
                # Only what is finite is saved: the last step itself may have overflowed.
                if not all(bool(torch.isfinite(p).all()) for p in parameters):
                    raise _diverged(
                        iteration,
                        "its step left a weight that is not finite",
                        batch["image_ids"],
                        checkpoint,
                    )
                stop = job.ranks.any(interruption.asked)
                late = now - saved_at > job.checkpoint_seconds and not last
                if (stop or late) and job.ranks.leads:
                    _save(checkpoint, iteration + 1, model, optimiser)
                    saved_at = now
                if stop:
                    interruption.give_way()
                if job.ranks.world > 1:
                    until_look = job.ranks.tell(steps_until_look(seconds))
    if log is not None:
        log.close()
        checkpoint.unlink(missing_ok=True)
    model.eval()


def steps_until_look(seconds: float) -> int:
    """After how many steps of so many seconds several ranks look next: 1 to `LOG_EVERY`."""
    return max(1, min(LOG_EVERY, int(LOOK_SECONDS / max(seconds, 1e-9))))


class _Step(nn.Module):
    """The losses as a module's own call, which is what DistributedDataParallel watches."""

    def __init__(
        self, model: nn.Module, losses_of: Callable[[Any, dict[str, Any]], dict[str, Tensor]]
    ) -> None:
        super().__init__()
        self.model, self.losses_of = model, losses_of

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.losses_of(self.model, batch)


class _Stream(TorchDataset[dict[str, Any]]):
    """The batches from `first` on, as DataLoader wants them."""

    def __init__(self, batches: Batches, first: int, end: int) -> None:
        self.batches, self.first, self.end = batches, first, end

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.batches[self.first + index]


def _stream(batches: Batches, first: int, end: int, job: Job) -> Iterator[dict[str, Any]]:
    if batches.threads:
        return ahead(batches.__getitem__, range(first, end), job.workers)
    return iter(
        DataLoader(
            _Stream(batches, first, end),
            batch_size=None,
            num_workers=job.workers,
            prefetch_factor=4 if job.workers else None,
            worker_init_fn=leave_to_parent,
            pin_memory=job.device == "cuda",
        )
    )


def _to(value: Any, device: str) -> Any:
    """Tensors, also those in lists and dictionaries, on the device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _to(inner, device) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to(inner, device) for inner in value]
    return value


class _Log:
    """`losses.csv` and TensorBoard's files; on resuming, rows past the checkpoint are cut."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "losses.csv"
        self.folder = folder

    def start(self, first: int) -> None:
        kept: list[list[str]] = []
        if first and self.path.exists():
            try:
                with open(self.path, newline="") as file:
                    kept = list(csv.reader(file))[: first + 1]
            except (OSError, ValueError, csv.Error) as error:
                print(f"{self.path}: damaged ({one_line(error)[:80]}); begun anew", file=sys.stderr)
        self._file = open(self.path, "w", newline="")  # noqa: SIM115  (closed by close)
        self._csv = csv.writer(self._file)
        self._csv.writerows(kept)
        self._empty = not kept
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=first)

    def write(
        self, names: list[str], iteration: int, lr: float, values: list[float], seconds: float
    ) -> None:
        if self._empty:
            self._csv.writerow(["iteration", "lr", *names, "seconds"])
            self._empty = False
        self._csv.writerow(
            [iteration, f"{lr:.6g}", *(f"{value:.6g}" for value in values), f"{seconds:.4f}"]
        )
        for name, value in zip(names, values, strict=True):
            self._board.add_scalar(name, value, iteration)

    def flush(self) -> None:
        self._file.flush()
        self._board.flush()

    def close(self) -> None:
        self._file.close()
        self._board.close()


def _write(
    log: _Log | None,
    names: list[str],
    pending: list[tuple[int, float, Tensor]],
    ids: list[Sequence[Any]],
    seconds: float,
    checkpoint: Path,
    ranks: Ranks,
) -> float:
    """Log the rows since the last look; stop at the first that is not finite. The last loss.

    Of several ranks each has its share of a loss; their mean is the loss.
    """
    table = torch.stack([row for _, _, row in pending]).cpu()
    if ranks.world > 1:
        dist.all_reduce(table)
        table /= ranks.world
    for (iteration, lr, _), values, images in zip(pending, table, ids, strict=True):
        if log is not None:
            log.write(names, iteration, lr, values.tolist(), seconds)
        if not torch.isfinite(values).all():
            if log is not None:
                log.flush()
            bad = ", ".join(
                f"{name} {value:g}" for name, value in zip(names, values.tolist(), strict=True)
            )
            raise _diverged(iteration, bad, images, checkpoint)
    if log is not None:
        log.flush()
    return float(table[-1, -2])


def _diverged(
    iteration: int, what: str, images: Sequence[Any], checkpoint: Path
) -> TrainingDivergedError:
    kept = (
        f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "no checkpoint yet"
    )
    shown = ", ".join(dict.fromkeys(str(image) for image in images))
    return TrainingDivergedError(f"iteration {iteration}: {what}; images {shown}; {kept}")


def _save(path: Path, iteration: int, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    state = {
        "iteration": iteration,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    with replacing(path) as file:
        torch.save(state, file)


def _resume(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, device: str, iterations: int
) -> int:
    """Load the checkpoint if there is a sound one of this network; the iteration to go on from."""
    if not path.exists():
        return 0
    own = optimiser.state_dict()
    try:
        state = load_tensors(path, device, ours=True)
        iteration, weights, given = state["iteration"], state["model"], state["optimiser"]
        _check(weights, model)
        momenta = _momenta(given, own, optimiser)
        if type(iteration) is not int or not 0 < iteration <= iterations:
            raise ValueError(f"of iteration {iteration}")
    except Exception as error:  # it may hold anything
        print(f"{path}: damaged ({one_line(error)[:80]}); training from the start", file=sys.stderr)
        return 0
    # Rates and decay are the configuration's, whatever the file says.
    optimiser.load_state_dict({**own, "state": momenta})
    model.load_state_dict(weights)
    return iteration


def _check(weights: Any, model: nn.Module) -> None:
    """Raises ValueError where these are not the finite weights of such a model."""
    own = {key: (value.shape, value.dtype) for key, value in model.state_dict().items()}
    if {key: (value.shape, value.dtype) for key, value in weights.items()} != own:
        raise ValueError("of another network")
    if not all(is_plain(value) and bool(torch.isfinite(value).all()) for value in weights.values()):
        raise ValueError("a weight is not finite")


def _momenta(given: Any, own: Any, optimiser: torch.optim.Optimizer) -> dict[int, Any]:
    """The optimiser's state by number of parameter; raises ValueError where it is not of this one."""
    if [group["params"] for group in given["param_groups"]] != [
        group["params"] for group in own["param_groups"]
    ]:
        raise ValueError("of another optimiser")
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    momenta: dict[int, Any] = {}
    for number, of_one in given["state"].items():
        momentum = of_one.get("momentum_buffer")
        if momentum is None:
            continue
        if not is_plain(momentum) or momentum.shape != parameters[number].shape:
            raise ValueError("of another optimiser")
        # A copy: it may be one number many times, which cannot be added to in place.
        momenta[number] = {"momentum_buffer": momentum.clone()}
    return momenta
