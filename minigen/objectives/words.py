"""Pictures from words (chapter 05): how well an image fits a caption word by word, and a game that asks for it.

Words are vectors (B, T, D), regions of an image (B, N, D) in the same space, masks of words bool (B, T), True where a
word is. Scores are (I, C), those of image i with caption j in row i. Logarithms are natural: nats. The paper writes
words and regions as columns, here they are rows. Source: Xu et al. 2018 (AttnGAN, arXiv:1711.10485).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity, normalize

from minigen.data.checks import need_count, need_float, need_number, need_same, need_shape
from minigen.data.vocabulary import EOS
from minigen.nets.attention import masked_softmax
from minigen.nets.text import Encoded
from minigen.objectives.conditional import Conditional, matching_aware_loss
from minigen.objectives.contrastive import cosine_scores, symmetric_loss
from minigen.objectives.elbo import kl_to_prior, reparameterise
from minigen.train.distributed import gather, rolled
from minigen.train.loop import Objective
from minigen.train.rng import Rng
from minigen.worlds.precision import widen


def region_context(
    words: Tensor, regions: Tensor, *, gamma1: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What each word finds in an image: contexts (..., T, D), and its attention to the regions, (..., T, N).

    Xu et al. 2018, eqs 7 to 9. Of the products of words and regions a softmax over the *words* says how much of each
    region each word claims; a softmax over the *regions*, of gamma1 times the claims, says where each word looks. A
    claim is at most 1, so that a region has at most exp(gamma1) times the weight of another.

    words: (..., T, D). regions: (..., N, D); what stands before broadcasts. mask: (..., T); a word that is masked
    claims nothing, and its context is the mean of all regions.
    """
    need_float("words", words, todo="they are vectors, which an encoder makes of tokens")
    need_float("regions", regions)
    if words.ndim < 2 or regions.ndim < 2 or words.shape[-1] != regions.shape[-1]:
        got = f"{tuple(words.shape)} and {tuple(regions.shape)}"
        raise ValueError(f"words must be (..., T, D) and regions (..., N, D), of one space; got {got}")
    need_number("gamma1", gamma1, low=0)
    _need_mask(mask, words)
    words, regions = widen(words), widen(regions)
    similarity = torch.einsum("...td,...nd->...tn", words, regions)  # eq. 7
    claim = masked_softmax(similarity, None if mask is None else mask[..., None], dim=-2)  # eq. 8
    attention = (gamma1 * claim).softmax(-1)  # eq. 9
    return torch.einsum("...tn,...nd->...td", attention, regions), attention


def _need_mask(mask: Tensor | None, words: Tensor) -> None:
    if mask is not None and (mask.dtype != torch.bool or mask.shape != words.shape[:-1]):
        wanted = f"bool {tuple(words.shape[:-1])}"
        raise ValueError(f"mask must be {wanted}, True where a word is; got {mask.dtype} {tuple(mask.shape)}")


def word_score(context: Tensor, words: Tensor, *, gamma2: float, mask: Tensor | None = None) -> Tensor:
    """How well a caption's words fit what they found: log(sum over words of exp(gamma2 cosine)) / gamma2, (...).

    Xu et al. 2018, eq. 10, summed over all words. It lies between the cosine of the best word and log(T) / gamma2 above
    it: a large gamma2 leaves the best word alone, a small one counts words.

    context: (..., T, D). words: (..., T, D), where what stands before broadcasts. mask: of the words; each caption must
    have one, or it is a ValueError, on a CPU.
    """
    need_float("context", context)
    need_float("words", words, todo="they are vectors, which an encoder makes of tokens")
    need_number("gamma2", gamma2, low=0, open=True)
    if words.ndim < 2 or context.shape[-2:] != words.shape[-2:]:
        got = f"{tuple(context.shape)} and {tuple(words.shape)}"
        raise ValueError(f"context and words must be (..., T, D), with one T and D; got {got}")
    _need_mask(mask, words)
    cosine = gamma2 * cosine_similarity(widen(context), widen(words), dim=-1)  # (..., T)
    if mask is not None:
        if mask.device.type == "cpu" and not mask.any(-1).all():
            raise ValueError("every caption must have a word; got one whose mask is False throughout: leave it out")
        cosine = cosine.masked_fill(~mask, -torch.inf)
    return cosine.logsumexp(-1) / gamma2


