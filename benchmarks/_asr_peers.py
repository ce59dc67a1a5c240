"""What the benchmark of adaptive sampling times, each in a fresh process: `python -m benchmarks._asr_peers JOB RESULT`.

The peer is pytorch-metric-learning's distance-weighted miner and margin loss around the same network in PyTorch, which
starts from the same weights and sees the same batches.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._common import write_json

SHAPE = (28, 28, 1)
SEED = 1
WARM_UP = 3  # steps, the first of which compiles
BATCHES = 16  # different ones, in turn
BLOCK = 10  # steps of one contender before the other's turn
ALONE = 200  # calls of the sampler by itself
_CLASSES, _DRAWINGS = 116, 20  # of Omniglot's training part: 136 characters, of which 15 % go to validation


class Batch(NamedTuple):
    """One training batch."""

    images: np.ndarray
    """(batch, height, width, channels), float32 in [0, 1]."""
    labels: np.ndarray
    """(batch,), int32."""


class Given(NamedTuple):
    """What every contender trains on."""

    batches: list[Batch]
    num_classes: int


def load(count: int, job: Mapping[str, Any]) -> Given:
    """Class-balanced batches of Omniglot, or of random images of the same shape.

    Args:
        count: how many.
        job: `images` is "omniglot" or "random"; `data_dir` is where Omniglot's files are.
    """
    from escapevelocity.metric_learning.batches import balanced_batch, indices_by_class
    from escapevelocity.metric_learning.config import DataConfig, LearnerConfig
    from escapevelocity.metric_learning.splits import load_split

    rng, config = np.random.default_rng(SEED), LearnerConfig()
    if job["images"] == "omniglot":
        folder = None if job["data_dir"] is None else Path(job["data_dir"])
        train = load_split(DataConfig("omniglot"), folder).train
        images, labels = train.images.batch(np.arange(len(train.labels)), None), train.labels
    else:
        labels = np.repeat(np.arange(_CLASSES, dtype=np.int32), _DRAWINGS)
        images = rng.random((len(labels), *SHAPE), np.float32)
    by_class = indices_by_class(labels)
    chosen = [balanced_batch(by_class, config.batch_classes, config.per_class, rng) for _ in range(count)]
    return Given([Batch(images[indices], labels[indices]) for indices in chosen], len(by_class))


def torch_network(network: Any) -> Any:
    """The small CNN in PyTorch, with the weights of ours.

    Args:
        network: a `SmallCNN`.

    Returns:
        A module that maps (batch, channels, height, width) to unit vectors (batch, dim).
    """
    import torch
    from torch import nn

    def tensor(array: Any, *axes: int) -> torch.nn.Parameter:
        return nn.Parameter(torch.from_numpy(np.array(array).transpose(axes).copy()))

    layers: list[nn.Module] = []
    for number, (kernel, bias) in enumerate(zip(network.kernels, network.biases, strict=True)):
        strides = number == 0 and network.halves[0]
        layer = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, stride=2 if strides else 1, padding=1)
        layer.weight, layer.bias = tensor(kernel, 3, 2, 0, 1), tensor(bias, 0)
        layers += [layer, *([nn.MaxPool2d(2)] if network.halves[number] and not strides else []), nn.ReLU()]
    linear = nn.Linear(*network.weight.shape)
    linear.weight, linear.bias = tensor(network.weight, 1, 0), tensor(network.bias, 0)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.linear = nn.Sequential(*layers), linear

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.normalize(self.linear(self.body(images).mean(dim=(2, 3))))

    return Network()


def torch_trainer(
    network: Any, num_classes: int, channels_last: bool
) -> tuple[Any, Callable[[Batch], float]]:
    """The peer: DistanceWeightedMiner, MarginLoss with a learned β for every class, Adam.

    Args:
        network: a `SmallCNN`, whose weights it starts from.
        num_classes: classes of the training set.
        channels_last: PyTorch's memory format for the images.

    Returns:
        The module, and a function that takes a training step of it on a batch and returns its loss.
    """
    import torch
    from pytorch_metric_learning.losses import MarginLoss
    from pytorch_metric_learning.miners import DistanceWeightedMiner

    from escapevelocity.metric_learning.config import LearnerConfig

    config = LearnerConfig()
    torch.manual_seed(SEED)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = torch_network(network).to(memory_format=layout)
    miner = DistanceWeightedMiner()
    criterion = MarginLoss(config.margin, beta=config.beta, learn_beta=True, num_classes=num_classes)
    weights = {"params": model.parameters(), "lr": config.learning_rate, "weight_decay": config.weight_decay}
    optimiser = torch.optim.Adam(
        [weights, {"params": criterion.parameters(), "lr": config.beta_learning_rate}]
    )

    def step(batch: Batch) -> float:
        images = torch.from_numpy(batch.images).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        labels = torch.from_numpy(batch.labels).long()
        embeddings = model(images)
        loss = criterion(embeddings, labels, miner(embeddings, labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return model, step


class OurStep:
    """A training step of ours with one sampler."""

    def __init__(self, sampler: str, num_classes: int) -> None:
        import jax
        import jax.numpy as jnp

        from escapevelocity.metric_learning.config import LearnerConfig, SamplerConfig
        from escapevelocity.metric_learning.learner import make_learner, make_train_step

        config, choice = LearnerConfig(), SamplerConfig(sampler=sampler)  # pyright: ignore[reportArgumentType]
        self.learner = make_learner(config, SHAPE, num_classes, jax.random.key(SEED))
        self.step = make_train_step(config, choice, num_classes)
        self.masses, self.key = jnp.ones(choice.bins), jax.random.key(SEED)
        self.fold_in, self.done = jax.random.fold_in, 0

    def __call__(self, batch: Batch) -> float:
        """Take a step and return its loss."""
        key = self.fold_in(self.key, self.done)
        self.learner, report = self.step(self.learner, batch.images, batch.labels, self.masses, key)
        self.done += 1
        return float(report.loss)


def time_ours(job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds per step with the adaptive and with the random sampler, in turn, and of the adaptive sampler alone."""
    from escapevelocity.runs.process import trainer_process

    with trainer_process(give_memory_back=False):
        given = load(BATCHES, job)
        steps = {name: OurStep(name, given.num_classes) for name in ("adaptive", "random")}
        seconds = time_in_turn(steps, given.batches, job["steps"])
        return {**seconds, "alone": _time_sampler(steps["adaptive"], given.batches[0])}


