"""All that a run of adaptive sampling depends on, as frozen dataclasses: command line, `spec.json`, the run's identity.

Sources in the field descriptions: [A] Dou et al. 2022 (ASR, arXiv 2208.08056), [P] Roth et al. 2020 (PADS, arXiv
2003.11113) and its code, [W] Wu et al. 2017 (arXiv 1706.07567), [S] Schulman et al. 2017 (arXiv 1707.06347).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from escapevelocity.branch_point import BranchPoint
from escapevelocity.errors import require, require_seeds

DataName = Literal["digits", "mnist", "fashion-mnist", "omniglot", "cub200", "cars196", "sop"]
SamplerName = Literal["random", "semihard", "hard", "distance", "adaptive", "curriculum"]
MAX_SEGMENTS = 40
SNAPSHOTS = 40  # Intervals between snapshots of the parameters: 41 with the start, as for PPO.
PERIODS_PER_SEGMENT = 10  # Fewest decisions in a segment, so that checkpoints cost little.


@dataclass(frozen=True)
class DataConfig:
    """Images and their split: half of the classes are never trained on and make the test set [A]."""

    data: DataName = "digits"
    """Images; digits come with scikit-learn, the others lie in a folder (data-dir) or are downloaded."""
    validation_share: float = 0.15
    """Share of the training data that the controller's rewards are measured on [A]."""
    validation_split: Literal["class", "within"] = "class"
    """Whether validation takes whole classes, or images of every class [P]."""

    def __post_init__(self) -> None:
        share = self.validation_share
        require(0 < share < 1, "validation-share", share, "above 0 and below 1; rewards are measured on it")


@dataclass(frozen=True)
class LearnerConfig:
    """The embedding network, its loss and its optimiser."""

    backbone: Literal["cnn", "resnet50"] = "cnn"
    """cnn: four 3×3 convolutions, for small images; resnet50: for photographs [A]."""
    weights: str | None = None
    """Safetensors file with ImageNet weights of ResNet-50 under torchvision's names; without it, random ones."""
    embedding_dim: int = 128
    """Dimensions of the embedding, which lies on the unit sphere [A]."""
    loss: Literal["margin", "triplet"] = "margin"
    """Margin loss with a learned boundary β for every class [W], or triplet loss."""
    margin: float = 0.2
    """Margin of either loss [A]."""
    beta: float = 1.2
    """Where every class's boundary begins [W]; 0.6 in [P]'s second setting."""
    beta_learning_rate: float = 5e-4
    """Step size of the boundaries [P]."""
    learning_rate: float = 1e-3
    """Adam's step size; 1e-5 for a ResNet-50 with ImageNet weights [A]."""
    weight_decay: float = 4e-4
    """Added to the gradient as weight_decay × weight, before Adam, as torch.optim.Adam does [P, code]."""
    milestones: tuple[int, ...] = ()
    """Training steps after which the learning rate is multiplied by --milestone-factor [P]."""
    milestone_factor: float = 0.3
    """What the learning rate is multiplied by at a milestone [P]."""
    batch_size: int = 112
    """Images per training step [A]."""
    per_class: int = 4
    """Images of each class in a batch, m; a batch holds batch-size / m classes [A]."""

    def __post_init__(self) -> None:
        above = "a finite number above 0"
        require(self.embedding_dim >= 2, "embedding-dim", self.embedding_dim, "at least 2")
        require(
            0 <= self.margin < 4,
            "margin",
            self.margin,
            "at least 0 and below 4, the largest distance squared",
        )
        require(0 < self.beta < 2, "beta", self.beta, "above 0 and below 2, the largest distance")
        require(
            0 <= self.beta_learning_rate < math.inf,
            "beta-learning-rate",
            self.beta_learning_rate,
            "at least 0",
        )
        require(0 < self.learning_rate < math.inf, "learning-rate", self.learning_rate, above)
        require(0 <= self.weight_decay < math.inf, "weight-decay", self.weight_decay, "at least 0")
        ordered = (
            tuple(sorted(set(self.milestones))) == self.milestones and min(self.milestones, default=1) >= 1
        )
        ordered = ordered and max(self.milestones, default=1) < 2**31  # Steps are counted in 32 bits.
        require(ordered, "milestones", self.milestones, "training steps from 1 to 2³¹ − 1 in rising order")
        require(
            0 < self.milestone_factor <= 1, "milestone-factor", self.milestone_factor, "above 0 and at most 1"
        )
        require(
            self.per_class >= 2,
            "per-class",
            self.per_class,
            "at least 2; a positive is another image of a class",
        )
        classes = self.batch_size / self.per_class
        accepted = f"a multiple of per-class = {self.per_class} with at least two classes"
        require(classes >= 2 and classes == int(classes), "batch-size", self.batch_size, accepted)

    @property
    def batch_classes(self) -> int:
        """Classes in a batch."""
        return self.batch_size // self.per_class