def matching_score(
    words: Tensor, regions: Tensor, *, gamma1: float, gamma2: float, mask: Tensor | None = None
) -> Tensor:
    """Scores of images with captions, by what each word finds in each image: (I, N, D) and (C, T, D) to (I, C).

    `region_context` and `word_score` of every image with every caption. Xu et al. 2018, eqs 7 to 10.
    """
    need_shape("words", words, "C", "T", "D")
    need_shape("regions", regions, "I", "N", words.shape[2])
    _need_mask(mask, words)
    mask = None if mask is None else mask[None]
    context, _ = region_context(words[None], regions[:, None], gamma1=gamma1, mask=mask)  # (I, C, T, D)
    return word_score(context, words[None], gamma2=gamma2, mask=mask)


def matching_loss(scores: Tensor, *, gamma3: float, same: Tensor | None = None) -> Tensor:
    """Minus log P(caption | image) and minus log P(image | caption) among the B of a batch, added: nats, a number.

    Xu et al. 2018, eqs 11 to 13, there summed over the batch and here averaged: twice the `symmetric_loss` of gamma3
    times the scores (B, B), own pairs on the diagonal. same: bool (B, B), pairs of images with the same caption, which
    are then no wrong answers; they are left out of the sums.
    """
    need_number("gamma3", gamma3, low=0)
    scores = gamma3 * widen(scores)
    if same is not None:
        need_same("same", same, "scores", scores)
        others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(same & others, -torch.inf)
    return 2 * symmetric_loss(scores)


class Caption(NamedTuple):
    """words: (B, T, D). mask: bool (B, T), True where a word is. sentence: (B, D). tokens: int64 (B, T)."""

    words: Tensor
    mask: Tensor
    sentence: Tensor
    tokens: Tensor


