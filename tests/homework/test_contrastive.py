"""The contracts of chapter 14 against the library's objectives, PyTorch's losses and loops written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from minigen.homework import CONTRACTS, assess
from minigen.nets.text import Encoded
from minigen.objectives.captioning import Captioning
from minigen.objectives.contrastive import Contrastive, DualEncoder
from minigen.train.rng import Rng


def reference(name: str):
    return CONTRACTS[f"contrastive.{name}"].reference


class Fixed(nn.Module):
    """An encoder that gives what it is given, with a width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, vectors):
        return Encoded(vectors[:, None], vectors)


def test_the_choice_among_a_row_is_cross_entropy() -> None:
    scores = 3 * torch.randn(9, 9, dtype=torch.float64)
    expected = functional.cross_entropy(scores, torch.arange(9))
    torch.testing.assert_close(reference("info_nce")(scores), expected)
    torch.testing.assert_close(reference("information_bound")(scores), math.log(9) - expected)


def test_the_symmetric_loss_is_that_of_the_objective() -> None:
    model = DualEncoder(Fixed(4), Fixed(4), size=4)
    with torch.no_grad():
        for layer in (model.from_images, model.from_captions):
            layer.weight.copy_(torch.eye(4))
    images, captions = torch.randn(2, 5, 4)
    ((_, expected, _),) = Contrastive(model).turns((images, captions), Rng())
    torch.testing.assert_close(reference("clip_loss")(images, captions, model.logit_scale), expected)
    by_hand = torch.zeros(())
    cosine = torch.nn.CosineSimilarity(dim=0)
    table = [[cosine(a, b) / 0.07 for b in captions] for a in images]
    for i in range(5):
        row, column = torch.stack(table[i]), torch.stack([line[i] for line in table])
        by_hand = by_hand - (row.log_softmax(0)[i] + column.log_softmax(0)[i]) / 10
    torch.testing.assert_close(expected, by_hand)


def test_recall_is_the_share_of_ranks_up_to_k() -> None:
    scores = torch.randn(40, 40)
    for k in (1, 5, 40):
        found = [int(i in sorted(range(40), key=lambda j: -row[j])[:k]) for i, row in enumerate(scores.tolist())]
        assert reference("recall")(scores, k).item() == pytest.approx(sum(found) / 40)
    assert reference("recall")(torch.zeros(7, 7), 6).item() == 0, "scores that are all equal find nothing"
    assert reference("recall")(torch.zeros(7, 7), 7).item() == 1


def test_the_captions_loss_is_that_of_the_objective_and_of_pytorch() -> None:
    tokens = torch.tensor([[1, 3, 5, 4, 2], [1, 4, 2, 0, 0], [1, 2, 0, 0, 0]])
    logits = torch.randn(3, 4, 6)
    total = functional.cross_entropy(logits.mT, tokens[:, 1:], ignore_index=0, reduction="sum")
    torch.testing.assert_close(reference("caption_nll")(logits, tokens), total / 3)

    class Says(nn.Module):
        def forward(self, tokens, x):
            return logits

    ((_, expected, _),) = Captioning(Says()).turns((torch.zeros(3, 1, 2, 2), tokens), Rng())
    torch.testing.assert_close(reference("caption_nll")(logits, tokens), expected)


def both_directions(scores):
    own = torch.arange(len(scores))
    return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


def cosines(x, y):
    return torch.einsum("nd,md->nm", x / x.norm(dim=1)[:, None], y / y.norm(dim=1)[:, None])


def recall_by_sorting(scores, k):
    order = scores.sort(dim=1, descending=True).values
    worst = (order >= scores.diagonal()[:, None]).sum(1)  # the last place that the own score may be said to have
    return (worst <= k).double().mean()


ANOTHER_WAY = {
    "info_nce": lambda s: functional.cross_entropy(s, torch.arange(len(s))),
    "clip_loss": lambda x, y, t: both_directions(t.exp() * cosines(x, y)),
    "information_bound": lambda s: (s.diagonal() - (s.logsumexp(1) - math.log(len(s)))).mean(),
    "recall": recall_by_sorting,
    "caption_nll": lambda o, w: (
        functional.cross_entropy(o.flatten(0, 1), w[:, 1:].flatten(), ignore_index=0, reduction="sum") / len(w)
    ),
}


@pytest.mark.parametrize("name", ANOTHER_WAY)
def test_a_right_answer_may_be_written_in_another_way(name: str) -> None:
    message = str(assess(f"contrastive.{name}", ANOTHER_WAY[name]))
    assert message == f"✓ contrastive.{name}: right, on random and on extreme inputs"


@pytest.mark.parametrize(
    ("name", "answer", "misconception"),
    [
        ("info_nce", lambda s: functional.cross_entropy(s.T, torch.arange(len(s))), "columns"),
        ("info_nce", lambda s: functional.cross_entropy(s, torch.zeros(len(s)).long()), "the first caption"),
        ("info_nce", lambda s: functional.nll_loss(s, torch.arange(len(s))), "own scores alone"),
        ("clip_loss", lambda x, y, t: reference("info_nce")(t.exp() * cosines(x, y)), "images alone"),
        ("clip_loss", lambda x, y, t: both_directions(cosines(x, y) / t.exp()), "temperature multiplied"),
        ("information_bound", lambda s: s.log_softmax(1).diagonal().mean(), "log N forgotten"),
        ("recall", lambda s, k: (s.topk(1).indices[:, 0] == torch.arange(len(s))).float().mean(), None),
        ("caption_nll", lambda o, w: functional.cross_entropy(o.mT, w[:, 1:]), "mean over all places"),
        ("caption_nll", lambda o, w: functional.cross_entropy(o.mT, w[:, 1:], ignore_index=0), "mean over the words"),
        (
            "caption_nll",
            lambda o, w: functional.cross_entropy(o.mT, w[:, :-1], ignore_index=0, reduction="sum") / len(w),
            "not shifted",
        ),
    ],
)
def test_a_wrong_answer_may_be_written_in_another_way(name: str, answer, misconception: str | None) -> None:
    grade = assess(f"contrastive.{name}", answer)
    assert grade.verdict != "right"
    assert grade.misconception == misconception


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("info_nce", lambda s: -reference("info_nce")(s.T) / math.log(2)),
        ("information_bound", lambda s: -reference("info_nce")(s.T)),
        ("caption_nll", lambda o, w: functional.cross_entropy(o.mT, w[:, 1:], reduction="sum") / math.log(2)),
    ],
)
def test_two_mistakes_at_once_get_the_honest_message(name: str, answer) -> None:
    grade = assess(f"contrastive.{name}", answer)
    assert (grade.verdict, grade.misconception) == ("wrong", None)
    assert "not in a way that is known here" in grade.message
