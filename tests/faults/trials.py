"""What is done to runs, and whether they end as one to which nothing was done.

Each trial is given `whole`, the folder of runs where nothing happened, and works in a folder of its own.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from tests.faults.outcome import differences, outcome
from tests.faults.paper import PROGRAM, Ended, Program, folder_of


@dataclass
class Tally:
    """Of a trial: how many faults struck, and what was lost by which."""

    struck: int = 0
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """Where and how often.

    Attributes:
        paper: one of `tests.faults.paper.MODULES`.
        whole: runs where nothing happened, one of the paper's among them.
        took: seconds of that run.
        folder: of this trial's runs.
        count: faults.
    """

    paper: str
    whole: Path
    took: float
    folder: Path
    count: int
    rng: random.Random

    def start(
        self,
        runs: str = "runs",
        jumps: bool = False,
        largest: int | None = None,
        ranks: int = 1,
    ) -> Program:
        """The paper's command on this trial's runs."""
        return Program(self.paper, self.folder / runs, jumps, largest, ranks)

    def fresh(self, runs: str = "runs") -> Path:
        """This trial's runs, none made yet."""
        shutil.rmtree(self.folder / runs, ignore_errors=True)
        return self.folder / runs

    def copied(self, runs: str = "runs") -> Path:
        """This trial's runs, finished."""
        shutil.copytree(self.whole, self.fresh(runs))
        return self.folder / runs

    def check(self, what: str, ended: Ended, tally: Tally, runs: str = "runs") -> None:
        """Note where a run that should have ended well did not, or with something else."""
        if ended.status != 0 or ended.crashed:
            tally.lost.append(f"{what}: exit code {ended.status}: {ended.said[-1500:]}")
            return
        here = folder_of(self.paper, self.folder / runs)
        other = differences(outcome(here), outcome(folder_of(self.paper, self.whole)))
        if other:
            tally.lost.append(f"{what}: {', '.join(other)} differ")
        left = list((self.folder / runs / "store" / "unfinished").glob("*"))
        if left:
            tally.lost.append(f"{what}: {left[0].name} is left unfinished")


def kills(trial: Trial) -> Tally:
    """`kill -9` of the run and its workers at random moments, started again each time."""
    return _struck_at_moments(trial, (signal.SIGKILL,))


def stops(trial: Trial) -> Tally:
    """Ctrl-C or SIGTERM, to the run and its workers: it says how to go on, within half a minute."""
    return _struck_at_moments(trial, (signal.SIGINT, signal.SIGTERM))


def _struck_at_moments(trial: Trial, signals: tuple[int, ...]) -> Tally:
    tally = Tally()
    trial.fresh()
    while tally.struck < trial.count:
        program = trial.start()
        if program.wait(trial.rng.uniform(0.15, 1.0) * trial.took):
            # It was done before: so many faults have come to nothing, if it ended well.
            trial.check(f"after {tally.struck} faults", program.end(), tally)
            trial.fresh()
            continue
        number = trial.rng.choice(signals)
        program.send(number)
        tally.struck += 1
        if number == signal.SIGKILL:
            program.process.wait()
            continue
        slow = not program.wait(30.0)
        ended = program.end()
        # Before it hears the signal, while Python loads, it may just end. And its workers may have gone
        # before it heard.
        heard = ended.status == 0 or (ended.status in (1, 130, 143) and len(ended.errors) == 1)
        if slow or ended.crashed or not (heard or ended.status == -number):
            tally.lost.append(f"signal {number}: exit code {ended.status}: {ended.said[-1500:]}")
    trial.check(f"after {tally.struck} faults", trial.start().end(), tally)
    return tally


