"""Health of the networks in any PyTorch training loop."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from escapevelocity import health
from escapevelocity.errors import require
from escapevelocity.interop._columns import Snapshot, health_row, join_snapshots
from escapevelocity.interop._evaluation import evaluation_mode
from escapevelocity.interop._graph import Graph
from escapevelocity.interop._trace import read_trace, recorded_calls

__all__ = ["TorchMonitor"]

_IMAGES_AT_ONCE = 256
"""All pre-activations of one Atari frame are 21,632 numbers: a whole batch of them would not fit everywhere."""


class TorchMonitor:
    """Measures ranks, dead units and pre-activations of an actor and a critic, for any `nn.Module`.

    The features Φ of a network are the inputs of its head, the last `nn.Linear` that runs. What went into the
    activation before it are the pre-activations. Both are found while a forward pass runs, modules and
    functions (`nn.ReLU`, `F.relu`, `x.relu()`) alike, so nothing has to be named. What cannot be found is NaN,
    and `health/undefined` says why.

    Shared and separate networks: give the modules that hold the two heads. Where a trunk is shared, give the
    heads alone and a `forward` that runs everything once; what lies behind each head is followed back through
    the trunk. To measure another layer, give the layer that reads it as the head.

    Hooks exist only while something is recorded. Half precision is raised to float32, and tensors of any device
    are copied to the host, before anything is measured.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> actor = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> monitor = TorchMonitor(actor)
        >>> row = monitor.measure(torch.randn(100, 3))
        >>> row["health/actor/numerical_rank"], row["health/actor/dead_neurons"]
        (16.0, 0.0)
    """

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module | None = None,
        *,
        activation: str | None = None,
        forward: Callable[[Any], Any] | None = None,
    ) -> None:
        """Say what to measure.

        Args:
            actor: the policy network, or only its head when `forward` runs the rest.
            critic: the same for the value network; None leaves its columns out.
            activation: what follows the penultimate layers, one of `health.ACTIVATIONS`, where it cannot be
                found (`torch.where(x > 0, x, 0)`, say). The features are then taken to be its outputs, and
                the outputs of the layer before them to be the pre-activations.
            forward: runs the networks on a batch of observations, such as a model that holds both heads, or
                one of its methods. By default the actor and the critic are called in turn.

        Raises:
            UserError: if `activation` is unknown.
        """
        accepted = f"None or one of {', '.join(health.ACTIVATIONS)}"
        require(activation is None or activation in health.ACTIVATIONS, "activation", activation, accepted)
        self._networks = {"actor": actor} if critic is None else {"actor": actor, "critic": critic}
        self._activation = activation
        self._forward = forward

    @contextmanager
    def recording(self) -> Iterator[Snapshot]:
        """Record the forward passes that run inside the `with` block, whoever runs them.

        Gradients, modes and the random state are left as they are. Several passes count as one batch.

        Yields:
            A snapshot that is filled when the block ends.

        Raises:
            UserError: at the end of the block, if there was nothing to measure: a head never ran, or no hidden
                layer feeds it.

        Example:
            >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
            >>> monitor = TorchMonitor(model)
            >>> with monitor.recording() as seen:
            ...     values = model(torch.ones(5, 3))
            >>> seen.networks["actor"].features.shape
            (5, 8)
        """
        snapshot = Snapshot()
        with ExitStack() as hooks:
            calls = {
                name: hooks.enter_context(recorded_calls(network)) for name, network in self._networks.items()
            }
            with Graph() as graph:
                yield snapshot
        for name, network in self._networks.items():
            snapshot.networks[name] = read_trace(name, network, calls[name], graph, self._activation)

    def snapshot(self, observations: Any) -> Snapshot:
        """Run the networks on a batch and keep what happened inside, to be compared with later.

        It runs in evaluation mode and without gradients, and leaves no trace: the mode and the buffers of every
        module that runs, whatever `forward` is, and torch's random state are put back. Images (four axes) are run
        256 at a time.

        Args:
            observations: what `forward`, or the actor and the critic, take.

        Raises:
            UserError: if there is nothing to measure, see `recording`.
        """
        parts = []
        with evaluation_mode(self._networks.values(), self._forward), torch.no_grad():
            for part in _parts(observations):
                with self.recording() as seen:
                    self._run(part)
                parts.append(seen)
        return join_snapshots(parts)

    def measure(self, observations: Any) -> dict[str, float | str]:
        """Return the health columns of one batch: `health/actor/feature_rank_pca` and its like.

        Args:
            observations: what `forward`, or the actor and the critic, take.

        Raises:
            UserError: if there is nothing to measure, see `recording`.
        """
        return health_row(self.snapshot(observations))

    def compare(
        self, before: Snapshot, observations: Any, extra: Mapping[str, health.Measured] | None = None
    ) -> dict[str, float | str]:
        """Return the columns of an update: before it, `_after` it, and `change/…` between the two.

        Args:
            before: `snapshot` of the same observations, taken before the update.
            observations: the batch.
            extra: more to put into the row, such as `{"trust/": health.trust_region(…)}`.

        Raises:
            UserError: if there is nothing to measure, or the observations are not those of `before`.
        """
        return health_row(before, self.snapshot(observations), extra)

    def _run(self, observations: Any) -> None:
        for run in self._networks.values() if self._forward is None else [self._forward]:
            run(observations)


def _parts(observations: Any) -> Sequence[Any]:
    is_images = isinstance(observations, torch.Tensor) and observations.ndim == 4
    return observations.split(_IMAGES_AT_ONCE) if is_images else [observations]
