"""The benchmark of adaptive sampling: its peer is the same network, its ratios by hand, and a run of the real thing."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import _asr_peers as peers
from benchmarks import _common as common
from benchmarks import asr
from escapevelocity.errors import UserError

JOB = {"steps": 2, "embeddings": 200, "images": "random", "data_dir": None}


def one_round(
    adaptive=0.020, random=0.019, alone=0.0002, first=0.030, last=0.025, single=0.080, evaluation=2.0
):
    return {
        "ours": {"adaptive": adaptive, "random": random, "alone": alone},
        "peer": {"channels first": first, "channels last": last},
        "peer, one thread": {"channels first": single, "channels last": 0.090},
        "evaluation": {"evaluation": evaluation, "recall_at_1": 1.0},
    }


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 1), (33, 29, 3)])
def test_the_peer_s_network_gives_the_same_embeddings_with_the_same_weights(rng, shape):
    torch = pytest.importorskip("torch")
    from escapevelocity.metric_learning.embedding import make_small_cnn

    network = make_small_cnn(16, shape, jax.random.key(2))
    # Biases that are not 0, so that a missing one shows.
    network = jax.tree.map(lambda x: x + jnp.asarray(0.1 * rng.normal(size=x.shape), x.dtype), network)
    images = rng.random((4, *shape), np.float32)
    with torch.no_grad():
        theirs = peers.torch_network(network)(torch.from_numpy(images).permute(0, 3, 1, 2))
    # Sums of up to 576 products in float32, four layers deep.
    np.testing.assert_allclose(jax.jit(lambda x: network(x))(images), theirs.numpy(), atol=3e-6)


def test_batches_hold_28_classes_of_4_and_are_the_same_for_every_contender():
    first, second = (peers.load(3, JOB) for _ in range(2))
    assert first.num_classes == 116
    for batch, again in zip(first.batches, second.batches, strict=True):
        assert batch.images.shape == (112, 28, 28, 1)
        assert set(np.unique(batch.labels, return_counts=True)[1]) == {4}
        np.testing.assert_array_equal(batch.images, again.images)
    assert not np.array_equal(first.batches[0].labels, first.batches[1].labels)


def test_ratios_are_taken_within_a_round_against_the_peer_at_its_fastest():
    found = [one_round(), one_round(adaptive=0.050, first=0.040, last=0.060), one_round(single=0.015)]
    assert asr.ratios(found) == pytest.approx([1.25, 0.8, 0.75])
    assert asr.shares(found) == pytest.approx([0.01, 0.004, 0.01])
    assert asr.differences(found) == pytest.approx([0.05, 0.62, 0.05])


def test_the_table_by_hand():
    lines = asr.report(
        [one_round(), one_round(adaptive=0.010), one_round(adaptive=0.025)], 10_000
    ).splitlines()
    assert (
        "| pytorch-metric-learning, channels last | 25.0 (25.0–25.0) | 40.0 (40.0–40.0) | 1.00 (1.00–1.00) × |"
        in lines
    )
    adaptive = (
        "| escapevelocity, adaptive sampler | 20.0 (10.0–25.0) | 50.0 (40.0–100.0) | 1.25 (1.00–2.50) × |"
    )
    assert adaptive in lines
    assert "| steps/s, adaptive sampler / peer | ≥ 1.0 × | 1.25 × | yes |" in lines
    assert "| distances and sampling alone / a step | < 5 % | 1.0% | yes |" in lines
    assert "| all retrieval metrics of 10,000 embeddings | < 5 s | 2.00 s | yes |" in lines


def test_what_misses_its_target_is_marked():
    text = asr.report([one_round(adaptive=0.030, alone=0.003, evaluation=6.0)], 10_000)
    assert text.count("**no**") == 4


def test_the_order_changes_from_round_to_round_and_the_section_is_written(monkeypatch, tmp_path, capsys):
    order = []

    def run_child(module, job, variables):
        assert (module, job["steps"], job["embeddings"]) == ("benchmarks._asr_peers", 3, 50)
        assert (job["images"], job["data_dir"]) == ("random", None)
        name = "peer, one thread" if variables == {"OMP_NUM_THREADS": "1"} else job["what"]
        assert job["what"] == asr.PARTS[name][0]
        order.append(name)
        return one_round()[name]

    monkeypatch.setattr(common, "run_child", run_child)
    monkeypatch.setattr(asr, "which_images", lambda data_dir: "random")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- asr:start -->\nold\n<!-- asr:end -->\n")
    options = ["--rounds", "2", "--steps", "3", "--embeddings", "50", "--write", "--readme", str(readme)]
    asr.main(options)
    assert order == [*asr.PARTS, *reversed(asr.PARTS)]
    text = readme.read_text()
    assert "2 interleaved rounds of 3 steps on random images of Omniglot's shape" in text
    assert "old" not in text
    assert "round 2/2  1.25 × the peer's steps/s, sampler 1.0% of a step" in capsys.readouterr().out


def test_a_folder_that_was_named_must_have_omniglot(monkeypatch, tmp_path):
    monkeypatch.delenv("EV_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert asr.which_images(None) == "random"
    with pytest.raises(UserError, match="images_background_small1"):
        asr.which_images(Path(tmp_path))


def test_the_committed_section_has_its_markers():
    text = common.README.read_text(encoding="utf-8")
    assert text.count("<!-- asr:start -->") == text.count("<!-- asr:end -->") == 1


def test_contenders_take_turns_in_blocks(monkeypatch):
    monkeypatch.setattr(peers, "BLOCK", 2)
    calls = []
    steps = {name: lambda batch, name=name: calls.append((name, batch)) or 0.0 for name in "ab"}
    seconds = peers.time_in_turn(steps, [0, 1, 2], 3)
    warm_up = [(name, batch) for name in "ab" for batch in (0, 1, 2)]
    assert calls == [*warm_up, ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("b", 2)]
    assert set(seconds) == {"a", "b"}
    assert all(value > 0 for value in seconds.values())


@pytest.mark.slow
def test_the_real_thing_runs_at_a_small_size():
    pytest.importorskip("pytorch_metric_learning")
    found = {what: peers.main({**JOB, "what": what}) for what in peers.JOBS}
    assert all(value > 0 for part in found.values() for value in part.values())
    assert set(found["ours"]) == {"adaptive", "random", "alone"}
    assert set(found["peer"]) == {"channels first", "channels last"}
    assert found["evaluation"]["recall_at_1"] > 0.9
