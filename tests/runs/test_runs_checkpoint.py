"""Checkpoints: what is saved is what is loaded, bit for bit, and damage never goes unnoticed."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escapevelocity.errors import UserError
from escapevelocity.runs import Damaged, checkpoint
from escapevelocity.runs._arrays import from_arrays, from_safetensors, to_arrays, to_safetensors

DTYPES = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
]


def same(a, b):
    """Equal structure, leaf kinds, dtypes and bits (NaN payloads too)."""
    leaves_a, structure_a = jax.tree_util.tree_flatten(a)
    leaves_b, structure_b = jax.tree_util.tree_flatten(b)
    assert structure_a == structure_b
    for x, y in zip(leaves_a, leaves_b, strict=True):
        if callable(x):
            assert x is y
            continue
        assert type(x) is type(y)
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.shape(x) == np.shape(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    return True


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([*DTYPES, "bool"]).flatmap(
        lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0))
    )
)
def test_every_array_survives_bit_for_bit(array):
    again = from_safetensors(to_safetensors({"a": array}))["a"]
    assert same(again, array)
    assert again.flags.writeable or again.size == 0


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.arange(6.0)[::2], np.arange(3).astype(">i4")]
)
def test_strided_and_foreign_endian_arrays_survive(array):
    again = from_arrays(from_safetensors(to_safetensors(to_arrays({"a": array}))), {"a": array}, "x")["a"]
    assert again.tolist() == array.tolist()
    assert again.dtype == array.dtype


def test_numpy_leaves_of_every_kind_survive(tmp_path):
    state = {
        "nested": [np.asarray(3, np.int64), {"x": np.asarray([True, False])}],
        "bf16": np.asarray([1.5, -0.0, np.nan], ml_dtypes.bfloat16),
        "scalar": np.float32(0.1),
        "int": 2**62,
        "float": 0.1,
        "bool": True,
        "none": None,
        "empty": np.zeros((0, 3)),
    }
    checkpoint.save(tmp_path, 1, state, step=5)
    like = jax.tree_util.tree_map(
        lambda x: np.zeros_like(x) if isinstance(x, np.ndarray) else type(x)(0), state
    )
    assert same(checkpoint.load(tmp_path, 1, like), state)


def test_an_equinox_module_with_its_optax_state_and_keys_survives(tmp_path):
    def make(seed):
        model = eqx.nn.MLP(3, 2, 4, 2, activation=jax.nn.tanh, key=jax.random.key(seed))
        optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3))
        optimiser_state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
        half = jnp.ones(3, jnp.bfloat16) * jnp.asarray(seed, jnp.bfloat16)
        return {
            "model": model,
            "optimiser": optimiser_state,
            "bf16": half,
            "mask": jnp.asarray([True, False]),
        }

    state = make(1)
    checkpoint.save(tmp_path, 4, state, step=5)
    assert same(checkpoint.load(tmp_path, 4, like=make(2)), state)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_a_typed_prng_key_goes_on_with_the_same_stream(tmp_path, impl):
    keys = jax.random.split(jax.random.key(7, impl=impl), 3)
    checkpoint.save(tmp_path, 0, {"keys": keys}, step=0)
    like = jax.random.split(jax.random.key(0, impl=impl), 3)
    again = checkpoint.load(tmp_path, 0, {"keys": like})["keys"]
    assert again.dtype == keys.dtype
    assert jax.random.normal(again[1], (4,)).tolist() == jax.random.normal(keys[1], (4,)).tolist()


def test_jax_leaves_of_64_bits_survive_outside_of_x64_mode(tmp_path):
    with jax.enable_x64(True):
        state = {"x": jnp.asarray([1 / 3], jnp.float64), "n": jnp.asarray(2**40, jnp.int64)}
    checkpoint.save(tmp_path, 0, state, step=0)
    again = checkpoint.load(tmp_path, 0, state)
    assert np.asarray(again["x"]).tolist() == [1 / 3]
    assert int(np.asarray(again["n"])) == 2**40
    assert isinstance(again["x"], jax.Array)


def test_a_leaf_that_is_no_number_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"state leaf \['rng'\]\['state'\] is a int of dtype object"):
        checkpoint.save(tmp_path, 0, {"rng": {"state": 2**100}}, step=0)
    with pytest.raises(TypeError, match=r"state leaf \['name'\] is a str"):
        checkpoint.save(tmp_path, 0, {"name": "Hopper"}, step=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(1)}, r"00002\.safetensors has no array \['b'\]"),
        ({}, r"has an unknown array \['a'\]"),
        ({"a": np.zeros(4)}, r"array \['a'\] is float64\[3\], the spec needs float64\[4\]"),
        ({"a": np.zeros((1, 3))}, r"array \['a'\] is float64\[3\], the spec needs float64\[1, 3\]"),
        ({"a": np.zeros(3, np.float32)}, r"array \['a'\] is float64\[3\], the spec needs float32\[3\]"),
    ],
)
def test_another_structure_is_named_by_its_leaf(tmp_path, like, message):
    checkpoint.save(tmp_path, 2, {"a": np.ones(3)}, step=0)
    with pytest.raises(UserError, match=message) as caught:
        checkpoint.load(tmp_path, 2, like)
    assert "\n" not in str(caught.value)


def test_the_json_says_number_step_checksum_and_extra(tmp_path):
    checkpoint.save(
        tmp_path, 3, {"a": np.ones(3)}, step=96, extra={"lineage": {"parent": None}, "pair": (1, 2)}
    )
    meta = checkpoint.load_meta(tmp_path, 3)
    assert (meta["number"], meta["step"], meta["lineage"]) == (3, 96, {"parent": None})
    assert meta["pair"] == [1, 2]


def test_without_its_json_a_checkpoint_does_not_exist(tmp_path):
    checkpoint.save(tmp_path, 1, {"a": np.ones(3)}, step=0)
    checkpoint.save(tmp_path, 2, {"a": np.ones(3)}, step=0)
    (tmp_path / "00002.json").unlink()
    assert checkpoint.numbers(tmp_path) == [1]
    with pytest.raises(Damaged, match=r"00002\.json cannot be read: No such file"):
        checkpoint.load(tmp_path, 2, {"a": np.ones(3)})


def test_the_old_commit_does_not_vouch_for_new_arrays(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"a": np.ones(3)}, step=0)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_json", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, 1, {"a": np.zeros(3)}, step=0)
    assert checkpoint.numbers(tmp_path) == []


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path, suffix):
    folder = tmp_path / "checkpoints"
    state = {"a": np.arange(3.0)}
    checkpoint.save(folder, 1, state, step=7)
    checkpoint.save(folder, 2, state, step=9)
    path = folder / f"00002.{suffix}"
    good = path.read_bytes()
    rng = np.random.default_rng(5)
    for position in rng.choice(len(good), 40, replace=False):
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        # Formatting carries no information: the same JSON with other blanks is not damage.
        harmless = suffix == "json" and is_same_json(bytes(bad), good)
        path.write_bytes(bytes(bad))
        number, warnings = without_records(folder)
        assert number == (2 if harmless else 1)
        assert len(warnings) == (0 if harmless else 1)
    for length in (0, 1, len(good) // 2, len(good) - 2):
        path.write_bytes(good[:length])
        number, warnings = without_records(folder)
        assert number == 1
        assert "damaged" in warnings[0]
        assert "falling back from checkpoint 00002" in warnings[0]


def is_same_json(a: bytes, b: bytes) -> bool:
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


def without_records(folder):
    """Ask for the latest good checkpoint of a chain whose segments have no shards to check."""
    from escapevelocity.runs import _shards

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_shards, "first_fault", lambda *_: None)
        return checkpoint.latest_good(folder)


def test_a_missing_arrays_file_falls_back(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoint.save(folder, 0, {}, step=0)
    checkpoint.save(folder, 1, {}, step=0)
    (folder / "00001.safetensors").unlink()
    number, warnings = without_records(folder)
    assert number == 0
    assert "00001.safetensors cannot be read" in warnings[0]


def test_no_checkpoint_at_all_is_none(tmp_path):
    assert checkpoint.latest_good(tmp_path / "nowhere") == (None, [])
