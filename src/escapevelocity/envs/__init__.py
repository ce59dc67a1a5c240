"""One face for every environment: EnvPool where it has the task, ale-py for Atari's games, else Gymnasium."""

from escapevelocity.envs._frames import FrameStack
from escapevelocity.envs._observation import ObservationStatistics, Observer, measure_observations
from escapevelocity.envs._seeding import Purpose, environment_seeds
from escapevelocity.envs._tasks import BoxActions, DiscreteActions, Task, describe_task, task_family
from escapevelocity.envs._vector import HostEnvironments, Transition, make_environments

__all__ = [
    "BoxActions",
    "DiscreteActions",
    "FrameStack",
    "HostEnvironments",
    "ObservationStatistics",
    "Observer",
    "Purpose",
    "Task",
    "Transition",
    "describe_task",
    "environment_seeds",
    "make_environments",
    "measure_observations",
    "task_family",
]
