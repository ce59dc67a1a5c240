"""ResNet-50 against one written here from torch's modules, and files of weights that are not what they should be."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.metric_learning import resnet, torchvision_weights
from escapevelocity.metric_learning.config import LearnerConfig, SamplerConfig
from escapevelocity.metric_learning.embedding import make_network, trainable
from escapevelocity.metric_learning.learner import make_learner, make_train_step
from escapevelocity.metric_learning.resnet import make_resnet50, tensor_shapes
from escapevelocity.metric_learning.torchvision_weights import read_resnet50


def torch_resnet50():
    """He et al.'s table 1, stride in the 3×3 convolution, with torchvision's names; returns the pooled features."""
    from torch import nn

    def norm(channels):
        return nn.BatchNorm2d(channels, eps=1e-5)

    class Block(nn.Module):
        def __init__(self, before, inner, stride):
            super().__init__()
            after = 4 * inner
            self.conv1, self.bn1 = nn.Conv2d(before, inner, 1, bias=False), norm(inner)
            self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), norm(inner)
            self.conv3, self.bn3 = nn.Conv2d(inner, after, 1, bias=False), norm(after)
            self.relu, self.downsample = nn.ReLU(), None
            if stride != 1 or before != after:
                self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
            return self.relu(y + (x if self.downsample is None else self.downsample(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), norm(64)
            self.relu, self.maxpool = nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            for number, (blocks, inner, stride) in enumerate(
                [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)], 1
            ):
                before = 64 if number == 1 else 2 * inner
                layers = [Block(before, inner, stride)]
                layers += [Block(4 * inner, inner, 1) for _ in range(blocks - 1)]
                setattr(self, f"layer{number}", nn.Sequential(*layers))
            self.fc = nn.Linear(2048, 1000)

        def forward(self, x):
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))

    return Net()


def test_embeddings_equal_those_of_an_independent_resnet50_with_the_same_file_of_weights(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    theirs = torch_resnet50()
    for module in theirs.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            module.momentum = 1.0
    with torch.no_grad():
        theirs.train()(torch.randn(16, 3, 64, 64))  # Gives the norms their statistics, none of them 0 or 1.
    theirs.eval()
    save_file(theirs.state_dict(), tmp_path / "resnet50.safetensors")
    config = LearnerConfig(
        backbone="resnet50", weights=str(tmp_path / "resnet50.safetensors"), embedding_dim=32
    )
    ours = make_network(config, (64, 64, 3), jax.random.key(1))
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3))
    with torch.no_grad():
        features = theirs.double()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    head = {part: np.asarray(ours.parameters[f"embedding.{part}"], float) for part in ("weight", "bias")}
    outputs = features @ head["weight"].T + head["bias"]
    expected = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    with jax.enable_x64(True):
        ours = jax.tree.map(lambda x: x.astype(jnp.float64), ours)
        found = jax.jit(lambda network, images: network(images))(ours, images)
    # Fifty layers of sums of up to 4,608 products, each off by 1e-16 relative, and lengths short by 1e-12.
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert np.std(expected, axis=0).max() > 0.05  # Images are told apart.


def test_the_network_has_torchvision_s_number_of_weights():
    shapes = tensor_shapes()
    trained = sum(math.prod(shape) for name, shape in shapes.items() if ".running_" not in name)
    # torchvision's page: 25,557,032 with the classifier of 1,000 · 2,048 + 1,000; 53 norms with 26,560 channels.
    assert trained == 25_557_032 - 2_049_000
    assert sum(math.prod(shape) for name, shape in shapes.items() if ".running_" in name) == 2 * 26_560
    assert len(shapes) == 53 + 4 * 53
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.0.downsample.0.weight"] == (2048, 1024, 1, 1)


def test_a_training_step_moves_every_weight_and_no_statistic(monkeypatch):
    monkeypatch.setattr(resnet, "BLOCKS", (1,))
    monkeypatch.setattr(resnet, "FEATURES", 256)
    config = LearnerConfig(backbone="resnet50", batch_size=4, per_class=2, embedding_dim=8)
    learner = make_learner(config, (16, 16, 3), 2, jax.random.key(0))
    before = jax.tree.map(np.array, learner.network)
    images = np.random.default_rng(1).normal(size=(4, 16, 16, 3)).astype(np.float32)
    step = make_train_step(config, SamplerConfig(sampler="random"), 2)
    learner, report = step(learner, images, np.array([0, 0, 1, 1], np.int32), jnp.ones(29), jax.random.key(2))
    assert bool(report.finite)
    jax.tree.map(np.testing.assert_array_equal, learner.network.statistics, before.statistics)
    assert set(before.statistics) == {name for name in tensor_shapes() if ".running_" in name}
    for name, weight in learner.network.parameters.items():
        assert np.any(np.asarray(weight) != before.parameters[name]), name
    mask = trainable(learner.network)
    assert (set(mask.parameters.values()), set(mask.statistics.values())) == ({True}, {False})


def test_random_weights_start_as_torchvision_s(monkeypatch):
    monkeypatch.setattr(resnet, "BLOCKS", (1,))
    network = make_resnet50(16, (64, 64, 3), jax.random.key(0), None)
    kernels = network.parameters["layer1.0.conv2.weight"]
    # He-normal by outputs; the std of 36,864 numbers is known to 0.4 %.
    assert np.std(kernels) == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.015)
    assert np.all(np.asarray(network.parameters["layer1.0.bn3.weight"]) == 1)
    assert not network.parameters["bn1.bias"].any()
    assert not network.statistics["bn1.running_mean"].any()
    assert np.all(np.asarray(network.statistics["bn1.running_var"]) == 1)


def test_images_without_three_channels_are_refused():
    with pytest.raises(UserError, match="backbone = 'resnet50': must be cnn for images of 1 channels"):
        make_network(LearnerConfig(backbone="resnet50"), (28, 28, 1), jax.random.key(0))


@pytest.fixture
def small_file(tmp_path, monkeypatch):
    """Writes a file of a network with two tensors, changed as asked for."""
    from safetensors.numpy import save_file

    monkeypatch.setattr(
        torchvision_weights, "tensor_shapes", lambda: {"conv1.weight": (2, 3, 1, 1), "bn1.bias": (2,)}
    )

    def write(**changes):
        tensors = {
            "conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1),
            "bn1.bias": np.ones(2, np.float32),
            "bn1.num_batches_tracked": np.array(7),
            "fc.weight": np.zeros((5, 4), np.float32),
        }
        tensors |= {name.replace("__", "."): value for name, value in changes.items()}
        path = tmp_path / "weights.safetensors"
        save_file({name: value for name, value in tensors.items() if value is not None}, path)
        return path

    return write


def test_a_file_is_read_as_float32_without_the_classifier_and_the_counters(small_file):
    state = read_resnet50(small_file(bn1__bias=np.array([0.5, -1], np.float16)))
    assert set(state) == {"conv1.weight", "bn1.bias"}
    assert {tensor.dtype for tensor in state.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(state["bn1.bias"], [0.5, -1])
    np.testing.assert_array_equal(state["conv1.weight"].ravel(), range(6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bn1__bias": None}, r"lacks ResNet-50's bn1\.bias, in torchvision's naming"),
        (
            {"bn1__bias": None, "conv1__weight": None},
            r"lacks ResNet-50's bn1\.bias and 1 others, in torchvision's naming",
        ),
        (
            {"layer3__22__bn1__bias": np.zeros(2, np.float32)},
            r"holds layer3\.22\.bn1\.bias, which ResNet-50 does not have",
        ),
        ({"bn1__bias": np.zeros(3, np.float32)}, r"bn1\.bias has the shape \(3,\); must be \(2,\)"),
        ({"bn1__bias": np.zeros(2, np.int32)}, r"bn1\.bias is I32; must be one of F64, F32, F16"),
        ({"bn1__bias": np.array([1, np.nan], np.float32)}, r"bn1\.bias holds numbers that are not finite"),
    ],
)
def test_a_tensor_that_is_missing_unknown_or_wrong_is_named_in_one_line(small_file, changes, message):
    with pytest.raises(UserError, match=rf"weights = '.*weights\.safetensors': {message}") as caught:
        read_resnet50(small_file(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [None, b"", b"\x08\x00\x00\x00\x00\x00\x00\x00not json", b"PK\x03\x04" * 9]
)
def test_a_file_that_is_missing_or_unreadable_is_one_line(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match="must be a readable safetensors file with ResNet-50's tensors"
    ) as caught:
        read_resnet50(path)
    assert "\n" not in str(caught.value)