@dataclass(frozen=True)
class SamplerConfig:
    """How the negative of each anchor is chosen."""

    sampler: SamplerName = "adaptive"
    """random, semihard, hard, distance [W], adaptive [A, P], or curriculum: --init, then --then from --switch-at on."""
    bins: int = 29
    """Equal bins of the anchor–negative distance [P]."""
    low: float = 0.1
    """Lower edge of the first bin; nearer candidates count to it [P]."""
    high: float = 1.4
    """Upper edge of the last bin; farther candidates count to it [P]."""
    init: str = "broad"
    """Start of the distribution: broad = normal(0.75, 0.4), narrow = normal(0.5, 0.05), normal(MEAN,STD),
    uniform(MEAN,STD), flat, distance, or one of [P]'s eleven as pads_NAME (ev asr starts lists them)."""
    then: str = "broad"
    """Distribution that a curriculum ends with."""
    switch_at: float = 0.5
    """Share of the training after which a curriculum changes from --init to --then."""
    self_regularisation: bool = True
    """Positives and the anchor itself may be drawn as negatives [P]."""

    def __post_init__(self) -> None:
        require(2 <= self.bins <= 1000, "bins", self.bins, "between 2 and 1000")
        require(0 < self.high <= 2, "high", self.high, "above 0 and at most 2")
        require(0 <= self.low < self.high, "low", self.low, f"at least 0 and below high = {self.high}")
        require(0 <= self.switch_at <= 1, "switch-at", self.switch_at, "between 0 and 1")


@dataclass(frozen=True)
class ControllerConfig:
    """The agent that moves the distribution."""

    every: int = 30
    """Training steps from one decision to the next [P]."""
    method: Literal["ppo", "reinforce"] = "ppo"
    """PPO's ratio with a value baseline, or REINFORCE with a running mean of the rewards [P]."""
    head: Literal["softmax", "escort"] = "softmax"
    """Policy over {×0.8, ×1, ×1.25} for every bin."""
    escort_p: float = 2.0
    """Power of the escort head, π(a) ∝ |θ(a)|^p with θ = 1 + W·h (Mei et al. 2020)."""
    hidden: tuple[int, ...] = (128, 128)
    """Units of each hidden layer [P]."""
    weight_std: float | None = None
    """Standard deviation of normal initial weights; without it, uniform ±1/√fan_in as PyTorch's [P]."""
    step_up: float = 1.25
    """Factor by which an action raises a bin's mass; its inverse lowers it [P]."""
    reward: Literal["sign", "change", "level"] = "sign"
    """Sign of the change of the metric, the change itself, or its level [A]."""
    reward_weights: tuple[float, float, float, float, float] = (0.5, 0.0, 0.0, 0.0, 0.5)
    """Weights of Recall@1, 2, 4, 8 and NMI in the metric [A]."""
    gamma: float = 0.99
    """Discount γ [A]."""
    clip_epsilon: float = 0.2
    """ε of the clipped objective [S]."""
    refresh_every: int = 5
    """Updates after which the old policy of PPO's ratio becomes the present one [P]."""
    baseline_decay: float = 0.05
    """Weight of the newest reward in REINFORCE's running mean [P]."""
    controller_learning_rate: float = 0.01
    """Adam's step size [P]."""

    def __post_init__(self) -> None:
        require(self.every >= 1, "every", self.every, "at least 1")
        require(1 <= self.escort_p < math.inf, "escort-p", self.escort_p, "a finite number of at least 1")
        units = len(self.hidden) >= 1 and min(self.hidden) >= 1
        require(units, "hidden", self.hidden, "one or more layers of at least 1 unit")
        std = self.weight_std
        require(std is None or 0 <= std < math.inf, "weight-std", std, "a finite number of at least 0")
        require(1 < self.step_up <= 1000, "step-up", self.step_up, "above 1 and at most 1000")
        weights = self.reward_weights
        fine = len(weights) == 5 and all(0 <= w < math.inf for w in weights) and 0 < sum(weights) < math.inf
        require(
            fine,
            "reward-weights",
            weights,
            "five numbers of at least 0 for Recall@1, 2, 4, 8 and NMI, not all 0",
        )
        require(0 <= self.gamma <= 1, "gamma", self.gamma, "between 0 and 1")
        require(0 < self.clip_epsilon < 1, "clip-epsilon", self.clip_epsilon, "above 0 and below 1")
        require(self.refresh_every >= 1, "refresh-every", self.refresh_every, "at least 1")
        require(0 < self.baseline_decay <= 1, "baseline-decay", self.baseline_decay, "above 0 and at most 1")
        rate = self.controller_learning_rate
        require(0 < rate < math.inf, "controller-learning-rate", rate, "a finite number above 0")


