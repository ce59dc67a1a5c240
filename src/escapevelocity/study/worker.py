"""The parent's handle on a worker process (`worker_process`), which trains one order after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from escapevelocity.runs import spec_from_json
from escapevelocity.runs.atomic import make_folder
from escapevelocity.study.work import Outcome

if TYPE_CHECKING:
    from escapevelocity.study.plan import Order
    from escapevelocity.study.store import Store

Answers = queue.SimpleQueue[tuple["Worker", Outcome | None]]
"""Where workers put the outcome of an order, or None when they have died."""

_GRACE = 5.0  # seconds that a process gets to end by itself when its standard input has closed


class Worker:
    """A process that trains one order after the other, and ends when this one does.

    Args:
        log: where it prints to; appended.
        cores: the cores that it stays on, where the system can do that; by default all of the parent's.
        threads: threads of BLAS and XLA; by default one for each of its cores, and one where it has none of its own.
        answers: where it puts its outcomes, perhaps together with others; by default its own, for `wait`.
    """

    def __init__(
        self, log: Path, cores: Sequence[int] = (), threads: int | None = None, answers: Answers | None = None
    ) -> None:
        make_folder(log.parent)
        self.log = log
        self._answers: Answers = queue.SimpleQueue() if answers is None else answers
        self._interrupted = False
        command = [sys.executable, "-m", "escapevelocity.study.worker_process"]
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [*command, "--cores", *map(str, cores)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **thread_variables(threads or len(cores) or 1)},
                start_new_session=True,  # Ctrl-C on the terminal is for the parent, which passes it on.
            )
        threading.Thread(target=self._listen, name=f"worker {self.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def submit(self, order: Order, store: Store) -> None:
        """Give it an order, when it has none. That it has died meanwhile is heard as an answer."""
        line = json.dumps({"order": order.to_json(), "store": store.url}) + "\n"
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def wait(self, timeout: float | None = None) -> Outcome | None:
        """Wait for the outcome of its order; None when it died.

        Raises:
            TimeoutError: when `timeout` seconds have passed.
        """
        try:
            _, outcome = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"worker {self.pid} is not done after {timeout} s") from None
        return outcome

    def interrupt(self) -> None:
        """Ask it once to leave its run in order; its outcome is then "interrupted"."""
        if not self._interrupted:
            self._interrupted = True
            # Windows has no signal that a process could answer in order.
            self._process.terminate() if sys.platform == "win32" else self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End the process, kindly if it has nothing to do."""
        self._hang_up()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once; its run can be resumed."""
        self._process.kill()
        self._process.wait()
        self._hang_up()

    def death(self) -> str:
        """How the process ended, in words, with its log; it must have died."""
        code = self._process.wait()
        self._hang_up()
        try:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            )
        except ValueError:
            how = f"was killed by signal {-code}"
        return f"its process {how}; see {self.log}"

    def resident(self) -> int:
        """Its resident memory now, in bytes; 0 when it has died."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def _hang_up(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # What a dead process was still to be told is lost.
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as lines:
                for line in lines:
                    self._answers.put((self, spec_from_json(Outcome, json.loads(line))))
        except ValueError:  # It died while it wrote.
            pass
        finally:
            self._answers.put((self, None))


def thread_variables(threads: int) -> dict[str, str]:
    """The environment variables that keep BLAS, OpenMP and XLA to a number of threads.

    XLA's pool on the CPU is as large as the set of cores that the process may use, where there is such a thing; its
    PJRT_NPROC (NPROC before) says the same where there is none. Measured with jaxlib 0.10.2: NPROC=7 makes 7 threads.

    Example:
        >>> thread_variables(1)["OMP_NUM_THREADS"]
        '1'
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC", "PJRT_NPROC")
    return dict.fromkeys(names, str(threads))
