"""Columns about the run itself: position, returns, losses, norms, time."""

from escapevelocity.health._metric import HealthyRange, Metric

_TASK = "depends on the task"
_BOOK = "bookkeeping"
_OURS = "escapevelocity"
_ENDED = "episodes that ended in the batch"
_MINIBATCHES = "mean over the minibatches of all epochs"
_MOALLA = "Moalla et al. 2024"

RUN_METRICS = (
    Metric("seed", "the population member's seed", _OURS, "–", "row", None, _BOOK),
    Metric("segment", "index of the segment the batch belongs to", _OURS, "–", "row", None, _BOOK),
    Metric("batch", "index of the batch since the start of the run", _OURS, "–", "row", None, _BOOK),
    Metric(
        "env_steps",
        "environment steps taken so far; frames for Atari, so 3 per decision at frame skip 3",
        _OURS,
        "steps (Atari: frames)",
        "since the start of the run",
        None,
        _BOOK,
    ),
    Metric("wall_time", "seconds of training so far", _OURS, "s", "since the start of the run", None, _BOOK),
    Metric(
        "fault",
        "what was not finite, with seed, batch and minibatch; empty if nothing",
        _OURS,
        "text",
        "the batch",
        None,
        "a text: with --on-nonfinite stop it is the member's last row",
    ),
    Metric(
        "perf/return_mean",
        "mean of the episodes' undiscounted sums of raw rewards",
        _MOALLA,
        "reward",
        _ENDED,
        None,
        _TASK,
    ),
    Metric("perf/return_max", "largest of those sums", _MOALLA, "reward", _ENDED, None, _TASK),
    Metric("perf/length_mean", "mean length of the episodes", _MOALLA, "steps", _ENDED, None, _TASK),
    Metric(
        "perf/episodes",
        "number of episodes that ended; each counts once",
        _OURS,
        "episodes",
        "the batch",
        None,
        "0 is normal where an episode outlasts a batch; the three columns above are then NaN",
    ),
    Metric(
        "perf/episodes_cut",
        "episodes cut short by a segment boundary: bootstrapped as truncated, left out of the returns",
        _OURS,
        "episodes",
        "the batch",
        None,
        "non-zero only in the last batch of a segment",
    ),
    Metric(
        "loss/objective_last",
        "mean of min(r·A, clip(r, 1−ε, 1+ε)·A), the clipped objective that is maximised",
        "Schulman et al. 2017, Eq. 7; Moalla et al. 2024, Fig. 3",
        "normalised advantage",
        "last minibatch of the update",
        None,
        "its size says little: advantages are normalised per minibatch",
    ),
    Metric(
        "loss/value",
        "mean squared error of the critic, (V(s) − return)², before its coefficient of 0.5",
        _MOALLA + ", code (unclipped by default)",
        "reward²",
        _MINIBATCHES,
        None,
        _TASK,
    ),
    Metric(
        "loss/entropy",
        "mean entropy in the objective, before its coefficient",
        "Schulman et al. 2017, Eq. 9",
        "nats",
        _MINIBATCHES,
        None,
        "see policy/entropy",
    ),
    Metric(
        "loss/skipped_minibatches",
        "minibatches whose loss or gradient was not finite, so that no step was taken",
        _OURS,
        "minibatches",
        "the update",
        HealthyRange(high=0.0, provisional=False),
        "by definition: any at all means NaN or Inf in the loss, a gradient or a parameter",
    ),
    Metric(
        "norm/{actor,critic}_gradient",
        "global L2 norm of the gradient before clipping",
        _MOALLA,
        "objective per weight",
        _MINIBATCHES,
        None,
        "the step sees it only after clipping to the maximum gradient norm",
    ),
    Metric(
        "norm/{actor,critic}_weights",
        "global L2 norm of all parameters",
        _MOALLA,
        "weight",
        "after the update",
        None,
        "depends on architecture and initialisation; look at its growth",
    ),
    Metric("time/collect", "time spent acting in the environments", _OURS, "s", "the batch", None, _BOOK),
    Metric("time/update", "time spent in the update", _OURS, "s", "the batch", None, _BOOK),
    Metric(
        "time/health",
        "time spent measuring health",
        _OURS,
        "s",
        "the batch",
        None,
        "the aim is below 5 % of a run, a matter of speed and not of health",
    ),
)
"""Bookkeeping, perf/, loss/, norm/ and time/."""
