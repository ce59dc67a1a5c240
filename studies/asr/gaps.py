"""What would each action have paid? Counterfactual branches of a run of adaptive sampling: r(t) and the gap Δ(t).

From every checkpoint of a run (and its start) one segment is trained again for every candidate: raise the near, the
middle or the far third of the bins by ×1.25 at each decision, or hold the distribution as it is. Batches and random
numbers depend on the seed and the period alone, so candidates differ by nothing but their distribution. Raising a third
is the same as lowering the other two, since negatives are drawn by the normalised masses.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks._common import write_json
from jaxtyping import Float

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import ASRSpec
from escapevelocity.metric_learning.controller import Controller
from escapevelocity.metric_learning.job import ASRJob, MemberState, TrainingState, split_of
from escapevelocity.metric_learning.period import run_period
from escapevelocity.metric_learning.policy_network import action_family, forward
from escapevelocity.runs import Run

CANDIDATES = ("raise near", "raise middle", "raise far", "hold")
HOLD = CANDIDATES.index("hold")
LENGTH = 10
"""Decisions of a branch: a segment of these runs."""


def thirds(bins: int) -> tuple[slice, ...]:
    """The near, the middle and the far third of the bins.

    Example:
        >>> thirds(29)
        (slice(0, 10, None), slice(10, 19, None), slice(19, 29, None))
    """
    first, second = round(bins / 3), round(2 * bins / 3)
    return slice(0, first), slice(first, second), slice(second, bins)


def forced(masses: Float[np.ndarray, " bins"], candidate: int, decision: int, step_up: float) -> np.ndarray:
    """The masses at a decision of a branch, from those at its start.

    Args:
        masses: at the checkpoint, un-normalised.
        candidate: index of `CANDIDATES`.
        decision: from 0; the first has been taken when the branch begins.
        step_up: factor of a raise.
    """
    moved = np.array(masses, np.float32)
    if candidate != HOLD:
        moved[thirds(len(moved))[candidate]] *= np.float32(step_up ** (decision + 1))
    return moved


def states_of(run: Run, spec: ASRSpec) -> dict[int, TrainingState]:
    """The state at the start and at every checkpoint but the last, by periods done."""
    fresh = ASRJob().initial_state(spec)
    return {0: fresh} | {spec.boundary(k): run.load_checkpoint(k, fresh) for k in range(1, spec.num_segments)}


def branch_metrics(
    spec: ASRSpec, state: TrainingState, periods: int, candidate: int, length: int = LENGTH
) -> np.ndarray:
    """The metric that rewards are made of, along a branch.

    Args:
        spec: of the run.
        state: at its start.
        periods: done at its start.
        candidate: index of `CANDIDATES`.
        length: decisions of the branch.

    Returns:
        (seeds, length + 1): before the branch (NaN at the start of a run, where nothing was measured), and after each
        of its decisions.
    """
    split = split_of(spec)

    def one(member: MemberState, seed: int) -> list[float]:
        member = jax.tree.map(
            lambda x: x.copy() if isinstance(x, jax.Array) else x, member
        )  # Steps donate theirs.
        masses = np.asarray(_agent(member).masses)
        found = [float(_agent(member).metric)]
        for decision in range(length):
            own = jnp.asarray(forced(masses, candidate, decision, spec.controller.step_up))
            member = member._replace(controller=_agent(member)._replace(masses=own))
            member, _ = run_period(spec, split, member, seed, periods + decision)
            found.append(float(_agent(member).metric))
        return found

    with ThreadPoolExecutor(2) as pool:
        return np.array(list(pool.map(one, state.members, spec.seeds)))


def _agent(member: MemberState) -> Controller:
    if member.controller is None:
        raise UserError("sampler: must be adaptive; only an agent has candidates to choose from")
    return member.controller


def raise_probs(spec: ASRSpec, state: TrainingState) -> Float[np.ndarray, "seeds bins"]:
    """The policy's probability of raising each bin, at its last decision; 1/3 where it has not decided yet."""
    found = []
    for member in state.members:
        controller = member.controller
        if controller is None or not bool(controller.has_decided):
            found.append(np.full(spec.sampler.bins, 1 / 3))
            continue
        family = action_family(spec.controller)
        outputs, _ = forward(controller.network, controller.state)
        found.append(np.asarray(family.probs(family.params(outputs)))[:, 2])
    return np.array(found)


def measure_gaps(
    run: Run, spec: ASRSpec, kept: Path, name: str, track: Callable[[str], None], length: int = LENGTH
) -> None:
    """Train what is missing of a run's branches; each is written to `kept` as soon as it is measured.

    Args:
        run: a finished run of an adaptive sampler.
        spec: its settings.
        kept: JSON file.
        name: of the run in that file.
        track: told of each branch.
        length: decisions of a branch.
    """
    found = json.loads(kept.read_text()) if kept.exists() else {}
    entry = found.setdefault(
        name, {"seeds": list(spec.seeds), "every": spec.controller.every, "branches": {}}
    )
    for periods, state in states_of(run, spec).items():
        for index, candidate in enumerate(CANDIDATES):
            key = f"{periods}/{candidate}"
            if key in entry["branches"]:
                continue
            metrics = branch_metrics(spec, state, periods, index, length)
            entry["branches"][key] = [
                [None if np.isnan(x) else round(float(x), 6) for x in row] for row in metrics
            ]
            write_json(kept, found)
            track(f"{name}, from decision {periods}: {candidate}")


def policies_of(run: Run, spec: ASRSpec) -> dict[str, list[list[float]]]:
    """The probability of raising each third, a row per seed, by decisions done: at the start and every checkpoint."""
    fresh = ASRJob().initial_state(spec)
    found = {}
    for k in range(spec.num_segments + 1):
        state = fresh if k == 0 else run.load_checkpoint(k, fresh)
        probs = raise_probs(spec, state)
        means = np.stack([probs[:, third].mean(axis=1) for third in thirds(spec.sampler.bins)], axis=1)
        found[str(spec.boundary(k))] = [[round(float(x), 6) for x in row] for row in means]
    return found


def metrics_of(entry: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """What `measure_gaps` has kept of a run.

    Returns:
        Decisions done at the branches' starts, (points,); and the metrics (points, candidates, seeds, length + 1). Only
        points at which all candidates were measured.
    """
    starts = sorted({int(key.split("/")[0]) for key in entry["branches"]})
    whole = [s for s in starts if all(f"{s}/{candidate}" in entry["branches"] for candidate in CANDIDATES)]
    metrics = [[entry["branches"][f"{s}/{candidate}"] for candidate in CANDIDATES] for s in whole]
    return np.array(whole), np.array(metrics, np.float64)


def rewards_of(metrics: np.ndarray) -> dict[str, np.ndarray]:
    """What a candidate paid per decision, from its metrics (…, length + 1).

    Returns:
        sign: mean of the sign of the change, what the agent is paid; change: of the change itself. At the start of a
        run there is no metric before the first decision, which is left out.
    """
    changes = np.diff(metrics, axis=-1)
    return {"sign": np.nanmean(np.sign(changes), axis=-1), "change": np.nanmean(changes, axis=-1)}
