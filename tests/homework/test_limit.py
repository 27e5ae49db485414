"""A reader's function runs for so long and no longer, with one thread, and leaves the notebook as it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from minigen.homework import CONTRACTS, assess, grade_all

NAME = "minimax.non_saturating_loss"


def test_random_streams_and_defaults_stay_as_they_were_and_do_not_matter() -> None:
    def meddles(f):
        torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return -logsigmoid(f).mean()

    def noise(f):
        return -logsigmoid(f).mean() + torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002

    torch.manual_seed(1), np.random.seed(1), random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate()  # noqa: NPY002
    first = assess(NAME, noise)
    assess(NAME, meddles)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()

    torch.manual_seed(2), np.random.seed(2), random.seed(2)  # noqa: NPY002
    assert assess(NAME, noise) == first, "the grade does not depend on the notebook's random stream"
    with torch.no_grad():
        assert assess(NAME, CONTRACTS[NAME].reference).verdict == "right"
    try:
        torch.set_default_dtype(torch.float64)
        assert assess(NAME, CONTRACTS[NAME].reference).verdict == "right"
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def loops(f):
    while True:
        pass


def loops_and_catches(f):
    while True:
        try:
            loss = -logsigmoid(f).mean()
            if loss < 0:
                return loss
        except:  # noqa: E722
            continue


def loops_on_the_second_input(f):
    while len(f) > 1:
        pass
    return -logsigmoid(f).mean()


@pytest.mark.parametrize(
    ("function", "where"),
    [
        (loops, "one sample each"),
        (loops_and_catches, "one sample each"),
        (loops_on_the_second_input, "random logits"),
    ],
)
def test_an_endless_function_is_stopped_and_burns_no_core(function, where: str) -> None:
    threads, start = threading.active_count(), time.perf_counter()
    result = assess(NAME, function, seconds=0.3)
    assert time.perf_counter() - start < 10
    assert result.verdict == "wrong"
    assert f"does not end within 0.3 s (for {where}" in result.message
    assert "cannot be stopped" not in result.message
    assert_back_to(threads)


def test_a_long_call_into_compiled_code_is_left_behind_and_named() -> None:
    release = threading.Event()

    def waits(f):
        release.wait(100)
        return -logsigmoid(f).mean()

    threads, start = threading.active_count(), time.perf_counter()
    result = assess(NAME, waits, seconds=0.2)
    assert time.perf_counter() - start < 50
    assert "does not end within 0.2 s" in result.message
    assert "cannot be stopped" in result.message
    release.set()
    assert_back_to(threads)


def assert_back_to(threads: int) -> None:
    deadline = time.perf_counter() + 20
    while threading.active_count() > threads and time.perf_counter() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == threads


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("late", [0, 1])
def test_an_interrupt_by_the_user_goes_through(late: int) -> None:
    """late: seconds until this thread goes on after it has started the function's, as on a busy machine."""
    program = """
import signal, threading, time
from minigen.homework import grade
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
def loops(f):
    print("running", flush=True)
    while True:
        pass
start = threading.Thread.start
threading.Thread.start = lambda thread: (start(thread), time.sleep(LATE))
try:
    grade("minimax.non_saturating_loss", loops, seconds=100)
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), flush=True)
"""
    command = [sys.executable, "-c", program.replace("LATE", str(late))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted 1\n"
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_an_interrupt_inside_the_function_is_its_own_fault() -> None:
    """The user's interrupt reaches the main thread; one in the function's thread was raised by the function."""

    def interrupted(f):
        raise KeyboardInterrupt

    result = assess(NAME, interrupted)
    assert result.verdict == "wrong"
    assert result.message.startswith("raises KeyboardInterrupt (for one sample each")


@pytest.mark.parametrize(
    "meddle",
    [
        lambda: torch.set_default_device("meta"),
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_grad_enabled(False),
        lambda: torch.set_num_threads(3),
    ],
)
def test_what_an_answer_sets_is_not_felt_by_the_reference_nor_afterwards(meddle) -> None:
    def sets(f):
        loss = -logsigmoid(f).mean()
        meddle()
        return loss

    threads = torch.get_num_threads()
    assert assess(NAME, sets).verdict == "right"
    assert torch.zeros(1).device.type == "cpu"
    assert torch.zeros(1).dtype == torch.float32
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads


def test_a_default_device_is_the_answers_own_fault() -> None:
    def sets(f):
        torch.set_default_device("meta")
        return -logsigmoid(f).mean() + torch.zeros(())

    assert assess(NAME, sets, seconds=60).verdict == "wrong"  # torch reads much the first time that it is on no device
    assert assess(NAME, CONTRACTS[NAME].reference).verdict == "right"


def test_an_answer_that_was_left_behind_changes_no_setting_later() -> None:
    release = threading.Event()

    def waits(f):
        release.wait(100)
        return f.mean()

    threads = threading.active_count()
    assert "cannot be stopped" in assess(NAME, waits, seconds=0.1).message
    torch.set_default_dtype(torch.float64)
    try:
        release.set()
        assert_back_to(threads)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


THREADS = """
import torch
from minigen.homework import assess
CHOOSE
chosen, seen = torch.get_num_threads(), []
def f(x):
    seen.append(torch.get_num_threads())
assess("minimax.non_saturating_loss", f)
print(chosen, seen[0], torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("environment", "choose", "one"),
    [({}, "", True), ({"OMP_NUM_THREADS": "2"}, "", False), ({}, "torch.set_num_threads(5)", False)],
)
def test_a_grader_uses_one_thread_unless_the_user_chose(environment, choose: str, one: bool) -> None:
    program = THREADS.replace("CHOOSE", choose)
    plain = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=plain | environment, check=True)
    chosen, seen, afterwards = done.stdout.split()
    assert seen == ("1" if one else chosen)
    assert afterwards == chosen


IMPORTS = """
import sys
from minigen.homework import CONTRACTS, assess
from minigen.homework.limit import untouched
contracts = dict(CONTRACTS)
with untouched():  # before the clock, as in every grade
    before = set(sys.modules)
for name, contract in contracts.items():
    assert assess(name, contract.reference, seconds=100).verdict == "right", name
print(*sorted(set(sys.modules) - before))
"""


def test_no_contract_imports_anything_on_the_clock_of_an_answer() -> None:
    """A first import takes seconds of the three, and one that is stopped half-way is broken from then on."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("seconds", [-1, 0, float("nan"), float("inf")])
def test_a_time_limit_must_be_one(seconds: float, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"a time limit must be a positive number of seconds; got"):
        assess(NAME, CONTRACTS[NAME].reference, seconds=seconds)
    with pytest.raises(ValueError, match="positive number of seconds"):
        grade_all(tmp_path, seconds=seconds)
    with pytest.raises(ValueError, match="positive number of seconds"):
        grade_all(tmp_path, file_seconds=seconds)
    with pytest.raises(ValueError, match="a memory limit must be a positive number of GiB"):
        grade_all(tmp_path, memory=seconds)
