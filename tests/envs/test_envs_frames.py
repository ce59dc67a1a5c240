"""The stack of four screens, against lists of screens kept by hand and against ale-py's own stack."""

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.envs import FrameStack, describe_task, make_environments


def screens(rng, count):
    return rng.integers(256, size=(count, 84, 84), dtype=np.uint8)


def test_the_face_is_the_observers():
    stack = FrameStack()
    assert stack.output_shape == (84, 84, 4) == describe_task("ALE/Phoenix-v5").observation_shape
    assert stack.dtype == np.uint8


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=10))
def test_a_stack_holds_the_latest_four_screens_and_starts_with_the_first_repeated(starts):
    rng = np.random.default_rng(0)
    out = np.full((2, 84, 84, 4), 77, np.uint8)  # What lies there before the first start does not matter.
    elapsed = np.zeros(2, int)
    history: list[list[np.ndarray]] = [[], []]
    for t, start in enumerate(starts):
        new = screens(rng, 2)
        for i in range(2):
            if t == 0 or start[i]:
                elapsed[i], history[i] = 0, [new[i]] * 4
            else:
                elapsed[i] += 1
                history[i] = [*history[i][1:], new[i]]
        FrameStack().write(new, elapsed, out)
        for i in range(2):
            np.testing.assert_array_equal(out[i], np.stack(history[i], axis=-1))


def test_a_part_of_a_larger_buffer_is_written_in_place():
    """Rollouts hand over slices, and rows of their own with indices."""
    rng = np.random.default_rng(1)
    buffer = np.zeros((3, 2, 84, 84, 4), np.uint8)
    first, second = screens(rng, 2), screens(rng, 2)
    FrameStack().write(first, np.zeros(2, int), buffer[:, 1][:2])
    FrameStack().write(second, np.ones(2, int), buffer[:, 1][:2], np.array([7, 3]))
    expected = np.zeros_like(buffer)
    expected[:2, 1] = np.stack([first, first, first, second], axis=-1)
    np.testing.assert_array_equal(buffer, expected)


def test_writing_leaves_the_screens_alone():
    given_screens = screens(np.random.default_rng(0), 2)
    copy = given_screens.copy()
    given_screens.flags.writeable = False
    FrameStack().write(given_screens, np.array([0, 4]), np.zeros((2, 84, 84, 4), np.uint8))
    np.testing.assert_array_equal(given_screens, copy)


def test_from_the_fourth_screen_on_the_stack_is_ale_pys_own():
    """Before that ale-py has zeros where we repeat the first screen."""
    actions = np.random.default_rng(2).integers(8, size=(30, 2))
    vector = AtariVectorEnv(
        "phoenix",
        2,
        stack_num=4,
        frameskip=3,
        maxpool=False,
        noop_max=0,
        use_fire_reset=False,
        repeat_action_probability=0.25,
    )
    theirs, _ = vector.reset(seed=np.array([1, 2]))
    envs = make_environments(describe_task("ALE/Phoenix-v5", frame_skip=3, sticky_actions=0.25), [1, 2])
    out = np.empty((2, 84, 84, 4), np.uint8)
    for t in range(len(actions) + 1):
        if t == 0:
            new = envs.reset()
        else:
            envs.send(actions[t - 1])
            new = envs.receive().next_observations
            theirs = vector.step(actions[t - 1])[0]
        FrameStack().write(new, np.full(2, t), out)
        seen = min(t + 1, 4)
        np.testing.assert_array_equal(out[..., 4 - seen :], np.moveaxis(theirs, 1, -1)[..., 4 - seen :])
        np.testing.assert_array_equal(theirs[:, : 4 - seen], 0)
        np.testing.assert_array_equal(out[..., : 4 - seen], out[..., [4 - seen] * (4 - seen)])
    envs.close()