@dataclass(frozen=True)
class ASRSpec:
    """One training run of an embedding whose negatives a policy chooses."""

    data: Annotated[DataConfig, tyro.conf.arg(name="")] = field(default_factory=DataConfig)
    """Images and their split."""
    seeds: tuple[int, ...] = (1,)
    """Seeds of the population: integers and inclusive ranges a:b. A seed fixes weights, batches and sampling; the split
    of the images is the same for all."""
    steps: int = 900
    """Training steps per seed; rounded down to whole decisions."""
    learner: Annotated[LearnerConfig, tyro.conf.arg(name="")] = field(default_factory=LearnerConfig)
    """The embedding."""
    sampler: Annotated[SamplerConfig, tyro.conf.arg(name="")] = field(default_factory=SamplerConfig)
    """The choice of negatives."""
    controller: Annotated[ControllerConfig, tyro.conf.arg(name="")] = field(default_factory=ControllerConfig)
    """The agent."""
    test_every: int | None = None
    """Measure the test classes every so many decisions, and at the end; by default 40 times in a run."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """A non-finite loss, gradient or embedding: stop the run (a population freezes that member), or skip the training
    step and count it."""
    data_dir: Path | None = field(default=None, metadata={"observer": True})
    """Folder that holds the files of the images; by default the environment variable EV_DATA_DIR, then the cache."""

    branch: Annotated[BranchPoint | None, tyro.conf.Suppress] = None
    """Where the run leaves its parent, if it is a branch."""

    def __post_init__(self) -> None:
        require_seeds(self.seeds)
        every = self.controller.every
        require(self.num_periods >= 1, "steps", self.steps, f"at least one decision of every = {every} steps")
        test = self.test_every
        require(test is None or test >= 1, "test-every", test, "a number of decisions of at least 1")

    @property
    def num_periods(self) -> int:
        """Whole periods from decision to decision that fit into `steps`; one record for each and seed."""
        return max(self.steps, 0) // self.controller.every

    @property
    def num_segments(self) -> int:
        """Segments of the run: each at least 10 periods, and 40 at most."""
        if self.branch is not None:
            return self.branch.num_segments(self.num_periods)
        return min(MAX_SEGMENTS, max(1, self.num_periods // PERIODS_PER_SEGMENT))

    def boundary(self, segment: int) -> int:
        """Periods done when `segment` segments are done."""
        if self.branch is not None:
            return self.branch.boundary(segment, self.num_periods)
        return self.num_periods * segment // self.num_segments

    @property
    def test_interval(self) -> int:
        """Periods from one measurement of the test classes to the next."""
        return self.test_every or max(1, self.num_periods // SNAPSHOTS)

    def snapshot_index(self, periods_done: int) -> int | None:
        """The number of the snapshot due when `periods_done` periods are done, or None."""
        index = periods_done * SNAPSHOTS // self.num_periods
        first = periods_done == 0 or (periods_done - 1) * SNAPSHOTS // self.num_periods < index
        return index if first else None
