"""The grader meets every kind of function: it never crashes, never hangs, and leaves the notebook as it was."""

from __future__ import annotations

import sys
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


def test_names_that_do_not_exist() -> None:
    with pytest.raises(KeyError, match=r"did you mean minimax\.generator_turn or"):
        assess("minimax.generator_tur", torch.sum)
    with pytest.raises(KeyError, match=r"there are autoregressive\.draw, .*start\.to_float"):
        assess("unheard of", torch.sum)
    with pytest.raises(ValueError, match=r"'start\.to_float' has no personal form"):
        assess("start.to_float", torch.sum, student="ada")
    with pytest.raises(ValueError, match=r"'start\.to_float' has no personal form"):
        task("start.to_float", "ada")


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


def test_gradients_of_a_network_are_taken_by_its_parameters() -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.data = torch.tensor([[2.0, 3.0]])
    x = torch.tensor([[1.0, -1.0]])
    found = gradients("network", "x")(lambda network, x: network(x).square().sum(), {"network": network, "x": x})
    torch.testing.assert_close(found["value"], torch.tensor(1.0))
    torch.testing.assert_close(found["gradient by network"], torch.tensor([-2.0, 2.0]))
    torch.testing.assert_close(found["gradient by x"], torch.tensor([-4.0, -6.0]))