class WordMatcher(nn.Module):
    """An image's regions and a caption's words as vectors of one space, and the scores of both. Xu et al. 2018, 3.2.

    images: an encoder with a `width`, whose result has `tokens` (B, N, width) and `pooled` (B, width), such as
    `nets.RegionEncoder`. captions: the same for tokens (B, T), whose vectors are the words; two linear maps bring the
    images' to them (eq. 6). gamma1, gamma2, gamma3: of `region_context`, `word_score` and `matching_loss`; 5, 5 and 10
    are the paper's.
    """

    def __init__(
        self,
        images: nn.Module,
        captions: nn.Module,
        *,
        gamma1: float = 5.0,
        gamma2: float = 5.0,
        gamma3: float = 10.0,
    ) -> None:
        super().__init__()
        self.images, self.captions = images, captions
        self.gamma1, self.gamma2, self.gamma3 = gamma1, gamma2, gamma3
        seen, self.width = int(images.width), int(captions.width)  # type: ignore[arg-type]
        self.from_regions, self.from_images = (nn.Linear(seen, self.width, bias=False) for _ in range(2))
        for layer in (self.from_regions, self.from_images):  # so that similarities begin with variance 1
            nn.init.normal_(layer.weight, std=(seen * self.width) ** -0.5)

    def compile(self, *args: object, **options: object) -> None:
        """Compile both encoders in place: they are what is called, the model itself never is."""
        for part in (self.images, self.captions):
            part.compile(*args, **options)

    def look(self, x: Tensor) -> Encoded:
        """Images (B, C, H, W) to vectors of their regions, (B, N, D), and of the whole, (B, D)."""
        seen: Encoded = self.images(x)
        return Encoded(self.from_regions(seen.tokens), self.from_images(seen.pooled))

    def read(self, tokens: Tensor) -> Caption:
        """Tokens (B, T) to vectors of words and sentence; the two ends of a caption are no words."""
        found: Encoded = self.captions(tokens)
        return Caption(found.tokens, tokens > EOS, found.pooled, tokens)

    def word_scores(self, seen: Encoded, caption: Caption) -> Tensor:
        """Scores (I, C) of images with captions, word by word."""
        gammas = {"gamma1": self.gamma1, "gamma2": self.gamma2}
        return matching_score(caption.words, seen.tokens, mask=caption.mask, **gammas)

    def sentence_scores(self, seen: Encoded, caption: Caption) -> Tensor:
        """Scores (I, C) of images with captions as wholes: cosines."""
        return cosine_scores(seen.pooled, caption.sentence, 0.0)

    def word_maps(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Where each word of a caption (B, T) looks in its image (B, C, H, W): attention (B, T, N)."""
        seen, caption = self.look(x), self.read(tokens)
        return region_context(caption.words, seen.tokens, gamma1=self.gamma1, mask=caption.mask)[1]

    def losses(self, seen: Encoded, caption: Caption) -> tuple[Tensor, Tensor]:
        """`matching_loss` by words and by sentences, of the pairs of a batch. Xu et al. 2018, eq. 14.

        Under several processes the vectors of all ranks are gathered, so that B counts the whole batch.
        """
        seen = Encoded(*(gather(part) for part in seen))
        caption = Caption(*(gather(part) for part in caption))
        same = (caption.tokens[:, None] == caption.tokens).all(2)
        by_words, by_sentences = self.word_scores(seen, caption), self.sentence_scores(seen, caption)
        return (
            matching_loss(by_words, gamma3=self.gamma3, same=same),
            matching_loss(by_sentences, gamma3=self.gamma3, same=same),
        )


class DAMSM(Objective):
    """The deep attentional multimodal similarity model: word and sentence losses, added. Xu et al. 2018, eq. 14.

    A batch is (images, tokens). Both encoders minimise one number, so that they are one player, `model`.

    Logs: "words" and "sentences", the two losses in nats, each of both directions; both begin near 2 log B.

    >>> from minigen.nets import RegionEncoder, TextEncoder
    >>> model = WordMatcher(RegionEncoder((3, 4, 4), width=8), TextEncoder(6, length=4, width=8, blocks=0))
    >>> tokens = torch.tensor([[1, 3, 2, 0], [1, 4, 5, 2]])
    >>> player, loss, logs = next(DAMSM(model).turns((torch.randn(2, 3, 4, 4), tokens), Rng()))
    >>> player, bool(loss == logs["words"] + logs["sentences"])
    ('model', True)
    """

    def __init__(self, model: WordMatcher) -> None:
        super().__init__()
        self.model = model

    def turns(self, batch: tuple[Tensor, Tensor], rng: Rng) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        x, tokens = batch
        words, sentences = self.model.losses(self.model.look(x), self.model.read(tokens))
        yield "model", words + sentences, {"words": words, "sentences": sentences}


class AttnGAN(Conditional):
    """The game over images at several resolutions and their captions. Xu et al. 2018, section 3.1 and eq. 3.

    A batch is (images, tokens). generator: a `nets.WordGenerator`. discriminators: one for each of its images, the
    smallest first, which judge an image alone and with the sentence, by `pair`. matcher: trained by `DAMSM`; a copy of
    it is kept, frozen, and is no player: it reads the captions, and says how well they fit the largest image.

    weight: of that term, the paper's lambda: 5 for birds, 50 for scenes. kl: weight of the conditioning's KL to the
    standard normal. mismatched: see `Conditional`. r1: of the logit with the sentence, on real images of every size.

    Logs: as `Minimax`, those of the largest image with its sentence; "match", the matcher's loss, and "kl", in nats.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminators: Sequence[nn.Module],
        matcher: WordMatcher,
        *,
        weight: float = 5.0,
        kl: float = 1.0,
        loss: str = "non-saturating",
        r1: float = 0.0,
        mismatched: bool = False,
    ) -> None:
        super().__init__(generator, nn.ModuleList(discriminators), loss=loss, r1=r1, mismatched=mismatched)
        need_number("weight", weight, low=0)
        need_number("kl", kl, low=0)
        need_count("the number of discriminators", len(discriminators))
        for judge in discriminators:
            if not hasattr(judge, "pair"):
                raise TypeError(f"a discriminator must say `pair`; got {type(judge).__name__} without it")
        self.matcher = deepcopy(matcher).requires_grad_(False)
        self.weight, self.kl = weight, kl

    def read(self, tokens: Tensor) -> Caption:
        """What the matcher reads in captions (B, T), their sentences scaled to a mean square of 1.

        Scores are cosines, so that only the direction of a sentence has been trained; its length may be far from that
        of the noise beside it.
        """
        caption = self.matcher.read(tokens)
        sentence = normalize(caption.sentence, dim=1) * math.sqrt(caption.sentence.shape[1])
        return caption._replace(sentence=sentence)

    def paint(self, network: nn.Module, z: Tensor, caption: Caption) -> tuple[tuple[Tensor, ...], Tensor]:
        """Images of every size for latents (B, latent), and the KL of their conditioning, (B,), nats.

        The last numbers of a latent are the noise of the conditioning.
        """
        mean, log_std = network.augment(caption.sentence)  # type: ignore[operator]
        noise, eps = torch.split(z, [z.shape[1] - mean.shape[1], mean.shape[1]], dim=1)
        condition = reparameterise(mean, log_std, eps)
        images = network(torch.cat([noise, condition], dim=1), caption.words, caption.mask)
        return images, kl_to_prior(mean, log_std).sum(1)

    def draw(self, network: nn.Module, z: Tensor, *conditions: Tensor) -> Tensor:
        """The largest image for each latent (n, latent) and the tokens (n, T) of a caption: (n, C, H, W)."""
        return self.paint(network, z, self.read(*conditions))[0][-1]

    def turns(  # type: ignore[override]
        self, batch: tuple[Tensor, Tensor], rng: Rng
    ) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        real, tokens = batch
        need_float("real images", real)
        caption = self.read(tokens)
        fakes, kl = self.paint(self.generator, rng.normal(len(real), self.latent), caption)
        need_shape("the generator's largest images", fakes[-1], *real.shape)
        judges = self._judges(caption.sentence)
        logs: dict[str, Tensor] = {}
        loss, other = real.new_zeros(()), rolled(caption.sentence) if self.mismatched else None
        for judge, fake in zip(judges, fakes, strict=True):
            seen, real_logits = self.judge_real(avg_pool2d(real, real.shape[3] // fake.shape[3]), judge)
            fake_logits = judge(fake.detach())
            wrong = None if other is None else judge(seen.detach(), label=other)[:, 1]
            loss = self.with_r1(loss + self._judged(real_logits, fake_logits, wrong), logs, real_logits[:, 1], seen)
            logs |= {"logit/real": real_logits[:, 1].mean(), "logit/fake": fake_logits[:, 1].mean()}
        yield "discriminator", loss, logs

        loss = torch.stack([self.generator_loss(judge(fake)) for judge, fake in zip(judges, fakes, strict=True)]).sum()
        match = torch.stack(self.matcher.losses(self.matcher.look(fakes[-1]), caption)).sum()
        yield "generator", loss + self.weight * match + self.kl * kl.mean(), {"match": match, "kl": kl.mean()}

    def _judges(self, sentence: Tensor) -> list[Callable[..., Tensor]]:
        """Of images of each size, the smallest first, to logits (B, 2) for these sentences."""
        pairs: list[Callable[..., Tensor]] = [judge.pair for judge in self.discriminator.children()]  # type: ignore[misc]
        return [partial(pair, label=sentence) for pair in pairs]

    def _judged(self, real: Tensor, fake: Tensor, wrong: Tensor | None) -> Tensor:
        """The discriminator's loss of logits (B, 2), a mean of both questions: Xu et al. 2018, eq. 5."""
        if wrong is None:
            return self.discriminator_loss(real, fake)
        alone = self.discriminator_loss(real[:, 0], fake[:, 0])
        return (alone + matching_aware_loss(real[:, 1], fake[:, 1], wrong)) / 2
