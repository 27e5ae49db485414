"""Each contract recognises its wrong variants, passes the reference, and is honest about what it does not know."""

from __future__ import annotations

import pytest
import torch

from minigen.homework import CONTRACTS, assess, grade

VARIANTS = [(name, wrong) for name, contract in CONTRACTS.items() for wrong in contract.wrong]


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_reference_passes(name: str) -> None:
    assert assess(name, CONTRACTS[name].reference).verdict == "right"


@pytest.mark.parametrize(("name", "wrong"), VARIANTS)
def test_every_wrong_variant_is_recognised_as_itself(name: str, wrong: str) -> None:
    result = assess(name, CONTRACTS[name].wrong[wrong][0])
    assert (result.verdict, result.misconception) == ("recognised", wrong)


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_unrelated_function_gets_the_smallest_failing_input(name: str) -> None:
    result = assess(name, lambda *a: CONTRACTS[name].reference(*a) + 0.37)
    assert result.verdict == "wrong"
    assert "not in a way that is known" in result.message
    assert CONTRACTS[name].inputs()[0].description in result.message


def test_it_survives_what_functions_do(capsys) -> None:
    name = "minimax.discriminator_loss"

    def not_yet(real, fake):
        raise NotImplementedError

    def changes(real, fake):
        real += 1
        return CONTRACTS[name].reference(real, fake)

    for function, verdict, match in [
        (not_yet, "open", "not attempted"),
        (lambda r, f: None, "open", "returns nothing"),
        (lambda r, f: 1 / 0, "wrong", "raises ZeroDivisionError"),
        (lambda r: r, "wrong", "raises TypeError"),
        (lambda r, f: r, "wrong", r"must return a tensor of shape (); got (1,)"),
        (lambda r, f: 1.0, "wrong", "got float"),
        (changes, "wrong", "changes its inputs"),
    ]:
        result = assess(name, function)
        assert result.verdict == verdict
        assert match in result.message
    grade(name, CONTRACTS[name].reference)
    assert capsys.readouterr().out == f"✓ {name}: right, on random and on extreme inputs\n"
    with pytest.raises(KeyError, match=r"minimax\.discriminator_loss"):
        assess("minimax.generator", torch.sum)
