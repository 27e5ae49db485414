"""The exercise `elbo.loss`: minus the evidence lower bound of black-and-white images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, softplus

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.contracts.elbo.kl_to_prior import kl_to_prior
from minigen.homework.mistakes import CUT, NO_MEAN, tempered
from minigen.objectives import elbo


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


COMMON = Contract(
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
            NO_MEAN,
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


CONTRACT = tempered(COMMON, 1)
