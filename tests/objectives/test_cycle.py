"""The equations of chapter 07 by hand, the pool of images, and wrong variants that the same tests refuse."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from minigen import Batches
from minigen.objectives import cycle, paired
from minigen.objectives.cycle import Cycle, ImagePool
from minigen.train.loop import Run
from minigen.train.optimizers import adam_per_player
from minigen.train.rng import Rng

DRAW = torch.Generator().manual_seed(0)
A, B, BACK_A, BACK_B = torch.randn(4, 3, 1, 4, 4, generator=DRAW, dtype=torch.float64)


def close(a: Tensor, b: Tensor | float, *, atol: float = 1e-9) -> bool:
    return torch.allclose(a, torch.as_tensor(b, dtype=a.dtype), atol=atol, rtol=0)


def total(x: Tensor, y: Tensor) -> float:
    return sum(abs(p - q) for p, q in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) / len(x)


@pytest.mark.parametrize("name", ["cycle_error", "identity_error"])
def test_an_error_compares_each_domain_with_itself(name) -> None:
    error = getattr(cycle, name)
    by_hand = total(A, BACK_A) + total(B, BACK_B)
    assert close(error(A, B, BACK_A, BACK_B), by_hand)
    for wrong in (
        lambda a, b, x, y: error(a, b, y, x),  # the domains exchanged
        lambda a, b, x, y: paired.squared_error(x, a) + paired.squared_error(y, b),  # squares
        lambda a, b, x, y: (x - a).abs().mean() + (y - b).abs().mean(),  # means over pixels
        lambda a, b, x, y: paired.absolute_error(x, a),  # one domain alone
        lambda a, b, x, y: error(a, b, x, y) / 2,
        lambda a, b, x, y: paired.absolute_error(x, y) + paired.absolute_error(a, b),  # of the two domains
    ):
        assert not close(torch.as_tensor(wrong(A, B, BACK_A, BACK_B)), by_hand)


class Affine(nn.Module):
    """x to scale x + shift: small enough to follow by hand."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (scale, shift))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x + self.shift


class Judge(Affine):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((1, 2, 3))


def game(**settings) -> Cycle:
    return Cycle(Affine(2.0, 0.1), Affine(0.4, -0.2), Judge(1.5, 0.3), Judge(-0.7, 0.2), weight=0.3, **settings)


def test_both_games_and_the_cycle_are_added_as_in_the_paper() -> None:
    objective = game(identity=0.5)
    turns = objective.turns((A, B), Rng())
    fake_b, fake_a = 2 * A + 0.1, 0.4 * B - 0.2

    def judge_a(x: Tensor) -> Tensor:
        return 1.5 * x.mean((1, 2, 3)) + 0.3

    def judge_b(x: Tensor) -> Tensor:
        return -0.7 * x.mean((1, 2, 3)) + 0.2

    name, loss, logs = next(turns)
    assert name == "discriminators"
    parts = [(judge_a(A) - 1) ** 2, judge_a(fake_a) ** 2, (judge_b(B) - 1) ** 2, judge_b(fake_b) ** 2]
    assert close(loss, 0.5 * sum(part.mean() for part in parts))
    assert close(logs["logit/real"], (judge_a(A).mean() + judge_b(B).mean()) / 2)
    assert close(logs["logit/fake"], (judge_a(fake_a).mean() + judge_b(fake_b).mean()) / 2)
    slopes = torch.autograd.grad(loss, objective.generators.parameters(), allow_unused=True, retain_graph=True)
    assert all(slope is None for slope in slopes)

    name, loss, logs = next(turns)
    assert name == "generators"
    games = 0.5 * ((judge_a(fake_a) - 1) ** 2).mean() + 0.5 * ((judge_b(fake_b) - 1) ** 2).mean()
    back = total(0.4 * fake_b - 0.2, A) + total(2 * fake_a + 0.1, B)
    kept = total(0.4 * A - 0.2, A) + total(2 * B + 0.1, B)
    assert close(logs["cycle"], back)
    assert close(logs["identity"], kept)
    assert close(loss, games + 0.3 * back + 0.15 * kept)
    exchanged = total(2 * A + 0.1, A) + total(0.4 * B - 0.2, B)  # the identity of the wrong generators: doing nothing
    once = total(fake_b, A) + total(fake_a, B)  # not a cycle: there and not back
    for wrong in (
        games + 0.3 * back + 0.15 * exchanged,
        games + 0.3 * once + 0.15 * kept,
        games + 0.3 * back + 0.5 * kept,  # the share not of the weight
        games / 0.3 + back + 0.5 * kept,
        0.5 * ((judge_b(fake_a) - 1) ** 2).mean()
        + 0.5 * ((judge_a(fake_b) - 1) ** 2).mean()
        + 0.3 * back
        + 0.15 * kept,
    ):
        assert not close(loss, wrong)


