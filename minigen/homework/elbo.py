"""The exercises of chapter 09."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, softplus

from minigen.homework.contract import Contract, Function, Input, Personal, gradients
from minigen.homework.latents import CUT, FREE_BITS, IMPORTANCE_WEIGHTED_BOUND, REPARAMETERISE, STRAIGHT_THROUGH
from minigen.objectives import elbo


def tempered(contract: Contract, position: int) -> Contract:
    """The contract with a personal form: the logits, argument number `position`, divided, and the loss multiplied."""
    choices = {
        "temperature": (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0),
        "weight": (0.3, 0.7, 1.1, 1.3, 1.7, 1.9, 2.3, 2.9, 3.1, 3.7, 4.1, 4.3, 4.7, 5.3, 5.9, 6.1),
    }

    def make(temperature: float, weight: float) -> Contract:
        def divided(*arguments: Tensor) -> tuple[Tensor, ...]:
            return tuple(x / temperature if i == position else x for i, x in enumerate(arguments))

        return contract.adapted(before=divided, after=lambda loss: weight * loss)

    ask = "Divide every logit by {temperature} before anything else, and multiply the whole loss by {weight}."
    return replace(contract, personal=Personal(ask, choices, make))


def kl_to_prior(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)) of each latent in nats, (B, L) to (B,)."""
    return elbo.kl_to_prior(mean, log_std).sum(1)


def _latents() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, 3, 4, generator=generator)
    return [
        Input((torch.tensor([[1.5]]), torch.tensor([[0.5]])), "one latent dimension"),
        Input((mean, log_std / 2), "random latents"),
        Input((torch.zeros(2, 3), torch.zeros(2, 3)), "latents that are the prior's"),
        Input((torch.tensor([[30.0, -40.0]]), torch.tensor([[-9.0, 3.0]])), "a latent far from the prior"),
    ]


KL_TO_PRIOR = Contract(
    kl_to_prior,
    _latents,
    {
        "sign": (
            lambda m, s: -kl_to_prior(m, s),
            "this is minus the KL, which is never negative; change the sign (the bound subtracts it afterwards)",
        ),
        "twice": (
            lambda m, s: 2 * kl_to_prior(m, s),
            "twice the KL: the factor 1/2 of the Gaussian's exponent is missing",
        ),
        "1/2 missing before the squares": (
            lambda m, s: (m.square() + (2 * s).exp() - 1 - s).sum(1),
            "mean^2 + std^2 - 1 lacks its factor 1/2; the log of the deviation alone has none",
        ),
        "half of the log": (
            lambda m, s: 0.5 * (m.square() + (2 * s).exp() - 1 - s).sum(1),
            "the formula with 1/2 before everything has log std^2 = 2 log_std in it; log_std is the log of std",
        ),
        "log_std as log variance": (
            lambda m, s: kl_to_prior(m, s / 2),
            "takes log_std for the log of the variance; the variance is exp(2 log_std)",
        ),
        "std not squared": (
            lambda m, s: (0.5 * (m.square() + s.exp() - 1) - s).sum(1),
            "puts the standard deviation where the variance belongs; std^2 = exp(2 log_std)",
        ),
        "log_std as std": (
            lambda m, s: (0.5 * (m.square() + s.square() - 1) - s.abs().log()).sum(1),
            "takes log_std for the standard deviation itself; that is exp(log_std)",
        ),
        "the log's sign": (
            lambda m, s: kl_to_prior(m, s) + 2 * s.sum(1),
            "the log has the wrong sign; a narrow posterior costs more: subtract log_std",
        ),
        "no log": (
            lambda m, s: kl_to_prior(m, s) + s.sum(1),
            "leaves out the log; without it the posterior would be free to shrink to a point: subtract log_std",
        ),
        "-1 forgotten": (
            lambda m, s: kl_to_prior(m, s) + 0.5 * m.shape[1],
            "the KL of the prior to itself must be 0; subtract 1/2 for each dimension",
        ),
        "-1 once": (
            lambda m, s: kl_to_prior(m, s) + 0.5 * (m.shape[1] - 1),
            "subtracts 1/2 once; it belongs to each dimension, so subtract it before the sum",
        ),
        "mean not squared": (
            lambda m, s: kl_to_prior(torch.zeros_like(m), s) + m.sum(1) / 2,
            "the mean is not squared, so that its sign changes the KL; take mean^2",
        ),
        "mean ignored": (
            lambda m, s: kl_to_prior(torch.zeros_like(m), s),
            "the mean does not enter; add mean^2 / 2",
        ),
        "reversed": (
            lambda m, s: (0.5 * ((1 + m.square()) * (-2 * s).exp() - 1) + s).sum(1),
            "this is KL(prior || q); the bound has KL(q || prior), an expectation under q",
        ),
        "mean over the dimensions": (
            lambda m, s: kl_to_prior(m, s) / m.shape[1],
            "averages over the latent dimensions; independent dimensions' divergences add up: take the sum",
        ),
        "not summed": (elbo.kl_to_prior, "gives one divergence for each latent dimension; sum over them"),
        "mean over the batch": (
            lambda m, s: kl_to_prior(m, s).mean(),
            "averages over the batch as well; give one KL for each image, (B,)",
        ),
        "sum over the batch": (
            lambda m, s: kl_to_prior(m, s).sum(),
            "sums over the batch as well; give one KL for each image, (B,)",
        ),
        "in bits": (
            lambda m, s: kl_to_prior(m, s) / math.log(2),
            "this is in bits; in nats, leave out the division by ln 2",
        ),
        "no gradient": (lambda m, s: kl_to_prior(m, s).detach(), CUT),
    },
    gradients("mean", "log_std"),
)


