"""The ONNX file of a policy: it acts as the agent does, and the check that says so sees what is wrong."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator

from escapevelocity.envs import ObservationStatistics
from escapevelocity.errors import UserError
from escapevelocity.ppo.convolution import Convolution
from escapevelocity.ppo.export import check
from escapevelocity.ppo.export.description import read_description
from escapevelocity.ppo.export.onnx_model import onnx_model
from escapevelocity.ppo.export.translate import plain_policy, sequential_layers
from escapevelocity.ppo.networks import Network
from random_agents import KINDS, observations_for, random_agent


@pytest.fixture(autouse=True)
def fewer_observations(monkeypatch):
    """One chunk; the thousand of a real export take ten."""
    monkeypatch.setattr(check, "OBSERVATIONS", check.CHUNK)


def evaluator(agent):
    """ONNX's own definition of its operators, in NumPy: a second opinion beside ONNX Runtime."""
    session = ReferenceEvaluator(onnx_model(*plain_policy(agent)))
    dtype = plain_policy(agent).description.observation.dtype

    def run(observations, elapsed):
        feed = {"observation": observations.astype(dtype), "elapsed": np.asarray(elapsed, np.int64)}
        outputs = session.run(None, {name: feed[name] for name in session.input_names})
        return dict(zip(session.output_names, outputs, strict=True))

    return run


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "atari"])
def test_the_graph_gives_the_agents_actions(kind):
    agent = random_agent(kind)
    observations = observations_for(agent, 100)
    elapsed = np.arange(100) * 10
    actions = agent.act(observations, elapsed)
    found = evaluator(agent)(observations, elapsed)["action"]
    if np.issubdtype(actions.dtype, np.integer):
        np.testing.assert_array_equal(found, actions)
        assert len(set(actions.tolist())) > 1
    else:
        assert found.dtype == np.float32
        # Sums of at most 64 float32 products: errors of a few ulps, which no layer here magnifies tenfold.
        np.testing.assert_allclose(found, actions, rtol=1e-5, atol=1e-5)
        assert np.unique(actions).size > 20


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_passes_the_check_that_every_export_makes(kind):
    runtime = pytest.importorskip("onnxruntime")
    agent = random_agent(kind)
    description, arrays = plain_policy(agent)
    session = runtime.InferenceSession(onnx_model(description, arrays), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    assert tuple(names) == description.head.outputs

    def run(observations, elapsed):
        feed = {"observation": observations.astype(description.observation.dtype), "elapsed": elapsed}
        wanted = {value.name: feed[value.name] for value in session.get_inputs()}
        return dict(zip(names, session.run(names, wanted), strict=True))

    agreement = check.compare(agent, check.reference(agent), run, "policy.onnx")
    assert agreement.observations == check.CHUNK
    assert agreement.ties == 0
    assert 0 <= agreement.parameters < 1e-3


@pytest.mark.parametrize(
    ("kind", "dtype", "inputs"),
    [
        ("hopper", "tensor(double)", ["observation", "elapsed"]),
        ("pendulum", "tensor(double)", ["observation"]),
        ("cartpole", "tensor(float)", ["observation"]),
        ("minatar", "tensor(float)", ["observation"]),
        ("atari", "tensor(uint8)", ["observation"]),
    ],
)
def test_inputs_are_what_the_environment_gives_and_only_what_the_policy_sees(kind, dtype, inputs):
    runtime = pytest.importorskip("onnxruntime")
    agent = random_agent(kind)
    session = runtime.InferenceSession(onnx_model(*plain_policy(agent)), providers=["CPUExecutionProvider"])
    given = session.get_inputs()
    assert [value.name for value in given] == inputs
    assert given[0].type == dtype
    assert given[0].shape == ["batch", *agent.task.observation_shape]
    assert session.get_modelmeta().custom_metadata_map == {
        "task": agent.task.name,
        "seed": "2",
        "env_steps": "4096",
    }


def test_the_clock_and_the_normalisation_are_inside_by_hand():
    # One unit that hands the time on, another that hands the second entry on; tanh(u) of small u is about u.
    agent = random_agent("hopper")
    small, size = 1e-3, 12
    weight = np.zeros((64, size), np.float32)
    weight[0, 11], weight[1, 1] = small, small
    second = np.zeros((64, 64), np.float32)
    second[0, 0] = second[1, 1] = 1.0
    head = np.zeros((6, 64), np.float32)
    head[0, 0] = head[1, 1] = 1 / small
    network = Network(
        tuple(map(jnp.asarray, (weight, second, head))), (jnp.zeros(64), jnp.zeros(64), jnp.zeros(6))
    )
    agent = dataclasses.replace(agent, actor=dataclasses.replace(agent.actor, network=network))
    mean, std = agent.statistics.mean[0, 1], agent.statistics.std[0, 1]
    observations = np.zeros((3, 11))
    observations[:, 1] = mean + std * np.array([-0.5, 0.0, 2.0])
    found = evaluator(agent)(observations, np.array([0, 500, 750]))
    # 2t/1000 − 1, and (x − mean)/std; tanh's cubic term is below 1e-6 relative here.
    np.testing.assert_allclose(found["mean"][:, 0], [-1.0, 0.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(found["mean"][:, 1], [-0.5, 0.0, 2.0], atol=1e-5)
    # softplus(0 + ln(e^0.99 − 1)) + 0.01 = 0.99 + 0.01.
    np.testing.assert_allclose(found["std"], 1.0, atol=1e-6)
    # Bounds −1, 1; −2, 3; 0, 0.5: low + (high − low)(tanh(mean) + 1)/2.
    np.testing.assert_allclose(found["action"][:, 0], np.tanh([-1.0, 0.0, 0.5]), atol=1e-5)
    np.testing.assert_allclose(found["action"][:, 1], 0.5 + 2.5 * np.tanh([-0.5, 0.0, 2.0]), atol=1e-5)
    np.testing.assert_allclose(found["action"][:, 2], 0.25, atol=1e-6)


def test_an_entry_that_never_varied_keeps_all_its_digits():
    # Its std of 0 counts as 1e-6: float32 would round 8.9 by 4e-7, which becomes 0.4 after the division.
    agent = random_agent("hopper")
    std = agent.statistics.std.copy()
    std[0, 4] = 0.0
    mean = agent.statistics.mean.copy()
    mean[0, 4] = 8.9
    agent = dataclasses.replace(agent, statistics=ObservationStatistics(mean, std))
    observations = np.repeat(mean, 3, axis=0)
    observations[:, 4] += [0.0, 1e-6, -1e-6]
    actions = agent.act(observations, 5)
    found = evaluator(agent)(observations, np.full(3, 5))["action"]
    np.testing.assert_allclose(found, actions, atol=1e-5)
    assert np.abs(actions[0] - actions[1]).max() > 1e-2


def test_a_kernels_columns_come_as_row_column_channel_and_features_behind_it_alike():
    # 3 × 4 images of 2 channels, a 2 × 2 window: 2 × 3 places. The kernel picks row 1, column 0, channel 1.
    kernel = np.zeros((3, 8), np.float32)
    kernel[2, 1 * 4 + 0 * 2 + 1] = 1.0
    # The layer behind it picks place (1, 2), channel 2 of 3.
    linear = np.zeros((5, 18), np.float32)
    linear[4, (1 * 3 + 2) * 3 + 2] = 1.0
    head = np.zeros((2, 5), np.float32)
    head[1, 4] = 1.0
    network = Network(
        tuple(map(jnp.asarray, (kernel, linear, head))),
        (jnp.zeros(3), jnp.zeros(5), jnp.zeros(2)),
        activation="relu",
        convolutions=(Convolution(3, 2, 1),),
    )
    layers, arrays = sequential_layers(network, (3, 4, 2))
    assert [layer.kind for layer in layers] == ["Conv2d", "ReLU", "Flatten", "Linear", "ReLU", "Linear"]
    # torch: (outputs, channels, rows, columns), and features flattened as channel, row, column.
    assert np.argwhere(arrays["0.weight"]).tolist() == [[2, 1, 1, 0]]
    assert np.argwhere(arrays["3.weight"]).tolist() == [[4, 2 * 6 + 1 * 3 + 2]]
    # Together: the pixel in row 1 + 1, column 2 + 0, channel 1.
    images = np.random.default_rng(0).random((4, 3, 4, 2)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(network(jnp.asarray(images)))[:, 1], images[:, 2, 2, 1])


@pytest.mark.parametrize("kind", ["hopper", "hopper-norms", "escort", "cartpole", "minatar"])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_weight_that_is_off_by_a_thousandth_is_a_mismatch(kind, place):
    agent = random_agent(kind)
    expected = check.reference(agent)
    network = agent.actor.network
    index = 0 if place == "first" else -1
    weights = list(network.weights)
    # All of a layer by a tenth, which layer and spectral norm would hide in the layers before the last: one row.
    weights[index] = weights[index].at[0].multiply(1.001).at[0, 0].add(1e-2)
    other = dataclasses.replace(
        agent,
        actor=dataclasses.replace(agent.actor, network=dataclasses.replace(network, weights=tuple(weights))),
    )
    check.compare(agent, expected, evaluator(agent), "policy.onnx")
    with pytest.raises(
        check.MismatchError, match=r"^policy\.onnx: \w+ of observation \d+ is .*, the agent's is "
    ):
        check.compare(agent, expected, evaluator(other), "policy.onnx")


@pytest.mark.parametrize("gain", [30.0, 300.0])
def test_a_sick_network_is_allowed_its_own_rounding_and_no_more(gain):
    # Pre-activations of thousands and outputs that cancel: float32 itself is off by far more than 1e-5 there.
    agent = random_agent("unbounded", gain)
    expected = check.reference(agent)
    agreement = check.compare(agent, expected, evaluator(agent), "policy.onnx")
    assert np.abs(expected.outputs["mean"]).max() > gain**3 / 10
    off = {**expected.outputs, "action": expected.outputs["action"] * 1.001}
    with pytest.raises(check.MismatchError, match="action"):
        check.compare(agent, expected, lambda *_: off, "policy.onnx")
    assert agreement.difference <= expected.allowed["action"].max()


def scripted(agent, probabilities, actions):
    """A reference by hand: three observations with given probabilities."""
    outputs = {"action": np.asarray(actions), "probabilities": np.asarray(probabilities, np.float32)}
    allowed = {"action": np.full(len(actions), check.TIE), "probabilities": np.full((3, 5), check.FLOOR)}
    return check.Reference(observations_for(agent, 3), np.zeros(3, np.int64), outputs, allowed)


def test_actions_may_be_exchanged_on_a_tie_alone():
    agent = random_agent("cartpole")  # Its five actions count from 3.
    rows = [[0.4, 0.4, 0.1, 0.1, 0.0], [0.5, 0.2, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1, 0.6]]
    expected = scripted(agent, rows, [3, 3, 7])

    def acting(*actions):
        found = {**expected.outputs, "action": np.array(actions)}
        return check.compare(agent, expected, lambda *_: found, "x")

    assert acting(3, 3, 7).ties == 0
    assert acting(4, 3, 7).ties == 1
    assert str(acting(4, 3, 7)) == "the same actions on 3 observations but for 1 tie"
    for wrong in ((5, 3, 7), (3, 4, 7), (3, 3, 8), (0, 3, 7), (3, 3, 2)):
        with pytest.raises(check.MismatchError, match="x: action of observation"):
            acting(*wrong)


def test_a_nan_and_a_wrong_shape_are_mismatches():
    agent = random_agent("pendulum")
    expected = check.reference(agent)
    good = expected.outputs
    for bad, message in (
        ({**good, "action": np.full_like(good["action"], np.nan)}, "action of observation"),
        ({**good, "std": good["std"][:, 0]}, r"std has shape \(100,\), not \(100, 1\)"),
    ):
        with pytest.raises(check.MismatchError, match=message):
            check.compare(agent, expected, lambda *_, bad=bad: bad, "x")


def test_parameters_that_are_not_finite_are_refused():
    agent = random_agent("hopper")
    network = agent.actor.network
    broken = dataclasses.replace(network, biases=(network.biases[0].at[3].set(jnp.nan), *network.biases[1:]))
    agent = dataclasses.replace(agent, actor=dataclasses.replace(agent.actor, network=broken))
    with pytest.raises(UserError, match="seed = 2: must be a member with finite parameters"):
        plain_policy(agent)


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_survives_its_file(kind, tmp_path):
    description, arrays = plain_policy(random_agent(kind))
    (tmp_path / "policy.json").write_text(json.dumps(description.to_json(), allow_nan=False))
    assert read_description(tmp_path) == description
    assert all(array.dtype == np.float32 for array in arrays.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "version = None: must be 1"),
        ({"version": 2}, "version = 2: must be 1; update escapevelocity"),
        ({"layers": []}, r"layers = \[\]: must be one or more layers"),
        ({"layers": [{"kind": "Embedding"}]}, r"layers\[0\]\.kind = 'Embedding': must be 'Conv2d' or"),
        ({"layers": [{"kind": "Linear", "inputs": 1.5}]}, r"layers\[0\]\.inputs = 1\.5: must be an integer"),
        ({"sede": 1}, "sede = 1: unknown field"),
    ],
)
def test_a_damaged_description_is_told_in_one_line(change, message, tmp_path):
    document = plain_policy(random_agent("cartpole")).description.to_json()
    text = change if isinstance(change, str) else json.dumps({**document, **change})
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(UserError, match=f"policy.json.*{message}") as caught:
        read_description(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_description_is_told(tmp_path):
    with pytest.raises(UserError, match="give a folder that `ev export` wrote"):
        read_description(tmp_path)
