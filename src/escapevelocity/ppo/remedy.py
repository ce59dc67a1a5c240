"""What a remedy is: the places of training where it may step in. Here every place is empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from jaxtyping import Array, Bool, Float, Int32

if TYPE_CHECKING:
    from escapevelocity.envs import Task
    from escapevelocity.policy import ActionDistribution
    from escapevelocity.ppo.config import PPOSpec
    from escapevelocity.ppo.networks import Agent, Trace
    from escapevelocity.ppo.objective import Batch


class MinibatchView(NamedTuple):
    """What a remedy sees of one minibatch while the loss is computed; gradients flow through `agent`'s outputs."""

    agent: Agent
    actor: Trace
    critic: Trace
    params: Float[Array, "samples params"]
    """Parameters of the action distribution, now."""
    log_ratio: Float[Array, " samples"]
    """log π_now(a|s) − log π_old(a|s), clamped as in the loss."""
    advantages: Float[Array, " samples"]
    """As the objective uses them, normalised where it normalises."""
    minibatch: Batch
    reference: Any
    """What this remedy's `reference` gave, for these samples."""
    other: Batch | None
    """Another minibatch of the same epoch, for remedies with `needs_other_minibatch`."""
    state: Any
    """This remedy's state."""
    progress: Float[Array, ""]
    """Share of the run's batches that are done, in [0, 1)."""
    distribution: ActionDistribution


class Step(NamedTuple):
    """One gradient step that has been made."""

    before: Agent
    """Parameters the step started from."""
    agent: Agent
    moments: Any
    """Adam's moments after it: `optax.ScaleByAdamState(count, mu, nu)`, mu and nu in the agent's shape."""
    actor: Trace
    """Forward pass of `before` on the minibatch."""
    critic: Trace
    fresh: Agent
    """A freshly initialised agent, another one for each step; what is not used of it costs nothing."""
    learning_rate: Float[Array, ""]
    state: Any


class Changed(NamedTuple):
    """What a remedy makes of a learner."""

    agent: Agent
    moments: Any
    state: Any


class BatchEnd(NamedTuple):
    """The end of one batch's update."""

    agent: Agent
    moments: Any
    state: Any
    batch: Batch
    trail: dict[str, Float[Array, "epochs minibatches"]]
    """What this remedy's `penalty` returned beside the penalty, for every minibatch; NaN where no step was applied."""
    fresh: Agent
    """A freshly initialised agent; another one for each batch."""
    number: Int32[Array, ""]
    """Number of the batch in the run, counted from 0."""
    key: Array
    """PRNG key of this remedy and batch."""
    distribution: ActionDistribution


@dataclass(frozen=True)
class Remedy:
    """A change of training that may prevent or undo a collapse; a subclass overrides the places it needs.

    Everything but `configure`, `check` and `is_idle` is traced, for one member of the population. States are pytrees
    of arrays that keep their shapes and dtypes; they are part of the checkpoint.
    """

    name: ClassVar[str] = ""
    """As on the command line: `--remedy NAME --NAME.field VALUE`."""
    needs_other_minibatch: ClassVar[bool] = False
    """Whether `MinibatchView.other` is wanted."""
    clips: ClassVar[bool] = True
    """Whether the objective stays clipped; False takes the plain surrogate ratio · advantage."""

    def is_idle(self) -> bool:
        """Whether these settings change nothing: the remedy is then left out when the program is built."""
        return False

    def configure(self, spec: PPOSpec) -> PPOSpec:
        """Change the run's settings. A remedy that is nothing but settings overrides this place alone.

        Called again on its own result it changes nothing: `apply_remedies` calls it, and a run whose remedies have not
        been applied is refused.
        """
        return spec

    def check(self, spec: PPOSpec, task: Task) -> None:
        """Raise `UserError` where the remedy makes no sense for these settings or this task."""

    def initial(self, agent: Agent) -> Any:
        """Make the state, from the member's freshly initialised agent."""
        return ()

    def at_branch(self, agent: Agent, initial: Any) -> Any:
        """Make the state where a run branches off from one that did not have this remedy.

        Args:
            agent: the member's agent at the branch point.
            initial: what `initial` gave for the member's freshly initialised agent.
        """
        return initial

    def rewards(
        self, rewards: Float[Array, "time envs"], key: Array
    ) -> tuple[Float[Array, "time envs"], dict[str, Float[Array, ""]]]:
        """Change the rewards that training sees; also gives numbers to record."""
        return rewards, {}

    def reference(self, params: Float[Array, "samples params"], actor: Trace, critic: Trace) -> Any:
        """What the loss needs of the old parameters: a pytree of arrays with the batch's samples as first axis."""
        return ()

    def weight(self, view: MinibatchView) -> Float[Array, " samples"] | None:
        """Factors on each sample's objective, or None."""
        return None

    def penalty(self, view: MinibatchView) -> tuple[Float[Array, ""] | None, dict[str, Float[Array, ""]]]:
        """What is added to the loss (None: nothing), and numbers for `stops` and `after_batch`."""
        return None, {}

    def stops(self, numbers: dict[str, Float[Array, ""]]) -> Bool[Array, ""] | None:
        """Whether the batch's update ends with this step, which is still applied; None for never."""
        return None

    def after_step(self, step: Step) -> Changed:
        """Change the learner after a gradient step."""
        return Changed(step.agent, step.moments, step.state)

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Change the learner after a batch's update; also gives numbers to record, as `remedy/NAME/…`."""
        return Changed(end.agent, end.moments, end.state), {}
