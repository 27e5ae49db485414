"""What many contracts share: explanations of common mistakes, random images, and the usual personal form."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Personal
from minigen.objectives.diffusion import append_dims

CUT = (
    "right, but cut off from the graph, so that nothing can learn from it; return the tensor without .item(),"
    " .detach() or torch.no_grad()"
)
IN_BITS = "this is in bits; in nats, leave out the division by ln 2"
PERCENT = "this is in percent; a share lies in [0, 1]"

# Sums and means.
NO_MEAN = "gives one number for each image; a loss is one number: take their mean"
SUM = "sums over the batch; an expectation is a mean"
SUM_OVER_EVERYTHING = "sums over the batch too, so that the loss grows with the batch; divide by the number of images"
KL_AVERAGED = "averages over the batch as well; give one KL for each image, (B,)"
KL_SUMMED = "sums over the batch as well; give one KL for each image, (B,)"
KL_TWICE = "twice the KL: the factor 1/2 of the Gaussian's exponent is missing"
HALF_SUBTRACTED_ONCE = "subtracts 1/2 once; it belongs to each dimension, so subtract it before the sum"

# Signs, logs and probabilities.
LOG_LIKELIHOOD = "this is the log-likelihood, which is maximised; a loss is minimised: change the sign"
LOG_PROBABILITY = "this is the log-probability, which is maximised; a loss is minimised: change the sign"
NO_LOG = "adds probabilities; the chain rule multiplies them, so their logs are what adds up"
PROBABILITIES = "takes the arguments for probabilities; they are logits, any real number"
SIGMOID_TWICE = "takes the sigmoid before a loss that takes logits and does so itself; give it what D returns"
SOFTMAX_TWICE = "takes the softmax before a loss that takes logits and does so itself; give it the logits"
GENERATORS_TERM = "the second term is log D(G(z)); it should be log(1 - D(G(z))) = logsigmoid(-l)"
REAL_AND_FAKE_SWAPPED = "real and fake are swapped: D is asked to call fakes real"

# Numbers that are too large or too small.
SIGMOID_OVERFLOWS = (
    "overflows: log(sigmoid(l)) is -inf for a large negative l, and 1 - sigmoid(l) is 0 for a large l; use logsigmoid"
)
SIGMOID_CLAMPED = (
    "binary_cross_entropy cuts the log of a probability at -100, and has no gradient there; give logits to"
    " binary_cross_entropy_with_logits, or use logsigmoid"
)
SIGMOID_EPSILON = (
    "the small number in the log stops the overflow but flattens the loss at log 1e-8 = -18.4, where no gradient is"
    " left; use logsigmoid"
)
SOFTMAX_OVERFLOWS = "overflows: exp(200) is infinite, and infinite by infinite is nan; use log_softmax"
SOFTMAX_EPSILON = "the small number in the log stops the underflow but flattens the loss at log 1e-8; use log_softmax"
CAPTION_UNDERFLOWS = "underflows: the softmax of an own caption far behind is 0, and its log -inf; use log_softmax"
EXP_UNDERFLOWS = "right for moderate values, but exp gives 0 or infinity near -1000 and 1000; use logsumexp"

ONE_LARGEST = (
    "subtracts the largest number of all, so that where all are far below it exp is 0 and its log -inf; take the"
    " largest of each {}"
)

# Levels of noise.
NUMBERS_AS_COLUMNS = "the numbers (B,) multiply columns of pixels, as broadcasting has it; reshape them to (B, 1, 1, 1)"
LEVELS_AS_COLUMNS = "the levels (B,) multiply columns of pixels, as broadcasting has it; reshape them to (B, 1, 1, 1)"
ONE_LEVEL = "takes the first image's level for all; each image has its own, t[i]"

# The values of a student's own constants; 16 by 16 are more pairs than a class has students.
FACTORS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0)
WEIGHTS = (0.3, 0.7, 1.1, 1.3, 1.7, 1.9, 2.3, 2.9, 3.1, 3.7, 4.1, 4.3, 4.7, 5.3, 5.9, 6.1)


def tempered(contract: Contract, *positions: int) -> Contract:
    """The contract with a personal form: the logits, arguments of these numbers, divided, and the loss multiplied."""

    def make(temperature: float, weight: float) -> Contract:
        def divided(*arguments: Tensor) -> tuple[Tensor, ...]:
            return tuple(x / temperature if i in positions else x for i, x in enumerate(arguments))

        return contract.adapted(before=divided, after=lambda loss: weight * loss)

    ask = "Divide every logit by {temperature} before anything else, and multiply the whole loss by {weight}."
    return replace(contract, personal=Personal(ask, {"temperature": FACTORS, "weight": WEIGHTS}, make))


def lse_with_one_shift(x: Tensor, dim: int) -> Tensor:
    """log-sum-exp over a dimension, which it keeps, with the largest number of all subtracted: wrong far below that."""
    return (x - x.max()).exp().sum(dim, keepdim=True).log() + x.max()


def softmax_with_one_shift(x: Tensor, dim: int) -> Tensor:
    """The softmax, of the same shape (...), with the largest number of all subtracted: 0 / 0 far below that."""
    shifted = (x - x.max()).exp()
    return shifted / shifted.sum(dim, keepdim=True)


# The log of a mean over dimension 0, from logs (K, ...).
LOG_MEAN: dict[str, tuple[Function, str]] = {
    "log K added": (
        lambda x: x.logsumexp(0) + math.log(len(x)),
        "adds log K; a mean is the sum divided by K, so subtract it",
    ),
    "divided by K": (
        lambda x: x.logsumexp(0) / len(x),
        "divides the log by K; the division is inside of the log: subtract log K",
    ),
    "underflow": (lambda x: x.exp().mean(0).log(), EXP_UNDERFLOWS),
    "one largest for all": (
        lambda x: lse_with_one_shift(x, 0)[0] - math.log(len(x)),
        ONE_LARGEST.format("column"),
    ),
}


def squares(batch: int, count: int, *, seed: int = 0) -> Tensor:
    """`count` batches of random images, as wide as the batch is long: numbers (B,) then multiply columns, too."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, batch, 1, 2, batch, generator=generator, dtype=torch.float64)


def doubles(*values: float) -> Tensor:
    """Numbers in double precision, (n,)."""
    return torch.tensor(values, dtype=torch.float64)


def with_levels(mix: Function) -> Function:
    """mix(image, x, a, s) of a function that is given levels (B,): a and s are they as they multiply images."""
    return lambda image, x, alpha, sigma: mix(image, x, append_dims(alpha, x), append_dims(sigma, x))