def test_the_discriminators_have_moved_when_the_generators_see_them() -> None:
    objective = game()
    turns = objective.turns((A, B), Rng())
    next(turns)
    with torch.no_grad():
        objective.discriminators["a"].shift += 5.0
    _, loss, _ = next(turns)
    other = game()
    again = other.turns((A, B), Rng())
    next(again)
    assert not close(loss, next(again)[1])


def test_an_exchange_of_two_images_has_no_cycle_error_and_fools_both_judges() -> None:
    """A wrong bijection: each domain has two images, and the generators map them crosswise."""
    a, b = (torch.tensor([low, low + 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2) for low in (0.0, 10.0))

    def crosswise(x: Tensor) -> Tensor:  # 0 to 11 and 1 to 10, and back
        return 11 - x

    assert cycle.cycle_error(a, b, crosswise(crosswise(a)), crosswise(crosswise(b))) == 0
    assert sorted(crosswise(a).flatten().tolist()) == sorted(b.flatten().tolist())  # the law of b, exactly
    assert paired.absolute_error(crosswise(a), b) == 4.0  # and wrong for every image


def test_the_pool_gives_back_what_it_was_given_each_image_at_most_once_at_a_time() -> None:
    pool, rng = ImagePool(8, (1,)), Rng(seed=3)
    given: list[float] = []
    out: list[float] = []
    for step in range(200):
        new = torch.arange(4.0)[:, None] + 4 * step
        given += new.flatten().tolist()
        out += pool(new, rng).flatten().tolist()
    assert set(out) <= set(given)
    twice = [image for image in set(out) if out.count(image) == 2]
    assert len(out) - len(set(out)) == len(twice) == 8  # those that met an empty place have gone on before
    assert out[:4] == given[:4]
    late = [b // 4 - a // 4 for a, b in zip(out, given, strict=True)][40:]  # steps that each was kept
    fresh = sum(gap == 0 for gap in late) / len(late)
    assert abs(fresh - 0.5) < 5 * 0.5 / math.sqrt(len(late))
    # A place is met in half of the steps, and swapped in half of these: an image waits for four steps on average.
    waits = [gap for gap in late if gap]
    assert abs(sum(waits) / len(waits) - 4) < 0.7


def test_a_pool_belongs_to_the_state_and_a_generator_gets_no_slope_through_it() -> None:
    pool = ImagePool(4, (1,))
    new = torch.ones(2, 1, requires_grad=True)
    assert not pool(new, Rng(seed=0)).requires_grad
    other = ImagePool(4, (1,))
    other.load_state_dict(pool.state_dict())
    assert torch.equal(other.images, pool.images)
    assert other.taken.sum() == 2


def test_a_run_with_a_pool_resumes_exactly(tmp_path) -> None:
    def make() -> Run:
        torch.manual_seed(0)
        objective = Cycle(
            *(Affine(1.1, 0.1) for _ in "ab"),
            *(Judge(1.0, 0.1) for _ in "ab"),
            weight=0.1,
            pool=6,
            shape=((1, 4, 4), (1, 4, 4)),
        ).float()
        return Run(objective, adam_per_player(objective, 1e-2), ema={"generators": 0.9}, seed=1)

    def batches() -> Batches:
        return Batches(A.float(), B.float(), batch_size=3, seed=0)

    whole = make()
    list(whole(batches(), 9))
    part = make()
    list(part(batches(), 4))
    part.save(tmp_path / "run.pt")
    again = make()
    again.load(tmp_path / "run.pt")
    list(again(batches(), 5))
    for name, value in whole.objective.state_dict().items():
        assert torch.equal(value, again.objective.state_dict()[name]), name


def test_both_directions_are_translated_by_their_own_generator() -> None:
    objective = game()
    assert close(objective.translate(A, "b"), 2 * A + 0.1)
    assert close(objective.translate(B, "a"), 0.4 * B - 0.2)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: game(loss="wasserstein"), ValueError, "loss must"),
        (lambda: game(identity=-1.0), ValueError, "identity"),
        (lambda: game(pool=5), ValueError, "shape="),
        (lambda: game(pool=-1), ValueError, "pool"),
        (lambda: game().translate(A, "c"), ValueError, '"a" or "b"'),
        (lambda: next(game().turns((A.long(), B), Rng())), TypeError, "images of a"),
        (lambda: next(game().turns((A, B.expand(3, 2, 4, 4)), Rng())), ValueError, "generated images of"),
        (lambda: ImagePool(2, (1,))(torch.zeros(3, 1), Rng()), ValueError, "room for a whole batch"),
        (lambda: ImagePool(4, (1,))(torch.zeros(3, 2), Rng()), ValueError, "images must"),
        (lambda: cycle.cycle_error(A, B, BACK_A[:1], BACK_B), ValueError, "answer"),
    ],
)
def test_bad_input_is_refused(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
