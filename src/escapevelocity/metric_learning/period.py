"""One period of one member: train with one sampling distribution, measure, pay the controller, record."""

import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32

from escapevelocity.health import effective_rank, feature_rank_pca, singular_values
from escapevelocity.metric_learning.batches import balanced_batch, indices_by_class
from escapevelocity.metric_learning.config import ASRSpec, LearnerConfig, SamplerConfig
from escapevelocity.metric_learning.controller import Controller, Turn, take_turn, turn_columns
from escapevelocity.metric_learning.distribution import measure_distribution
from escapevelocity.metric_learning.embedding import EmbeddingNetwork, trainable
from escapevelocity.metric_learning.learner import Learner, StepReport, make_embed, make_train_step
from escapevelocity.metric_learning.retrieval import RETRIEVAL_METRICS, evaluate_retrieval
from escapevelocity.metric_learning.splits import LabelledImages, Split
from escapevelocity.metric_learning.starts import start_masses
from escapevelocity.metric_learning.state import METRIC_NAMES, metric_vector

if TYPE_CHECKING:
    from escapevelocity.metric_learning.job import MemberState

_BATCHES, _STEPS, _DECISION = 10, 11, 12  # Streams of a period's random numbers.
_MOST_CLUSTERS = 2000  # k-means for Stanford Online Products' 11,000 classes would take hours on a CPU.
_CHUNK = 250  # Images that are embedded at a time when a set is measured.


class PeriodRow(NamedTuple):
    """One member's record of one period."""

    seed: int
    columns: dict[str, Any]
    fault: dict[str, Any] | None
    """Of the period in which the member failed: its last good state and the offending batch."""


class _Trained(NamedTuple):
    """What became of a period's training steps."""

    learner: Learner
    reports: list[StepReport]
    skipped: int
    fault: str
    batch: dict[str, np.ndarray] | None


def run_period(
    spec: ASRSpec, split: Split, member: "MemberState", seed: int, period: int
) -> "tuple[MemberState, PeriodRow]":
    """Train a member for one period, measure it, and let its controller learn and decide anew.

    Args:
        spec: the run's settings.
        split: the images.
        member: its state at the start of the period.
        seed: its seed.
        period: number of the period in the run, from 0.

    Returns:
        Its state at the end, which is the last good one where a number was not finite; and its record.
    """
    began = time.perf_counter()
    masses = sampling_masses(spec, member.controller, period)
    trained = _train(spec, split, member.learner, masses, seed, period)
    member = member._replace(learner=trained.learner)
    columns = {**_training_columns(spec, trained, seed, period), **_distribution_columns(spec, masses)}
    measuring = time.perf_counter()
    validation, ranks, fault = {}, {}, trained.fault
    if not fault:
        validation, ranks = _validate(spec, split, trained.learner, seed)
        fault = "" if validation else "an embedding of the validation set is not finite"
    testing = time.perf_counter()
    tested = {} if fault or not _test_is_due(spec, period) else _test(spec, split, trained.learner, seed)
    controlling = time.perf_counter()
    turn = None
    if not fault and member.controller is not None:
        controller, turn = _take_turn(spec, member.controller, validation, seed, period)
        member = member._replace(controller=controller)
    ended = time.perf_counter()
    columns |= {f"validation/{name}": value for name, value in validation.items()} | ranks
    columns |= {f"test/{name}": value for name, value in tested.items()}
    columns |= {} if turn is None else turn_columns(turn)
    columns |= {"time/train": measuring - began, "time/validation": testing - measuring}
    columns |= {"time/test": controlling - testing, "time/controller": ended - controlling}
    where = f"seed {seed}, period {period}: {fault}" if fault else ""
    kept = {"state": member, "batch": trained.batch} if fault else None
    return member, PeriodRow(seed, {**columns, "fault": where}, kept)


def sampling_masses(spec: ASRSpec, controller: Controller | None, period: int) -> Float32[Array, " bins"]:
    """The masses that a period draws negatives by; a fixed sampler does not read them.

    A curriculum begins with `init` and goes on with `then` after a share of the periods.
    """
    if controller is not None:
        return controller.masses
    if spec.sampler.sampler != "curriculum":
        return jnp.ones(spec.sampler.bins, jnp.float32)
    late = period >= spec.sampler.switch_at * spec.num_periods
    text = spec.sampler.then if late else spec.sampler.init
    return jnp.asarray(start_masses(text, spec.sampler, spec.learner.embedding_dim), jnp.float32)


def embed(spec: ASRSpec, network: Any, images: LabelledImages) -> Float32[np.ndarray, "images dim"]:
    """Embed a whole set, as evaluated: without augmentation."""
    program = programs(spec.learner, spec.sampler, 1).embed
    parts = []
    for first in range(0, len(images.labels), _CHUNK):
        indices = np.arange(first, min(first + _CHUNK, len(images.labels)))
        # The last chunk is filled up, so that one program serves all.
        filled = np.concatenate([indices, np.zeros(_CHUNK - len(indices), np.int64)])
        if len(images.labels) <= _CHUNK:
            filled = indices
        parts.append(np.asarray(program(network, images.images.batch(filled, None)))[: len(indices)])
    return np.concatenate(parts)


