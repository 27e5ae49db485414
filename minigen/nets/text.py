"""Words and images as tokens (chapters 13 and 14): encoders of both, and a network that words what it sees.

Captions are tokens of `data.Vocabulary`, int64 (B, T): `BOS`, words, `EOS`, padding. Sources: Vaswani et al. 2017,
section 3; Radford et al. 2021 (CLIP), section 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minigen.data.checks import need_batch, need_entry
from minigen.data.vocabulary import BOS, EOS, PAD
from minigen.nets.attention import Attention
from minigen.nets.conv import Residual, downsample
from minigen.nets.init import he_init
from minigen.nets.pixelcnn import Cache
from minigen.nets.transformer import TransformerBlock


class Encoded(NamedTuple):
    """tokens: (B, T, width). pooled: all of it in one vector, (B, width)."""

    tokens: Tensor
    pooled: Tensor


class TextEncoder(nn.Module):
    """Tokens (B, T) to vectors: an embedding of word and place, then a transformer in which all words see each other.

    tokens: how many there are, `len(vocabulary)`. length: the largest T. What stands behind `EOS` changes nothing.
    The pooled vector is the mean over a caption's tokens, its two ends included; of padding alone, zeros.

    >>> from minigen.data import Vocabulary
    >>> words = Vocabulary.of(["a red ring"])
    >>> found = TextEncoder(len(words), length=6)(words.encode(["a red ring", "a ring"]))
    >>> found.tokens.shape, found.pooled.shape
    (torch.Size([2, 5, 64]), torch.Size([2, 64]))
    """

    def __init__(self, tokens: int, *, length: int, width: int = 64, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.length, self.width = length, width
        self.word, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.word, self.place):
            nn.init.normal_(embedding.weight, std=0.5)

    def forward(self, tokens: Tensor) -> Encoded:
        """Tokens (B, T), T at most `length`: vectors (B, T, width), zero at padding, and pooled (B, width)."""
        _check_tokens(tokens, self.length, self.word)
        mask = tokens != PAD
        h = self.word(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            h = block(h, mask)
        h = self.norm(h) * mask[..., None]
        return Encoded(h, h.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class Prompted(nn.Module):
    """A denoising network conditioned on a caption: on its vectors, which are attended to, and on their mean.

    Called as net(x_t, log_snr, tokens), with tokens (B, T) of `data.Vocabulary`. A caption of padding alone says
    nothing: the network then does, exactly, what it does without words, and `Diffusion(p_uncond=...)` makes such ones.

    net: made with context_dim and label_dim as wide as the vectors of `words`; see `nets.conditioning`.
    """

    def __init__(self, net: nn.Module, words: TextEncoder) -> None:
        super().__init__()
        self.net, self.words = net, words

    def forward(self, x: Tensor, log_snr: Tensor, tokens: Tensor) -> Tensor:
        """Images (B, C, H, W), levels (B,) and captions (B, T) to (B, C, H, W)."""
        caption: Encoded = self.words(tokens)
        output: Tensor = self.net(x, log_snr, caption.pooled, caption.tokens, tokens != PAD)
        return output


class PromptedPixels(nn.Module):
    """A network that draws pixel by pixel, or code by code, conditioned on the mean of a caption's vectors.

    net: called as net(levels, context) and net.init_cache(n, height, width, context), such as a `PixelTransformer`, for
    a context as wide as the vectors of `words`.
    """

    def __init__(self, net: nn.Module, words: TextEncoder) -> None:
        super().__init__()
        self.net, self.words = net, words

    def forward(self, levels: Tensor, tokens: Tensor) -> Tensor:
        """Levels (B, 1, H, W) and captions (B, T) to logits (B, K, H, W)."""
        logits: Tensor = self.net(levels, self.words(tokens).pooled)
        return logits

    def init_cache(self, n: int, height: int, width: int, tokens: Tensor) -> Cache:
        """A cached pass over n images, for captions (n, T)."""
        begun: Cache = self.net.init_cache(n, height, width, self.words(tokens).pooled)  # type: ignore[operator]
        return begun


class ImageEncoder(nn.Module):
    """Images (B, C, H, W) to a grid of tokens and one vector.

    A 3x3 convolution, `num_downsamples` strided ones that each double the features up to `width`, residual blocks;
    each place of the grid is a token, in raster order. A learnt query pools the tokens by attention, as in CLIP.

    shape: (C, H, W); sides that halve so often, or a ValueError.
    """

    def __init__(
        self, shape: Sequence[int], *, width: int = 64, num_downsamples: int = 1, blocks: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        channels, *sides = self.shape = tuple(shape)
        if num_downsamples < 1 or width % 2**num_downsamples or any(side % 2**num_downsamples for side in sides):
            raise ValueError(f"width and both sides must be multiples of {2**num_downsamples}; got {width}, {sides}")
        self.width, self.grid = width, tuple(side >> num_downsamples for side in sides)
        first = width >> num_downsamples
        layers: list[nn.Module] = [he_init(nn.Conv2d(channels, first, 3, padding=1), 1.0)]
        for i in range(num_downsamples):
            layers += [nn.ReLU(), downsample(first << i, first << (i + 1))]
        self.net = nn.Sequential(*layers, *(Residual(width, share=1 / blocks) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.pool = Attention(width, heads, context_dim=width)

    def forward(self, x: Tensor) -> Encoded:
        """(B, C, H, W) to tokens (B, h w, width) and pooled (B, width). Another shape is a ValueError."""
        need_batch("images", x, *self.shape)
        tokens = self.regions(x)
        return Encoded(tokens, self.pool(self.query.expand(len(x), -1, -1), tokens)[:, 0])

    def regions(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to tokens (B, h w, width), not checked."""
        tokens: Tensor = self.norm(self.net(x).flatten(2).mT)
        return tokens