def workers(trial: Trial) -> Tally:
    """`kill -9` of one of its worker processes: it goes on, or says so in a line and can be started again."""
    tally = Tally()
    trial.fresh()
    while tally.struck < trial.count:
        program = trial.start()
        while not program.wait(trial.rng.uniform(0.02, 0.1) * trial.took):
            children = _workers_of(program)
            if children:
                trial.rng.choice(children).kill()
                tally.struck += 1
                break
        ended = program.end()
        if ended.crashed or (ended.status != 0 and len(ended.errors) != 1):
            tally.lost.append(f"exit code {ended.status}: {ended.said[-1500:]}")
        if ended.status == 0:
            trial.check(f"after {tally.struck} faults", ended, tally)
            trial.fresh()
    trial.check(f"after {tally.struck} faults", trial.start().end(), tally)
    return tally


def _workers_of(program: Program) -> list[psutil.Process]:
    try:
        children = psutil.Process(program.process.pid).children(recursive=True)
        # Not multiprocessing's own helper, which cleans up behind the others; nor git, asked for the commit.
        others = ("resource_tracker", "git describe")
        return [c for c in children if not any(name in " ".join(c.cmdline()) for name in others)]
    except psutil.Error:
        return []


def flips(trial: Trial) -> Tally:
    """A bit flipped: in every artifact of a finished run, in what is left for people, and, a quarter of
    them, in what a killed run leaves of a stage."""
    unfinished = trial.count // 4
    tally = _spoilt(replace(trial, count=trial.count - unfinished), _flip)
    return _flip_unfinished(replace(trial, count=unfinished), tally)


def unreadable(trial: Trial) -> Tally:
    """A file that cannot be opened, by whoever."""
    return _spoilt(trial, _bar)


def _spoilt(trial: Trial, spoil: Callable[[Path, random.Random], None]) -> Tally:
    tally = Tally()
    runs = trial.copied()
    for path in in_turns([*_artifacts(runs), folder_of(trial.paper, runs)], trial):
        spoil(path, trial.rng)
        tally.struck += 1
        name = str(path.relative_to(runs))
        ended = trial.start().end()
        trial.check(name, ended, tally)
        if path.is_symlink():
            tally.lost.append(f"{name}: was not made again")
    return tally


def _artifacts(runs: Path) -> list[Path]:
    return sorted(path.parent for path in (runs / "store").glob("*/manifest.json"))


def _flip_unfinished(trial: Trial, tally: Tally) -> Tally:
    """A stage after another is made again, killed once it has written, and a bit of what it wrote flipped."""
    runs, struck = trial.copied(), 0
    made = _artifacts(runs)
    trial.rng.shuffle(made)
    for turn in range(4 * trial.count):  # some stages leave nothing before they are done
        if struck == trial.count:
            break
        path = _killed_amidst(trial, made[turn % len(made)])
        if path is None:
            continue
        _flip(path, trial.rng)
        struck += 1
        tally.struck += 1
        name = str(path.relative_to(runs))
        before = len(tally.lost)
        trial.check(name, trial.start().end(), tally)
        if len(tally.lost) > before:
            trial.copied()
    return tally


def _killed_amidst(trial: Trial, artifact: Path) -> Path | None:
    """A file of what `kill -9` leaves of the artifact's making; None if it leaves none."""
    aside = artifact.parent / "unfinished" / artifact.name

    def left() -> list[Path]:
        written = aside.rglob("[!.]*")  # what begins with a dot is not yet whole
        return sorted(path for path in written if path.is_file() and path.stat().st_size)

    shutil.rmtree(artifact)
    program = trial.start()
    try:
        while not program.wait(0.005) and not left():
            pass
        program.wait(trial.rng.uniform(0.0, 0.02) * trial.took)
    except FileNotFoundError:
        pass  # it was done, and renamed, as we looked
    if program.process.poll() is None:
        program.send(signal.SIGKILL)
        program.process.wait()
    return trial.rng.choice(found) if (found := left()) else None


