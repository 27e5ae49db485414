"""The exercise `words.gated_attention`: every place of an image looks at all others, behind a gate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minigen.homework.contract import Contract, Function, Input, gradients
from minigen.homework.mistakes import CUT, softmax_with_one_shift
from minigen.nets.attention import masked_softmax


def gated_attention(x: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor) -> Tensor:
    """x + gate * attention of all places of x (B, D, H, W) to all; the maps (D, D) act on a place's features."""
    return x + gate * _taken(x, query, key, value)


def _places(x: Tensor) -> Tensor:
    """(B, D, H, W) to (B, H W, D), row by row."""
    return x.flatten(2).mT


def _image(tokens: Tensor, x: Tensor) -> Tensor:
    """Tokens (B, H W, D) as an image of the shape of x."""
    return tokens.mT.reshape(x.shape)


def _scores(x: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """(B, n, n), scaled; a row for each place that asks."""
    u, k = (_places(x) @ weight.mT for weight in (query, key))
    return u @ k.mT / math.sqrt(len(query))


def _softmax(scores: Tensor) -> Tensor:
    return masked_softmax(scores, None)


def _taken(x: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What each place takes of all, an image."""
    return _image(_softmax(_scores(x, query, key)) @ (_places(x) @ value.mT), x)


def _weighing(weigh: Callable[[Tensor], Tensor]) -> Function:
    """What is taken with weights that are made of the scaled scores in another way."""
    return lambda x, q, k, v: _image(weigh(_scores(x, q, k)) @ (_places(x) @ v.mT), x)


def _behind_a_gate(taken: Function) -> Function:
    """x + gate * what is taken in another way."""
    return lambda x, q, k, v, gate: x + gate * taken(x, q, k, v)


def _wrong(weigh: Callable[[Tensor], Tensor]) -> Function:
    return _behind_a_gate(_weighing(weigh))


def _times(factor: Callable[[Tensor], float]) -> Function:
    """With scaled scores that are multiplied by a number, which depends on the shape of x (B, D, H, W)."""
    return _behind_a_gate(lambda x, q, k, v: _weighing(lambda s: _softmax(factor(x) * s))(x, q, k, v))


def _attended(tokens: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of tokens (..., n, D) to each other, the same."""
    scores = (tokens @ q.mT) @ (tokens @ k.mT).mT / math.sqrt(len(q))
    return _softmax(scores) @ (tokens @ v.mT)


def _of_channels(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    u, keys, values = (weight @ x.flatten(2) for weight in (q, k, v))  # (B, D, n)
    return (_softmax(u @ keys.mT / math.sqrt(len(q))) @ values).view_as(x)


def _across_images(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    together = _attended(_places(x).flatten(0, 1), q, k, v)
    return _image(together.view(len(x), -1, x.shape[1]), x)


def _scrambled(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _attended(x.reshape(len(x), -1, x.shape[1]), q, k, v).reshape(x.shape)


def _columns_out(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flattened row by row, and written back column by column."""
    taken = _places(_taken(x, q, k, v))
    return taken.mT.reshape(*x.shape[:2], x.shape[3], x.shape[2]).mT


def _columns_in(x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Flattened column by column, and written back row by row."""
    return _image(_places(_taken(x, q, k, v).mT), x)


def _by_exp(scores: Tensor) -> Tensor:
    """Softmax with nothing subtracted."""
    return scores.exp() / scores.exp().sum(2, keepdim=True)


def _images() -> list[Input]:
    """Images that are not square, a gate of 0, and as many places as features, so that wrong axes run there.

    Extreme scores are equal or far from each other: rounding does not show.
    """
    generator = torch.Generator().manual_seed(0)

    def maps(d: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = torch.randn(3, d, d, generator=generator)
        return q, k, v

    def image(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    one = torch.tensor([[[[1.0, 3.0]]]]), *(torch.tensor([[w]]) for w in (0.5, 1.0, -2.0)), torch.tensor(0.5)
    cells = torch.eye(4).view(1, 4, 2, 2)  # each of four places has a feature of its own
    far = torch.tensor([[500.0, 500, -500, -500], [-500, -500, -450, -500], [0, 0, 1, -1], [500, 0, -1, 400]])
    apart = torch.tensor(
        [[1000.0, 0, 0, 0], [-2000, -1000, -2000, -2000], [-1000, 0, -1000, -1000], [0, -1000, 900, 1000]]
    )
    value = image(4, 4)
    return [
        Input(one, "two places with one feature"),
        Input((image(2, 3, 2, 4), *maps(3), torch.tensor(0.7)), "random images, 2 x 4 places"),
        Input((image(2, 3, 3, 2), *maps(3), torch.tensor(0.0)), "a gate of 0, 3 x 2 places"),
        Input((image(3, 4, 1, 4), *maps(4), torch.tensor(-1.5)), "as many places as features, a negative gate"),
        Input((cells, far.mT / 8, 16 * torch.eye(4), value, torch.tensor(0.5)), "scores of size 500"),
        Input((cells, apart.mT / 8, 16 * torch.eye(4), value, torch.tensor(0.5)), "places whose scores are 1000 apart"),
    ]


CONTRACT = Contract(
    gated_attention,
    _images,
    {
        "over the queries": (
            _wrong(lambda s: s.softmax(1)),
            "takes the softmax over the queries, so that each key spends 1; each query does: over the keys, the last"
            " dimension",
        ),
        "over the images": (
            _wrong(lambda s: s.softmax(0)),
            "takes the softmax over the images of the batch, which know nothing of each other; over the keys, the last"
            " dimension",
        ),
        "over everything": (
            _wrong(lambda s: s.flatten(1).softmax(1).view_as(s)),
            "takes one softmax for the whole table of an image; each query has weights of its own that sum to 1",
        ),
        "not scaled": (
            _times(lambda x: math.sqrt(x.shape[1])),
            "leaves out the root, so that scores grow with the features and slopes vanish; divide them by sqrt(D)",
        ),
        "divided by D": (
            _times(lambda x: 1 / math.sqrt(x.shape[1])),
            "divides by D; a sum of D products has a deviation of sqrt(D): divide by that",
        ),
        "the number of places": (
            _times(lambda x: math.sqrt(x.shape[1] / x[0, 0].numel())),
            "divides by the root of the number of places; a score sums over features: take D",
        ),
        "scaled afterwards": (
            lambda x, q, k, v, gate: x + gate * _taken(x, q, k, v) / math.sqrt(len(q)),
            "divides by sqrt(D) after the softmax, whose weights then sum to less than 1; divide the scores",
        ),
        "gate on x": (
            lambda x, q, k, v, gate: gate * x + _taken(x, q, k, v),
            "multiplies x by the gate, so that at 0 the image is gone; the gate stands before what attention adds",
        ),
        "a convex mixture": (
            lambda x, q, k, v, gate: (1 - gate) * x + gate * _taken(x, q, k, v),
            "mixes (1 - gate) x + gate o, which takes the image away as the gate opens; x stays whole",
        ),
        "sigmoid of the gate": (
            lambda x, q, k, v, gate: x + torch.sigmoid(gate) * _taken(x, q, k, v),
            "takes the sigmoid of the gate, which is 1/2 at 0, so that the block is half open at the start; take the"
            " gate itself",
        ),
        "tanh of the gate": (
            lambda x, q, k, v, gate: x + torch.tanh(gate) * _taken(x, q, k, v),
            "takes the tanh of the gate, which holds it between -1 and 1; take the gate itself",
        ),
        "1 + gate": (
            lambda x, q, k, v, gate: x + (1 + gate) * _taken(x, q, k, v),
            "multiplies by 1 + gate, as adaptive norms do; then the block is open at the start: take the gate itself",
        ),
        "gate on both": (
            lambda x, q, k, v, gate: gate * (x + _taken(x, q, k, v)),
            "multiplies x by the gate, too; it stands before what attention adds alone",
        ),
        "gate on the scores": (
            lambda x, q, k, v, gate: x + _weighing(lambda s: _softmax(gate * s))(x, q, k, v),
            "multiplies the scores by the gate, where 0 means a mean of all places; it multiplies what is taken",
        ),
        "no gate": (
            lambda x, q, k, v, gate: x + _taken(x, q, k, v),
            "leaves out the gate; with it the network begins as if the block were not there",
        ),
        "no residual": (
            lambda x, q, k, v, gate: gate * _taken(x, q, k, v),
            "forgets to add x, so that with a gate of 0 nothing is left of the image; x + gate * o",
        ),
        "attention alone": (
            lambda x, q, k, v, gate: _taken(x, q, k, v),
            "returns what attention takes, without gate and without x; x + gate * o",
        ),
        "skipped at 0": (
            lambda x, q, k, v, gate: x if gate == 0 else gated_attention(x, q, k, v, gate),
            "the value is right, but where the gate is 0 attention is skipped, so that the gate has no slope and never"
            " opens; always add it",
        ),
        "gate as a number": (
            lambda x, q, k, v, gate: gated_attention(x, q, k, v, gate.detach()),
            "the value is right, but the gate is cut off from the graph by .item(), float() or .detach(), and never"
            " opens; multiply by the tensor",
        ),
        "over the channels": (
            _behind_a_gate(_of_channels),
            "compares channels with channels, (D, D); places ask places: move the features to the end, (B, H W, D)",
        ),
        "within rows": (
            _behind_a_gate(lambda x, *maps: _attended(x.permute(0, 2, 3, 1), *maps).permute(0, 3, 1, 2)),
            "attends within each row of the image alone; put all places into one dimension first, (B, H W, D)",
        ),
        "across images": (
            _behind_a_gate(_across_images),
            "lets places look into the other images of the batch; keep the batch as a dimension of its own",
        ),
        "reshaped both ways": (
            _behind_a_gate(_scrambled),
            "reshapes (B, D, H, W) to (B, H W, D) and back, which mixes features with places; flatten(2), then exchange"
            " the last two dimensions",
        ),
        "reshaped on the way back": (
            _behind_a_gate(lambda x, *maps: _places(_taken(x, *maps)).reshape(x.shape)),
            "reshapes (B, H W, D) to the image at once, which mixes features with places; exchange the last two"
            " dimensions first",
        ),
        "written back by columns": (
            _behind_a_gate(_columns_out),
            "flattens row by row and writes back column by column: H and W are exchanged on the way back",
        ),
        "read by columns": (
            _behind_a_gate(_columns_in),
            "flattens column by column and writes back row by row: H and W are exchanged on the way in",
        ),
        "weights on their side": (
            _wrong(lambda s: _softmax(s).mT),
            "transposes the weights before they meet the values; row i holds the weights of query i: weights @ values",
        ),
        "queries and keys exchanged": (
            lambda x, q, k, v, gate: gated_attention(x, k, q, v, gate),
            "has the keys ask: a row of the table belongs to a query, u @ k.mT",
        ),
        "maps on their side": (
            lambda x, q, k, v, gate: gated_attention(x, q.mT, k.mT, v.mT, gate),
            "multiplies features by the columns of the maps; a query is query @ x at each place: places @ query.mT",
        ),
        "no values": (
            lambda x, q, k, v, gate: gated_attention(x, q, k, torch.eye(len(v), dtype=v.dtype), gate),
            "mixes x itself; what is taken of a place is its value, value @ x",
        ),
        "keys for values": (
            lambda x, q, k, v, gate: gated_attention(x, q, k, k, gate),
            "mixes the keys; keys say which place fits, and what is taken of it is its value",
        ),
        "the mean": (
            _wrong(lambda s: torch.ones_like(s) / s.shape[2]),
            "the mean of all places, whatever is asked; weigh them by the softmax of the scores",
        ),
        "sign": (
            _wrong(lambda s: (-s).softmax(2)),
            "gives the places that fit least the most weight; leave out the minus",
        ),
        "one largest for all": (
            _wrong(lambda s: softmax_with_one_shift(s, 2)),
            "subtracts the largest score of the table, so that a query far below has 0 / 0; take the largest of each"
            " query, as softmax does",
        ),
        "overflow": (
            _wrong(_by_exp),
            "overflows: exp(500) is infinite, and infinite by infinite is nan; use softmax, which does not",
        ),
        "no gradient": (lambda x, q, k, v, gate: gated_attention(x, q, k, v, gate).detach(), CUT),
    },
    gradients("x", "query", "key", "value", "gate"),
)
