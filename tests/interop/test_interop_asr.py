"""The miner draws as the sampler of `ev asr` does, its controller is the same, and a training resumes to the bit."""

import doctest
import importlib
import math

import numpy as np
import pytest
import scipy.stats

torch = pytest.importorskip("torch")
pytest.importorskip("pytorch_metric_learning")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance  # noqa: E402
from pytorch_metric_learning.losses import (  # noqa: E402
    CrossBatchMemory,
    MarginLoss,
    TripletMarginLoss,
)
from torch.nn.functional import normalize  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from escapevelocity import health  # noqa: E402
from escapevelocity.errors import UserError  # noqa: E402
from escapevelocity.interop import AdaptiveMiner, measure_embeddings  # noqa: E402
from escapevelocity.interop._asr_torch import adaptive_log_weights, draw  # noqa: E402
from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig  # noqa: E402
from escapevelocity.metric_learning.controller import make_controller, take_turn  # noqa: E402
from escapevelocity.metric_learning.retrieval import evaluate_retrieval  # noqa: E402
from escapevelocity.metric_learning.samplers import adaptive_weights  # noqa: E402
from escapevelocity.metric_learning.state import METRIC_NAMES, metric_vector  # noqa: E402

LABELS = torch.arange(12) // 3
P_VALUE = 1e-3
"""Fixed seeds: a test that has passed passes for ever; a wrong distribution gives p-values far below."""

METRICS = dict(zip(METRIC_NAMES, (0.5, 0.6, 0.7, 0.8, 0.4, 0.2, 0.9), strict=True))


def points(seed=0, spread=1.0, count=12):
    """Points of any length around those of their class."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, 8, generator=generator)[torch.arange(count) * 4 // count]
    return centres + spread * torch.randn(count, 8, generator=generator)


def miner_of(seed=0, controller=None, **sampler):
    return AdaptiveMiner(SamplerConfig(**sampler), controller, seed=seed)


def better(number):
    """Metrics that rise from call to call."""
    return {name: value + 0.01 * number for name, value in METRICS.items()}


def equal(first, second):
    """To the bit, with the NaN that stands for a metric not yet measured."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


def naive_probabilities(distances, candidates, masses, low, high):
    """Loops over the definition: mass of the bin, the outer ones taking what lies beyond, each row summing to 1."""
    edges = np.linspace(low, high, len(masses) + 1)
    weights = np.zeros(distances.shape)
    for i, row in enumerate(distances):
        for j, distance in enumerate(row):
            inside = [b for b in range(len(masses)) if edges[b] < distance <= edges[b + 1]]
            number = inside[0] if inside else (0 if distance <= low else len(masses) - 1)
            weights[i, j] = masses[number] if candidates[i, j] else 0
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("init", ["broad", "narrow", "pads_normal_high", "distance"])
@pytest.mark.parametrize("itself", [True, False])
def test_probabilities_are_those_of_the_jax_sampler_and_of_the_definition(init, itself, rng):
    miner = miner_of(init=init, self_regularisation=itself)
    masses = np.asarray(miner._state.controller.masses)
    distances = rng.uniform(0, 2, (12, 40)).astype(np.float32)
    candidates = np.ones((12, 40), bool) if itself else rng.random((12, 40)) < 0.7
    tensors = map(torch.from_numpy, (distances, candidates, np.array(masses)))
    found = torch.softmax(adaptive_log_weights(*tensors, 0.1, 1.4), dim=1).numpy()
    log_weights = adaptive_weights(
        jnp.asarray(distances), jnp.asarray(candidates), jnp.asarray(masses), 0.1, 1.4
    )
    np.testing.assert_allclose(found, jax.nn.softmax(log_weights, axis=1), atol=1e-6)
    # float32's logarithm of 1e-15 is off by up to 2e-6, and so are shares of weights that are all at the floor.
    truth = naive_probabilities(distances, candidates, masses.astype(np.float64), 0.1, 1.4)
    np.testing.assert_allclose(found, truth, atol=1e-5)


