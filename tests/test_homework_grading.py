"""The grader meets every kind of function: it never crashes, never hangs, and leaves the notebook as it was."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid

from minigen.homework import CONTRACTS, Contract, Input, RefusedError, assess, grade, gradients, task

NAME = "minimax.non_saturating_loss"


class EndlessModule(nn.Module):
    def forward(self, x):
        return self(x)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise ValueError


def not_yet(f):
    raise NotImplementedError


def recursive(f):
    return recursive(f)


def unspeakable(f):
    raise UnspeakableError


def leaves(f):
    sys.exit(3)


def changes(f):
    f += 1
    return f.mean()


def freezes(f):
    f.detach_()
    return -logsigmoid(f).mean()


def steps_back(f):
    loss = -logsigmoid(f).mean()
    loss.backward(retain_graph=True)
    return loss


def without_gradient(f):
    with torch.no_grad():
        return -logsigmoid(f).mean()


def generates(f):
    yield f


def prints(f):
    print("logits", tuple(f.shape))
    return -logsigmoid(f).mean()


@pytest.mark.parametrize(
    ("function", "verdict", "says"),
    [
        (not_yet, "open", "not attempted yet"),
        (lambda f: None, "open", "not attempted yet (it returns nothing)"),
        (lambda f: ..., "open", "returns nothing"),
        (
            lambda f: 1 / 0,
            "wrong",
            "raises ZeroDivisionError: division by zero (for one sample each, fake_logits = [-2])",
        ),
        (lambda f: torch.zeros(3) + torch.zeros(4), "wrong", "raises RuntimeError: The size of tensor"),
        (recursive, "wrong", "raises RecursionError"),
        (EndlessModule(), "wrong", "raises RecursionError"),
        (leaves, "wrong", "raises SystemExit: 3"),
        (unspeakable, "wrong", "raises UnspeakableError (for"),
        (lambda: 1, "wrong", "must take the arguments (fake_logits); it takes ()"),
        (lambda f, g: 1, "wrong", "must take the arguments (fake_logits); it takes (f, g)"),
        (3, "wrong", "must be a function; got int"),
        (lambda f: f, "wrong", "it must return a tensor of shape (); got (1,)"),
        (lambda f: "loss", "wrong", "must return a tensor; got str"),
        (lambda f: True, "wrong", "must return a tensor; got bool"),
        (lambda f: (f, f), "wrong", "must return a tensor; got tuple"),
        (lambda f: f.detach().numpy(), "wrong", "must return a tensor; got ndarray"),
        (generates, "wrong", "must return a tensor; got generator"),
        (lambda f: f.mean() * 1j, "wrong", "must return a dense real tensor on the CPU; got complex64"),
        (lambda f: f.to_sparse(), "wrong", "must return a dense real tensor on the CPU; got float32, sparse_coo"),
        (lambda f: f.to("meta"), "wrong", "on meta"),
        (lambda f: torch.tensor(float("nan")), "wrong", "it gives nan; expected 2.12693"),
        (lambda f: torch.tensor(float("inf")), "wrong", "it gives inf; expected 2.12693"),
        (changes, "wrong", "changes its input `fake_logits`"),
        (freezes, "wrong", "changes its input `fake_logits`"),
        (steps_back, "wrong", "calls backward()"),
        (without_gradient, "recognised", "cut off from the graph"),
        (lambda f: -logsigmoid(f).mean().item(), "recognised", "cut off from the graph"),
        (lambda f: -logsigmoid(f).mean().detach(), "recognised", "cut off from the graph"),
        (lambda f: -logsigmoid(f.double()).mean(), "right", "right"),
        (lambda f, scale=1.0: -scale * logsigmoid(f).mean(), "right", "right"),
        (lambda *logits: -logsigmoid(*logits).mean(), "right", "right"),
        (torch.sum, "wrong", "it gives -2; expected 2.12693"),
    ],
)
def test_it_survives_what_functions_do(function, verdict: str, says: str) -> None:
    result = assess(NAME, function)
    assert result.verdict == verdict
    assert says in result.message
    assert len(str(result).splitlines()) == 1
    assert result.mark == {"open": "○", "right": "✓"}.get(verdict, "✗")


def test_grade_prints_one_line_and_lets_the_function_print(capsys) -> None:
    assert grade(NAME, CONTRACTS[NAME].reference) is None
    assert capsys.readouterr().out == f"✓ {NAME}: right, on random and on extreme inputs\n"
    grade(NAME, prints)
    assert capsys.readouterr().out.startswith("logits (1,)\n")


def test_a_scalar_may_be_a_number() -> None:
    assert assess("images.bits_per_dim", CONTRACTS["images.bits_per_dim"].reference).verdict == "right"
    reference = CONTRACTS["images.mmd2"].reference
    assert assess("images.mmd2", lambda *k: reference(*k).item()).verdict == "right"
    assert assess("images.mmd2", lambda *k: np.float32(reference(*k))).verdict == "right"


def test_an_integer_answer_of_the_right_values_is_not_right() -> None:
    contract = Contract(lambda x: 2.0 * x, lambda: [Input((torch.tensor([1.0, 3.0]),), "two numbers")], {})
    assert assess("mine", lambda x: 2 * x, contracts={"mine": contract}).verdict == "right"
    result = assess("mine", lambda x: (2 * x).long(), contracts={"mine": contract})
    assert "must return floating point; got int64" in result.message


def test_the_gradient_is_named_where_the_value_is_right() -> None:
    contract = replace(CONTRACTS["minimax.discriminator_turn"], wrong={})
    leaky = CONTRACTS["minimax.discriminator_turn"].wrong["missing detach"][0]
    message = assess("mine", leaky, contracts={"mine": contract}).message
    assert "discriminator = a network, real = [[1]], fake = [[-2]]" in message
    assert "its value is right, but the gradient by fake is [" in message
    assert message.endswith("expected [0]")


@pytest.mark.parametrize(
    "meddle",
    [
        lambda d: d[0].weight.data.mul_(2),
        lambda d: d.eval(),
        lambda d: d.requires_grad_(False),
    ],
)
def test_a_changed_network_is_noticed(meddle) -> None:
    def turn(discriminator, fake):
        loss = -logsigmoid(discriminator(fake)).mean()
        meddle(discriminator)
        return loss

    assert "changes its input `discriminator`" in assess("minimax.generator_turn", turn).message


def test_inputs_may_nest_and_are_fresh_in_every_call() -> None:
    def inputs():
        return [Input(([torch.zeros(2), {"a": torch.ones(1)}],), "nested")] * 2

    contract = {"mine": Contract(lambda x: x[0].sum() + x[1]["a"].sum(), inputs, {})}

    def changes_deep_inside(x):
        x[1]["a"] += 1
        return x[0].sum()

    assert assess("mine", contract["mine"].reference, contracts=contract).verdict == "right"
    assert "changes its input `x`" in assess("mine", changes_deep_inside, contracts=contract).message


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
def test_an_interrupt_by_the_user_goes_through(tmp_path) -> None:
    program = """