def loss(x: Tensor, logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Minus the evidence lower bound of black-and-white images x, 0 or 1, (B, ...): nats/image, a number.

    logits: of 1, in the shape of x, from one sample of q. mean, log_std: of q, (B, L).
    """
    distortion, rate = _parts(x, logits, mean, log_std)
    return (distortion + rate).mean()


def _parts(x: Tensor, logits: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """Distortion and rate of each image, (B,) and (B,)."""
    return -elbo.bernoulli_log_prob(x, logits), kl_to_prior(mean, log_std)


def _of_parts(combine: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """The loss that is made of distortion and rate, (B,) each, in another way."""
    return lambda *arguments: combine(*_parts(*arguments))


def _with_rate(distortion: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """The loss with another distortion, given for each pixel from x and logits."""
    return lambda x, logits, m, s: distortion(x, logits).flatten(1).sum(1).mean() + kl_to_prior(m, s).mean()


def _by_logs(x: Tensor, p: Tensor, small: float = 0.0) -> Tensor:
    return -(x * (p + small).log() + (1 - x) * (1 - p + small).log())


def _autoencoders() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(3, 1, 2, 3, generator=generator) < 0.5).float()
    logits, latent = 2 * torch.randn(x.shape, generator=generator), torch.randn(2, 3, 4, generator=generator)
    extreme = torch.tensor([[200.0, -200.0], [-200.0, 200.0]])
    seen = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    one = torch.tensor([[1.0]]), torch.tensor([[0.7]]), torch.tensor([[1.5]]), torch.tensor([[0.5]])
    return [
        Input(one, "one pixel and one latent dimension"),
        Input((x, logits, latent[0], latent[1] / 2), "random images, logits and latents"),
        Input((seen, extreme, latent[0, :2], latent[1, :2] / 2), "logits of size 200"),
    ]


LOSS = Contract(
    loss,
    _autoencoders,
    {
        "sign": (
            _of_parts(lambda d, r: -(d + r).mean()),
            "this is the bound itself, which is maximised; a loss is minimised: change the sign",
        ),
        "no KL": (
            _of_parts(lambda d, r: d.mean()),
            "the reconstruction alone, an autoencoder; add the KL, or the latents will not follow the prior",
        ),
        "KL alone": (
            _of_parts(lambda d, r: r.mean()),
            "the KL alone, which is least where the latents say nothing; add minus the log-likelihood",
        ),
        "KL subtracted": (
            _of_parts(lambda d, r: (d - r).mean()),
            "subtracts the KL; the bound has - KL in it, and the loss is minus the bound: add it",
        ),
        "log-likelihood added": (
            _of_parts(lambda d, r: (r - d).mean()),
            "the log-likelihood has the wrong sign: minimising it makes the images improbable; subtract it",
        ),
        "distortion averaged over pixels": (
            lambda x, logits, m, s: _of_parts(lambda d, r: (d / x[0].numel() + r).mean())(x, logits, m, s),
            "averages the reconstruction over pixels, but sums the KL: a KL with weight d, which empties the latents;"
            " sum over pixels",
        ),
        "rate averaged over dimensions": (
            lambda x, logits, m, s: _of_parts(lambda d, r: (d + r / m.shape[1]).mean())(x, logits, m, s),
            "averages the KL over the latent dimensions, but sums over pixels; sum both",
        ),
        "both averaged": (
            lambda x, logits, m, s: _of_parts(lambda d, r: (d / x[0].numel() + r / m.shape[1]).mean())(x, logits, m, s),
            "averages over pixels and over latent dimensions, which weighs the two terms anew; sum both",
        ),
        "sum over the batch": (
            _of_parts(lambda d, r: (d + r).sum()),
            "sums over the batch, so that the loss grows with it; divide by the number of images",
        ),
        "rate summed over the batch": (
            _of_parts(lambda d, r: d.mean() + r.sum()),
            "sums the KL over the batch and averages the reconstruction; average both",
        ),
        "distortion summed over the batch": (
            _of_parts(lambda d, r: d.sum() + r.mean()),
            "sums the reconstruction over the batch and averages the KL; average both",
        ),
        "one number an image": (
            _of_parts(lambda d, r: d + r),
            "gives one number for each image; a loss is one number: take their mean",
        ),
        "probabilities": (
            _with_rate(_by_logs),
            "takes the logits for probabilities; they are any real number: use logsigmoid of them",
        ),
        "sigmoid twice": (
            _with_rate(lambda x, logits: _by_logs(x, torch.sigmoid(torch.sigmoid(logits)))),
            "takes the sigmoid before a loss that takes logits and does so itself; give it the logits",
        ),
        "squared error": (
            _with_rate(lambda x, logits: (x - torch.sigmoid(logits)).square()),
            "the squared error is the log-likelihood of Gaussian noise; black and white pixels are Bernoulli",
        ),
        "half the squared error": (
            _with_rate(lambda x, logits: (x - torch.sigmoid(logits)).square() / 2),
            "half the squared error belongs to Gaussian noise of deviation 1; black and white pixels are Bernoulli",
        ),
        "squared error of logits": (
            _with_rate(lambda x, logits: (x - logits).square()),
            "compares the logits with the pixels; the logits are those of a Bernoulli law of each pixel",
        ),
        "black for white": (
            _with_rate(lambda x, logits: _by_logs(x, torch.sigmoid(-logits))),
            "black and white are swapped: the logits are those of 1, log P(1) = logsigmoid(l)",
        ),
        "white pixels alone": (
            _with_rate(lambda x, logits: x * softplus(-logits)),
            "counts the pixels that are 1 alone; those that are 0 add (1 - x) log P(0)",
        ),
        "overflow": (
            _with_rate(lambda x, logits: _by_logs(x, torch.sigmoid(logits))),
            "overflows: the log of a sigmoid is -inf at a logit of size 200, and 0 times it is nan; use logsigmoid",
        ),
        "clamped": (
            _with_rate(lambda x, logits: binary_cross_entropy(torch.sigmoid(logits), x, reduction="none")),
            "binary_cross_entropy cuts a log at -100, and has no gradient there; give logits to"
            " binary_cross_entropy_with_logits, or use logsigmoid",
        ),
        "a small number in the log": (
            _with_rate(lambda x, logits: _by_logs(x, torch.sigmoid(logits), 1e-8)),
            "the small number in the log stops the overflow but flattens the loss at log 1e-8 = -18.4; use logsigmoid",
        ),
        "no gradient": (lambda *a: loss(*a).detach(), CUT),
    },
    gradients("logits", "mean", "log_std"),
)

CONTRACTS = {
    "kl_to_prior": KL_TO_PRIOR,
    "loss": tempered(LOSS, 1),
    "reparameterise": REPARAMETERISE,
    "importance_weighted_bound": IMPORTANCE_WEIGHTED_BOUND,
    "free_bits": FREE_BITS,
    "straight_through": STRAIGHT_THROUGH,
}
