"""All that a PPO run depends on, as frozen dataclasses: the command line, `spec.json` and the run's identity.

Sources in the field descriptions: [M] Moalla et al. 2024 (arXiv 2405.00662) and its code, [S] Schulman et al. 2017
(arXiv 1707.06347), [G] Schulman et al. 2016 (GAE, arXiv 1506.02438), [C] CleanRL's ppo.py.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, runtime_checkable

import tyro

from escapevelocity.branch_point import BranchPoint
from escapevelocity.errors import UserError, require, require_seeds

if TYPE_CHECKING:
    from escapevelocity.ppo.remedy import Remedy
else:

    @runtime_checkable
    class Remedy(Protocol):
        """Stands in for the class in `ppo.remedy`, which imports JAX: help must not wait for that."""

        name: ClassVar[str]


Activation = Literal["tanh", "relu", "gelu", "leaky_relu", "crelu"]
Head = Literal["tanh_normal", "normal", "normal_independent", "softmax", "escort"]
DISCRETE_HEADS = ("softmax", "escort")
Preset = Literal["mujoco", "classic", "atari", "minatar"]

MAX_SEGMENTS = 40
SNAPSHOTS = 40  # Intervals between snapshots: 41 snapshots with the start, as in the paper.
LOGGED = 1000  # The paper logs every 0.1 % of a run.
DEFAULT_EPISODE_LIMIT = 1000  # Stands in for the limit of a task that has none, when segments are planned.


@dataclass(frozen=True)
class EnvironmentConfig:
    """How the task is run and observed."""

    backend: Literal["auto", "envpool", "gymnasium", "ale", "gymnax"] = "auto"
    """Which vector environments: auto takes ale-py's for ALE/…, Gymnax for gymnax:…, else EnvPool where it has the
    task, else Gymnasium."""
    num_envs: int = 2
    """Parallel environments per seed [M, Table 3]."""
    rollout_length: int = 1024
    """Steps of each environment per batch [M, Table 3]."""
    frame_skip: int = 1
    """Frames per step of a game, without max-pooling over them; steps of the run are then counted in frames [M]."""
    sticky_actions: float = 0.0
    """Probability that a game repeats the last action instead of the chosen one, per frame [M]."""
    rewards: Literal["raw", "sign"] = "raw"
    """What training sees of the rewards; returns are recorded raw in any case [M]."""
    time_limit: Literal["termination", "truncation"] = "termination"
    """A time limit counts as a termination (finite horizon [M]) or a truncation (its value is bootstrapped)."""
    episode_limit: int | None = None
    """The agent's steps after which an episode is cut; by default the task's own limit."""
    append_time: bool = True
    """Append the time 2t/limit − 1 to the observation, which a finite horizon needs [M, code]."""
    normalization: Literal["fixed", "none"] = "fixed"
    """fixed: mean and std of a uniform policy's first steps, never updated [M, code]."""
    normalization_steps: int = 4000
    """Steps per seed for the fixed normalisation [M, code]."""

    def __post_init__(self) -> None:
        require(self.num_envs >= 1, "num-envs", self.num_envs, "at least 1")
        require(self.rollout_length >= 2, "rollout-length", self.rollout_length, "at least 2")
        require(
            self.episode_limit is None or self.episode_limit >= 1,
            "episode-limit",
            self.episode_limit,
            "at least 1",
        )
        require(self.normalization_steps >= 2, "normalization-steps", self.normalization_steps, "at least 2")
        require(self.frame_skip >= 1, "frame-skip", self.frame_skip, "at least 1")
        require(0 <= self.sticky_actions < 1, "sticky-actions", self.sticky_actions, "at least 0 and below 1")


