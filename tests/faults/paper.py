"""A paper's `micro` run in a process group of its own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = "tests.faults.program"
LONGEST = 600.0  # seconds: a run that takes longer hangs
RCNN, SPP, FAST, FASTER, MASK = "rcnn", "spp", "fast", "faster", "mask"
# Well, with a line, or by the signal itself: before Python hears it, or when it has nothing left to do.
ENDS = (0, 1, 2, 130, 143, *(-n for n in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
MODULES = {
    RCNN: "rcnn_v1",
    SPP: "spp_net",
    FAST: "fast_rcnn",
    FASTER: "faster_rcnn",
    MASK: "mask_rcnn",
}
STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # of torchrun's ranks, as `make` has it
# Of a step; the paper's RPN learns from one, which is not enough for two ranks.
IMAGES = {FASTER: ("--alternating.rpn-images", "2", "--joint.sampling.images", "2")}


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    status: int
    said: str

    @property
    def errors(self) -> list[str]:
        """The lines that say why."""
        starts = ("error:", "interrupted:", "terminated:")
        return [line for line in self.said.splitlines() if line.startswith(starts)]

    @property
    def crashed(self) -> bool:
        """Whether it ended in a way that its authors had not thought of."""
        return "Traceback" in self.said or self.status not in ENDS


class Program:
    """The run, started.

    Args:
        paper: one of `MODULES`.
        runs: its folder.
        jumps: whether the clock does.
        largest: bytes that a file may have; None: as many as there is room for.
        ranks: how many torchrun starts, as often as they end before they are done; 1: no torchrun.
    """

    def __init__(
        self,
        paper: str,
        runs: Path,
        jumps: bool = False,
        largest: int | None = None,
        ranks: int = 1,
    ) -> None:
        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # `command &` would have it ignored
            if largest is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails instead
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

        runs.mkdir(parents=True, exist_ok=True)
        self._said = runs / f"said-{time.monotonic_ns()}.txt"
        options = ["--preset", "micro", "--device", "cpu", "--workers", "2", "--runs", str(runs)]
        launch = [sys.executable]
        if ranks > 1:
            launch += ["-m", "torch.distributed.run", "--standalone", "--max-restarts", "99"]
            launch += ["--nproc-per-node", str(ranks)]
            options += IMAGES.get(paper, ())
        # What it says goes into a file: nobody reads a pipe while its workers may be killed.
        with open(self._said, "w") as said:
            self.process = subprocess.Popen(
                [*launch, "-m", PROGRAM, MODULES[paper], *options],
                cwd=ROOT,
                env={**os.environ, **STORE, **({"FAULTS_CLOCK": "1"} if jumps else {})},
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=prepare,
            )

    def wait(self, seconds: float = LONGEST) -> bool:
        """Whether it ended within so many seconds."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send(self, number: int) -> None:
        """A signal to it and its workers."""
        os.killpg(self.process.pid, number)

    def end(self) -> Ended:
        """Wait for its end.

        Raises:
            TimeoutError: it hangs; it is killed.
        """
        if not self.wait():
            self.send(signal.SIGKILL)
            self.process.wait()
            raise TimeoutError(f"hung: {self.said[-500:]}")
        said = self.said
        self._said.unlink()
        return Ended(self.process.returncode, said)

    @property
    def said(self) -> str:
        """On both streams, so far."""
        return self._said.read_text(errors="replace").replace("\r", "\n")


def folder_of(paper: str, runs: Path) -> Path:
    """What the run leaves for people."""
    return runs / "shapes-micro-tiny" / paper
