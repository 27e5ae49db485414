"""The contract of chapter 05 about attention against the library's block, PyTorch's attention and loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from minigen.homework import CONTRACTS, assess
from minigen.nets import SelfAttention

NAME = "words.gated_attention"
reference = CONTRACTS[NAME].reference


def given(b: int = 2, d: int = 3, h: int = 2, w: int = 5, gate: float = 0.6) -> tuple[Tensor, ...]:
    """An image, three maps and a gate, float64, that ask for their gradients."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(b, d, h, w, generator=generator, dtype=torch.float64)
    maps = torch.randn(3, d, d, generator=generator, dtype=torch.float64)
    return tuple(t.detach().requires_grad_() for t in (x, *maps, torch.tensor(gate, dtype=torch.float64)))


def pytorchs(x: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor) -> Tensor:
    """Convolutions of 1 x 1, as the authors write them, and PyTorch's own attention."""
    u, k, v = (functional.conv2d(x, weight[:, :, None, None]).flatten(2).mT for weight in (query, key, value))
    return x + gate * functional.scaled_dot_product_attention(u, k, v).mT.unflatten(2, x.shape[2:])


def by_hand(x: Tensor, query: Tensor, key: Tensor, value: Tensor, gate: Tensor) -> Tensor:
    """One place after another, each of which asks all of its image."""
    out = torch.zeros_like(x)
    _, d, height, width = x.shape
    places = [(i, j) for i in range(height) for j in range(width)]
    for b in range(len(x)):
        for i, j in places:
            u, total, taken = query @ x[b, :, i, j], 0.0, 0.0
            for m, n in places:
                weight = math.exp(u @ (key @ x[b, :, m, n]) / d**0.5)
                total, taken = total + weight, taken + weight * (value @ x[b, :, m, n])
            out[b, :, i, j] = x[b, :, i, j] + gate * taken / total
    return out


@pytest.mark.parametrize("sizes", [(2, 3, 2, 5), (1, 4, 2, 2), (3, 1, 4, 1), (1, 2, 1, 1)])
def test_it_is_pytorchs_and_by_hand(sizes: tuple[int, ...]) -> None:
    arguments = given(*sizes)
    found, theirs = reference(*arguments), pytorchs(*arguments)
    torch.testing.assert_close(found, theirs)
    with torch.no_grad():
        torch.testing.assert_close(found.detach(), by_hand(*arguments))
    slopes = [torch.autograd.grad(y.square().sum(), arguments) for y in (found, theirs)]
    torch.testing.assert_close(*slopes)


def test_it_is_the_librarys_block_where_nothing_stands_behind_the_values() -> None:
    x, query, key, value, gate = given()
    block = SelfAttention(3).double()
    with torch.no_grad():
        block.attention.query.weight.copy_(query)
        block.attention.key_value.weight.copy_(torch.cat([key, value]))
        block.attention.out.weight.copy_(torch.eye(3))
        block.gate.copy_(gate)
        torch.testing.assert_close(block(x), reference(x, query, key, value, gate))


def test_at_a_gate_of_0_the_gate_alone_has_a_slope() -> None:
    """(5.8): that of the loss by the image, times what attention takes."""
    x, *maps, gate = given(gate=0.0)
    y = reference(x, *maps, gate)
    assert torch.equal(y, x)
    by_y = torch.randn_like(y)
    by_gate, *by_maps = torch.autograd.grad((y * by_y).sum(), [gate, *maps])
    taken = reference(x, *maps, torch.ones_like(gate)) - x
    torch.testing.assert_close(by_gate, (by_y * taken).sum())
    for slope in by_maps:
        assert torch.equal(slope, torch.zeros_like(slope))


def test_places_have_no_order_and_images_nothing_in_common() -> None:
    """(5.5), rows and columns exchanged among themselves and with each other; and a batch one image at a time."""
    x, *rest = given()
    torch.testing.assert_close(reference(x.mT, *rest), reference(x, *rest).mT)
    torch.testing.assert_close(reference(x.flip(3).roll(1, 2), *rest), reference(x, *rest).flip(3).roll(1, 2))
    torch.testing.assert_close(reference(x, *rest), torch.cat([reference(part[None], *rest) for part in x]))


@pytest.mark.parametrize("size", [1000.0, -1000.0])
def test_scores_of_any_size_are_survived(size: float) -> None:
    """Two places of one score and a third one far from them; exp overflows for either sign."""
    x = torch.tensor([[[[1.0, 1.0, -1.0]]]])
    maps = [torch.tensor([[w]]) for w in (size, 1.0, 3.0)]
    taken = 3.0 if size > 0 else -3.0  # the first two places take of the two, or both of the third
    expected = torch.tensor([[[[taken, taken, -taken]]]])
    torch.testing.assert_close(reference(x, *maps, torch.tensor(1.0)) - x, expected)


def einsums(x, query, key, value, gate):
    u, k, v = (torch.einsum("ed,bdhw->behw", weight, x) for weight in (query, key, value))
    scores = torch.einsum("behw,bemn->bhwmn", u, k) / len(query) ** 0.5
    weights = scores.flatten(3).softmax(3).view_as(scores)
    return x + gate * torch.einsum("bhwmn,bemn->behw", weights, v)


def features_first(x, query, key, value, gate):
    flat = x.flatten(2)  # (B, D, n)
    weights = torch.softmax((key @ flat).mT @ (query @ flat) / math.sqrt(x.shape[1]), dim=1)  # a column for each query
    return torch.lerp(x, x + (value @ flat @ weights).view_as(x), gate)


def last_and_back(x, query, key, value, gate):
    rows = x.permute(0, 2, 3, 1)
    t = rows.reshape(len(x), -1, x.shape[1])
    logs = (t @ (query.T @ key) @ t.transpose(1, 2) * x.shape[1] ** -0.5).log_softmax(-1)
    return x + (gate * logs.exp() @ (t @ value.T)).view_as(rows).permute(0, 3, 1, 2)


