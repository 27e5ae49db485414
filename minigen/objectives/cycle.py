"""Translation without pairs (chapter 07): two games and a cycle.

A batch is (a, b): images (B, C, H, W) of two domains, drawn independently; row i of one has nothing to do with row i of
the other. Errors are sums over an image, means over the batch. Source: Zhu et al. 2017 (CycleGAN, arXiv:1703.10593).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from minigen.data.checks import need_count, need_float, need_number, need_shape
from minigen.objectives.minimax import LOSSES
from minigen.objectives.paired import absolute_error
from minigen.train.distributed import gather
from minigen.train.loop import Objective, Turn
from minigen.train.rng import Rng

DOMAINS = ("a", "b")


def cycle_error(a: Tensor, b: Tensor, back_a: Tensor, back_b: Tensor) -> Tensor:
    """E |F(G(a)) - a| + E |G(F(b)) - b|, summed over an image. Zhu et al. 2017, eq. 2.

    back_a, back_b: what went to the other domain and came back.
    """
    return absolute_error(back_a, a) + absolute_error(back_b, b)


def identity_error(a: Tensor, b: Tensor, kept_a: Tensor, kept_b: Tensor) -> Tensor:
    """E |F(a) - a| + E |G(b) - b|: who makes images of b leaves them as they are. Zhu et al. 2017, section 5.2.

    kept_a: a through the generator that makes images of a, F; kept_b: b through G.
    """
    return absolute_error(kept_a, a) + absolute_error(kept_b, b)


class ImagePool(nn.Module):
    """Earlier fakes, half of which take the place of new ones before the discriminator. Shrivastava et al. 2017, 2.3.

    Each image of a batch meets one place of the pool, all of them different. An empty place keeps the image, which goes
    on. From a place that is taken, with probability 1/2, the old image goes on, and the new one stays.

    The pool is that of all processes: each has the same one. size: images, at least those of a whole batch; 50 in the
    papers. shape: of an image.
    """

    images: Tensor
    taken: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        need_count("size", size)
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("taken", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def forward(self, new: Tensor, rng: Rng) -> Tensor:
        """New images (B, ...) to those that go on, (B, ...)."""
        size, whole = len(self.images), gather(new.detach()).to(self.images.dtype)
        need_shape("images", new, "B", *self.images.shape[1:])
        if len(whole) > size:
            raise ValueError(f"a pool must have room for a whole batch; got {len(whole)} images for {size} places")
        chance = gather(rng.uniform(len(new), size + 1))  # the same in each process
        place = chance[0, :size].argsort()[: len(whole)]
        old, taken = self.images[place], self.taken[place]
        swap = ((chance[:, -1] < 0.5) & taken).view(-1, *[1] * (new.ndim - 1))
        stay = swap | ~taken.view_as(swap)
        self.images[place], self.taken[place] = torch.where(stay, whole, old), True
        first = rng.rank * len(new)
        return torch.where(swap, old, whole)[first : first + len(new)].to(new.dtype)


class Cycle(Objective):
    """Two games, a to b and b to a, whose generators undo each other. Zhu et al. 2017, eqs 1 to 3.

    to_b, to_a: the generators G and F, which move together, as one player "generators". judge_a, judge_b: images to
    logits (B,), or (B, h, w) of patches; they move together, too, as "discriminators".

    weight: of the cycle error, a sum over an image: `paired.weight_of_sum` of 10 in the paper. identity: weight of the
    identity error as a share of that weight; 0.5 in the paper for paintings, 0 elsewhere. Both domains must then have
    images of one shape.
    pool: images kept of each domain, 50 in the paper; 0 is none. shape, where there is a pool: of an image of a and b.
    loss: "least-squares" as in the paper, whose terms are halved here, or another of `minimax.LOSSES`.

    Logs: "cycle" and "identity" as sums over an image; "logit/real" and "logit/fake", means over both games.

    >>> from minigen.nets import PatchDiscriminator, TranslationUNet
    >>> from minigen.train import Rng
    >>> game = Cycle(*(TranslationUNet(1, 1, width=4, depth=2) for _ in "ab"),
    ...              *(PatchDiscriminator(1, width=4, layers=1) for _ in "ab"), weight=0.2)
    >>> [turn[0] for turn in game.turns((torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)), Rng())]
    ['discriminators', 'generators']
    """

    def __init__(
        self,
        to_b: nn.Module,
        to_a: nn.Module,
        judge_a: nn.Module,
        judge_b: nn.Module,
        *,
        weight: float,
        identity: float = 0.0,
        pool: int = 0,
        shape: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
        loss: str = "least-squares",
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
        need_number("weight", weight, low=0)
        need_number("identity", identity, low=0)
        need_count("pool", pool, least=0)
        if pool and shape is None:
            raise ValueError("a pool needs shape=, those of an image of a and of an image of b; got none")
        self.generators = nn.ModuleDict({"b": to_b, "a": to_a})
        self.discriminators = nn.ModuleDict({"a": judge_a, "b": judge_b})
        self.discriminator_loss, self.generator_loss = LOSSES[loss]
        self.weight, self.identity = weight, identity
        sizes = zip(DOMAINS, shape or ((), ()), strict=True)
        self.pools = nn.ModuleDict({name: ImagePool(pool, size) for name, size in sizes} if pool else {})

    @torch.no_grad()
    def translate(self, x: Tensor, to: str, *, network: nn.Module | None = None) -> Tensor:
        """Images of the other domain, (n, C, H, W), as images of the domain `to`, "a" or "b".

        network: the generators, such as an average of them; the objective's own unless given.
        """
        if to not in DOMAINS:
            raise ValueError(f'to must be "a" or "b", the domain to translate to; got {to!r}')
        made: Tensor = (network or self.generators).get_submodule(to)(x)
        return made

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[Turn]:
        for name, images in zip(DOMAINS, batch, strict=True):
            need_float(f"images of {name}", images)
        real = dict(zip(DOMAINS, batch, strict=True))
        to_a, to_b = self.generators["a"], self.generators["b"]
        fake = {"a": to_a(real["b"]), "b": to_b(real["a"])}
        for name in DOMAINS:
            need_shape(f"generated images of {name}", fake[name], "B", *real[name].shape[1:])

        losses, seen = [], []
        for name in DOMAINS:
            shown = self.pools[name](fake[name], rng) if name in self.pools else fake[name].detach()
            logits = [self.discriminators[name](images) for images in (real[name], shown)]
            losses.append(self.discriminator_loss(*logits))
            seen.append([part.mean() for part in logits])
        logs = {f"logit/{name}": (seen[0][i] + seen[1][i]) / 2 for i, name in enumerate(("real", "fake"))}
        yield "discriminators", losses[0] + losses[1], logs

        loss = self.generator_loss(self.discriminators["a"](fake["a"]))
        loss = loss + self.generator_loss(self.discriminators["b"](fake["b"]))
        logs = {"cycle": cycle_error(real["a"], real["b"], to_a(fake["b"]), to_b(fake["a"]))}
        if self.identity:
            logs["identity"] = identity_error(real["a"], real["b"], to_a(real["a"]), to_b(real["b"]))
            loss = loss + self.weight * self.identity * logs["identity"]
        yield "generators", loss + self.weight * logs["cycle"], logs