def time_peer(job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds per step of the peer, with both memory formats in turn."""
    import jax

    from escapevelocity.metric_learning.embedding import make_small_cnn

    given = load(BATCHES, job)
    network = make_small_cnn(128, SHAPE, jax.random.key(SEED))
    formats = {"channels first": False, "channels last": True}
    steps = {name: torch_trainer(network, given.num_classes, last)[1] for name, last in formats.items()}
    return time_in_turn(steps, given.batches, job["steps"])


def time_in_turn(
    steps: Mapping[str, Callable[[Batch], float]], given: Sequence[Batch], count: int
) -> dict[str, float]:
    """Seconds per step of each, `count` steps in blocks that take turns, after a few that are not timed."""
    for step in steps.values():
        for batch in given[:WARM_UP]:
            step(batch)
    seconds = dict.fromkeys(steps, 0.0)
    for first in range(0, count, BLOCK):
        numbers = range(first, min(first + BLOCK, count))
        for name, step in steps.items():
            began = time.perf_counter()
            for number in numbers:
                step(given[number % len(given)])
            seconds[name] += time.perf_counter() - began
    return {name: total / count for name, total in seconds.items()}


def _time_sampler(ours: OurStep, batch: Batch) -> float:
    """Seconds of distances and sampling alone, as one program on the embeddings of a batch."""
    import jax

    from escapevelocity.metric_learning.config import LearnerConfig, SamplerConfig
    from escapevelocity.metric_learning.distances import pairwise_distances
    from escapevelocity.metric_learning.samplers import sample_triplets

    config = LearnerConfig()

    def sample(embeddings: jax.Array, labels: jax.Array, masses: jax.Array, key: jax.Array) -> Any:
        distances = pairwise_distances(embeddings)
        dim = config.embedding_dim
        return sample_triplets(SamplerConfig(), key, distances, labels, masses, config.margin, dim)

    images, labels = map(jax.numpy.asarray, batch)
    given = (ours.learner.network(images), labels, ours.masses, ours.key)
    program = jax.jit(sample).lower(*given).compile()
    jax.block_until_ready(program(*given))
    began = time.perf_counter()
    for _ in range(ALONE):
        jax.block_until_ready(program(*given))
    return (time.perf_counter() - began) / ALONE


def time_evaluation(job: Mapping[str, Any]) -> dict[str, float]:
    """Seconds to evaluate embeddings that gather around one random centre for each class."""
    from escapevelocity.metric_learning.retrieval import evaluate_retrieval

    rng = np.random.default_rng(SEED)
    count, dim = job["embeddings"], 128
    labels = np.arange(count) // _DRAWINGS
    centres = rng.normal(size=(labels[-1] + 1, dim))
    embeddings = (centres[labels] + 1.5 * rng.normal(size=(count, dim))).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    began = time.perf_counter()
    found = evaluate_retrieval(embeddings, labels, seed=SEED)
    return {"evaluation": time.perf_counter() - began, "recall_at_1": found["recall_at_1"]}


JOBS = {"ours": time_ours, "peer": time_peer, "evaluation": time_evaluation}


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run the job `{"what", "steps", "embeddings", "images", "data_dir"}`."""
    return JOBS[job["what"]](job)


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), main(json.loads(sys.argv[1])))