def in_turns(folders: list[Path], trial: Trial) -> Iterator[Path]:
    """Files in turns: one of a folder, one of another, until there are enough."""
    trial.rng.shuffle(folders)
    left = {folder: sorted(p for p in folder.rglob("*") if p.is_file()) for folder in folders}
    for paths in left.values():
        trial.rng.shuffle(paths)
    given = 0
    while given < trial.count and any(left.values()):
        for folder in folders:
            if left[folder] and given < trial.count:
                given += 1
                yield left[folder].pop()


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _bar(path: Path, _: random.Random) -> None:
    # A link to itself: permissions do not keep root out.
    path.unlink()
    path.symlink_to(path.name)


def room(trial: Trial) -> Tally:
    """No room: files may have so many bytes, from next to none to nearly enough; then the run goes on."""
    tally = Tally()
    sizes = [p.stat().st_size for p in (trial.whole / "store").rglob("*") if p.is_file()]
    for _ in range(trial.count):
        trial.fresh()
        largest = int(max(sizes) ** trial.rng.uniform(0.3, 0.98))
        ended = trial.start(largest=largest).end()
        tally.struck += 1
        if ended.crashed or ended.status != 2 or len(ended.errors) != 1:
            tally.lost.append(
                f"files of {largest} bytes: exit code {ended.status}: {ended.said[-1500:]}"
            )
        trial.check(f"files of {largest} bytes", trial.start().end(), tally)
    return tally


def together(trial: Trial) -> Tally:
    """Two, then five, of the same command at once: each stage is made once, and all end alike."""
    tally = Tally()
    for n in range(trial.count):
        trial.fresh()
        programs = [trial.start() for _ in range((2, 5)[n % 2])]
        ended = [program.end() for program in programs]
        tally.struck += 1
        for one in ended:
            trial.check(f"{len(programs)} at once", one, tally)
        lines = [line for one in ended for line in one.said.splitlines() if line.startswith("-- ")]
        made = sorted(line for line in lines if "waiting" not in line)
        artifacts = len(list((trial.folder / "runs" / "store").glob("*/manifest.json")))
        if len(made) != artifacts:
            tally.lost.append(f"{len(programs)} at once: {artifacts} artifacts, made {made}")
    return tally


def clock(trial: Trial) -> Tally:
    """A clock that jumps by up to a year whenever it is looked at, and a kill on the way."""
    tally = Tally()
    for _ in range(trial.count):
        trial.fresh()
        program = trial.start(jumps=True)
        if not program.wait(trial.rng.uniform(0.3, 0.9) * trial.took):
            program.send(signal.SIGKILL)
            program.process.wait()
        tally.struck += 1
        trial.check("a clock that jumps", trial.start(jumps=True).end(), tally)
    return tally


def ranks(trial: Trial) -> Tally:
    """`kill -9` of one rank of two, which torchrun starts again, or of torchrun, which we do.

    What they end with is not what one process ends with, to the bit, but what two do.
    """
    tally = Tally()
    began = time.monotonic()
    trial.fresh("two")
    ended = trial.start("two", ranks=2).end()
    trial = replace(trial, whole=trial.folder / "two", took=time.monotonic() - began)
    trial.check("two ranks", ended, tally, "two")
    trial.fresh()
    program = trial.start(ranks=2)
    while tally.struck < trial.count:
        if program.wait(trial.rng.uniform(0.15, 1.0) * trial.took):
            trial.check(f"after {tally.struck} faults", program.end(), tally)
            trial.fresh()
            program = trial.start(ranks=2)
            continue
        tally.struck += 1
        of_two = _ranks_of(program)
        if of_two and trial.rng.random() < 0.5:
            trial.rng.choice(of_two).kill()
        else:
            program.process.kill()
            program.process.wait()
            program = trial.start(ranks=2)
    trial.check(f"after {tally.struck} faults", program.end(), tally)
    return tally


def _ranks_of(program: Program) -> list[psutil.Process]:
    try:
        children = psutil.Process(program.process.pid).children()
        return [child for child in children if PROGRAM in child.cmdline()]
    except psutil.Error:
        return []


TRIALS = {
    trial.__name__: trial
    for trial in (kills, stops, workers, flips, unreadable, room, together, clock, ranks)
}
