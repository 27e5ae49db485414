"""The exercises of chapter 09 about samples, bounds and codes."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import softplus

from minigen.homework.contract import Contract, Input, gradients
from minigen.objectives import elbo

CUT = (
    "right, but cut off from the graph, so that nothing can learn from it; return the tensor without .item(),"
    " .detach() or torch.no_grad()"
)


def _samples() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 4, 3, generator=generator)
    one = torch.tensor([[1.5]]), torch.tensor([[0.5]]), torch.tensor([[-2.0]])
    far = torch.tensor([[30.0, -40.0]]), torch.tensor([[-12.0, 3.0]]), torch.tensor([[2.5, -2.5]])
    return [
        Input(one, "one latent dimension"),
        Input((mean, log_std, noise), "random latents"),
        Input(far, "a needle and a wide posterior"),
    ]


REPARAMETERISE = Contract(
    elbo.reparameterise,
    _samples,
    {
        "log_std as std": (
            lambda m, s, e: m + s * e,
            "multiplies the noise by log_std; the standard deviation is exp(log_std)",
        ),
        "variance for deviation": (
            lambda m, s, e: m + (2 * s).exp() * e,
            "multiplies the noise by the variance; it is the standard deviation, exp(log_std), that scales a sample",
        ),
        "log_std as log variance": (
            lambda m, s, e: m + (s / 2).exp() * e,
            "halves log_std, as for the log of a variance; it is the log of the deviation already: exp(log_std)",
        ),
        "divided by std": (
            lambda m, s, e: m + (-s).exp() * e,
            "divides the noise by the standard deviation; multiply by exp(log_std)",
        ),
        "softplus": (
            lambda m, s, e: m + softplus(s) * e,
            "softplus makes a positive number as well, but log_std is a logarithm: exp(log_std)",
        ),
        "standard noise": (
            lambda m, s, e: m + e,
            "adds the noise as it is; scale it by the standard deviation, exp(log_std)",
        ),
        "noise on everything": (
            lambda m, s, e: (m + s.exp()) * e,
            "multiplies the mean by the noise as well; it shifts the sample: mean + std * noise",
        ),
        "no noise": (
            lambda m, s, e: m + 0 * s,
            "gives the mean of q and no sample of it; add std * noise",
        ),
        "noise subtracted": (
            lambda m, s, e: m - s.exp() * e,
            "subtracts the noise; the law is the same, but this exercise is about mean + std * noise",
        ),
        "mean detached": (
            lambda m, s, e: m.detach() + s.exp() * e,
            "the value is right, but no gradient reaches the mean; do not detach it",
        ),
        "std detached": (
            lambda m, s, e: m + s.exp().detach() * e,
            "the value is right, but no gradient reaches log_std; do not detach the deviation",
        ),
        "detached": (
            lambda m, s, e: elbo.reparameterise(m, s, e).detach(),
            "the value is right, but no gradient reaches the encoder, which is what the formula is for; do not detach,"
            " and no torch.no_grad()",
        ),
    },
    gradients("mean", "log_std"),
)


def _weights() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    return [
        Input((torch.tensor([[-1.0], [-3.0]]),), "two samples for one image"),
        Input((3 * torch.randn(5, 3, generator=generator) - 4,), "5 random samples for 3 images"),
        Input((torch.tensor([[-1000.0, 1000.0], [-1001.0, -1000.0], [-1002.5, 999.0]]),), "log-weights of size 1000"),
    ]


IMPORTANCE_WEIGHTED_BOUND = Contract(
    elbo.importance_weighted_bound,
    _weights,
    {
        "mean of the logs": (
            lambda w: w.mean(0),
            "the mean of the logs is the evidence lower bound, however many samples; take the log of the mean",
        ),
        "sum of the logs": (
            lambda w: w.sum(0),
            "adds the logs, which multiplies the weights; take the log of their mean",
        ),
        "log K forgotten": (
            lambda w: w.logsumexp(0),
            "this is the log of the sum of the weights, and no bound; subtract log K for the mean",
        ),
        "log K added": (
            lambda w: w.logsumexp(0) + math.log(len(w)),
            "adds log K; a mean is the sum divided by K, so subtract it",
        ),
        "divided by K": (
            lambda w: w.logsumexp(0) / len(w),
            "divides the log by K; the division is inside of the log: subtract log K",
        ),
        "log B": (
            lambda w: w.logsumexp(0) - math.log(w.shape[1]),
            "subtracts the log of the number of images; subtract log K, the number of samples, log_weights.shape[0]",
        ),
        "the wrong axis": (
            lambda w: w.logsumexp(1) - math.log(w.shape[1]),
            "averages over the images; the K samples are along dimension 0",
        ),
        "over both axes": (
            lambda w: w.flatten().logsumexp(0) - math.log(w.numel()),
            "averages the weights of all images before the log; reduce dimension 0 alone, which leaves (B,)",
        ),
        "mean over the images": (
            lambda w: elbo.importance_weighted_bound(w).mean(),
            "averages over the images as well; give one bound for each image, (B,)",
        ),
        "underflow": (
            lambda w: w.exp().mean(0).log(),
            "right for moderate values, but exp gives 0 or infinity near -1000 and 1000; use logsumexp",
        ),
        "a small number in the log": (
            lambda w: (w.exp().mean(0) + 1e-8).log(),
            "the small number in the log hides the underflow and puts a floor of -18.4 under the bound; use logsumexp",
        ),
        "the largest": (
            lambda w: w.max(0).values,
            "takes the largest weight alone; the others count too: use logsumexp and subtract log K",
        ),
        "normalised weights": (
            lambda w: (w.softmax(0) * w).sum(0),
            "averages the logs under the normalised weights, which is no bound; take the log of the plain mean",
        ),
        "not the log": (
            lambda w: w.exp().mean(0),
            "this is the estimate of p(x) itself; return its log, computed with logsumexp",
        ),
        "sign": (
            lambda w: -elbo.importance_weighted_bound(w),
            "this is minus the bound; the exercise asks for the bound: change the sign",
        ),
    },
)


def _rates() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    kl = torch.rand(4, 5, generator=generator) * torch.tensor([0.1, 0.6, 1.0, 2.0, 4.0])
    return [
        Input((torch.tensor([[0.1], [0.7]]), 0.25), "two images and one latent dimension"),
        Input((kl, 0.5), "random divergences in 5 dimensions"),
        Input((torch.zeros(3, 4), 0.125), "latents that say nothing"),
        Input((torch.tensor([[900.0, 0.0, 0.01], [1100.0, 0.25, 0.02]]), 2.0), "one dimension that says everything"),
    ]


FREE_BITS = Contract(
    elbo.free_bits,
    _rates,
    {
        "no floor": (lambda kl, least: kl.mean(0).sum(), "the plain rate; each dimension must count at least `least`"),
        "before the mean over the batch": (
            lambda kl, least: kl.clamp(min=least).mean(0).sum(),
            "puts the floor under each image's KL; it belongs under the mean over the batch: average first, then clamp",
        ),
        "under the sum": (
            lambda kl, least: kl.mean(0).sum().clamp(min=least),
            "puts one floor under the sum, which a single dimension can pay for; clamp each dimension, then sum",
        ),
        "the whole floor under the sum": (
            lambda kl, least: kl.mean(0).sum().clamp(min=least * kl.shape[1]),
            "puts the floor of all dimensions together under the sum; clamp each dimension, then sum",
        ),
        "under each image's sum": (
            lambda kl, least: kl.sum(1).clamp(min=least).mean(),
            "puts the floor under each image's sum; average over the batch, clamp each dimension, then sum",
        ),
        "ceiling": (
            lambda kl, least: kl.mean(0).clamp(max=least).sum(),
            "takes the smaller of the two, a ceiling; the floor is the larger: clamp(min=least)",
        ),
        "floor subtracted": (
            lambda kl, least: (kl.mean(0) - least).clamp(min=0).sum(),
            "the gradient is right, but the value is too small by `least` for each dimension; take max(least, KL)",
        ),
        "floor added": (
            lambda kl, least: (kl.mean(0) + least).sum(),
            "adds the floor to every dimension, which changes no gradient; take max(least, KL)",
        ),
        "set to zero": (
            lambda kl, least: torch.where(kl.mean(0) > least, kl.mean(0), 0.0).sum(),
            "a dimension below the floor counts 0 here, so that the rate jumps; it counts `least`",
        ),
        "sum over the batch": (
            lambda kl, least: kl.shape[0] * elbo.free_bits(kl, least),
            "multiplies by the number of images; the floor is under a mean over the batch, and the result is for one"
            " image",
        ),
        "the batch summed first": (
            lambda kl, least: kl.sum(0).clamp(min=least).sum(),
            "sums over the batch before the floor, so that a larger batch lies above it; average",
        ),
        "mean over the dimensions": (
            lambda kl, least: kl.mean(0).clamp(min=least).mean(),
            "averages over the latent dimensions; their divergences add up: take the sum",
        ),
        "mean over the latents, not the batch": (
            lambda kl, least: kl.mean(1).clamp(min=least).sum(),
            "averages over the latent dimensions and sums over the batch; the batch is dimension 0",
        ),
        "not summed": (
            lambda kl, least: kl.mean(0).clamp(min=least),
            "gives one number for each latent dimension; sum them",
        ),
        "no gradient": (lambda kl, least: elbo.free_bits(kl, least).detach(), CUT),
    },
    gradients("kl"),
)


def _vectors() -> list[Input]:
    generator = torch.Generator().manual_seed(0)
    z, quantised = torch.randn(2, 2, 3, 4, generator=generator)
    return [
        Input((torch.tensor([0.5]), torch.tensor([2.0])), "one number"),
        Input((z, quantised), "random vectors"),
        Input((20 * z, quantised), "vectors far from their codes"),
    ]


STRAIGHT_THROUGH = Contract(
    elbo.straight_through,
    _vectors,
    {
        "codes as they are": (
            lambda z, q: q.clone(),
            "the value is right, but the gradient goes into the codes and none reaches z; add z - z.detach() to"
            " quantised.detach()",
        ),
        "detached": (
            lambda z, q: q.detach(),
            "the value is right, but no gradient reaches z; in z + (quantised - z) the two z cancel: detach the whole"
            " difference",
        ),
        "gradient into the codes as well": (
            lambda z, q: q + z - z.detach(),
            "the gradient goes to z and into the codes as well, which learn from their own term; detach quantised too",
        ),
        "z": (lambda z, q: z + 0 * q, "returns z, so that nothing is quantised; the value is that of quantised"),
        "swapped": (
            lambda z, q: q + (z - q).detach(),
            "z and quantised are swapped: the value is that of quantised, the gradient that of z",
        ),
        "z detached": (
            lambda z, q: z.detach() + (q - z),
            "detaches z where it should not, which turns its gradient round; the difference quantised - z is detached",
        ),
        "twice": (
            lambda z, q: 2 * z + (q - 2 * z).detach(),
            "the gradient that reaches z is doubled; let z enter once outside of detach",
        ),
        "halved": (
            lambda z, q: (z + q) / 2 + ((q - z) / 2).detach(),
            "shares the gradient between z and the codes; all of it goes to z",
        ),
        "turned round": (
            lambda z, q: -z + (q + z).detach(),
            "the gradient of z has the wrong sign; z enters with a plus, and the detached difference takes it off",
        ),
    },
    gradients("z", "quantised"),
)
