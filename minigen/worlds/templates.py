"""The exact algebra of a finite family of templates seen through noise, under every quantity of `Shapes`.

An observation has P parts (one, or the two halves of an image). Part p shows template T_p plus independent noise. The
templates are divided into groups (the backgrounds, in `Shapes`); all parts show templates of one common group, and
every tuple that does is equally likely. So, with N tuples in all,

    p(x) = 1/N sum_g prod_p sum_{t in g} p(x_p | t),

and nothing of size N is ever formed. With one part this is the plain mixture over all templates.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from minigen.data.checks import need_index

from .noise import FlipNoise, GaussianNoise
from .precision import exact, like

NEVER = -1e30  # log-likelihood of what is not allowed; finite, so that its differences are numbers
CHUNK = 2**22  # numbers per block of images against templates: 32 MiB in float64


class Entropy(NamedTuple):
    """An entropy in nats that lies within `value` ± `error`, up to rounding (about 1e-10 nats)."""

    value: float
    error: float


class Templates:
    """N tuples of `parts` templates of a common group, all equally likely, seen through noise.

    Args:
        points: (n, d) templates; floats for `GaussianNoise`, int64 levels for `FlipNoise`.
        law: the noise.
        groups: (n,) group of every template, ascending from 0; all one group if left out.
        parts: 1 or 2, the number of templates that one observation shows.

    Observations are `(B, parts, d)`. `alpha` and `noise`, numbers or (B,), make it x_t = alpha x_0 + sigma eps;
    only `GaussianNoise` knows that. Tuples are numbered 0..N-1, group by group.
    """

    def __init__(
        self, points: Tensor, law: GaussianNoise | FlipNoise, *, groups: Tensor | None = None, parts: int = 1
    ) -> None:
        groups = torch.zeros(len(points), dtype=torch.int64) if groups is None else groups
        if len(groups) != len(points) or (groups.diff() < 0).any() or parts not in (1, 2):
            got = f"{len(groups)} groups for {len(points)} templates, and {parts} parts"
            raise ValueError(f"groups must ascend, one per template, and parts be 1 or 2; got {got}")
        if points.ndim != 2 or not points.numel():
            raise ValueError(f"points must be (n, d), n at least 1; got {tuple(points.shape)}")
        self.points, self.law, self.groups, self.parts = points, law, groups, parts
        self.group_sizes = torch.bincount(groups)
        self._starts = self.group_sizes.cumsum(0) - self.group_sizes
        self._offsets = (self.group_sizes**parts).cumsum(0) - self.group_sizes**parts
        self._total = int((self.group_sizes**parts).sum())
        self.weights = exact(self.group_sizes ** (parts - 1))[groups] / self._total
        """(n,) probability that a given part shows each template."""
        self._encoded: dict[torch.device, Tensor] = {}
        self._moved: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return self._total

    def decode(self, index: Tensor) -> Tensor:
        """(B,) numbers of tuples to the template of each part, (B, parts)."""
        need_index("index of a template", index, len(self))
        if index.ndim != 1:
            raise ValueError(f"index must be numbers of templates, (B,); got {tuple(index.shape)}")
        offsets, sizes, starts = (t.to(index.device) for t in (self._offsets, self.group_sizes, self._starts))
        group = torch.searchsorted(offsets, index, right=True) - 1
        rest, size = index - offsets[group], sizes[group]
        digits = [rest // size ** (self.parts - 1 - p) % size for p in range(self.parts)]
        return torch.stack(digits, dim=1) + starts[group][:, None]

    def encode(self, templates: Tensor) -> Tensor:
        """(B, parts) templates, which must share their group, to the numbers of their tuples, (B,)."""
        need_index("number of a template", templates, len(self.points))
        group = self.groups[templates]
        if (group != group[:, :1]).any():
            raise ValueError("the parts of one observation must show templates of the same group")
        index, local = self._offsets[group[:, 0]], templates - self._starts[group]
        for p in range(self.parts):
            index = index + local[:, p] * self.group_sizes[group[:, 0]] ** (self.parts - 1 - p)
        return index

    def log_prob(self, x: Tensor, *, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """log p(x), nats, (B,)."""
        blocks = [self._joint(ll).logsumexp(1) for ll in self._blocks(x, alpha, sigma)]
        return like(torch.cat(blocks) - math.log(len(self)), x)

    def group_posterior(self, x: Tensor) -> Tensor:
        """log p(g | x), (B, G)."""
        return like(torch.cat([self._joint(ll).log_softmax(1) for ll in self._blocks(x)]), x)

    def posterior(self, x: Tensor, *, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Tensor:
        """log p(T_p = t | x) for every part and template, (B, parts, n)."""
        return like(torch.cat([self._log_posterior(ll) for ll in self._blocks(x, alpha, sigma)]), x)

    def log_prob_within(self, x: Tensor, allowed: Tensor, which: Tensor) -> Tensor:
        """log p(every T_p is allowed | x), (B,); row b uses `allowed[which[b]]`, where allowed is (M, parts, n)."""
        blocks = []
        for ll, rows in zip(self._blocks(x), torch.split(which, self._rows()), strict=True):
            kept = ll.masked_fill(~allowed[rows].to(ll.device), -math.inf)
            blocks.append(self._joint(kept).logsumexp(1) - self._joint(ll).logsumexp(1))
        return like(torch.cat(blocks), x)

    def most_probable(self, x: Tensor) -> Tensor:
        """The most probable tuple given x as a template per part, (B, parts), on the CPU."""
        return torch.cat([self._argmax(ll) for ll in self._blocks(x)])

    def mean_template(
        self, x: Tensor, *, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0, allowed: Tensor | None = None
    ) -> Tensor:
        """E[template | x], (B, parts, d); among those that are `allowed`, bool (B, parts, n), where it is given."""
        self._gaussian()
        blocks = []
        rows = None if allowed is None else torch.split(allowed, self._rows())
        for i, ll in enumerate(self._blocks(x, alpha, sigma)):
            kept = ll if rows is None else ll.masked_fill(~rows[i].to(ll.device), NEVER)
            blocks.append(self._log_posterior(kept).exp() @ self._codes(ll.device))
        return like(torch.cat(blocks), x)

    def denoise(
        self, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor, *, allowed: Tensor | None = None
    ) -> Tensor:
        """E[x_0 | x_t], (B, parts, d). Given the template, x_0 is Gaussian and shrinks towards it.

        allowed: as in `mean_template`.
        """
        law = self._gaussian()
        alpha, sigma = _columns(alpha, exact(x_t)), _columns(sigma, exact(x_t))
        mean = self.mean_template(exact(x_t), alpha=alpha.flatten(), sigma=sigma.flatten(), allowed=allowed)
        gain = alpha * law.std**2 / law.variance(alpha, sigma)
        return like(mean + gain * (exact(x_t) - alpha * mean), x_t)

    def score(self, x_t: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> Tensor:
        """Gradient of log p at x_t, (B, parts, d)."""
        law = self._gaussian()
        alpha, sigma = _columns(alpha, exact(x_t)), _columns(sigma, exact(x_t))
        mean = self.mean_template(exact(x_t), alpha=alpha.flatten(), sigma=sigma.flatten())
        return like((alpha * mean - exact(x_t)) / law.variance(alpha, sigma), x_t)

    @cached_property
    def posterior_entropy(self) -> Entropy:
        """H(T | X) in nats, between two bounds from the distances D of all pairs of tuples.

        Kolchinsky & Tracey 2017, "Estimating mixture entropy with pairwise distances": the mean over tuples i of
        log sum_j exp(-D_ij) is a lower bound for D = the Kullback-Leibler divergence of the two laws of x (Jensen), an
        upper bound for D = their Bhattacharyya distance. Noise is independent between parts, so D adds over them, and

            sum_j exp(-D_ij) = sum_g prod_p sum_{t in g} exp(-D(T_p, t)):

        sums over single templates, and over pairs of them, replace the sum over pairs of tuples.
        """
        codes = self._codes(torch.device("cpu"))
        near = [codes.new_empty((0, len(self.group_sizes)), dtype=torch.float64)] * 2  # (n, G) for each bound
        for block in torch.split(codes, self._rows()):
            distance = self.law.distance(block, codes).clamp(min=0)
            rates = self.law.kl_per_distance, self.law.bhattacharyya_per_distance
            new = [self._group_sum(-rate * distance).exp() for rate in rates]
            near = [torch.cat(both) for both in zip(near, new, strict=True)]
        low, high = (self._mean_log_neighbours(sums) for sums in near)
        return Entropy((low + high) / 2, (high - low) / 2)

    def entropy(self) -> Entropy:
        """H(X) = log N + H(X | T) - H(T | X), nats."""
        given_template = self.parts * self.points.shape[1] * self.law.entropy_per_number()
        ambiguity = self.posterior_entropy
        return Entropy(math.log(len(self)) + given_template - ambiguity.value, ambiguity.error)

    def marginal_entropy(self) -> float:
        """Sum over all numbers of an observation of the entropy of each alone: what the best model with independent
        numbers pays, nats."""
        return self.parts * self.law.marginal_entropy(self.points, self.weights)

    def _blocks(self, x: Tensor, alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0) -> Iterator[Tensor]:
        """log p(x_p | t), (b, parts, n), block after block of the batch."""
        if x.ndim != 3 or x.shape[1:] != (self.parts, self.points.shape[1]):
            raise ValueError(f"x must be (B, {self.parts}, {self.points.shape[1]}); got {tuple(x.shape)}")
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor) or (alpha, sigma) != (1.0, 0.0):
            self._gaussian()
        where = torch.device("cpu") if x.device.type == "mps" else x.device
        alpha, sigma = _columns(alpha, x, where), _columns(sigma, x, where)
        rows = self._rows()
        for start in range(0, max(len(x), 1), rows):
            block = slice(start, start + rows)
            encoded = self.law.encode(x[block].to(where))
            yield self.law.log_likelihood(encoded, self._codes(where), alpha[block], sigma[block])

    def _rows(self) -> int:
        return max(1, CHUNK // (self.parts * len(self.points)))

    def points_on(self, device: torch.device) -> Tensor:
        """The templates on a device, kept there."""
        if device not in self._moved:
            self._moved[device] = self.points.to(device)
        return self._moved[device]

    def _codes(self, device: torch.device) -> Tensor:
        if device not in self._encoded:
            self._encoded[device] = self.law.encode(self.points).to(device)
        return self._encoded[device]

    def _gaussian(self) -> GaussianNoise:
        if not isinstance(self.law, GaussianNoise):
            raise ValueError(
                "score, denoise, alpha and sigma need Gaussian noise; these templates are seen through flips"
            )
        return self.law

    def _group_sum(self, log_terms: Tensor) -> Tensor:
        """Log-sum-exp over the templates of every group, (..., n) -> (..., G)."""
        parts = torch.split(log_terms, self.group_sizes.tolist(), -1)
        return torch.stack([part.logsumexp(-1) for part in parts], dim=-1)

    def _mean_log_neighbours(self, near: Tensor) -> float:
        """Mean over tuples i of log sum_j exp(-D_ij), from the sums over the templates of each group, (n, G)."""
        total = 0.0
        for rows in torch.split(near, self.group_sizes.tolist()):
            total += float((rows.sum(1) if self.parts == 1 else rows @ rows.T).log().sum())
        return total / len(self)

    def _joint(self, ll: Tensor) -> Tensor:
        """log of N p(x, g), (B, G)."""
        return self._group_sum(ll).sum(1)

    def _log_posterior(self, ll: Tensor) -> Tensor:
        """log p(T_p = t | x) = log p(g | x) + log p(T_p = t | g, x_p), (B, parts, n)."""
        by_group = self._group_sum(ll)  # (B, parts, G)
        shift = by_group.sum(1, keepdim=True).log_softmax(-1) - by_group
        # Group by group: to gather `shift` for every template takes four times as long.
        parts = torch.split(ll, self.group_sizes.tolist(), -1)
        return torch.cat([part + s for part, s in zip(parts, torch.split(shift, 1, -1), strict=True)], dim=-1)

    def _argmax(self, ll: Tensor) -> Tensor:
        best = [part.max(-1) for part in torch.split(ll, self.group_sizes.tolist(), -1)]
        group = torch.stack([b.values.sum(1) for b in best], dim=1).argmax(1)  # (B,)
        within = torch.stack([b.indices for b in best], dim=1)[torch.arange(len(ll)), group.cpu()]  # (B, parts)
        return (within.cpu() + self._starts[group.cpu()][:, None]).to(torch.int64)


def _columns(value: float | Tensor, x: Tensor, device: torch.device | None = None) -> Tensor:
    """A number or (B,) tensor as float64 (B, 1, 1), one per observation of x."""
    value = torch.as_tensor(value, dtype=torch.float64, device=device or x.device)
    if value.ndim > 1 or value.numel() not in (1, len(x)):
        raise ValueError(f"alpha and sigma must be numbers or ({len(x)},); got {tuple(value.shape)}")
    if value.device.type == "cpu" and not ((value >= 0) & value.isfinite()).all():
        raise ValueError(f"alpha and sigma must be finite, 0 or more; got {value.flatten()[:4].tolist()}")
    return value.expand(len(x))[:, None, None]
