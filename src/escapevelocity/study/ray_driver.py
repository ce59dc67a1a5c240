"""`python -m escapevelocity.study.ray_driver`: the process that talks to Ray, started by `RayExecutor`.

Ray prints, warns, handles signals and may end a process that cannot reach its cluster; all of that stays in this one,
whose output is a log. The first line on standard input is the job, a later line "stop" asks to end in order; lines of
JSON on standard output are what happens. When standard input closes, because the executor's process has died, this one
ends at once, Ray ends its tasks, and these their worker processes.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from escapevelocity.study.worker_process import take_standard_streams

_FAREWELL = 75.0  # seconds that tasks get to end in order; a task itself waits 60 s for its run
_OBJECT_STORE = 80 * 2**20  # bytes, near Ray's least: lines of JSON are all that it holds
_AGAIN = 5.0  # seconds until a run that we lost, and that still seems to be trained, is tried again
_ZOMBIE = 240.0  # seconds until we believe that it is: locks and leases of a dead machine are free by then


def main() -> int:
    """Work on one job."""
    lines, answers = take_standard_streams()

    def say(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    job = json.loads(lines.get())
    try:
        ray = connect(job["address"], job["cores"])
    except Exception as error:  # Ray's own errors, and whatever it lets through.
        say(error=" ".join(str(error).split()) or type(error).__name__)
        return 1
    largest = [
        [node["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU")] for node in ray.nodes() if node["Alive"]
    ]
    say(connected=largest)
    try:
        Shift(ray, job, lines, say).work()
    finally:
        ray.shutdown()
    return 0


def connect(address: str, cores: int) -> Any:
    """Connect to a cluster, or with "local" start Ray on this machine with so many CPUs; gives the module `ray`."""
    import ray

    here: dict[str, Any] = {}
    if address == "local":
        here = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _OBJECT_STORE}
    ray.init(address=address, log_to_driver=False, **here)
    return ray


class Shift:
    """The orders of one job: all are submitted at once, and Ray starts as many as its resources allow.

    Ray's own retries are off (`max_retries=0`): we submit a lost task again ourselves, so that each loss is counted by
    run and told.

    Args:
        ray: the module, connected.
        job: what `RayExecutor` sends.
        lines: what comes from it afterwards.
        say: tells it something.
    """

    def __init__(
        self, ray: Any, job: Mapping[str, Any], lines: queue.SimpleQueue[str], say: Callable[..., None]
    ) -> None:
        from escapevelocity.study import ray_task

        self._ray, self._job, self._lines, self._say = ray, job, lines, say
        self._train = ray.remote(ray_task.train).options(
            num_cpus=job["cpus"], num_gpus=job["gpus"], max_retries=0, num_returns="streaming"
        )
        self._open: dict[Any, dict[str, Any]] = {}
        self._later: list[tuple[float, dict[str, Any]]] = []
        self._claimed: list[dict[str, Any]] = []
        self._losses: Counter[str] = Counter()
        self._lost_at: dict[str, float] = {}
        self._begun: set[str] = set()
        self._stopping = False

    def work(self) -> None:
        """Train all orders, then look once more at what others were training; or end when told to stop."""
        if self._drain(self._job["orders"]):
            claimed, self._claimed = self._claimed, []
            self._drain(claimed)

    def _drain(self, orders: Sequence[dict[str, Any]]) -> bool:
        """Train orders until each has an outcome; False when told to stop before."""
        for order in orders:
            self._submit(order)
        while self._open or self._later:
            self._submit_due()
            self._hear_all()
            if not self._lines.empty():
                self._stop()
                return False
        return True

    def _submit(self, order: dict[str, Any]) -> None:
        job = self._job
        stream = self._train.remote(json.dumps(order), job["store"], job["token"], job["cpus"])
        self._open[stream] = order

    def _submit_due(self) -> None:
        due = [order for when, order in self._later if when <= time.monotonic()]
        self._later = [(when, order) for when, order in self._later if order not in due]
        for order in due:
            self._submit(order)

    def _hear_all(self) -> None:
        if not self._open:
            return time.sleep(0.5)
        ready, _ = self._ray.wait(list(self._open), num_returns=1, timeout=1.0)
        for stream in ready:
            self._hear(stream, self._open[stream])

    def _hear(self, stream: Any, order: dict[str, Any]) -> None:
        """Take in the next line of a task, or how Ray lost it."""
        errors = self._ray.exceptions
        try:
            message = json.loads(self._ray.get(next(stream)))
        except StopIteration:
            return self._lose(stream, order, "its task ended without a word")
        except errors.TaskCancelledError:
            begun = order["name"] in self._begun
            state, why = ("interrupted", "stopped before its end") if begun else ("waiting", "not begun")
            return self._settle(stream, _outcome(order, state, why))
        except (
            errors.RayTaskError
        ) as error:  # An error in Python, such as a package that a node does not have.
            why = f"{type(error.cause).__name__}: {error.cause}" if error.cause else str(error)
            return self._settle(stream, _outcome(order, "failed", " ".join(why.split())))
        except (
            errors.RayError
        ) as error:  # The worker process or its node died, or Ray ended it for want of memory.
            first = str(error).strip().partition("\n")[0].partition(". ")[0]
            return self._lose(stream, order, f"{type(error).__name__}: {first}")
        if "started" in message:
            self._begun.add(order["name"])
            return self._say(kind="started", name=order["name"], text=f"on {message['started']}")
        if "lost" in message:
            return self._lose(stream, order, message["lost"])
        outcome = message["outcome"]
        lost_at = self._lost_at.get(order["name"], -_ZOMBIE)
        if outcome["state"] == "claimed" and time.monotonic() - lost_at < _ZOMBIE:
            # By the process that we lost, most likely, which has not ended yet.
            del self._open[stream]
            self._later.append((time.monotonic() + _AGAIN, order))
            return
        if outcome["state"] == "claimed":
            self._claimed.append(order)
        self._settle(stream, outcome)

    def _lose(self, stream: Any, order: dict[str, Any], why: str) -> None:
        name = order["name"]
        self._losses[name] += 1
        self._lost_at[name] = time.monotonic()
        if self._stopping:
            return self._settle(stream, _outcome(order, "interrupted", why))
        if self._losses[name] > self._job["retries"]:
            why = f"lost {self._losses[name]} times; at last {why}"
            return self._settle(stream, _outcome(order, "failed", why))
        del self._open[stream]
        self._say(kind="retried", name=name, text=why)
        self._submit(order)

    def _settle(self, stream: Any, outcome: Mapping[str, Any]) -> None:
        del self._open[stream]
        self._say(outcome=outcome)

    def _stop(self) -> None:
        """Cancel what is waiting and let what is running end in order."""
        self._stopping = True
        until = time.monotonic() + _FAREWELL
        for stream in self._open:
            self._ray.cancel(stream)
        while self._open and time.monotonic() < until:
            self._hear_all()


def _outcome(order: Mapping[str, Any], state: str, why: str) -> dict[str, Any]:
    return {"name": order["name"], "state": state, "why": why}


if __name__ == "__main__":
    sys.exit(main())
