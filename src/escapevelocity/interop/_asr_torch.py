"""What adaptive sampling needs in PyTorch: weights of candidates, draws on their device, retrieval by tensors."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import normalize

from escapevelocity.metric_learning.retrieval import evaluate_retrieval
from escapevelocity.metric_learning.state import METRIC_NAMES

__all__ = ["measure_embeddings"]

PerPair = Float[Tensor, "anchors candidates"]
Candidates = Bool[Tensor, "anchors candidates"]


def measure_embeddings(
    embeddings: Float[Tensor, "samples dim"], labels: Int[Tensor, " labels"], *, seed: int = 0
) -> dict[str, float]:
    """Measure what `AdaptiveMiner.update` is paid by: how well an embedding retrieves samples of the same class.

    Args:
        embeddings: of the validation set, on any device; they are brought to length 1, as the losses do.
        labels: class of each.
        seed: of k-means, which NMI is measured with.

    Returns:
        `recall_at_1`, `_2`, `_4`, `_8`, `nmi` and the mean cosine distances `intra_distance` and `inter_distance`;
        NaN where there is nothing to average (`metric_learning.retrieval.measure_retrieval` defines them).

    Raises:
        UserError: fewer than two samples, labels of another length, or rows that are zero or not finite.

    Example:
        >>> embeddings = torch.tensor([[2.0, 0.0], [0.8, 0.6], [0.0, 3.0], [0.6, 0.8]])
        >>> found = measure_embeddings(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> found["recall_at_1"], found["recall_at_2"]
        (0.5, 1.0)
    """
    unit = normalize(embeddings.detach().cpu().double())
    return evaluate_retrieval(unit.numpy(), labels.detach().cpu().numpy(), seed=seed, names=METRIC_NAMES)


def adaptive_log_weights(
    distances: PerPair, candidates: Candidates, masses: Float[Tensor, " bins"], low: float, high: float
) -> PerPair:
    """Logarithm of the mass of the bin that a candidate's distance lies in; −∞ for one that may not be drawn.

    Edges, distances outside of the bins, and anchors whose candidates all lie in bins of mass 0 are treated as in
    `metric_learning.samplers.adaptive_weights`. A distance that is not a number counts to the first bin.

    Args:
        distances: between anchors and candidates.
        candidates: which may be drawn.
        masses: un-normalised, at least 0.
        low: lower edge of the first bin.
        high: upper edge of the last.
    """
    bins = len(masses)
    place = torch.ceil((distances - low) * (bins / (high - low))) - 1
    numbers = torch.nan_to_num(place, nan=0.0).clamp(0, bins - 1).long()
    log_weights = masses.to(distances.dtype).log()[numbers]
    log_weights = log_weights.masked_fill(~candidates, -torch.inf)
    none = (log_weights == -torch.inf).all(dim=1, keepdim=True)
    return torch.where(none & candidates, 0.0, log_weights)


def uniform_log_weights(candidates: Candidates, like: PerPair) -> PerPair:
    """Every candidate alike, in the type of `like`."""
    return torch.zeros_like(like).masked_fill(~candidates, -torch.inf)


def draw(log_weights: PerPair, generator: torch.Generator) -> Int64[Tensor, " anchors"]:
    """Draw a candidate for every anchor in proportion to its weight, one of weight 0 never; rows of −∞ give 0.

    A race: of times E/w with E ~ Exp(1), the first has probability w/Σw. Unlike `torch.multinomial` it reads nothing
    back from the device, and unlike a running sum it has a deterministic kernel everywhere. Probabilities below
    2⁻²⁴ of the row cannot be told from 0 in float32.
    """
    times = torch.empty_like(log_weights).exponential_(generator=generator)
    smallest = torch.finfo(times.dtype).tiny  # A time of 0 would win whatever the weight.
    return (log_weights - times.clamp_min(smallest).log()).argmax(dim=1)


def numbered_generator(seed: int, number: int, device: torch.device) -> torch.Generator:
    """The generator of one of many draws: nothing but the seed and the draw's number decides it."""
    mixed = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(mixed[0]))