def in_double(*given):
    return pytorchs(*(t.double() for t in given))


def written_out(x, query, key, value, gate):
    t = x.flatten(2).transpose(1, 2)
    s = (t @ query.T) @ (t @ key.T).transpose(1, 2) / math.sqrt(query.shape[0])
    e = torch.exp(s - s.amax(2, keepdim=True))
    return x + gate * (e / e.sum(2, keepdim=True) @ (t @ value.T)).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("answer", [pytorchs, einsums, features_first, last_and_back, in_double, written_out])
def test_a_right_answer_may_be_written_in_another_way(answer) -> None:
    assert str(assess(NAME, answer)) == f"✓ {NAME}: right, on random and on extreme inputs"


def parts(x, query, key, value):
    """Queries, keys and values of places (B, n, D)."""
    return [x.flatten(2).mT @ weight.T for weight in (query, key, value)]


def attended(x, query, key, value, *, dim=-1, scale=None, shape=None):
    u, k, v = parts(x, query, key, value)
    scores = u @ k.mT * (x.shape[1] ** -0.5 if scale is None else scale)
    return (scores.softmax(dim) @ v).mT.reshape(shape or x.shape)


def within_rows(x, query, key, value, gate):
    rows = x.movedim(1, 3)
    u, k, v = (rows @ weight.T for weight in (query, key, value))
    return x + gate * ((u @ k.mT / x.shape[1] ** 0.5).softmax(3) @ v).movedim(3, 1)


def channels(x, query, key, value, gate):
    u, k, v = (torch.einsum("ed,bdhw->behw", weight, x).flatten(2) for weight in (query, key, value))
    return x + gate * functional.scaled_dot_product_attention(u, k, v, scale=x.shape[1] ** -0.5).reshape(x.shape)


def width_and_height(x, *maps_and_gate):
    *maps, gate = maps_and_gate
    b, d, h, w = x.shape
    return x + gate * attended(x, *maps, shape=(b, d, w, h)).mT


def columns_first(x, *maps_and_gate):
    *maps, gate = maps_and_gate
    t = x.permute(0, 3, 2, 1).reshape(len(x), -1, x.shape[1])
    u, k, v = (t @ weight.T for weight in maps)
    return x + gate * functional.scaled_dot_product_attention(u, k, v).mT.reshape(x.shape)


def viewed(x, *maps_and_gate):
    *maps, gate = maps_and_gate
    t = x.reshape(len(x), x.shape[2] * x.shape[3], x.shape[1])
    u, k, v = (t @ weight.T for weight in maps)
    return x + gate * functional.scaled_dot_product_attention(u, k, v).reshape(x.shape)


@pytest.mark.parametrize(
    ("answer", "misconception"),
    [
        (lambda x, q, k, v, g: x + g * attended(x, q, k, v, dim=1), "over the queries"),
        (lambda x, q, k, v, g: x + g * attended(x, q, k, v, dim=0), "over the images"),
        (lambda x, q, k, v, g: x + g * attended(x, q, k, v, scale=1.0), "not scaled"),
        (lambda x, q, k, v, g: x + g * attended(x, q, k, v, scale=1 / x.shape[1]), "divided by D"),
        (lambda x, q, k, v, g: x + g * attended(x, q, k, v, scale=x[0, 0].numel() ** -0.5), "the number of places"),
        (lambda x, q, k, v, g: x * g + attended(x, q, k, v), "gate on x"),
        (lambda x, q, k, v, g: torch.lerp(x, attended(x, q, k, v), g), "a convex mixture"),
        (lambda x, q, k, v, g: x + attended(x, q, k, v) / (1 + (-g).exp()), "sigmoid of the gate"),
        (lambda x, q, k, v, g: attended(x, q, k, v) * g, "no residual"),
        (lambda x, q, k, v, g: x + attended(x, q, k, v), "no gate"),
        (lambda x, q, k, v, g: x + attended(x, q, k, v) * g.item(), "gate as a number"),
        (lambda x, q, k, v, g: x + g * attended(x, q, k, v) if g else x.clone(), "skipped at 0"),
        (lambda x, q, k, v, g: x + g * attended(x, q.T, k.T, v.T), "maps on their side"),
        (channels, "over the channels"),
        (within_rows, "within rows"),
        (width_and_height, "written back by columns"),
        (columns_first, "read by columns"),
        (viewed, "reshaped both ways"),
    ],
)
def test_a_wrong_answer_may_be_written_in_another_way(answer, misconception: str) -> None:
    grade = assess(NAME, answer)
    assert grade.verdict != "right"
    assert grade.misconception == misconception


@pytest.mark.parametrize(
    "answer",
    [
        lambda x, q, k, v, g: x - g * attended(x, q, k, v),
        lambda x, q, k, v, g: x + g**2 * attended(x, q, k, v),
        lambda x, q, k, v, g: g * attended(x, q, k, v, dim=1),
        lambda x, q, k, v, g: x + g * torch.dropout(attended(x, q, k, v), 0.5, True),
    ],
)
def test_what_is_not_known_gets_the_honest_message(answer) -> None:
    grade = assess(NAME, answer)
    assert (grade.verdict, grade.misconception) == ("wrong", None)
    assert "not in a way that is known here" in grade.message


def test_an_image_that_is_not_square_tells_what_is_written_back_in_the_wrong_shape() -> None:
    message = assess(NAME, lambda x, q, k, v, g: x.mT + g * attended(x, q, k, v).mT).message
    assert "must return a tensor of shape (1, 1, 1, 2); got (1, 1, 2, 1)" in message
