"""The contracts: references against something independent, wrong variants recognised as themselves and told apart."""

from __future__ import annotations

import itertools
import math
import re
import time

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn.functional import logsigmoid

from minigen import metrics
from minigen.homework import CONTRACTS, assess, grade, task
from minigen.homework.observing import agree, see
from minigen.metrics import divergences
from minigen.objectives import minimax

VARIANTS = [(name, wrong) for name, contract in CONTRACTS.items() for wrong in contract.wrong]
PERSONAL = [name for name, contract in CONTRACTS.items() if contract.personal]
contracts = pytest.mark.parametrize("name", CONTRACTS)


@contracts
def test_the_reference_passes(name: str) -> None:
    result = assess(name, CONTRACTS[name].reference)
    assert (result.verdict, result.mark, result.misconception) == ("right", "✓", None)


@pytest.mark.parametrize(("name", "wrong"), VARIANTS)
def test_every_wrong_variant_is_recognised_as_itself(name: str, wrong: str) -> None:
    result = assess(name, CONTRACTS[name].wrong[wrong][0])
    assert (result.verdict, result.misconception, result.mark) == ("recognised", wrong, "✗")
    assert result.message == CONTRACTS[name].wrong[wrong][1]


@contracts
def test_wrong_variants_differ_from_the_reference_and_from_each_other(name: str) -> None:
    contract = CONTRACTS[name]
    functions = {"the reference": contract.reference} | {wrong: f for wrong, (f, _) in contract.wrong.items()}
    cases = contract.inputs()
    seen = {label: [see(contract, function, case) for case in cases] for label, function in functions.items()}
    for a, b in itertools.combinations(seen, 2):
        assert not all(map(agree, seen[a], seen[b])), f"{name}: {a!r} and {b!r} cannot be told apart"


@contracts
def test_explanations_are_single_different_sentences(name: str) -> None:
    texts = [text for _, text in CONTRACTS[name].wrong.values()]
    assert len(set(texts)) == len(texts) >= 6
    for text in texts:
        assert len(text) <= 170
        assert not re.search(r"[.!?] |\.$", text), text


def test_most_contracts_know_ten_mistakes() -> None:
    few = {name for name, contract in CONTRACTS.items() if len(contract.wrong) < 10}
    assert few <= {f"minimax.{name}" for name in ("discriminator_turn", "generator_turn", "optimal_discriminator")} | {
        "autoregressive.skew",
        "elbo.straight_through",
    }


@contracts
def test_an_unrelated_function_gets_the_smallest_failing_input(name: str) -> None:
    contract = CONTRACTS[name]
    first, *_ = cases = contract.inputs()
    result = assess(name, lambda *a: contract.reference(*a) + 0.37)
    assert result.verdict == "wrong"
    assert "not in a way that is known here" in result.message
    assert first.description in result.message
    assert f"{contract.names[0]} = " in result.message
    factors = iter([1.0] * (len(cases) - 1) + [1.37])
    result = assess(name, lambda *a: contract.reference(*a) * (f := next(factors)) + f - 1)
    assert cases[-1].description in result.message

    def size(case):
        return sum(x.numel() if isinstance(x, torch.Tensor) else 1 for x in case.arguments)

    assert size(first) == min(map(size, cases))


@contracts
def test_inputs_are_the_same_every_time_and_leave_the_random_stream_alone(name: str) -> None:
    contract, before = CONTRACTS[name], torch.get_rng_state()
    for a, b in zip(contract.inputs(), contract.inputs(), strict=True):
        seen = [see(contract, contract.reference, case) for case in (a, b)]
        assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_grade_takes_milliseconds() -> None:
    for name, contract in CONTRACTS.items():
        times = []
        for _ in range(5):
            start = time.perf_counter()
            assess(name, contract.reference)
            times.append(time.perf_counter() - start)
        assert min(times) < 0.1, name


def test_references_of_chapter_00_against_enumeration() -> None:
    edges = torch.linspace(-1, 1, 8)  # 7 levels
    middles = CONTRACTS["start.to_float"].reference(torch.arange(7), 7)
    torch.testing.assert_close(middles, (edges[1:] + edges[:-1]) / 2)

    x, y = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    by_hand = sum((a - b) ** 2 for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) / 3
    assert CONTRACTS["start.squared_error"].reference(x, y).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_standard_error_is_the_spread_of_means() -> None:
    draws = torch.rand(20_000, 16, generator=torch.Generator().manual_seed(0))
    claimed = torch.stack([CONTRACTS["start.monte_carlo_error"].reference(row) for row in draws[:4000]])
    assert claimed.square().mean().sqrt().item() == pytest.approx(draws.mean(1).std().item(), rel=0.02)