@dataclass(frozen=True)
class NetworkConfig:
    """Actor and critic networks of the same shape."""

    convolutions: Literal["none", "nature", "minatar"] = "none"
    """Layers before the hidden ones, for images: nature is 32×8/4, 64×4/2, 64×3/1 [M, Table 2]; minatar is 16×3/1."""
    hidden: tuple[int, ...] = (64, 64)
    """Units of each hidden layer; the last is the penultimate layer that health looks at [M, Table 3]."""
    activation: Activation = "tanh"
    """Activation of the hidden layers [M, Table 3]; crelu is relu of x and of −x side by side."""
    layer_norm: bool = False
    """Normalise each hidden layer before its activation (Ba et al. 2016)."""
    spectral_norm: Literal["none", "last", "all"] = "none"
    """Divide the weights of the last or of all hidden layers by their largest singular value (Miyato et al. 2018)."""
    trunk: Literal["separate", "shared"] = "separate"
    """Whether actor and critic share all hidden layers [M, Section 4]."""
    trunk_updates: Literal["once", "twice"] = "once"
    """A shared trunk is clipped and stepped once per minibatch, or once by each of two optimisers [M, code]."""
    initialization: Literal["torch", "orthogonal"] = "torch"
    """torch: weights and biases uniform ±1/√fan_in, heads too [M, code]; orthogonal: gains √2, 0.01 (actor) and 1
    (critic), zero biases [C]."""
    head: Head = "tanh_normal"
    """Action distribution: tanh_normal and normal have a state-dependent std, normal_independent has one per
    dimension; softmax and escort are for discrete actions."""
    escort_p: float = 2.0
    """Power of the escort head, π(a) ∝ |θ(a)|^p with θ = 1 + W·h (Mei et al. 2020)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        accepted = "one or more layers of at least 1 unit"
        require(len(self.hidden) >= 1 and min(self.hidden) >= 1, "hidden", self.hidden, accepted)
        require(1 <= self.escort_p < math.inf, "escort-p", self.escort_p, "a finite number of at least 1")


@dataclass(frozen=True)
class ObjectiveConfig:
    """Advantages and losses."""

    gamma: float = 0.99
    """Discount γ [M, Table 3]."""
    gae_lambda: float = 0.95
    """λ of generalised advantage estimation [G, eq. 16]."""
    clip_epsilon: float = 0.2
    """ε of the clipped objective [S, eq. 7]."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus [S, eq. 9]."""
    value_coef: float = 0.5
    """Weight of the mean squared value error [M, Table 3]."""
    clip_value: bool = False
    """Clip the value update by ε too, as CleanRL does [C]."""
    normalize_advantages: bool = True
    """Per minibatch: (A − mean) / max(std, 1e-6) [M, code]."""

    def __post_init__(self) -> None:
        require(0 <= self.gamma <= 1, "gamma", self.gamma, "between 0 and 1")
        require(0 <= self.gae_lambda <= 1, "gae-lambda", self.gae_lambda, "between 0 and 1")
        require(0 < self.clip_epsilon < 1, "clip-epsilon", self.clip_epsilon, "above 0 and below 1")
        require(
            0 <= self.entropy_coef < math.inf,
            "entropy-coef",
            self.entropy_coef,
            "a finite number of at least 0",
        )
        require(
            0 <= self.value_coef < math.inf, "value-coef", self.value_coef, "a finite number of at least 0"
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam over epochs of minibatches."""

    learning_rate: float = 3e-4
    """Adam's step size [M, Table 3]."""
    anneal: Literal["none", "linear"] = "none"
    """linear: the learning rate falls to 0 over the run, per batch [C]."""
    adam_beta1: float = 0.9
    """Decay of the first moment [M, Table 3]."""
    adam_beta2: float = 0.999
    """Decay of the second moment [M, Table 3]."""
    adam_eps: float = 1e-8
    """Added to the root of the second moment [M, Table 3]."""
    max_grad_norm: float = 0.5
    """Largest global gradient norm; larger gradients are scaled down to it [M, Table 3]."""
    clip_gradients: Literal["apart", "jointly"] = "apart"
    """Clip actor and critic each by its own norm [M], or both by their common one [C]."""
    epochs: int = 10
    """Passes over each batch; more of them bring the collapse forward [M, Fig. 1]."""
    minibatch_size: int = 64
    """Samples per gradient step [M, Table 3]."""

    def __post_init__(self) -> None:
        require(
            0 < self.learning_rate < math.inf, "learning-rate", self.learning_rate, "a finite number above 0"
        )
        require(0 <= self.adam_beta1 < 1, "adam-beta1", self.adam_beta1, "at least 0 and below 1")
        require(0 <= self.adam_beta2 < 1, "adam-beta2", self.adam_beta2, "at least 0 and below 1")
        require(0 < self.adam_eps < math.inf, "adam-eps", self.adam_eps, "a finite number above 0")
        require(self.max_grad_norm > 0, "max-grad-norm", self.max_grad_norm, "above 0 (inf: no clipping)")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.minibatch_size >= 1, "minibatch-size", self.minibatch_size, "at least 1")


