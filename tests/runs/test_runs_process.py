"""Settings of the trainer's process: whether large arrays go back to the system when they are freed."""

import ctypes
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