class Captioner(nn.Module):
    """Log-odds of each next word, given the words before it and an image.

    A causal transformer over the caption; before each of its blocks the words look at the image's tokens. Places before
    the first word and behind the end are no words: `BOS` and `PAD` have probability 0, and at the last place of
    `length` the caption ends for sure. So the captions that fit into `length` have probabilities that sum to one.

    images: an encoder whose result has `tokens` (B, S, width). tokens: how many, `len(vocabulary)`.
    """

    def __init__(self, images: ImageEncoder, tokens: int, *, length: int, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.images, self.length = images, length
        width = images.width
        self.word, self.place = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.looks = nn.ModuleList(Attention(width, heads, context_dim=width) for _ in range(blocks))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, causal=True, bias=True) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, tokens)
        for embedding in (self.word, self.place):
            nn.init.normal_(embedding.weight, std=0.5)

    def see(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to what the words look at, (B, S, width)."""
        encoded: Encoded = self.images(x)
        return encoded.tokens

    def next_words(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Logits (B, T, K) of the token behind each of `tokens` (B, T), T below `length`; seen: (B, S, width)."""
        _check_tokens(tokens, self.length - 1, self.word)
        h = self.word(tokens) + self.place.weight[: tokens.shape[1]]
        for norm, look, block in zip(self.norms, self.looks, self.blocks, strict=True):
            h = block(h + look(norm(h), seen))
        logits: Tensor = self.last(self.norm(h))
        never = torch.zeros_like(logits, dtype=torch.bool)
        never[..., [PAD, BOS]] = True
        if tokens.shape[1] == self.length - 1:
            never[:, -1] = torch.arange(logits.shape[2], device=logits.device) != EOS
        return logits.masked_fill(never, -math.inf)

    def forward(self, tokens: Tensor, x: Tensor) -> Tensor:
        """Captions (B, T) and images (B, C, H, W) to the logits of all tokens but the first, (B, T - 1, K)."""
        return self.next_words(tokens[..., :-1], self.see(x))


def _check_tokens(tokens: Tensor, length: int, word: nn.Embedding) -> None:
    if tokens.ndim != 2 or not 0 < tokens.shape[1] <= length or tokens.dtype != torch.int64:
        raise ValueError(f"tokens must be int64 (B, T), T in 1..{length}; got {tokens.dtype} {tuple(tokens.shape)}")
    need_entry("tokens", tokens, word.num_embeddings)
