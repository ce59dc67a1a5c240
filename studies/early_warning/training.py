"""Train and probe the plan: one folder per program, finished ones are left as they are, unfinished ones go on."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from escapevelocity.errors import UserError
from escapevelocity.ppo.training import resume_training, train
from escapevelocity.runs import Run, open_run
from studies.early_warning.plan import Setting, spec_of
from studies.early_warning.readout import readable_shares


def train_plan(plan: Sequence[Setting], out: Path, jobs: int = 1) -> list[Run]:
    """Train what is not there yet, and measure what can be read off its features.

    Args:
        plan: the settings.
        out: folder of the runs.
        jobs: programs at a time.

    Returns:
        The runs, in the order of the plan.

    Raises:
        UserError: a program cannot be trained here, such as one that another process trains. The others are, before.
    """
    refused: list[UserError] = []
    # Processes of their own: a trainer sets up JAX and environment pools for itself.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_train, setting, out): setting for setting in plan}
        for done, future in enumerate(as_completed(futures), 1):
            try:
                said = future.result()
            except UserError as error:
                said = f"not trained: {error}"
                refused.append(error)
            print(f"{done}/{len(plan)} {futures[future].name}: {said}", flush=True)
    if refused:
        raise refused[0]
    return [open_run(out / setting.name) for setting in plan]


def _train(setting: Setting, out: Path) -> str:
    path = out / setting.name
    if not path.is_dir():
        train(spec_of(setting), out, setting.name)
    # A program fails when the numbers of all its members stopped being finite: that is a result, too.
    elif open_run(path).status.state not in ("finished", "failed"):
        resume_training(path)
    run = open_run(path)
    readable_shares(run)
    return f"{run.status.state}, {run.status.wall_time:.0f} s"