@dataclass(frozen=True)
class MonitoringConfig:
    """What is measured, and what happens when a number is not finite."""

    health_every: int | None = None
    """Measure health on every n-th batch; 0 measures none. By default on every batch, and where networks have
    convolutions or environments run on the device every 0.1 % of the run [M, code]."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """A non-finite loss, gradient or parameter: stop the run (a population freezes that member), or skip the
    minibatch and count it."""

    def __post_init__(self) -> None:
        accepted = "0 (never) or a number of batches"
        require(
            self.health_every is None or self.health_every >= 0, "health-every", self.health_every, accepted
        )


@dataclass(frozen=True)
class PPOSpec:
    """One training run: a task, a population of seeds, and all settings. The defaults are the preset `mujoco`."""

    task: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(metavar="TASK", help_behavior_hint="(required without --config)"),
    ] = "Hopper-v4"
    """Environment id: EnvPool's or Gymnasium's such as Hopper-v4, ALE/Phoenix-v5, or gymnax:Breakout-MinAtar."""
    preset: Preset = "mujoco"
    """Where the defaults come from: mujoco [M, Table 3], atari [M, Table 2], classic [C] or minatar; follows from the
    task."""
    seeds: tuple[int, ...] = (1,)
    """Seeds of the population, trained as one program: integers and inclusive ranges a:b. A seed fixes
    initialisation, environments and sampling."""
    steps: int = 5_000_000
    """Environment steps per seed (frames, for games with a frame skip); rounded down to whole batches."""
    environment: Annotated[EnvironmentConfig, tyro.conf.arg(name="")] = field(
        default_factory=EnvironmentConfig
    )
    """How the task is run and observed."""
    network: Annotated[NetworkConfig, tyro.conf.arg(name="")] = field(default_factory=NetworkConfig)
    """Actor and critic."""
    objective: Annotated[ObjectiveConfig, tyro.conf.arg(name="")] = field(default_factory=ObjectiveConfig)
    """Advantages and losses."""
    optimizer: Annotated[OptimizerConfig, tyro.conf.arg(name="")] = field(default_factory=OptimizerConfig)
    """Adam over epochs of minibatches."""
    monitoring: Annotated[MonitoringConfig, tyro.conf.arg(name="")] = field(default_factory=MonitoringConfig)
    """Health and faults."""
    remedies: Annotated[tuple[Remedy, ...], tyro.conf.Suppress] = ()
    """What is done against a collapse, in this order."""
    branch: Annotated[BranchPoint | None, tyro.conf.Suppress] = None
    """Where the run leaves its parent, if it is a branch."""

    def __post_init__(self) -> None:
        require(len(self.task) > 0, "task", self.task, "an environment id such as Hopper-v4")
        object.__setattr__(self, "seeds", tuple(self.seeds))  # A list could not be part of a program's key.
        require_seeds(self.seeds)
        names = [remedy.name for remedy in self.remedies]
        for name in names:
            require(names.count(name) == 1, "remedy", name, "a remedy that is not given twice")
        size, minibatch = self.batch_size, self.optimizer.minibatch_size
        accepted = "at least 2, or --no-normalize-advantages: of one sample's advantage nothing would be left"
        enough = minibatch > 1 or not self.objective.normalize_advantages
        require(enough, "minibatch-size", minibatch, accepted)
        if size % minibatch:
            near = max(d for d in range(1, minibatch + 1) if size % d == 0)
            raise UserError(
                f"minibatch-size = {minibatch}: must divide the batch of {size} = num-envs × rollout-length; "
                f"{near} does"
            )
        if self.num_batches == 0:
            skip = " × frame-skip" if self.environment.frame_skip > 1 else ""
            raise UserError(
                f"steps = {self.steps}: must be at least one batch of {self.batch_steps} = "
                f"num-envs × rollout-length{skip}"
            )

    @property
    def batch_size(self) -> int:
        """Samples per batch and seed."""
        return self.environment.num_envs * self.environment.rollout_length

    @property
    def batch_steps(self) -> int:
        """Environment steps (frames, where a game skips some) per batch and seed."""
        return self.batch_size * self.environment.frame_skip

    @property
    def num_batches(self) -> int:
        """Whole batches that fit into `steps`."""
        return max(self.steps, 0) // self.batch_steps

    @property
    def health_interval(self) -> int:
        """Health is measured on every so many batches; 0 for never."""
        if self.monitoring.health_every is not None:
            return self.monitoring.health_every
        sparse = self.network.convolutions != "none" or self.task.startswith("gymnax:")
        return max(1, self.num_batches // LOGGED) if sparse else 1

    def num_segments(self, episode_limit: int | None) -> int:
        """Segments of the run: each at least 10 × the episode limit per environment, and 40 at most."""
        if self.branch is not None:
            return self.branch.num_segments(self.num_batches)
        env = self.environment
        shortest = 10 * (episode_limit or DEFAULT_EPISODE_LIMIT) * env.num_envs * env.frame_skip
        return min(MAX_SEGMENTS, max(1, self.steps // shortest), self.num_batches)

    def boundary(self, segment: int, num_segments: int) -> int:
        """Batches done when `segment` segments are done."""
        if self.branch is not None:
            return self.branch.boundary(segment, self.num_batches)
        return self.num_batches * segment // num_segments

    def snapshot_index(self, batches_done: int) -> int | None:
        """The number of the snapshot due when `batches_done` batches are done, or None."""
        index = batches_done * SNAPSHOTS // self.num_batches
        first = batches_done == 0 or (batches_done - 1) * SNAPSHOTS // self.num_batches < index
        return index if first else None
