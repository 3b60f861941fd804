"""Several processes as one run: what torchrun starts are its ranks.

All ranks run the same program and ask the store for the same stages in the same order. How many
there are shapes no result but for rounding: images are drawn, shards cut and losses averaged as
one process would.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, TypeVar

from stages.errors import InputError
from stages.interrupts import leave_to_parent

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(days=30)  # the others wait while one trains SVMs; a dead one torchrun sees
# For the others to come. Started again by a torchrun that has them share its store (ours does not, see
# the Makefile) they may look for the dead ones, and wait; ended, they are started once more.
MEETING = timedelta(minutes=5)


@dataclass(frozen=True)
class Ranks:
    """Which of how many this process is; alone without torchrun."""

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes what all have made."""
        return self.rank == 0

    @property
    def mine(self) -> slice:
        """Which of some items are this rank's: every `world`-th; together the ranks have each once."""
        return slice(self.rank, None, self.world)

    def tell(self, value: T) -> T:
        """The leading rank's value, to all."""
        if self.world == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, value: bool) -> bool:
        """Whether it is so on some rank, said by all together."""
        if self.world == 1:
            return value
        import torch
        import torch.distributed as dist

        total = torch.tensor(int(value))
        dist.all_reduce(total)
        return bool(total)

    def wait(self) -> None:
        """Until all ranks are here."""
        self.any(False)

    def refuse(self, what: str) -> NoReturn:
        """End the run for a reason that every rank has found by itself: the leading one says it.

        Raises:
            InputError: in the leading one.
            SystemExit: in the others, once it is gone.
        """
        if self.leads:
            raise InputError(what)
        leave_to_parent()  # torchrun sends SIGTERM when the first has ended: there is no more to say
        with contextlib.suppress(RuntimeError):  # the connection that ends with the leading one
            self.wait()
        raise SystemExit(2)


ALONE = Ranks()


def join(device: str) -> Ranks:
    """Join the other processes that torchrun started; without it this one is alone.

    Args:
        device: "cuda" gives each process of a machine a GPU of its own.

    Raises:
        RuntimeError: the others have not come in time, see `lost_a_rank`.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        # Objects and waiting go over Gloo even between GPUs.
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=MEETING)
        # From here on; PyTorch has no public way to say so.
        dist.distributed_c10d._set_pg_timeout(PATIENCE)
        dist.distributed_c10d._get_default_store().set_timeout(PATIENCE)
    return Ranks(dist.get_rank(), world)


def on_this_machine() -> int:
    """How many ranks share this machine's cores, this one among them."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def leave() -> None:
    """End of the program."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()


def end_with_torchrun(beat: float = 1.0, grace: float = 30.0) -> None:
    """From now on this rank ends when the torchrun that started it has: a killed one could not say so.

    As torchrun would have it end: by SIGTERM, at which a training leaves a checkpoint, and for good later.

    Args:
        beat: seconds between looks.
        grace: seconds from SIGTERM to the end.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(beat)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def lost_a_rank(error: Exception) -> bool:
    """Whether it is what the others see of a rank that died, or never came."""
    of_torch = type(error).__name__ in ("DistStoreError", "DistNetworkError", "DistBackendError")
    return isinstance(error, RuntimeError) and (
        of_torch
        or any(name in str(error) for name in ("gloo", "NCCL", "Connection closed by peer"))
    )


def shared_count(count: float | Tensor, like: Tensor) -> float | Tensor:
    """What a rank divides a sum by, so that the ranks' mean gradient is that of all sums by all counts.

    That is the count's mean over the ranks; where there are none at all, as if there were one.
    (DETR's and Detectron2's way.) Every rank must ask as often. One process divides by its own count.

    Args:
        count: this rank's.
        like: on the device to work on.
    """
    import torch
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)
    total = torch.as_tensor(count, dtype=torch.float32, device=like.device).detach().clone()
    dist.all_reduce(total)
    return total.clamp(min=1) / dist.get_world_size()