def test_edges_and_distances_beyond_the_bins_count_as_in_the_jax_sampler():
    edges = np.linspace(0.1, 1.4, 30, dtype=np.float32)
    near = [np.nextafter(edges, np.float32(3)), edges, np.nextafter(edges, np.float32(-1)), [0, 0.05, 1.5, 2]]
    distances = np.concatenate(near)[None].astype(np.float32)
    everything, masses = np.ones_like(distances, bool), np.arange(1, 30, dtype=np.float32)
    found = adaptive_log_weights(*map(torch.from_numpy, (distances, everything, masses)), 0.1, 1.4)
    truth = adaptive_weights(*map(jnp.asarray, (distances, everything, masses)), 0.1, 1.4)
    np.testing.assert_allclose(found.exp(), np.exp(truth), rtol=1e-6)
    np.testing.assert_allclose(found.exp()[0, -4:], [1, 1, 29, 29], rtol=1e-6)


def test_an_anchor_with_candidates_in_bins_of_no_mass_alone_draws_among_all_of_them():
    distances, masses = torch.tensor([[0.2, 0.3, 0.25], [0.2, 1.2, 1.3]]), torch.tensor([0.0, 3.0])
    candidates = torch.tensor([[True, True, False], [True, True, True]])
    found = torch.softmax(adaptive_log_weights(distances, candidates, masses, 0.1, 1.4), dim=1)
    np.testing.assert_allclose(found, [[0.5, 0.5, 0], [0, 0.5, 0.5]])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(-20, 20), st.permutations(range(9)))
def test_a_common_factor_of_the_masses_and_the_order_of_candidates_change_no_probability(seed, power, order):
    generator = torch.Generator().manual_seed(seed)
    distances, masses = 2 * torch.rand(4, 9, generator=generator), torch.rand(29, generator=generator) + 1e-3
    candidates = torch.rand(4, 9, generator=generator) < 0.8
    candidates[:, 0] = True
    first = torch.softmax(adaptive_log_weights(distances, candidates, masses, 0.1, 1.4), dim=1)
    permuted = distances[:, order], candidates[:, order]
    second = torch.softmax(adaptive_log_weights(*permuted, masses * 10**power, 0.1, 1.4), dim=1)
    # Logarithms of up to 53 in float32 are off by 4e-6 before they are subtracted.
    torch.testing.assert_close(second, first[:, order], rtol=1e-5, atol=0)


def test_draws_follow_the_weights():
    weights = torch.tensor([1.0, 0.0, 2.0, 3.0, 1e-15])
    drawn = draw(weights.log().expand(20_000, 5), torch.Generator().manual_seed(3))
    counts = np.bincount(drawn, minlength=5)
    assert counts[1] == counts[4] == 0
    assert scipy.stats.chisquare(counts[[0, 2, 3]], 20_000 * np.array([1, 2, 3]) / 6).pvalue > P_VALUE


