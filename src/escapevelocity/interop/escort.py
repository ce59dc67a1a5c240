"""The escort transform as a distribution of PyTorch."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from escapevelocity.errors import require

__all__ = ["EscortCategorical"]

FLOOR = 1e-12
"""Inside logarithms |θ| counts as at least this share of the row's largest |θ|."""


class EscortCategorical(Distribution):
    """π(a) = |θ(a)|^p / ‖θ‖_p^p over actions 0, …, K − 1, with the face of `torch.distributions.Categorical`.

    Where softmax scales the gradient of an action by π(a), the escort scales it by π(a)^{1−1/p}, so that rare
    actions keep one; p → ∞ tends to softmax. Neither the scale of θ nor its signs change the policy. A network
    with small last weights should give θ = 1 + its outputs, so that it starts from the uniform policy.

    Probabilities are exact, 0 at θ(a) = 0. Inside logarithms |θ| is floored at 1e-12 of the row's largest,
    without a gradient below the floor: log-probabilities and ratios are always finite. θ = 0 throughout counts
    as the uniform policy without a gradient.

    Source: Mei et al. 2020, "Escaping the Gravitational Pull of Softmax", NeurIPS, definition 2.

    Example:
        >>> policy = EscortCategorical(torch.tensor([2.0, -1.0, 0.0]), p=2)
        >>> policy.probs
        tensor([0.8000, 0.2000, 0.0000])
        >>> int(policy.mode)
        0
    """

    # The forms that torch itself uses; its type stubs declare them as properties.
    arg_constraints = {"theta": constraints.independent(constraints.real, 1)}  # noqa: RUF012 # pyright: ignore
    has_enumerate_support = True

    def __init__(self, theta: Tensor, p: float | int, validate_args: bool | None = None) -> None:
        """Make the distribution.

        Args:
            theta: θ (*batch, K), floating, of any sign and scale.
            p: the power; finite and at least 1.
            validate_args: whether torch checks θ and the values of `log_prob`; None for torch's default.

        Raises:
            UserError: if p is out of range or θ has no axis of actions.
        """
        require_power(p)
        has_actions = theta.ndim > 0 and theta.shape[-1] > 0
        require(has_actions, "theta.shape", tuple(theta.shape), "(*batch, K) with at least one action")
        self.theta = theta
        self.p = float(p)
        super().__init__(theta.shape[:-1], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "EscortCategorical":
        """The same distribution with more batch axes."""
        shape = torch.Size(batch_shape)
        return EscortCategorical(self.theta.expand(*shape, self.num_actions), self.p, self._validate_args)

    @property
    def num_actions(self) -> int:
        """K."""
        return self.theta.shape[-1]

    @property
    def param_shape(self) -> torch.Size:
        """Shape of θ."""
        return self.theta.shape

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> constraints.Constraint:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The integers 0, …, K − 1."""
        return constraints.integer_interval(0, self.num_actions - 1)

    @property
    def probs(self) -> Tensor:
        """Probabilities of all actions (*batch, K), exactly 0 where θ is."""
        magnitudes, largest = scaled_magnitudes(self.theta)
        powers = torch.where(largest > 0, magnitudes**self.p, 1)
        return powers / powers.sum(dim=-1, keepdim=True)

    @property
    def logits(self) -> Tensor:
        """Log-probabilities of all actions (*batch, K), normalised and finite."""
        magnitudes, _ = scaled_magnitudes(self.theta)
        floored = torch.where(magnitudes > FLOOR, magnitudes, FLOOR)
        return torch.log_softmax(self.p * floored.log(), dim=-1)

    @property
    def mean(self) -> Tensor:
        """NaN: actions are names, not numbers."""
        return torch.full(self.batch_shape, torch.nan, dtype=self.theta.dtype, device=self.theta.device)

    @property
    def variance(self) -> Tensor:
        """NaN, as the mean."""
        return self.mean

    @property
    def mode(self) -> Tensor:
        """The most probable action (*batch), int64."""
        return self.probs.argmax(dim=-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw actions (*sample_shape, *batch), int64."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            rows = self.probs.reshape(-1, self.num_actions)
            drawn = torch.multinomial(rows, max(1, shape.numel()), replacement=True)
            return drawn[:, : shape.numel()].T.reshape(self._extended_shape(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log π(value), finite also at θ = 0."""
        if self._validate_args:
            self._validate_sample(value)
        index, logits = torch.broadcast_tensors(value.long()[..., None], self.logits)
        return logits.gather(-1, index[..., :1])[..., 0]

    def entropy(self) -> Tensor:
        """−Σ π log π (*batch), in nats."""
        return -(self.probs * self.logits).sum(dim=-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All actions along a new first axis."""
        actions = torch.arange(self.num_actions, device=self.theta.device)
        actions = actions.reshape(-1, *[1] * len(self.batch_shape))
        return actions.expand(-1, *self.batch_shape) if expand else actions


@register_kl(EscortCategorical, EscortCategorical)
def _kl_escort_escort(old: EscortCategorical, new: EscortCategorical) -> Tensor:
    return (old.probs * (old.logits - new.logits)).sum(dim=-1)


def at_least_single(x: Tensor) -> Tensor:
    """The same in single precision if it is in half: there 1e-12 is 0, and a sum of squares soon infinite."""
    return x.float() if x.is_floating_point() and x.dtype.itemsize < 4 else x


def scaled_magnitudes(theta: Tensor) -> tuple[Tensor, Tensor]:
    """(|θ| / max|θ|, max|θ|), the maximum without a gradient; 0 and 0 where θ = 0 throughout.

    The escort does not see the scale of θ, so its gradients come out right when the scale counts as constant.
    """
    theta = at_least_single(theta)
    largest = theta.detach().abs().amax(dim=-1, keepdim=True)
    return theta.abs() / torch.where(largest > 0, largest, 1), largest


def require_power(p: float | int) -> None:
    """Raise `UserError` unless p is a finite number of at least 1."""
    require(math.isfinite(p) and p >= 1, "p", p, "a finite number of at least 1")
