"""An exported policy in PyTorch: it acts as the agent does, and its file is the state_dict of an ordinary network."""

import doctest
import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from escapevelocity.errors import UserError  # noqa: E402
from escapevelocity.interop import _export, export_policy, exported, load_policy  # noqa: E402
from escapevelocity.ppo.export import check  # noqa: E402
from escapevelocity.ppo.export.check import MismatchError  # noqa: E402
from random_agents import KINDS, observations_for, random_agent  # noqa: E402

FILES = {"policy.json", "policy.safetensors", "policy.onnx"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One chunk of observations instead of ten, and no durable disk."""
    monkeypatch.setattr(check, "OBSERVATIONS", check.CHUNK)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A policy of Hopper's shape, PyTorch's form alone."""
    to = tmp_path_factory.mktemp("exported") / "hopper"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "OBSERVATIONS", check.CHUNK)
        export_policy(random_agent("hopper"), to, ["torch"])
    return to


@pytest.mark.parametrize("kind", KINDS)
def test_the_loaded_module_acts_as_the_agent(kind, tmp_path):
    agent = random_agent(kind)
    export = export_policy(agent, tmp_path / "policy", ["torch"])
    policy = load_policy(tmp_path / "policy")
    observations, elapsed = observations_for(agent, 100), np.arange(100) * 9
    actions, found = agent.act(observations, elapsed), policy.act(observations, elapsed)
    if np.issubdtype(actions.dtype, np.integer):
        np.testing.assert_array_equal(found, actions)
        assert len(set(actions.tolist())) > 1
    else:
        assert found.dtype == np.float32
        # A few ulps in sums of at most 64 products, which the loosest of these layers magnifies tenfold.
        np.testing.assert_allclose(found, actions, rtol=1e-5, atol=1e-5)
    # One observation alone, flattened and as a tensor of another layout.
    for one in (observations[3], observations[3].ravel(), torch.as_tensor(observations[3])):
        alone = policy.act(one, 27)
        assert alone.shape == found[3].shape
        np.testing.assert_allclose(alone, found[3], rtol=1e-5, atol=1e-5)
    assert export.files[0].agreement.observations == check.CHUNK
    assert export.files[0].runtime == f"PyTorch {torch.__version__}"


@pytest.mark.parametrize("kind", ["hopper", "hopper-norms", "pendulum", "atari"])
def test_plain_pytorch_loads_the_file_and_gives_the_networks_outputs(kind, tmp_path):
    # As the page for users without escapevelocity has it: nn.Sequential, strict names, the formulas of policy.json.
    agent = random_agent(kind)
    export_policy(agent, tmp_path / "policy", ["torch"])
    known = json.loads((tmp_path / "policy" / "policy.json").read_text())
    modules = []
    for layer in known["layers"]:
        sizes = [layer[name] for name in ("inputs", "outputs", "kernel", "stride") if name in layer]
        modules.append(getattr(nn, layer["kind"])(*sizes))
    network = nn.Sequential(*modules)
    arrays = load_file(tmp_path / "policy" / "policy.safetensors")
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    observations, elapsed = observations_for(agent, 100), np.arange(100) * 9
    seen, head = known["observation"], known["head"]
    if seen["dtype"] == "uint8":
        inputs = observations.transpose(0, 3, 1, 2) / 255.0
    else:
        inputs = (observations - np.array(seen["mean"])) / np.array(seen["std"])
        if seen["time_limit"] is not None:
            inputs = np.column_stack([inputs, 2 * elapsed / seen["time_limit"] - 1])
    with torch.no_grad():
        outputs = network(torch.as_tensor(inputs, dtype=torch.float32)).double().numpy()
    actions = agent.act(observations, elapsed)
    if head["kind"] == "softmax":
        np.testing.assert_array_equal(outputs.argmax(axis=1), actions)
        return
    low, high = np.array(head["low"]), np.array(head["high"])
    mean = outputs[:, : len(low)]
    squashed = low + (high - low) * (np.tanh(mean) + 1) / 2
    expected = squashed if head["kind"] == "tanh_normal" else np.clip(mean, low, high)
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)


def test_all_formats_lie_side_by_side_and_are_checked(tmp_path):
    pytest.importorskip("onnxruntime")
    export = export_policy(random_agent("escort"), tmp_path / "a" / "policy")
    assert {path.name for path in export.folder.iterdir()} == FILES
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["policy"]
    assert export.left_out is None
    for file, runtime in zip(export.files, ("PyTorch", "ONNX Runtime"), strict=True):
        assert re.fullmatch(
            rf"policy\.\w+: the same actions on 100 observations, in {runtime} \S+", str(file)
        )