def test_references_of_chapter_01_against_the_library_and_torch() -> None:
    generator = torch.Generator().manual_seed(3)
    mp, mq = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    sp, sq = torch.rand(2, 4, generator=generator, dtype=torch.float64) + 0.2
    kl = CONTRACTS["images.gaussian_kl"].reference(mp, sp, mq, sq)
    torch.testing.assert_close(kl, kl_divergence(Normal(mp, sp), Normal(mq, sq)).sum())
    full = mp, torch.diag(sp**2), mq, torch.diag(sq**2)
    torch.testing.assert_close(kl, divergences.gaussian_kl(*full))
    w2 = CONTRACTS["images.gaussian_w2_squared"].reference(mp, sp, mq, sq)
    torch.testing.assert_close(w2, divergences.gaussian_w2_squared(*full))

    bits = CONTRACTS["images.bits_per_dim"].reference(-500.0, 192, 256)
    assert bits == pytest.approx(metrics.bits_per_dim(-500.0, 192, levels=256))
    uniform = CONTRACTS["images.bits_per_dim"].reference(192 * math.log(2), 192, 256)  # density 1/2 on [-1, 1]
    assert uniform == pytest.approx(8)

    k = torch.rand(7, 7, generator=generator, dtype=torch.float64)
    xx, yy, xy = k[:4, :4], k[4:, 4:], k[:4, 4:]
    by_hand = sum(xx[i, j] for i in range(4) for j in range(4) if i != j) / 12
    by_hand += sum(yy[i, j] for i in range(3) for j in range(3) if i != j) / 6 - 2 * xy.sum() / 12
    torch.testing.assert_close(CONTRACTS["images.mmd2"].reference(xx, yy, xy), by_hand)

    means, x = torch.randn(3, 2, generator=generator), torch.randn(5, 2, generator=generator)
    parts = Independent(Normal(means, torch.ones(3, 2)), 1)
    log_p = torch.stack([Independent(Normal(mean, torch.ones(2)), 1).log_prob(x) for mean in means])
    mixture = MixtureSameFamily(Categorical(torch.ones(3)), parts)
    torch.testing.assert_close(CONTRACTS["images.log_mean"].reference(log_p), mixture.log_prob(x))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_the_turns_are_those_of_the_objective(player: str) -> None:
    """What the exercise asks for gives the gradients that the library's own loop gives to that player."""
    contract = CONTRACTS[f"minimax.{player}_turn"]
    network = CONTRACTS["minimax.discriminator_turn"].inputs()[1].arguments[0]
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [0.5, -1.0]]))
    real, z = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    generator = torch.nn.Linear(2, 2, bias=False)
    generator.weight, generator.latent = weight, 2

    class Given:
        def normal(self, *_):
            return z

    (_, d_loss, _), (_, g_loss, _) = minimax.Minimax(generator, network).turns(real, Given())
    asked = contract.reference(network, real, z @ weight.T) if player == "discriminator" else None
    asked = contract.reference(network, z @ weight.T) if player == "generator" else asked
    theirs = d_loss if player == "discriminator" else g_loss
    movers = list(network.parameters()) if player == "discriminator" else [weight]
    for a, b in zip(torch.autograd.grad(asked, movers), torch.autograd.grad(theirs, movers), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", PERSONAL)
def test_personal_constants_are_ones_own(name: str) -> None:
    contract, personal = CONTRACTS[name], CONTRACTS[name].personal
    everyone = list(personal.all_constants())
    assert len(everyone) >= 256
    assert personal.constants("ada") == personal.constants("ada") in everyone
    drawn = {tuple(personal.constants(f"student {i}").values()) for i in range(4000)}
    assert len(drawn) == len(everyone), "every choice is drawn, nearby names do not share theirs"

    mine = personal.constants("ada")
    other = next(c for i in range(9) if all((c := personal.constants(f"bob {i}"))[k] != mine[k] for k in mine))
    for value in mine.values():
        assert f"{value:g}" in task(name, "ada")
    assert assess(name, personal.make(**mine).reference, student="ada").verdict == "right"
    copied = assess(name, personal.make(**other).reference, student="ada")
    assert copied.misconception == "someone else's"
    for key in mine:
        assert f"{key} = {mine[key]:g}" in copied.message
        assert f"{key} = {other[key]:g}" in copied.message
    assert assess(name, contract.reference, student="ada").misconception == "the book's"
    assert assess(name, personal.make(**mine).reference).verdict == "wrong", "the common form is another exercise"


@pytest.mark.parametrize("name", PERSONAL)
def test_no_two_students_constants_ask_for_the_same(name: str) -> None:
    contract = CONTRACTS[name]
    forms = [contract, *(contract.personal.make(**constants) for constants in contract.personal.all_constants())]
    answers = [[see(form, form.reference, case)["value"] for case in form.inputs()] for form in forms]
    answers = torch.stack([torch.stack(row) for row in answers]).double()  # (forms, inputs)
    gaps = ((answers[:, None] - answers[None]).abs() / answers.abs().amax(0).clamp(min=1e-9)).amax(2)
    gaps.fill_diagonal_(1)
    assert gaps.min() > 1e-5


@pytest.mark.parametrize("name", PERSONAL)
@pytest.mark.parametrize("student", ["ada", "bob", "Zoë 7"])
def test_wrong_variants_are_recognised_in_the_personal_form(name: str, student: str) -> None:
    personal = CONTRACTS[name].personal
    contract = personal.make(**personal.constants(student))
    for wrong, (variant, _) in contract.wrong.items():
        assert assess(name, variant, student=student).misconception == wrong


@pytest.mark.parametrize(
    ("name", "answer", "misconception"),
    [
        ("start.to_float", lambda k, n: 2 * (k - k.min()) / (k.max() - k.min()) - 1, "the batch's own ends"),
        (
            "start.to_float",
            lambda k, n: (k - min(k.flatten())) / (k.max() - k.min()),
            "the batch's own ends, in [0, 1]",
        ),
        ("start.to_float", lambda k, n: 2 * k / k.max() - 1, "the batch's own largest"),
        ("start.to_float", lambda k, n: 2 * k / (n - 1) - 1, "end to end"),
        ("start.to_float", lambda k, n: k / (n - 1), "k / (K - 1)"),
        (
            "images.gaussian_kl",
            lambda mp, sp, mq, sq: kl_divergence(Normal(mp, sp.sqrt()), Normal(mq, sq.sqrt())).sum(),
            "deviations taken for variances",
        ),
    ],
)
def test_what_looks_alike_is_told_apart(name: str, answer, misconception: str) -> None:
    assert assess(name, answer).misconception == misconception


def test_grade_goes_on_where_a_contract_is_not_known(capsys) -> None:
    grade("mine.hidden", torch.sum)
    grade("minimax.generator_tur", torch.sum)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("? no contract 'mine.hidden'; ")
    assert first.endswith("; a teacher's own is graded by the teacher")
    assert "did you mean minimax.generator_turn" in second


def test_a_personal_form_knows_the_common_misconceptions() -> None:
    """A function that forgets the constants and has a known mistake too."""
    result = assess("minimax.non_saturating_loss", lambda f: logsigmoid(-f).mean(), student="bob")
    assert result.misconception == "saturating"
    assert "it starves the generator; and yours has temperature = " in result.message


@contracts
def test_what_is_no_answer_at_all_gets_a_message_of_its_own(name: str) -> None:
    right, first = CONTRACTS[name].reference, CONTRACTS[name].inputs()[0].arguments

    def changes(*given):
        answer = right(*given)
        next(x for x in given if isinstance(x, torch.Tensor)).data.add_(1)
        return answer

    def tensor(*given):
        return torch.as_tensor(right(*given))

    said = {
        "it must return a tensor of shape": lambda *given: tensor(*given)[None],
        "must return a tensor; got tuple": lambda *given: (tensor(*given), 0.0),
        "must return a tensor; got ndarray": lambda *given: tensor(*given).detach().numpy(),
        "must return a dense real tensor on the CPU; got complex": lambda *given: tensor(*given) + 0j,
        "; expected": lambda *given: (1e3 * tensor(*given) + 1e3).round().long(),
        "must take the arguments": lambda: 0.0,
        "raises IndexError": lambda *given: tensor(*given)[(0,) * 9],
    } | ({"changes its input": changes} if any(isinstance(x, torch.Tensor) for x in first) else {})
    for message, answer in said.items():
        grade = assess(name, answer)
        assert grade.verdict == "wrong"
        assert message in grade.message
    assert assess(name, lambda *given: tensor(*given) * float("nan")).verdict == "wrong"


@contracts
def test_references_stay_finite_on_extreme_inputs(name: str) -> None:
    for case in CONTRACTS[name].inputs():
        for seen in see(CONTRACTS[name], CONTRACTS[name].reference, case).values():
            assert seen.isfinite().all(), case.description
