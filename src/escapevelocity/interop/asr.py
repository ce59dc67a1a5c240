"""Adaptive sampling with reward as a miner of pytorch-metric-learning."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import BaseMiner
from torch import Tensor

from escapevelocity.errors import UserError, require
from escapevelocity.interop._asr_torch import (
    adaptive_log_weights,
    draw,
    numbered_generator,
    uniform_log_weights,
)
from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.controller import (
    Controller,
    make_controller,
    take_turn,
    turn_columns,
)
from escapevelocity.metric_learning.distribution import measure_distribution
from escapevelocity.metric_learning.samplers import require_masses
from escapevelocity.metric_learning.state import METRIC_NAMES, metric_vector

__all__ = ["AdaptiveMiner"]

_CONTROLLER, _DECISION = 1, 12  # Streams of random numbers, those of a run of `ev asr`.


class _State(NamedTuple):
    """All that the miner needs to go on."""

    controller: Controller
    seed: int
    draws: int
    """Batches that triplets were drawn from."""
    turns: int
    """Decisions of the controller."""


class AdaptiveMiner(BaseMiner):
    """Chooses negatives by their distance, with a distribution that a policy moves as training goes on.

    Adaptive Sample with Reward (Dou et al. 2022, arXiv 2208.08056; Roth et al. 2020, PADS, arXiv 2003.11113). Used as
    any miner: `loss(embeddings, labels, miner(embeddings, labels))`, with a batch of references or without. Every
    anchor gets one triplet: a positive, uniformly among the others of its class, and a negative in proportion to the
    mass of the bin of distance that it lies in. With `self_regularisation` (on by default) the "negative" may be of
    the anchor's class, or the anchor itself. An anchor without a positive or a candidate is left out, as elsewhere.

    Every few training steps (PADS: 30), call `update` with metrics of a validation set: the controller is paid,
    learns, and moves the masses. Without it they stay as they began.

    Triplets are drawn on the embeddings' device, and only their number is read back from it. Which are drawn depends
    on the seed and the number of batches so far, not on torch's random state. The controller is small and runs in
    JAX, in a few milliseconds. `state_dict` holds all that is needed to go on, the seed too.

    Example:
        >>> embeddings = torch.eye(4)
        >>> miner = AdaptiveMiner(SamplerConfig(init="broad", self_regularisation=False), seed=1)
        >>> anchors, positives, negatives = miner(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> anchors, positives
        (tensor([0, 1, 2, 3]), tensor([1, 0, 3, 2]))
        >>> round(miner.measures()["asr/distance_mean"], 2)
        0.75
    """

    def __init__(
        self,
        sampler: SamplerConfig | None = None,
        controller: ControllerConfig | None = None,
        *,
        seed: int = 0,
        embedding_dim: int = 128,
        **kwargs: Any,
    ) -> None:
        """Make a miner whose controller has seen nothing.

        Args:
            sampler: bins, support and start of the distribution; by default 29 bins on [0.1, 1.4] and `broad`.
            controller: the agent's settings. `every` is not read: you decide when to call `update`.
            seed: of the draws and of the controller.
            embedding_dim: dimension of the embedding; only the start `distance` needs it.
            **kwargs: for pytorch-metric-learning's `BaseMiner`.

        The controller is computed by JAX, which by default takes most of a GPU's memory: set JAX_PLATFORMS=cpu to leave
        it to PyTorch.

        Raises:
            UserError: another sampler than "adaptive", a start that cannot be read, a seed out of range, or a
                distance that is not the Euclidean one between unit vectors.
        """
        super().__init__(**kwargs)
        self.sampler = SamplerConfig() if sampler is None else sampler
        self.config = ControllerConfig() if controller is None else controller
        accepted = "'adaptive'; pytorch-metric-learning has its own miners for the others"
        require(self.sampler.sampler == "adaptive", "sampler", self.sampler.sampler, accepted)
        require(0 <= seed < 2**31, "seed", seed, "between 0 and 2147483647")
        require(
            _is_euclidean(self.distance),
            "distance",
            type(self.distance).__name__,
            "LpDistance with p = 2, power = 1 and normalize_embeddings = True, which the bins are made for",
        )
        key = jax.random.fold_in(jax.random.key(seed), _CONTROLLER)
        fresh = make_controller(self.config, self.sampler, key, embedding_dim)
        self._set_state(_State(fresh, seed, draws=0, turns=0))

    def mine(
        self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor, ref_labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw one triplet for every anchor; call the miner itself, which checks its arguments.

        Args:
            embeddings: (anchors, dim), of any length above 0.
            labels: (anchors,).
            ref_emb: (candidates, dim), positives and negatives are chosen from; `embeddings` where there are no others.
            ref_labels: (candidates,).

        Returns:
            Indices (triplets,) of anchors in `embeddings`, and of positives and negatives in `ref_emb`.
        """
        distances = self.distance(_at_least_single(embeddings), _at_least_single(ref_emb))
        same = labels[:, None] == ref_labels[None, :]
        others = same
        if ref_emb is embeddings:
            others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        candidates = torch.ones_like(same) if self.sampler.self_regularisation else ~same
        self._masses = self._masses.to(distances.device)
        generator = numbered_generator(self._state.seed, self._state.draws, distances.device)
        self._state = self._state._replace(draws=self._state.draws + 1)
        positives = draw(uniform_log_weights(others, distances), generator)
        negatives = draw(
            adaptive_log_weights(distances, candidates, self._masses, self.sampler.low, self.sampler.high),
            generator,
        )
        anchors = (others.any(dim=1) & candidates.any(dim=1)).nonzero()[:, 0]
        return anchors, positives[anchors], negatives[anchors]

    def update(self, metrics: Mapping[str, float], progress: float) -> dict[str, float]:
        """Let the controller be paid for its last decision, learn from it, and decide anew.

        Args:
            metrics: of the validation set, as `measure_embeddings` gives them; others beside them are not read. Where
                one that the reward is made of is NaN, nothing is learned.
            progress: share of the training that is done, 0 to 1.

        Returns:
            What happened, under the names of the table of metrics: `asr/metric`, `asr/reward` (NaN at the first
            call), `asr/policy_entropy` and their like. Together with `measures()` from *before* the call it is the
            row that a run of `ev asr` records.

        Raises:
            UserError: a metric that is missing, or a progress out of range.
        """
        missing = [name for name in METRIC_NAMES if name not in metrics]
        if missing:
            raise UserError(
                f"metrics: {missing[0]} is missing; must hold {', '.join(METRIC_NAMES)}, as measure_embeddings gives"
            )
        require(0 <= progress <= 1, "progress", progress, "between 0 and 1")
        state = self._state
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), _DECISION), state.turns)
        vector, done = jnp.asarray(metric_vector(metrics)), jnp.float32(progress)
        controller, turn = take_turn(self.config, state.controller, vector, done, key)
        self._set_state(state._replace(controller=controller, turns=state.turns + 1))
        return turn_columns(turn)

    @property
    def distribution(self) -> Tensor:
        """Share of every bin (bins,), on the CPU; the bins are equal ones from `sampler.low` to `sampler.high`."""
        masses = self._host_masses()
        return torch.from_numpy(masses / masses.sum())

    def measures(self) -> dict[str, float]:
        """What the distribution is like, for logging: `asr/entropy`, `asr/distance_mean` and their like.

        The others are `asr/energy`, `asr/free_energy`, `asr/distance_std` and `asr/floor_bins`; the table of metrics
        defines them.
        """
        found = measure_distribution(self._host_masses(), self.sampler.low, self.sampler.high)
        return {f"asr/{name}": float(value) for name, value in found._asdict().items()}

    def _host_masses(self) -> np.ndarray:
        return np.asarray(self._state.controller.masses, np.float64)

    def _set_state(self, state: _State) -> None:
        self._state = state
        self._masses = torch.tensor(np.asarray(state.controller.masses))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: torch.tensor(leaf) for name, leaf in _named(self._state).items()})

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        expected = _named(self._state)
        given = {name: state_dict[prefix + name] for name in expected if prefix + name in state_dict}
        rest = {key: value for key, value in state_dict.items() if key.removeprefix(prefix) not in expected}
        super()._load_from_state_dict(
            rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        missing = [prefix + name for name in expected if name not in given]
        wrong = [line for name, value in given.items() for line in _mismatch(name, value, expected[name])]
        missing_keys += missing
        error_msgs += wrong
        if missing or wrong:
            return
        state = _restored(self._state, {name: value.cpu().numpy() for name, value in given.items()})
        try:
            require_masses(state.controller.masses, self.sampler)
        except UserError as error:
            error_msgs.append(str(error))
        else:
            self._set_state(state)


def _at_least_single(embeddings: Tensor) -> Tensor:
    """Half precision is raised: it cannot tell neighbouring bins apart reliably."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()


def _is_euclidean(distance: Any) -> bool:
    plain = isinstance(distance, LpDistance) and (distance.p, distance.power) == (2, 1)
    return plain and bool(distance.normalize_embeddings)


def _named(state: _State) -> dict[str, np.ndarray]:
    """Every array and number of the state by its place, as torch names parameters: `controller.network.weights.0`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def _restored(like: _State, arrays: Mapping[str, np.ndarray]) -> _State:
    """A state of the form of `like` from all of its arrays."""
    leaves, structure = jax.tree.flatten(like)
    values = [
        jnp.asarray(array) if isinstance(leaf, jax.Array) else array.item()
        for leaf, array in zip(leaves, (arrays[name] for name in _named(like)), strict=True)
    ]
    return jax.tree.unflatten(structure, values)


def _mismatch(name: str, value: Any, expected: np.ndarray) -> list[str]:
    """A line if a value cannot stand for an array."""
    wanted = torch.tensor(expected)
    if isinstance(value, Tensor) and (value.shape, value.dtype) == (wanted.shape, wanted.dtype):
        return []
    what = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    return [
        f"{name} is {what}: must be {wanted.dtype} {tuple(wanted.shape)}, as the miner's settings have it"
    ]