def test_where_onnx_runtime_is_missing_onnx_checks_itself(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    hide(monkeypatch, "onnxruntime")
    (file,) = export_policy(random_agent("cartpole"), tmp_path / "policy", ["onnx"]).files
    assert file.runtime == "onnx's reference evaluator"
    assert {path.name for path in (tmp_path / "policy").iterdir()} == {"policy.json", "policy.onnx"}


def hide(monkeypatch, *packages):
    """As if `packages` were not installed."""
    from importlib.util import find_spec

    def without(name):
        return None if name in packages else find_spec(name)

    monkeypatch.setattr("escapevelocity.ppo.export.onnx_runtime.find_spec", without)
    monkeypatch.setattr("escapevelocity.interop._export.find_spec", without)


def test_without_onnx_pytorchs_form_is_written_and_it_is_said_what_to_install(tmp_path, monkeypatch):
    hide(monkeypatch, "onnx", "torch")
    export = export_policy(random_agent("cartpole"), tmp_path / "policy")
    assert {path.name for path in export.folder.iterdir()} == FILES - {"policy.onnx"}
    assert export.left_out == "policy.onnx needs onnx: pip install 'escapevelocity[export]'"
    assert str(export.files[0]) == (
        "policy.safetensors: not checked, PyTorch is not installed (pip install 'escapevelocity[torch]')"
    )
    with pytest.raises(UserError, match="format = 'onnx': onnx is not installed; pip install"):
        export_policy(random_agent("cartpole"), tmp_path / "other", ["onnx"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_a_mismatch_leaves_nothing(name, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    policy = _export.plain_policy(random_agent("hopper"))
    policy.arrays["0.weight"] = 1.01 * policy.arrays["0.weight"]
    monkeypatch.setattr(_export, "plain_policy", lambda agent: policy)
    with pytest.raises(MismatchError, match=r"policy\.\w+: action of observation \d+ is "):
        export_policy(random_agent("hopper"), tmp_path / "policy", [name])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    agent = random_agent("cartpole")
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match=r"to = '.*there': must be a folder that does not exist yet"):
        export_policy(agent, tmp_path / "there")
    with pytest.raises(UserError, match="format = 'tflite': must be one of torch, onnx"):
        export_policy(agent, tmp_path / "x", ["tflite"])
    with pytest.raises(UserError, match="format = '': must be one or more of torch, onnx"):
        export_policy(agent, tmp_path / "x", [])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"to = '.*x': cannot be made: Not a directory"):
        export_policy(agent, tmp_path / "file" / "x", ["torch"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]


def test_what_cannot_be_loaded_is_told_in_one_line(folder, tmp_path):
    def copy(name):
        (tmp_path / name).mkdir()
        for path in folder.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        return tmp_path / name

    missing, damaged, other = copy("missing"), copy("damaged"), copy("other")
    (missing / "policy.safetensors").unlink()
    (damaged / "policy.safetensors").write_bytes((folder / "policy.safetensors").read_bytes()[:-1])
    text = (other / "policy.json").read_text()
    (other / "policy.json").write_text(text.replace('"inputs": 12', '"inputs": 13'))
    for where, message in (
        (missing, r"cannot read .*policy\.safetensors: .*; export the policy again"),
        (damaged, r"cannot read .*policy\.safetensors: .*; export the policy again"),
        (other, r"policy\.safetensors does not fit .*policy\.json: .*0\.weight"),
        (tmp_path / "nothing", r"cannot read .*policy\.json: No such file or directory; give a folder"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load_policy(where)
        assert "\n" not in str(caught.value)


def test_observations_of_another_shape_are_told(folder):
    policy = load_policy(folder)
    for wrong in (np.zeros(10), np.zeros((2, 12)), np.zeros((1, 1, 11)), 1.0, []):
        with pytest.raises(UserError, match=r"observation = .*: must be of shape \(11,\) or \(n, 11\)"):
            policy.act(wrong)
    with pytest.raises(UserError, match=r"elapsed = .*: must be one number, or one for each of 5 rows"):
        policy.act(np.zeros((5, 11)), np.arange(4))


def test_loading_draws_no_random_numbers_and_the_module_is_ordinary(folder):
    before = torch.random.get_rng_state()
    policy = load_policy(folder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not policy.training
    assert [type(module) for module in policy.network] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert set(policy.state_dict()) == {
        f"network.{n}.{name}" for n in (0, 2, 4) for name in ("weight", "bias")
    }
    # It can be trained further, and saved again.
    policy(torch.zeros(2, 11), torch.zeros(2))["mean"].sum().backward()
    assert policy.network[0].weight.grad.abs().sum() > 0
    # A list's floats keep their digits, and read-only arrays (JAX's) are taken.
    observation = observations_for(random_agent("hopper"), 1)[0]
    frozen = observation.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(policy.act(observation.tolist()), policy.act(frozen))


def test_crelu_is_for_vectors_and_images():
    x = torch.tensor([[1.0, -2.0]])
    assert exported.CReLU()(x).tolist() == [[1.0, 0.0, 0.0, 2.0]]
    assert exported.CReLU()(x.reshape(1, 2, 1, 1)).flatten().tolist() == [1.0, 0.0, 0.0, 2.0]
    assert doctest.testmod(exported).failed == 0
