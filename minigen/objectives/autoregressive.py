"""One pixel at a time (chapter 10): log p(x) as a sum of conditionals, each a categorical or a mixture of logistics.

Levels are (B, 1, H, W), int64, in 0..K-1. Log-likelihoods sum over the pixels of an image: (B,), in nats. They say how
well the whole image is predicted, with the true pixels before each given ("teacher forcing").
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from minigen.data.checks import need_count, need_float, need_index
from minigen.nets.pixelcnn import Cache
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def categorical_log_prob(logits: Tensor, levels: Tensor) -> Tensor:
    """log P(image) from logits (B, K, H, W) of the levels (B, 1, H, W): (B,).

    The logits at a pixel are those of this pixel's level; nothing is shifted here, the network's masks see to that.
    """
    need_float("logits", logits, todo="they are what a network puts out")
    if logits.shape != (len(levels), logits.shape[1], *levels.shape[2:]) or levels.shape[1] != 1:
        shapes = f"{tuple(logits.shape)} and {tuple(levels.shape)}"
        raise ValueError(f"logits must be (B, K, H, W) and levels (B, 1, H, W); got {shapes}")
    need_index("levels", levels, logits.shape[1])
    return widen(logits).log_softmax(1).gather(1, levels).flatten(1).sum(1)


def logistic_mixture_log_probs(parameters: Tensor, num_levels: int) -> Tensor:
    """log P of every level under a mixture of discretised logistics, (B, 3M, H, W) to (B, K, H, W).

    Salimans et al. 2017 (PixelCNN++), section 2.1, for one channel. The parameters are M logits of the weights, M means
    and M log scales, on the scale where level k stands for (2k + 1)/K - 1. A level has the mass of its cell of width
    2/K; the first cell reaches to minus infinity and the last to infinity, so that the masses sum to one.
    """
    need_float("parameters", parameters, todo="they are what a network puts out")
    need_count("num_levels", num_levels, least=2)
    if parameters.ndim != 4 or not parameters.shape[1] or parameters.shape[1] % 3:
        raise ValueError(f"parameters must be (B, 3M, H, W); got {tuple(parameters.shape)}")
    parameters = widen(parameters)
    logits, mean, log_scale = (part[:, :, None] for part in parameters.chunk(3, dim=1))  # (B, M, 1, H, W)
    ends = torch.arange(1, num_levels, dtype=parameters.dtype, device=parameters.device) * 2 / num_levels - 1
    z = (ends[:, None, None] - mean) * (-log_scale).exp()  # (B, M, K - 1, H, W), the inner ends of the cells
    first, last = logsigmoid(z[:, :, :1]), logsigmoid(-z[:, :, -1:])
    # log(sigmoid(b) - sigmoid(a)) = logsigmoid(b) + logsigmoid(-a) + log(1 - exp(a - b)), which never cancels.
    low, high = z[:, :, :-1], z[:, :, 1:]
    inner = logsigmoid(high) + logsigmoid(-low) + log1mexp(high - low)
    cells = torch.cat([first, inner, last], dim=2)  # (B, M, K, H, W)
    return torch.logsumexp(logits.log_softmax(1) + cells, dim=1)


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0, in the shape of x (...), precise near 0 and far from it. Maechler 2012, eq. 7."""
    small = x < 0.6931471805599453
    near = torch.log(-torch.expm1(-torch.where(small, x, 1.0)))
    far = torch.log1p(-torch.exp(-torch.where(small, 1.0, x)))
    return torch.where(small, near, far)


class LogisticMixture(nn.Module):
    """A network whose outputs are parameters of mixtures of discretised logistics, as one that gives log-probabilities.

    net: levels (B, 1, H, W) to (B, 3M, H, W), with a cached pass, as in `nets.masked` with `outputs=3 * M`.
    """

    def __init__(self, net: nn.Module, levels: int) -> None:
        super().__init__()
        need_count("levels", levels, least=2)
        self.net, self.levels = net, levels

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Levels (B, 1, H, W) to log-probabilities (B, K, H, W)."""
        return logistic_mixture_log_probs(self.net(x, *context), self.levels)

    def init_cache(self, n: int, height: int, width: int, *context: Tensor) -> LogisticCache:
        """A cached pass over n images."""
        return LogisticCache(self.net.init_cache(n, height, width, *context), self.levels)  # type: ignore[operator]


class LogisticCache:
    """The cached pass of a `LogisticMixture`."""

    def __init__(self, inner: Cache, levels: int) -> None:
        self.inner, self.levels = inner, levels

    def logits(self, row: int, column: int) -> Tensor:
        """Log-probabilities of this pixel, (n, K)."""
        parameters = self.inner.logits(row, column)[:, :, None, None]
        return logistic_mixture_log_probs(parameters, self.levels)[:, :, 0, 0]

    def append(self, levels: Tensor, row: int, column: int) -> None:
        """Set this pixel to levels (n,)."""
        self.inner.append(levels, row, column)


class Autoregressive(Objective):
    """Minus the log-likelihood of images, nats/image: the cross-entropy of every pixel's level, summed over an image.

    model: levels (B, 1, H, W) to logits (B, K, H, W), each from the pixels before its own alone; where batches are
    pairs of levels and a context, it takes both.

    >>> from minigen.nets import PixelCNN
    >>> objective = Autoregressive(PixelCNN(2, width=4, blocks=1))
    >>> every = torch.cartesian_prod(*[torch.arange(2)] * 4).view(16, 1, 2, 2)
    >>> round(objective.log_prob(every).exp().sum().item(), 4)  # all images of 2x2 pixels of two levels
    1.0
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def log_prob(self, levels: Tensor, *context: Tensor) -> Tensor:
        """log P(image), nats, (B,)."""
        return categorical_log_prob(self.model(levels, *context), levels)

    def turns(self, batch: Tensor | tuple[Tensor, Tensor], rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """One turn, the model's: the mean of minus `log_prob` over a batch of levels, or of pairs with a context."""
        levels, *context = batch if isinstance(batch, tuple | list) else (batch,)
        yield "model", -self.log_prob(levels, *context).mean(), {}