@pytest.mark.parametrize("itself", [True, False])
def test_the_miner_draws_negatives_by_mass_and_positives_alike(itself):
    count, embeddings = 3000, points(2)
    miner = miner_of(1, init="normal(0.9,0.2)", self_regularisation=itself)
    found = [miner(embeddings, LABELS) for _ in range(count)]
    unit = np.asarray(normalize(embeddings.double()))
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    candidates = np.ones((12, 12), bool) if itself else np.asarray(LABELS[:, None] != LABELS[None])
    masses = np.asarray(miner.distribution)
    truth = naive_probabilities(distances, candidates, masses, 0.1, 1.4)
    negatives, positives = (torch.stack([triplets[i] for triplets in found]).numpy() for i in (2, 1))
    for anchor in range(12):
        expected = count * truth[anchor]
        counts = np.bincount(negatives[:, anchor], minlength=12)
        common = expected >= 10  # twice what the approximation needs; the others are joined
        assert not counts[expected == 0].any()
        observed = np.append(counts[common], counts[~common].sum())
        theory = np.append(expected[common], expected[~common].sum())
        kept = theory > 0
        assert scipy.stats.chisquare(observed[kept], theory[kept]).pvalue > P_VALUE / 12
        counts = np.bincount(positives[:, anchor], minlength=12)
        others = [i for i in range(12) if i // 3 == anchor // 3 and i != anchor]
        assert counts[others].sum() == count
        assert scipy.stats.chisquare(counts[others]).pvalue > P_VALUE / 12


@pytest.mark.parametrize(
    "loss", [MarginLoss(learn_beta=True, num_classes=4), TripletMarginLoss(0.2)], ids=["margin", "triplet"]
)
def test_a_loss_takes_the_triplets_and_its_gradient_is_finite(loss):
    embeddings = points(spread=0.3).requires_grad_()
    miner = miner_of(init="normal(0.1,0.2)")
    anchors, positives, negatives = triplets = miner(embeddings, LABELS)
    assert anchors.dtype == positives.dtype == negatives.dtype == torch.int64
    assert anchors.tolist() == list(range(12))
    assert (LABELS[positives] == LABELS).all()
    assert (positives != anchors).all()
    assert (negatives == anchors).any()  # Anchors are candidates too, and their gradient must not be NaN.
    loss(embeddings, LABELS, triplets).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad.any()


def test_references_are_where_positives_and_negatives_come_from():
    embeddings, references = points(), points(1, count=40)
    labels = torch.arange(40) // 10
    anchors, positives, negatives = miner_of(self_regularisation=False)(
        embeddings, LABELS, references, labels
    )
    assert anchors.tolist() == list(range(12))
    assert (labels[positives] == LABELS).all()
    assert (labels[negatives] != LABELS).all()
    memory = CrossBatchMemory(MarginLoss(), 8, memory_size=24, miner=miner_of())
    losses = [memory(points(i).requires_grad_(), LABELS) for i in range(3)]
    assert all(value.isfinite() for value in losses)


def test_an_anchor_without_a_positive_is_left_out():
    labels = torch.tensor([0, 0, 1, 2, 2])
    anchors, positives, _ = miner_of()(points(count=5), labels)
    assert anchors.tolist() == [0, 1, 3, 4]
    assert positives.tolist() == [1, 0, 4, 3]


def test_a_batch_of_one_class_has_no_negatives_without_self_regularisation():
    embeddings, labels = points(count=5).requires_grad_(), torch.zeros(5, dtype=torch.int64)
    triplets = miner_of(self_regularisation=False)(embeddings, labels)
    assert [len(indices) for indices in triplets] == [0, 0, 0]
    assert MarginLoss()(embeddings, labels, triplets) == 0
    assert len(miner_of()(embeddings, labels)[2]) == 5


def test_the_same_seed_draws_the_same_and_torch_does_not_notice():
    embeddings = points()
    before = torch.get_rng_state()
    first, again, other = ([m(embeddings, LABELS) for _ in range(3)] for m in map(miner_of, (5, 5, 6)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(equal, first, again))
    assert not equal(first[0], first[1])  # Every batch has numbers of its own.
    assert not equal(first[0], other[0])


def test_lengths_do_not_matter_and_half_precision_is_raised():
    embeddings = points(count=40).half()
    labels = torch.arange(40) // 10
    scaled = embeddings.float() * torch.linspace(1, 3, 40)[:, None]
    drawn = []
    for x in (embeddings, embeddings.float(), embeddings.double(), scaled):
        miner = miner_of(init="normal(1.2,0.02)", bins=200)  # Narrow ones tell precisions apart.
        drawn.append(torch.stack([miner(x, labels)[2] for _ in range(20)]))
    assert equal(drawn[:1] * 3, drawn[1:])


class Reads(TorchDispatchMode):
    """Collects what would make a GPU's host wait: numbers and indices that are read back."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "multinomial", "repeat_interleave"):
            self.found.append(name)
        assert not (name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1]))
        return func(*args, **(kwargs or {}))


def test_only_the_number_of_triplets_is_read_back_from_the_device():
    miner, embeddings = miner_of(), points()
    with Reads() as reads:
        miner(embeddings, LABELS)
    assert reads.found == ["nonzero"]
    with Reads() as reads:
        torch.ones(3).max().item()
    assert reads.found == ["_local_scalar_dense"]  # The probe works.


def test_embeddings_that_are_not_finite_give_indices_that_are_valid():
    embeddings = points()
    embeddings[3] = torch.nan
    for indices in miner_of()(embeddings, LABELS):
        assert ((indices >= 0) & (indices < 12)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_by_the_same_distribution():
    embeddings = points(2).cuda()
    miner = miner_of(1, init="normal(0.9,0.2)")
    found = [miner(embeddings, LABELS) for _ in range(500)]
    assert all(indices.device.type == "cuda" for indices in found[0])
    counts = np.bincount(torch.cat([triplets[2] for triplets in found]).cpu(), minlength=12)
    unit = np.asarray(normalize(points(2).double()))
    distances = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    truth = naive_probabilities(distances, np.ones((12, 12), bool), np.asarray(miner.distribution), 0.1, 1.4)
    # Anchors differ, so counts vary less than a multinomial's: the test errs on the safe side.
    assert scipy.stats.chisquare(counts, 500 * truth.sum(axis=0)).pvalue > P_VALUE
    miner.update(METRICS, 0.5)
    assert miner(embeddings, LABELS)[0].device.type == "cuda"


@pytest.mark.parametrize(
    "controller", [None, ControllerConfig(method="reinforce", head="escort", reward="change")]
)
def test_the_controller_learns_and_decides_as_that_of_a_run_with_the_same_seed(controller):
    miner, config = miner_of(7, controller, init="narrow"), controller or ControllerConfig()
    root = jax.random.key(7)
    ours = make_controller(config, SamplerConfig(init="narrow"), jax.random.fold_in(root, 1))
    for number in range(4):
        row = miner.update(better(number), (number + 1) / 4)
        key = jax.random.fold_in(jax.random.fold_in(root, 12), number)
        vector = jnp.asarray(metric_vector(better(number)))
        ours, turn = take_turn(config, ours, vector, jnp.float32((number + 1) / 4), key)
        np.testing.assert_array_equal(miner._masses.numpy(), ours.masses)
        assert row["asr/metric"] == pytest.approx((0.5 + 0.4) / 2 + 0.01 * number, rel=1e-6)
        assert row["asr/policy_entropy"] == float(turn.decision.entropy)
    assert math.isfinite(row["norm/controller_gradient"])
    assert row["asr/reward"] == pytest.approx(1 if controller is None else 0.01, rel=1e-4)


def test_an_update_moves_the_masses_and_with_them_what_is_drawn():
    miner, embeddings = miner_of(init="flat"), points()
    before = miner.distribution
    miner.update(METRICS, 0.1)
    change = (miner._masses * 29).numpy()  # Masses began at 1/29.
    np.testing.assert_allclose(np.unique(np.round(change, 5)), [0.8, 1.0, 1.25], rtol=1e-6)
    assert not torch.equal(miner.distribution, before)
    assert float(miner.distribution.sum()) == pytest.approx(1)
    state = miner.state_dict()
    last = torch.full((29,), 1e-25)
    last[-1] = 1e25
    miner.load_state_dict(state | {"controller.masses": last})
    negatives = miner(embeddings, LABELS)[2]
    distances = LpDistance()(embeddings)
    far = distances > 0.1 + 28 * 1.3 / 29
    assert far[torch.arange(12), negatives].all()


def test_a_metric_that_is_not_a_number_teaches_nothing_but_the_controller_decides():
    miner = miner_of()
    miner.update(METRICS, 0.1)
    network, masses = miner._state.controller.network, miner._masses
    row = miner.update(METRICS | {"nmi": math.nan}, 0.2)
    assert math.isnan(row["asr/reward"])
    jax.tree.map(np.testing.assert_array_equal, miner._state.controller.network, network)
    assert not torch.equal(miner._masses, masses)
    assert miner._masses.isfinite().all()


def test_measures_of_a_flat_start_are_those_of_a_uniform_density():
    found = miner_of(init="flat").measures()
    assert found["asr/distance_mean"] == pytest.approx(0.75, rel=1e-6)
    assert found["asr/distance_std"] == pytest.approx(1.3 / math.sqrt(12), rel=1e-6)
    assert found["asr/entropy"] == pytest.approx(math.log(29), rel=1e-6)
    assert found["asr/free_energy"] == pytest.approx(0, abs=1e-6)
    assert found["asr/floor_bins"] == 0


def test_every_measure_is_in_the_table_of_metrics():
    miner = miner_of()
    row = miner.measures() | miner.update(METRICS, 0.5)
    assert len(row) == 19
    for name in row:
        assert health.metric(name)


def test_embeddings_are_measured_at_length_one():
    embeddings = points(spread=0.8)
    unit = normalize(embeddings.double()).numpy()
    truth = evaluate_retrieval(unit, LABELS.numpy(), seed=0, names=METRIC_NAMES)
    assert measure_embeddings(embeddings.requires_grad_(), LABELS) == truth
    assert measure_embeddings(3 * embeddings, LABELS) == pytest.approx(truth, rel=1e-6)
    with pytest.raises(UserError, match=r"embeddings: 1 of 12 rows are not finite"):
        measure_embeddings(embeddings.detach().index_fill(0, torch.tensor([4]), torch.nan), LABELS)


def trained(miner, steps, start=0):
    """Triplets and distributions of a training that decides after every other batch."""
    seen = []
    for step in range(start, steps):
        seen.append(miner(points(step), LABELS))
        if step % 2:
            miner.update(better(step % 5), step / 12)
            seen.append([miner.distribution])
    return seen


@pytest.mark.parametrize("method", ["ppo", "reinforce"])
@pytest.mark.parametrize("how", ["torch", "safetensors", "module"])
def test_a_training_that_resumes_goes_on_as_if_it_had_never_stopped(method, how, tmp_path):
    config = ControllerConfig(method=method, refresh_every=2)
    miner, resumed = miner_of(3, config), miner_of(4, config)
    trained(miner, 6)
    if how == "torch":
        torch.save(miner.state_dict(), tmp_path / "miner.pt")
        resumed.load_state_dict(torch.load(tmp_path / "miner.pt", weights_only=True))
    elif how == "safetensors":
        from safetensors.torch import load_file, save_file

        save_file(miner.state_dict(), tmp_path / "miner.safetensors")
        resumed.load_state_dict(load_file(tmp_path / "miner.safetensors"))
    else:
        whole, other = (torch.nn.ModuleDict({"loss": MarginLoss(), "miner": m}) for m in (miner, resumed))
        other.load_state_dict(whole.state_dict())
    after = trained(miner, 12, start=6)
    assert all(map(equal, trained(resumed, 12, start=6), after))
    state = miner.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert {"seed", "draws", "turns", "controller.masses", "controller.network.weights.0"} <= set(state)
    assert state["draws"] == 12
    assert equal(resumed.state_dict().values(), state.values())


def test_a_saved_state_does_not_change_with_the_miner():
    miner = miner_of()
    state = miner.state_dict()
    before = {name: value.clone() for name, value in state.items()}
    trained(miner, 4)
    assert equal(state.values(), before.values())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"controller.masses": torch.ones(10)}, r"controller.masses is torch.float32 \(10,\): must be .* \(29,\)"),
        ({"controller.masses": torch.ones(29).double()}, r"is torch.float64 \(29,\): must be torch.float32"),
        ({"controller.masses": -torch.ones(29)}, r"masses\[0\] = -1: must be a finite number of at least 0"),
        ({"seed": 3}, r"seed is int: must be torch.int64 \(\)"),
        ({"controller.mood": torch.ones(2)}, r"Unexpected key\(s\) in state_dict: \"controller.mood\""),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(changed, words):
    miner, source = miner_of(1), miner_of(2)
    before = miner.state_dict()
    with pytest.raises(RuntimeError, match=words):
        miner.load_state_dict(source.state_dict() | changed)
    if "controller.mood" not in changed:  # As with any module, what is known has been loaded then.
        assert equal(miner.state_dict().values(), before.values())


def test_a_state_with_something_missing_is_refused_and_without_strictness_left_alone():
    miner, state = miner_of(1), miner_of(2).state_dict()
    del state["draws"]
    before = miner.state_dict()
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "draws"'):
        miner.load_state_dict(state)
    miner.load_state_dict(state, strict=False)
    assert equal(miner.state_dict().values(), before.values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sampler": SamplerConfig(sampler="hard")}, "sampler = 'hard': must be 'adaptive'"),
        ({"sampler": SamplerConfig(init="brod")}, "init = 'brod': must be a start such as broad"),
        ({"seed": -1}, "seed = -1: must be between 0 and 2147483647"),
        ({"distance": CosineSimilarity()}, "distance = 'CosineSimilarity': must be LpDistance with p = 2"),
        ({"distance": LpDistance(normalize_embeddings=False)}, "normalize_embeddings = True"),
        ({"distance": LpDistance(power=2)}, "power = 1"),
    ],
)
def test_settings_that_cannot_be_are_one_line(arguments, words):
    with pytest.raises(UserError, match=words):
        AdaptiveMiner(**arguments)


def test_an_update_without_a_metric_or_with_too_much_progress_is_one_line():
    miner = miner_of()
    with pytest.raises(UserError, match="metrics: nmi is missing; must hold recall_at_1, "):
        miner.update({name: value for name, value in METRICS.items() if name != "nmi"}, 0.5)
    with pytest.raises(UserError, match=r"progress = 1\.5: must be between 0 and 1"):
        miner.update(METRICS, 1.5)


def test_labels_of_another_length_are_refused_by_the_library_itself():
    with pytest.raises(ValueError, match="Number of embeddings must equal number of labels"):
        miner_of()(points(), LABELS[:5])


@pytest.mark.parametrize("module", ["asr", "_asr_torch"])
def test_an_example_prints_what_it_says(module):
    result = doctest.testmod(importlib.import_module(f"escapevelocity.interop.{module}"))
    assert result.failed == 0
    assert result.attempted > 0