import signal, threading
from minigen.homework import grade
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
def loops(f):
    print("running", flush=True)
    while True:
        pass
try:
    grade("minimax.non_saturating_loss", loops, seconds=100)
except KeyboardInterrupt:
    print("interrupted", threading.active_count(), flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted 1\n"
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_an_interrupt_inside_the_function_goes_through() -> None:
    def interrupted(f):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assess(NAME, interrupted)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(KeyError, match=r"did you mean minimax\.generator_turn or"):
        assess("minimax.generator_tur", torch.sum)
    with pytest.raises(KeyError, match=r"there are autoregressive\.draw, .*start\.to_float"):
        assess("unheard of", torch.sum)
    with pytest.raises(ValueError, match=r"'start\.to_float' has no personal form"):
        assess("start.to_float", torch.sum, student="ada")
    with pytest.raises(ValueError, match=r"'start\.to_float' has no personal form"):
        task("start.to_float", "ada")


def test_a_broken_reference_is_the_contracts_fault() -> None:
    def broken(x):
        raise ZeroDivisionError

    contract = Contract(broken, lambda: [Input((1.0,), "a number")], {})
    with pytest.raises(ZeroDivisionError):
        assess("mine", lambda x: x, contracts={"mine": contract})


def test_an_observe_may_refuse_an_answer() -> None:
    def observe(function, arguments):
        raise RefusedError("must be a distribution")

    def see(function, arguments):
        return {"value": torch.zeros(1)} if function is reference else observe(function, arguments)

    def reference(x):
        return x

    contract = Contract(reference, lambda: [Input((1.0,), "a number")], {}, see)
    result = assess("mine", lambda x: x, contracts={"mine": contract})
    assert result.message == "must be a distribution (for a number, x = 1)"


FILE = """
import torch
from minigen.homework import Contract, Input
CONTRACTS = {NAME: Contract(lambda x: x + 1, lambda: [Input((torch.zeros(1),), "zero")], {})}
"""


def test_a_teachers_own_file(tmp_path, monkeypatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE.replace("NAME", "'mine.plus'"), encoding="utf-8")
    assert assess("mine.plus", lambda x: x + 1, contracts=file).verdict == "right"
    assert assess("mine.plus", lambda x: x + 1, contracts=str(file)).verdict == "right"
    with pytest.raises(KeyError, match=r"mine\.plus"):
        assess("mine.plus", lambda x: x + 1)
    monkeypatch.setenv("MINIGEN_CONTRACTS", str(file))
    assert assess("mine.plus", lambda x: x + 1).verdict == "right"
    assert assess(NAME, CONTRACTS[NAME].reference).verdict == "right"
    file.write_text(FILE.replace("NAME", f"{NAME!r}"), encoding="utf-8")
    assert assess(NAME, lambda x: x + 1).verdict == "right", "it goes before the book's"


def test_a_teachers_file_that_cannot_be_used(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no contracts file .*nowhere\.py.*CONTRACTS = "):
        assess(NAME, torch.sum, contracts=tmp_path / "nowhere.py")
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(ImportError, match=r"not a Python file"):
        assess(NAME, torch.sum, contracts=tmp_path / "notes.txt")
    (tmp_path / "empty.py").write_text("CONTRACTS = {'a': 1}", encoding="utf-8")
    with pytest.raises(TypeError, match=r"empty\.py has no CONTRACTS, or one that is no dict of Contract"):
        assess(NAME, torch.sum, contracts=tmp_path / "empty.py")


def test_gradients_of_a_network_are_taken_by_its_parameters() -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.data = torch.tensor([[2.0, 3.0]])
    x = torch.tensor([[1.0, -1.0]])
    found = gradients("network", "x")(lambda network, x: network(x).square().sum(), {"network": network, "x": x})
    torch.testing.assert_close(found["value"], torch.tensor(1.0))
    torch.testing.assert_close(found["gradient by network"], torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(found["gradient by x"], torch.tensor([-4.0, -6.0]))
