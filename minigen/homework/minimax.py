"""The exercises of chapter 02."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, logsigmoid

from minigen.homework.contract import Contract, Function, Input, Personal, gradients
from minigen.objectives import minimax


def _two_batches() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 5, generator=generator) * 2
    return [
        Input((torch.tensor([1.0]), torch.tensor([-2.0])), "one sample each"),
        Input((real, fake), "random logits"),
        Input((torch.tensor([200.0, -200.0]), torch.tensor([200.0, -200.0])), "logits of size 200"),
    ]


def _one_batch() -> list[Input]:
    return [Input(case.arguments[1:], case.description) for case in _two_batches()]


def _densities() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    log_p, log_q = torch.randn(2, 5, generator=generator) * 2
    return [
        Input((torch.tensor([-1.0]), torch.tensor([-2.0])), "one point"),
        Input((log_p, log_q), "random log-densities"),
        Input((torch.tensor([-900.0, -1000.0]), torch.tensor([-1000.0, -900.0])), "log-densities near -1000"),
    ]


def _discriminator(*sizes: int, scale: float = 1.0) -> nn.Module:
    """Linear layers with Tanh between them, to logits (B,); the weights are drawn without the global random stream."""
    generator = torch.Generator().manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.utils.skip_init(nn.Linear, a, b), nn.Tanh()]  # type: ignore[no-untyped-call]
    network = nn.Sequential(*layers[:-1], nn.Flatten(0))
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return network


def _games() -> list[Input]:
    generator = torch.Generator().manual_seed(1)
    real, fake = torch.randn(2, 5, 2, generator=generator)
    return [
        Input((_discriminator(1, 1), torch.tensor([[1.0]]), torch.tensor([[-2.0]])), "one sample each"),
        Input((_discriminator(2, 4, 1), real, fake), "random samples and a random network"),
        Input((_discriminator(2, 1, scale=100.0), real, fake), "a network with logits of some hundreds"),
    ]


def _fakes() -> list[Input]:
    return [Input((case.arguments[0], case.arguments[2]), case.description) for case in _games()]


def _sigmoid_log(logits: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(logits))


def _entropy(logits: Tensor, label: float) -> Tensor:
    return binary_cross_entropy(torch.sigmoid(logits), torch.full_like(logits, label))


def _through(loss: Callable[..., Tensor]) -> Function:
    """The turn of either player with this loss, the fakes detached in D's turn alone."""

    def turn(discriminator: nn.Module, *batches: Tensor) -> Tensor:
        kept = [*batches[:-1], batches[-1].detach()] if len(batches) == 2 else batches
        return loss(*(discriminator(batch) for batch in kept))

    return turn


