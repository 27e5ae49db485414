"""Worlds refuse parameters that make no distribution, and images, factors and numbers that are none of theirs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from refusals import refused

from minigen.worlds import (
    ExactCaptions,
    ExactConditionals,
    GaussianMixture,
    Line,
    LinearGaussian,
    Sequences,
    Shapes,
    Templates,
)
from minigen.worlds.drawing import disc, square
from minigen.worlds.noise import FlipNoise, GaussianNoise

NAN, INF = math.nan, math.inf
means, eye = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.eye(2).expand(2, 2, 2)
skew = eye + torch.tensor([[0.0, 0.5], [0.0, 0.0]])
mixture = GaussianMixture(means, std=1.0)
options = {"sizes": (5,), "positions": (2, 2)}
shapes, levels = Shapes(8, **options), Shapes(8, form="discrete", **options)
image, discrete = shapes.sample(2), levels.sample(2)
exact = ExactConditionals(levels)
line = Line(-1, 1, 11)
linear = LinearGaussian(torch.eye(3, 2), torch.zeros(3), 1.0)
moving = Sequences(shapes, speeds=(1,))
clips = moving.sample(2, length=3)
N = len(shapes)


def weighted(*weights: float) -> GaussianMixture:
    return GaussianMixture(means, std=1.0, weights=torch.tensor(weights))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    # Gaussian mixtures
    "means of NaN": (lambda: GaussianMixture(means + NAN, std=1.0), "means must be finite"),
    "endless means": (lambda: GaussianMixture(means + INF, std=1.0), "means must be finite"),
    "no component": (lambda: GaussianMixture(means[:0], std=1.0), "means must be (K, D); got (0, 2)"),
    "means in a list": (lambda: GaussianMixture([[0.0]], std=1.0), "got list"),
    "half a mode on a ring": (lambda: GaussianMixture.ring(modes=2.5), "whole number"),
    "half a mode on a grid": (lambda: GaussianMixture.grid(side=2.5), "whole number"),
    "half a mode on a spiral": (lambda: GaussianMixture.spiral(modes=2.5), "whole number"),
    "neither signal nor noise": (lambda: mixture.denoise(means, 0.0, 0.0), "must not both be 0"),
    "an endless spread": (lambda: GaussianMixture(means, std=INF), "std must be positive"),
    "a spread of NaN": (lambda: GaussianMixture(means, std=NAN), "std must be positive"),
    "skew covariances": (lambda: GaussianMixture(means, covariances=skew), "must be symmetric"),
    "covariances of NaN": (lambda: GaussianMixture(means, covariances=eye * NAN), "covariances must be finite"),
    "endless covariances": (lambda: GaussianMixture(means, covariances=eye * INF), "covariances must be finite"),
    "a negative weight": (lambda: weighted(2.0, -1.0), "none negative"),
    "a weight of NaN": (lambda: weighted(NAN, 1.0), "none negative"),
    "an endless weight": (lambda: weighted(INF, 1.0), "with a positive sum"),
    "weights of 0": (lambda: weighted(0.0, 0.0), "with a positive sum"),
    "one weight": (lambda: weighted(1.0), "weights must be (2,)"),
    "no spread and no covariance": (lambda: GaussianMixture(means), "got neither"),
    "no point": (lambda: mixture.sample(0), "1 or more; got 0"),
    "half a point": (lambda: mixture.sample(0.5), "whole number"),
    "points in integers": (lambda: mixture.log_prob(torch.zeros(3, 2).long()), "points must be floats"),
    "points in space": (lambda: mixture.score(torch.zeros(3, 3)), "got torch.float32 (3, 3)"),
    "a negative alpha": (lambda: mixture.marginal(-1.0, 1.0), "at least 0; got -1.0"),
    "a sigma of NaN": (lambda: mixture.denoise(means, 1.0, NAN), "sigma must be a finite number"),
    "alphas of other points": (lambda: mixture.denoise(means, torch.rand(3), 1.0), "alpha must be a number or (2,)"),
    "a density at other points": (lambda: mixture.optimal_logit(means, torch.zeros(3)), "got (3,)"),
    # worlds of shapes
    "a split by a seed beyond 32 bits": (lambda: shapes.split(seed=2**32), "0..4294967295"),
    "a split by half a seed": (lambda: shapes.split(seed=1.5), "got 1.5, a float"),
    "three numbers of positions": (lambda: Shapes(8, sizes=(5,), positions=(2, 2, 2)), "got (2, 2, 2)"),
    "no row": (lambda: Shapes(8, sizes=(5,), positions=(0, 2)), "rows, must be 1 or more; got 0"),
    "half a column": (lambda: Shapes(8, sizes=(5,), positions=(2, 2.5)), "columns, must be a whole number"),
    # linear Gaussian worlds
    "a map of NaN": (lambda: LinearGaussian(torch.eye(3, 2) * NAN, torch.zeros(3), 1.0), "A must be finite"),
    "a mean image of NaN": (lambda: LinearGaussian(torch.eye(3, 2), torch.zeros(3) + NAN, 1.0), "b must be finite"),
    "an endless std": (lambda: LinearGaussian(torch.eye(3, 2), torch.zeros(3), INF), "one finite number above 0"),
    "half a latent": (lambda: LinearGaussian.fit(torch.rand(9, 3), 1.5), "whole number"),
    # more of shapes
    "an index beyond the last": (lambda: shapes.factors(torch.tensor([N])), f"in 0..{N - 1}; got {N}..{N}"),
    "a negative index": (lambda: shapes.factors(torch.tensor([-1])), f"in 0..{N - 1}; got -1..-1"),
    "an index in floats": (lambda: shapes.factors(torch.zeros(2)), "must be int64"),
    "an index as a column": (lambda: shapes.factors(torch.zeros(2, 1).long()), "(B,); got (2, 1)"),
    "templates beyond the last": (lambda: shapes.sample(2, index=torch.tensor([0, N])), f"in 0..{N - 1}"),
    "templates below 0": (lambda: shapes.sample(2, index=torch.tensor([-1])), f"in 0..{N - 1}"),
    "minus one image": (lambda: shapes.sample(-1), "0 or more; got -1"),
    "factors beyond the last": (lambda: shapes.index(torch.full((1, 6), 5)), "out of range"),
    "factors below 0": (lambda: shapes.render(torch.full((1, 6), -1)), "got -1..-1"),
    "factors in floats": (lambda: shapes.index(torch.zeros(1, 6)), "must be int64"),
    "factors of two shapes": (lambda: shapes.caption(torch.zeros(1, 11).long()), "factors must be (B, 6)"),
    "a caption of a negative factor": (lambda: shapes.caption(torch.full((1, 6), -1)), "got -1..-1"),
    "a caption of a colour beyond": (lambda: shapes.caption(torch.tensor([[5, 0, 0, 0, 0, 0]])), "number of values"),
    "grey images to levels": (lambda: shapes.to_levels(torch.zeros(2, 1, 8, 8)), "must be (B, 3, H, W)"),
    "levels to levels": (lambda: shapes.to_levels(torch.zeros(2, 3, 8, 8).long()), "floating point"),
    "NaN to levels": (lambda: shapes.to_levels(image + NAN), "must be finite"),
    "colours of images": (lambda: levels.to_rgb(image), "must be (B, 1, H, W)"),
    "colours beyond the last": (lambda: levels.to_rgb(discrete + 8), "levels must be in 0..7"),
    "factors of NaN": (lambda: shapes.map_factors(image + NAN), "must be finite"),
    "a density of bytes": (lambda: shapes.log_prob(image.byte()), "must be floats"),
    "a probability of floats": (lambda: levels.log_prob(discrete.float()), "must be int64"),
    "a level beyond the last": (lambda: levels.log_prob(discrete + 8), "pixels out of range"),
    "an image of another size": (lambda: shapes.log_prob(torch.zeros(1, 3, 9, 9)), "must be (B, 3, 8, 8)"),
    "a negative level of noise": (lambda: shapes.denoise(image, 0.5, -0.5), "finite, 0 or more; got [-0.5]"),
    "a NaN level of noise": (lambda: shapes.score(image, NAN, 0.5), "finite, 0 or more"),
    "levels of other images": (lambda: shapes.denoise(image, torch.rand(3), 0.5), "numbers or (2,); got (3,)"),
    "more than all held out": (lambda: shapes.split(fraction=1.5), "at most 1; got 1.5"),
    "a share of NaN held out": (lambda: shapes.split(fraction=NAN), "got nan"),
    "an endless noise": (lambda: Shapes(8, noise=INF, **options), "finite number; got inf"),
    "a NaN flip": (lambda: Shapes(8, form="discrete", flip=NAN, **options), "got nan"),
    "a disc of no pixel": (lambda: disc(0), "1 or more; got 0"),
    "a square of no pixel": (lambda: square(-1), "1 or more; got -1"),
    "a spread of 0": (lambda: GaussianNoise(0.0), "got 0.0"),
    "a flip of 1": (lambda: FlipNoise(1.0, 3), "got 1.0, 3 levels"),
    "templates of no group": (
        lambda: Templates(torch.zeros(3, 4), GaussianNoise(1.0), groups=torch.zeros(2).long()), "2 groups for 3"),
    "no template": (lambda: Templates(torch.zeros(0, 4), GaussianNoise(1.0)), "n at least 1; got (0, 4)"),
    # captions and conditionals
    "captions of templates beyond": (lambda: ExactCaptions(shapes, index=torch.tensor([N])), f"in 0..{N - 1}"),
    "captions of templates below 0": (lambda: ExactCaptions(shapes, index=torch.tensor([-1])), f"in 0..{N - 1}"),
    "conditionals of floats": (lambda: ExactConditionals(shapes), "discrete"),
    "known pixels in floats": (lambda: exact.template_posterior(discrete, torch.zeros(8, 8)), "must be bool"),
    "known pixels of another size": (
        lambda: exact.template_posterior(discrete, torch.zeros(4, 4, dtype=torch.bool)), "known must be (8, 8)"),
    "a pixel below 0": (lambda: exact.init_cache(2, 8, 8).logits(-1, 0), "in 0..7; got -1 and 0"),
    "a pixel beyond the last": (lambda: exact.init_cache(2, 8, 8).logits(0, 8), "in 0..7; got 0 and 8"),
    "a level below 0": (lambda: exact.init_cache(2, 8, 8).append(torch.tensor([-1, 0]), 0, 0), "got -1..0"),
    # the line and the linear model
    "a line that runs back": (lambda: Line(1, -1), "above 1; got -1"),
    "an endless line": (lambda: Line(-INF, 1), "low must be a finite number"),
    "a line of one point": (lambda: Line(points=1), "2 or more; got 1"),
    "a function at other points": (lambda: line.integral(torch.zeros(10)), "the 11 points, (11,); got (10,)"),
    "a divergence at other points": (lambda: line.kl(line.normal(), torch.zeros(10)), "got (10,)"),
    "a distribution at other points": (lambda: line.cdf(torch.zeros(10)), "got (10,)"),
    "a spread of 0 on the line": (lambda: line.normal(0.0, 0.0), "above 0; got 0"),
    "a mixture of nothing": (lambda: line.mixture(), "one density or more"),
    "a linear map of integers": (lambda: LinearGaussian(torch.eye(3).long(), torch.zeros(3), 1.0), "floating point"),
    "a shift of another length": (lambda: LinearGaussian(torch.eye(3), torch.zeros(2), 1.0), "b must be (3,)"),
    "a linear model of no noise": (lambda: LinearGaussian(torch.eye(3), torch.zeros(3), 0.0), "std must be"),
    "linear images of another length": (lambda: linear.log_prob(torch.zeros(4, 2)), "(..., 3); got (4, 2)"),
    "linear codes of another length": (lambda: linear.log_likelihood(torch.zeros(4, 3), torch.zeros(4, 3)), "(..., 2)"),
    "a posterior of beta 0": (lambda: linear.posterior(torch.zeros(4, 3), beta=0.0), "above 0; got 0.0"),
    "a turn that stretches": (lambda: linear.rotate(2 * torch.eye(2)), "must be orthogonal"),
    "components of NaN": (lambda: LinearGaussian.fit(torch.zeros(5, 3) + NAN, 2), "must be finite"),
    "components of one image": (lambda: LinearGaussian.fit(torch.zeros(1, 3), 2), "N at least 2"),
    # clips
    "frames of two shapes": (lambda: Sequences(Shapes.preset("12x12", shapes=2)), "got 2 in the continuous form"),
    "frames of levels": (lambda: Sequences(Shapes(form="discrete")), "got 1 in the discrete form"),
    "a size for frames": (lambda: Sequences(12), "got int"),
    "a speed too large": (lambda: Sequences(speeds=(1, 8)), "0..7, for there are 8 rows and 8 columns; got 8"),
    "a speed below 0": (lambda: Sequences(speeds=(-1,)), "got -1"),
    "half a speed": (lambda: Sequences(speeds=(0.5,)), "got 0.5, a float"),
    "no speed": (lambda: Sequences(speeds=()), "got []"),
    "a speed twice": (lambda: Sequences(speeds=(1, 1)), "got [1, 1]"),
    "a turn above 1": (lambda: Sequences(turn=1.5), "turn must be"),
    "a turn of NaN": (lambda: Sequences(turn=NAN), "got nan"),
    "minus one clip": (lambda: moving.sample(-1), "0 or more; got -1"),
    "clips of no frame": (lambda: moving.sample(1, length=0), "length must be 1 or more"),
    "an image": (lambda: moving.log_prob(clips[0]), "clips must be (B, T, 3, 8, 8); got (3, 3, 8, 8)"),
    "clips of another size": (lambda: moving.filter(torch.zeros(1, 2, 3, 9, 9)), "got (1, 2, 3, 9, 9)"),
    "clips of integers": (lambda: moving.smooth(clips.long()), "clips must be floats"),
    "clips of NaN": (lambda: moving.most_probable(clips * NAN), "clips must be finite"),
    "no clip": (lambda: moving.log_prob(clips[:0]), "one clip or more"),
    "clips of length 0": (lambda: moving.next_frame_mean(clips[:, :0]), "one frame or more; got (2, 0, 3, 8, 8)"),
    "judged clips of length 0": (lambda: moving.obeyed(clips[:, :0]), "each of one frame"),
    "judged clips of NaN": (lambda: moving.obeyed(clips + INF), "clips must be finite"),
    "a frame of another batch": (lambda: moving.next_log_prob(clips, clips[:1, 0]), "frame must be (2, 3, 8, 8)"),
    "a past of one image": (lambda: moving.next_log_prob(clips[0], clips[0]), "got (3, 3, 8, 8)"),
    "a state beyond the last": (lambda: moving.render(torch.tensor([0]), torch.tensor([[99]])), "in 0..15; got 99..99"),
    "states of other clips": (lambda: moving.render(torch.tensor([0]), torch.zeros(2, 1).long()), "must be (1, T)"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(call: Callable[[], object], words: str) -> None:
    refused(call, words)
