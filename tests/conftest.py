"""One thread a process, also for the processes that tests start.

Several test processes on a few cores, each with as many threads, wait for one another many
times longer than they compute; and sums are the same to the bit only in the same number of parts.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is first loaded, which is after this
