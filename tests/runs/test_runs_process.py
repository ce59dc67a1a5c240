"""Settings of the trainer's process: memory that goes back to the system, and the cache of compiled programs."""

import ctypes
import json
import os
import subprocess
import sys
import types

import pytest

from escapevelocity.runs.process import trainer_process


@pytest.fixture
def told(monkeypatch):
    """What glibc's `mallopt` is told, instead of telling it."""
    calls = []
    library = types.SimpleNamespace(mallopt=lambda *arguments: calls.append(arguments))
    replace_libc(monkeypatch, lambda: library)
    return calls


def replace_libc(monkeypatch, make):
    """What is loaded as the C library; other libraries, such as those that threadpoolctl asks, stay."""
    real = ctypes.CDLL
    monkeypatch.setattr(
        ctypes,
        "CDLL",
        lambda name, *args, **options: make() if name == "libc.so.6" else real(name, *args, **options),
    )


def test_arrays_of_a_mebibyte_go_back_to_the_system_unless_the_job_would_rather_keep_them(told):
    with trainer_process():
        assert told == [(-3, 2**20)]  # M_MMAP_THRESHOLD of malloc.h
    told.clear()
    with trainer_process(give_memory_back=False):
        assert told == []


def test_a_system_without_the_call_trains_all_the_same(monkeypatch):
    def missing():
        raise OSError("libc.so.6: cannot open shared object file")

    replace_libc(monkeypatch, missing)
    entered = []
    with trainer_process():
        entered.append(True)
    assert entered


CACHE = """
import json, jax
from escapevelocity.runs.process import trainer_process
with trainer_process():
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.jit(lambda x: x + 1)(1.0)
    print(json.dumps([jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size]))
"""


@pytest.mark.parametrize(
    ("given", "folder", "limit"),
    [
        ({}, "cache/escapevelocity/xla-limited", 4 << 30),
        ({"JAX_COMPILATION_CACHE_MAX_SIZE": "1000000"}, "cache/escapevelocity/xla-limited", 1_000_000),
        ({"JAX_COMPILATION_CACHE_MAX_SIZE": "-1"}, "cache/escapevelocity/xla-limited", -1),
        ({"JAX_COMPILATION_CACHE_DIR": "mine"}, "mine", -1),
    ],
)
def test_the_cache_of_compiled_programs_is_limited_and_locked_unless_the_user_says_otherwise(
    tmp_path, given, folder, limit
):
    """In a process of its own: JAX looks for its cache once."""
    inherited = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    # What an older version has left, without a limit and a lock, does no harm.
    old = tmp_path / "cache" / "escapevelocity" / "xla" / "jit_f-0123-cache"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    environment = {**inherited, "XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu", **given}
    command = [sys.executable, "-W", "error", "-c", CACHE]
    answer = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True
    )
    place, found = json.loads(answer.stdout)
    assert (tmp_path / place, found) == (tmp_path / folder, limit)
    names = [path.name for path in (tmp_path / folder).iterdir()]
    assert any(name.endswith("-cache") for name in names)
    # JAX takes the lock, and notes when an entry was used, only where there is a limit.
    assert (".lockfile" in names) == any(name.endswith("-atime") for name in names) == (limit != -1)
    assert answer.stderr == ""