def discriminator_turn(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The loss that D minimises in its turn, on real and fake (B, ...); no gradient reaches the generator."""
    return minimax.discriminator_loss(discriminator(real), discriminator(fake.detach()))


def generator_turn(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """The non-saturating loss that G minimises in its turn; its gradient passes through D to the fakes (B, ...)."""
    return minimax.non_saturating_loss(discriminator(fake))


_OVERFLOW = (
    "overflows: log(sigmoid(l)) is -inf for a large negative l, and 1 - sigmoid(l) is 0 for a large l; use logsigmoid"
)
_CLAMPED = (
    "binary_cross_entropy cuts the log of a probability at -100, and has no gradient there; give logits to"
    " binary_cross_entropy_with_logits, or use logsigmoid"
)
_EPSILON = (
    "the small number in the log stops the overflow but flattens the loss at log 1e-8 = -18.4, where no gradient is"
    " left; use logsigmoid"
)
_PROBABILITIES = "takes the arguments for probabilities; they are logits, any real number"
_TWICE = "takes the sigmoid before a loss that takes logits and does so itself; give it what D returns"
_SUM = "sums over the batch; an expectation is a mean"
_CUT = (
    "right, but cut off from the graph, so that nothing can learn from it; return the tensor without .item(),"
    " .detach() or torch.no_grad()"
)
_TEMPERED = {
    "temperature": (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0),
    "weight": (0.3, 0.7, 1.1, 1.3, 1.7, 1.9, 2.3, 2.9, 3.1, 3.7, 4.1, 4.3, 4.7, 5.3, 5.9, 6.1),
}


def _tempered(contract: Contract) -> Contract:
    """The contract, with its personal form."""

    def make(temperature: float, weight: float) -> Contract:
        return contract.adapted(
            before=lambda *logits: tuple(x / temperature for x in logits), after=lambda loss: weight * loss
        )

    ask = "Divide every logit by {temperature} before anything else, and multiply the whole loss by {weight}."
    return replace(contract, personal=Personal(ask, _TEMPERED, make))


VALUE = Contract(
    minimax.value,
    _two_batches,
    {
        "min and max swapped": (
            minimax.discriminator_loss,
            "this is -V, which D minimises; V itself, which D maximises and G minimises, has the other sign",
        ),
        "swapped": (lambda r, f: minimax.value(f, r), "real and fake are swapped: D is 1 on data and 0 on fakes"),
        "the generator's term": (
            lambda r, f: logsigmoid(r).mean() + logsigmoid(f).mean(),
            "the second term is log D(G(z)); it should be log(1 - D(G(z))) = logsigmoid(-l)",
        ),
        "minus between the terms": (
            lambda r, f: logsigmoid(r).mean() - logsigmoid(-f).mean(),
            "subtracts the second expectation; D gains from both, so add it",
        ),
        "mean of the two halves": (
            lambda r, f: minimax.value(r, f) / 2,
            "half of V: the two expectations are summed, not averaged",
        ),
        "sum": (lambda r, f: (logsigmoid(r) + logsigmoid(-f)).sum(), _SUM),
        "overflow": (lambda r, f: _sigmoid_log(r).mean() + torch.log(1 - torch.sigmoid(f)).mean(), _OVERFLOW),
        "clamped": (lambda r, f: -_entropy(r, 1.0) - _entropy(f, 0.0), _CLAMPED),
        "probabilities": (lambda r, f: torch.log(r).mean() + torch.log(1 - f).mean(), _PROBABILITIES),
        "no log": (
            lambda r, f: torch.sigmoid(r).mean() + (1 - torch.sigmoid(f)).mean(),
            "adds probabilities; V adds their logs",
        ),
    },
)

DISCRIMINATOR_LOSS = Contract(
    minimax.discriminator_loss,
    _two_batches,
    {
        "sign": (minimax.value, "this is V, which D maximises; a loss is minimised: change the sign"),
        "mean of the two halves": (
            lambda r, f: minimax.discriminator_loss(r, f) / 2,
            "half of -V: the two expectations are summed, not averaged (a mean over the joined batch halves it)",
        ),
        "sum": (lambda r, f: -(logsigmoid(r) + logsigmoid(-f)).sum(), _SUM),
        "swapped": (
            lambda r, f: minimax.discriminator_loss(f, r),
            "real and fake are swapped: D is asked to call fakes real",
        ),
        "the generator's term": (
            lambda r, f: -(logsigmoid(r).mean() + logsigmoid(f).mean()),
            "the second term is log D(G(z)); it should be log(1 - D(G(z))) = logsigmoid(-l)",
        ),
        "minus between the terms": (
            lambda r, f: -(logsigmoid(r).mean() - logsigmoid(-f).mean()),
            "subtracts the second expectation; D gains from both, so add them and change the sign of the sum",
        ),
        "overflow": (lambda r, f: -(_sigmoid_log(r).mean() + torch.log(1 - torch.sigmoid(f)).mean()), _OVERFLOW),
        "clamped": (lambda r, f: _entropy(r, 1.0) + _entropy(f, 0.0), _CLAMPED),
        "a small number in the log": (
            lambda r, f: -((torch.sigmoid(r) + 1e-8).log().mean() + (1 - torch.sigmoid(f) + 1e-8).log().mean()),
            _EPSILON,
        ),
        "probabilities": (lambda r, f: -(torch.log(r).mean() + torch.log(1 - f).mean()), _PROBABILITIES),
        "sigmoid twice": (lambda r, f: minimax.discriminator_loss(torch.sigmoid(r), torch.sigmoid(f)), _TWICE),
        "no gradient": (lambda r, f: minimax.discriminator_loss(r, f).detach(), _CUT),
    },
    gradients("real_logits", "fake_logits"),
)

NON_SATURATING_LOSS = Contract(
    minimax.non_saturating_loss,
    _one_batch,
    {
        "saturating": (
            minimax.saturating_loss,
            "this is the saturating loss, E log(1 - D); it starves the generator",
        ),
        "the value's sign": (
            lambda f: -minimax.saturating_loss(f),
            "this is -E log(1 - D): minimising it makes the fakes easier to recognise",
        ),
        "sign": (
            lambda f: -minimax.non_saturating_loss(f),
            "the sign: E log D is maximised by G, so minus it is the loss",
        ),
        "sum": (lambda f: -logsigmoid(f).sum(), _SUM),
        "the logits' mean": (
            lambda f: -f.mean(),
            "minus the mean logit: that is the loss of a Wasserstein game; here the logit goes through log sigmoid",
        ),
        "sign and overflow": (lambda f: _sigmoid_log(f).mean(), f"the sign, and it {_OVERFLOW}"),
        "the misprint": (
            lambda f: 1 - logsigmoid(f).mean(),
            "1 - log D in place of -log D: its gradient is right, its value is off by 1",
        ),
        "overflow": (lambda f: -_sigmoid_log(f).mean(), _OVERFLOW),
        "clamped": (lambda f: _entropy(f, 1.0), _CLAMPED),
        "a small number in the log": (lambda f: -(torch.sigmoid(f) + 1e-8).log().mean(), _EPSILON),
        "probabilities": (lambda f: -torch.log(f).mean(), _PROBABILITIES),
        "sigmoid twice": (lambda f: minimax.non_saturating_loss(torch.sigmoid(f)), _TWICE),
        "no gradient": (lambda f: minimax.non_saturating_loss(f).detach(), _CUT),
    },
    gradients("fake_logits"),
)

DISCRIMINATOR_TURN = Contract(
    discriminator_turn,
    _games,
    {
        "missing detach": (
            lambda d, x, g: minimax.discriminator_loss(d(x), d(g)),
            "the value is right, but a gradient reaches the generator, which is not on turn; give D fake.detach()",
        ),
        "the logits detached": (
            lambda d, x, g: minimax.discriminator_loss(d(x), d(g).detach()),
            "detaches D's logits, so that D learns nothing from fakes; detach the samples, before D",
        ),
        "no gradient": (lambda d, x, g: discriminator_turn(d, x, g).detach(), _CUT),
        "min and max swapped": (
            _through(minimax.value),
            "this is V, which D maximises; in its turn D minimises -V: change the sign",
        ),
        "real and fake swapped": (
            _through(lambda r, f: minimax.discriminator_loss(f, r)),
            "real and fake are swapped: D is asked to call fakes real",
        ),
        "the generator's term": (
            _through(lambda r, f: -(logsigmoid(r).mean() + logsigmoid(f).mean())),
            "asks D to call fakes real as well, which is the generator's wish; the second term is log(1 - D(G(z)))",
        ),
        "the mean of the two": (
            _through(lambda r, f: minimax.discriminator_loss(r, f) / 2),
            "half of -V: the two expectations are summed, not averaged",
        ),
        "sigmoid twice": (
            _through(lambda r, f: minimax.discriminator_loss(torch.sigmoid(r), torch.sigmoid(f))),
            _TWICE,
        ),
        "real samples alone": (
            _through(lambda r, f: -logsigmoid(r).mean()),
            "leaves out the fakes, so that D may call everything real; add -E log(1 - D(G(z)))",
        ),
    },
    gradients("discriminator", "fake"),
)

GENERATOR_TURN = Contract(
    generator_turn,
    _fakes,
    {
        "detached": (
            lambda d, g: generator_turn(d, g).detach(),
            "no gradient reaches the fakes, so that the generator cannot learn; detach belongs in D's turn alone",
        ),
        "saturating": (
            _through(minimax.saturating_loss),
            "this is the saturating loss, E log(1 - D), whose gradient vanishes where D knows the fakes; use -E log D",
        ),
        "min and max swapped": (
            _through(lambda f: -minimax.saturating_loss(f)),
            "this is D's own term: minimising it makes the fakes easier to recognise; use -E log D",
        ),
        "sign": (
            _through(lambda f: -minimax.non_saturating_loss(f)),
            "this is E log D, which G maximises; a loss is minimised: change the sign",
        ),
        "sum": (_through(lambda f: -logsigmoid(f).sum()), _SUM),
        "sigmoid twice": (_through(lambda f: minimax.non_saturating_loss(torch.sigmoid(f))), _TWICE),
        "overflow": (_through(lambda f: -_sigmoid_log(f).mean()), _OVERFLOW),
    },
    gradients("fake"),
)

OPTIMAL_DISCRIMINATOR = Contract(
    minimax.optimal_discriminator,
    _densities,
    {
        "the model's share": (
            lambda p, q: torch.sigmoid(q - p),
            "this is p_g / (p_data + p_g), the probability of being generated",
        ),
        "ratio": (lambda p, q: torch.exp(p - q), "this is the ratio p_data / p_g; D is p_data / (p_data + p_g)"),
        "logit": (minimax.optimal_logit, "this is the logit of D*; apply the sigmoid"),
        "log-densities as densities": (
            lambda p, q: p / (p + q),
            "takes the log-densities for densities: exponentiate, or better, take the sigmoid of their difference",
        ),
        "underflow": (
            lambda p, q: p.exp() / (p.exp() + q.exp()),
            "right for densities of moderate size, but 0/0 where both underflow; use the difference of the logs",
        ),
    },
)

CONTRACTS = {
    "value": VALUE,
    "discriminator_loss": _tempered(DISCRIMINATOR_LOSS),
    "non_saturating_loss": _tempered(NON_SATURATING_LOSS),
    "discriminator_turn": DISCRIMINATOR_TURN,
    "generator_turn": GENERATOR_TURN,
    "optimal_discriminator": OPTIMAL_DISCRIMINATOR,
}