class Programs(NamedTuple):
    """The compiled programs of a run; members share them."""

    step: Callable[..., tuple[Learner, StepReport]]
    embed: Callable[[Any, Any], Array]


@lru_cache(maxsize=16)
def programs(learner: LearnerConfig, sampler: SamplerConfig, num_classes: int) -> Programs:
    """Build the programs of these settings, once."""
    return Programs(make_train_step(learner, sampler, num_classes), make_embed(learner))


def _train(spec: ASRSpec, split: Split, learner: Learner, masses: Array, seed: int, period: int) -> _Trained:
    images, labels = split.train.images, split.train.labels
    step = programs(spec.learner, spec.sampler, len(split.train.classes)).step
    by_class = indices_by_class(labels)
    rng = np.random.default_rng([seed, _BATCHES, period])
    key = _key(seed, _STEPS, period)
    reports, skipped = [], 0
    for number in range(spec.controller.every):
        chosen = balanced_batch(by_class, spec.learner.batch_classes, spec.learner.per_class, rng)
        augmented = images.batch(chosen, int(rng.integers(2**31)))
        learner, report = step(learner, augmented, labels[chosen], masses, jax.random.fold_in(key, number))
        reports.append(report)
        if not bool(report.finite):
            skipped += 1
            if spec.on_nonfinite == "stop":
                text = f"training step {number}: loss {float(report.loss):g}, gradient norm {float(report.grad_norm):g}"
                return _Trained(
                    learner, reports, skipped, text, {"images": augmented, "labels": labels[chosen]}
                )
    return _Trained(learner, reports, skipped, "", None)


def _validate(
    spec: ASRSpec, split: Split, learner: Learner, seed: int
) -> tuple[Mapping[str, float], dict[str, float]]:
    """What the controller is paid by, and the ranks of the embedding; nothing where that is not finite."""
    embeddings = embed(spec, learner.network, split.validation)
    if not np.isfinite(embeddings).all():
        return {}, {}
    found = evaluate_retrieval(embeddings, split.validation.labels, seed=seed, names=METRIC_NAMES)
    return found, _ranks(embeddings)


def _test(spec: ASRSpec, split: Split, learner: Learner, seed: int) -> Mapping[str, float]:
    """Everything about the classes that were never trained on; nothing where their embeddings are not finite."""
    embeddings = embed(spec, learner.network, split.test)
    if not np.isfinite(embeddings).all():
        return {}
    many = len(split.test.classes) > _MOST_CLUSTERS
    names = [name for name in RETRIEVAL_METRICS if not (many and name in ("nmi", "f1"))]
    return evaluate_retrieval(embeddings, split.test.labels, seed=seed, names=names)


def _test_is_due(spec: ASRSpec, period: int) -> bool:
    done = period + 1
    return done % spec.test_interval == 0 or done == spec.num_periods or done == 1


def _take_turn(
    spec: ASRSpec, controller: Controller, validation: Mapping[str, float], seed: int, period: int
) -> tuple[Controller, Turn]:
    progress = jnp.float32((period + 1) / spec.num_periods)
    metrics = jnp.asarray(metric_vector(validation))
    return take_turn(spec.controller, controller, metrics, progress, _key(seed, _DECISION, period))


def _training_columns(spec: ASRSpec, trained: _Trained, seed: int, period: int) -> dict[str, Any]:
    good = [report for report in trained.reports if bool(report.finite)]

    def mean(name: str) -> float:
        return float(np.mean([float(getattr(report, name)) for report in good])) if good else math.nan

    counts = (
        np.sum([np.asarray(report.bin_counts) for report in good], axis=0, dtype=np.int64) if good else None
    )
    return {
        "seed": seed,
        "batch": period,
        "env_steps": (period + 1) * spec.controller.every,
        "loss/embedding": mean("loss"),
        "loss/active_fraction": mean("active_fraction"),
        "norm/gradient": mean("grad_norm"),
        "norm/weights": float(optax.tree.norm(_trained_weights(trained.learner.network))),
        "asr/positive_distance": mean("positive_distance"),
        "asr/negative_distance": mean("negative_distance"),
        "asr/drawn": None if counts is None else counts.tolist(),
        "asr/skipped_steps": trained.skipped,
    }


def _trained_weights(network: EmbeddingNetwork) -> Any:
    return eqx.partition(network, trainable(network))[0]


def _distribution_columns(spec: ASRSpec, masses: Array) -> dict[str, Any]:
    if spec.sampler.sampler not in ("adaptive", "curriculum"):
        return {}
    found = np.asarray(masses, np.float64)
    measures = measure_distribution(found, spec.sampler.low, spec.sampler.high)
    return {
        "asr/distribution": (found / found.sum()).tolist(),
        "asr/energy": float(measures.energy),
        "asr/entropy": float(measures.entropy),
        "asr/free_energy": float(measures.free_energy),
        "asr/distance_mean": float(measures.distance_mean),
        "asr/distance_std": float(measures.distance_std),
        "asr/floor_bins": int(measures.floor_bins),
    }


def _ranks(embeddings: np.ndarray) -> dict[str, float]:
    sigma = singular_values(embeddings)
    return {
        "health/embedding/feature_rank_pca": float(feature_rank_pca(sigma)),
        "health/embedding/effective_rank": float(effective_rank(sigma)),
    }


def _key(seed: int, stream: int, period: int) -> Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), period)
