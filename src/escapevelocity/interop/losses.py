"""Losses for PyTorch: the feature penalty PFO, and cross-entropy for classifiers with an escort output."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from escapevelocity.errors import UserError, require
from escapevelocity.interop.escort import FLOOR, at_least_single, require_power, scaled_magnitudes

__all__ = ["EscortCrossEntropyLoss", "pfo_loss"]


def pfo_loss(
    new: Tensor | Sequence[Tensor], old: Tensor | Sequence[Tensor], reduction: str = "mean"
) -> Tensor:
    """Return the penalty of PFO on pre-activations that moved: Proximal Feature Optimization.

    (φ_new − φ_old)², summed over units as in Equation 2 of Moalla et al. 2024 (arXiv 2405.00662), or averaged
    over them, as in their code. The published coefficients belong to the mean: Atari 1 for the last layer, 10
    for all layers; MuJoCo 1 with tanh and 10 with ReLU. Under a dropout both sides need the same mask, as in
    evaluation mode: a difference of masks would count as a movement.

    Args:
        new: pre-activations (states, …) under the parameters being trained, or a list of such tensors, one per
            layer, which count as one vector per state.
        old: those of the same states before the update; no gradient flows into them.
        reduction: over the units: "mean" or "sum". Over the states it is always the mean.

    Returns:
        A scalar, in the squared unit of the pre-activations.

    Raises:
        UserError: if shapes differ, nothing is given, or the reduction is unknown.

    Example:
        >>> new, old = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
        >>> float(pfo_loss(new, old)), float(pfo_loss(new, old, "sum"))
        (7.5, 15.0)
    """
    require(reduction in ("mean", "sum"), "reduction", reduction, "'mean' or 'sum'")
    news, olds = ([x] if isinstance(x, Tensor) else list(x) for x in (new, old))
    if not news or [x.shape for x in news] != [x.shape for x in olds]:
        shapes = [[tuple(x.shape) for x in side] for side in (news, olds)]
        raise UserError(
            f"old has shapes {shapes[1]}: must be those of new, {shapes[0]}, at least one of them"
        )
    squares = torch.stack(
        [(at_least_single(a) - b.detach()).square().sum() for a, b in zip(news, olds, strict=True)]
    ).sum()
    count = sum(x.numel() for x in news) if reduction == "mean" else len(news[0])
    return squares / count


class EscortCrossEntropyLoss(nn.Module):
    """Cross-entropy of the escort transform π(a) = |θ(a)|^p / Σ|θ|^p, used like `nn.CrossEntropyLoss`.

    Where the loss of a softmax falls as 1/t under gradient flow, this one falls as t^{−p/(p−2)} for p > 2,
    exponentially for p = 2, and to zero in finite time for p < 2 (Mei et al. 2020, section 4). A classifier
    should start near θ = 1 in every class: add 1 to the outputs of a last layer with small weights.

    |θ| is floored at 1e-12 of the row's largest, without a gradient below the floor. The gradient is the closed
    form (p/θ)(π − y), whose relative precision does not fade as π approaches a one-hot target.

    Example:
        >>> loss = EscortCrossEntropyLoss(p=2)
        >>> theta = torch.tensor([[1.0, -1.0, 0.0]], requires_grad=True)
        >>> loss(theta, torch.tensor([0])).backward()
        >>> theta.grad
        tensor([[-1., -1.,  0.]])
    """

    def __init__(self, p: float | int, reduction: str = "mean") -> None:
        """Make the loss.

        Args:
            p: the power; finite and at least 1.
            reduction: over the samples: "mean", "sum" or "none".

        Raises:
            UserError: if either is out of range.
        """
        super().__init__()
        require_power(p)
        accepted = "'mean', 'sum' or 'none'"
        require(reduction in ("mean", "sum", "none"), "reduction", reduction, accepted)
        self.p = float(p)
        self.reduction = reduction

    def forward(self, theta: Tensor, target: Tensor) -> Tensor:
        """Return the loss, in nats.

        Args:
            theta: outputs of the network (…, K), floating.
            target: classes (…) as int64, or one-hot or soft labels (…, K), each row a distribution.

        Raises:
            UserError: if the shapes do not fit.
        """
        if not target.is_floating_point():
            fits = target.shape == theta.shape[:-1]
            require(fits, "target.shape", tuple(target.shape), f"{tuple(theta.shape[:-1])} for classes")
            target = nn.functional.one_hot(target.long(), theta.shape[-1]).to(theta.dtype)
        accepted = f"that of theta, {tuple(theta.shape)}"
        require(target.shape == theta.shape, "target.shape", tuple(target.shape), accepted)
        losses = _CrossEntropy.apply(at_least_single(theta), at_least_single(target), self.p)
        if self.reduction == "none":
            return losses
        return losses.mean() if self.reduction == "mean" else losses.sum()

    def extra_repr(self) -> str:
        """What stands in the brackets when the module is printed."""
        return f"p={self.p:g}, reduction={self.reduction!r}"


class _CrossEntropy(torch.autograd.Function):
    """−Σ y log π with the closed-form gradient; the backward pass can itself be differentiated."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor, target: Tensor, p: float) -> Tensor:
        ctx.save_for_backward(theta, target)
        ctx.p = p
        log_probs = _log_probs(_log_weights(theta, p))
        # A class that is not the target's adds nothing, even at log-probability −inf.
        return -torch.where(target != 0, target * log_probs, 0).sum(dim=-1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        theta, target = ctx.saved_tensors
        upstream = grad_outputs[0][..., None]
        log_weights = _log_weights(theta, ctx.p)
        above = scaled_magnitudes(theta)[0] > FLOOR
        residual = _residual(log_weights, target)
        gradient = torch.where(above, ctx.p * (residual / torch.where(above, theta, 1)), 0)
        return upstream * gradient, -upstream * _log_probs(log_weights), None


def _log_weights(theta: Tensor, p: float) -> Tensor:
    return p * scaled_magnitudes(theta)[0].clamp(min=FLOOR).log()


def _split(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(log-weights relative to the largest, which entry that is, the sum of the other weights)."""
    largest, first = log_weights.max(dim=-1, keepdim=True)
    is_largest = torch.zeros_like(log_weights, dtype=torch.bool).scatter(-1, first, True)
    shifted = log_weights - largest
    return shifted, is_largest, torch.where(is_largest, 0, shifted.exp()).sum(dim=-1, keepdim=True)


def _log_probs(log_weights: Tensor) -> Tensor:
    shifted, _, rest = _split(log_weights)
    return shifted - torch.log1p(rest)


def _residual(log_weights: Tensor, target: Tensor) -> Tensor:
    """π Σy − y, from 1 − π and 1 − y where those are the small ones."""
    shifted, is_largest, rest = _split(log_weights)
    probs = torch.exp(shifted - torch.log1p(rest))
    complement = torch.where(is_largest, rest / (1 + rest), 1 - probs)
    residual = torch.where(target > 0.5, (1 - target) - complement, probs - target)
    return residual + probs * (target.sum(dim=-1, keepdim=True) - 1)
