"""Objectives refuse what they would turn into a wrong number without a word: types, shapes, ranges, levels."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from minigen.nets.mixture import Mixture
from minigen.objectives import autoregressive, captioning, contrastive, diffusion, distillation, elbo, flow, minimax
from minigen.objectives.diffusion import Denoiser, Diffusion, Path, Schedule
from minigen.objectives.flow import FlowMatching, Velocity
from minigen.objectives.likelihood import MaximumLikelihood
from minigen.train.rng import Rng

NAN, INF = math.nan, math.inf
x = torch.zeros(4, 3, 2, 2)
grey = torch.zeros(4, 1, 2, 2)
whole = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
tall = Schedule.cosine(10)
zero = tall.zero_terminal()
levels = torch.zeros(4, 1, 2, 2, dtype=torch.int64)


class Net(nn.Module):
    """What a network may be: any output of the shape of x, or of another."""

    def __init__(self, give: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.give = give

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return self.give(x)


class Fixed(nn.Module):
    """A player of the game: 2 numbers to what it is made with."""

    latent = 2

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> Tensor:
        return self.output


def turn(objective: nn.Module, batch: object) -> object:
    return next(objective.turns(batch, Rng()))


def latent(encoder: Callable[[Tensor], object] = lambda x: (torch.zeros(len(x), 2),) * 2) -> elbo.LatentModel:
    return elbo.LatentModel(Net(encoder), Net(lambda z: torch.zeros(len(z), 3, 2, 2)), elbo.Gaussian(1.0), latent=2)


def ends(alpha: list[float], sigma: list[float]) -> Path:
    return Path(torch.tensor(alpha), torch.tensor(sigma))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    # diffusion
    "a schedule of NaN": (lambda: Schedule(torch.tensor([0.9, NAN])), "strictly decreasing"),
    "a schedule of integers": (lambda: Schedule(torch.tensor([1, 0])), "floating point"),
    "a schedule of no level": (lambda: Schedule.linear(0), "1 or more; got 0"),
    "a schedule that rises": (lambda: Schedule.even(5, low=3.0, high=-3.0), "strictly decreasing"),
    "one level stretched to zero": (lambda: Schedule.cosine(1).zero_terminal(), "2 levels or more"),
    "noise on uint8 images": (lambda: diffusion.add_noise(whole, whole, 0.5, 0.5), "minigen.data.to_float"),
    "grey noise on colours": (lambda: diffusion.add_noise(x, grey, 0.5, 0.5), "eps must have the shape of x_0"),
    "levels for other images": (lambda: diffusion.add_noise(x, x, torch.rand(3), 0.5), "one for each of 4; got (3,)"),
    "levels for each pixel": (lambda: diffusion.append_dims(torch.rand(4, 4), x), "one for each of 4"),
    "a step from the data": (lambda: diffusion.posterior_step(x, x, (1.0, 0.0), (1.0, 0.0)), "sigma 0"),
    "a step of another shape": (lambda: diffusion.posterior_step(grey, x, (0.5, 0.8), (1.0, 0.0)), "shape of x_t"),
    "epsilon without signal": (lambda: diffusion.predict_x0(x, x, 0.0, 1.0, "epsilon"), "where alpha is 0"),
    "score at one level without signal": (
        lambda: diffusion.predict_x0(x, x, torch.tensor([0.5, 0.1, 0.0, 0.2]), 1.0, "score"), "where alpha is 0"),
    "an output of another shape": (lambda: diffusion.predict_x0(grey, x, 0.5, 0.8, "v"), "shape of x_t"),
    "an unknown target": (lambda: diffusion.target(x, x, 0.5, 0.8, "noise"), "got 'noise'"),
    "a target of other noise": (lambda: diffusion.target(x, grey, 0.5, 0.8, "v"), "shape of x_0"),
    "an unknown prediction": (lambda: Denoiser(Net(), "noise"), "got 'noise'"),
    "neither image nor noise": (lambda: Denoiser(Net())(x, 0.0, 0.0), "not both 0"),
    "a NaN level": (lambda: Denoiser(Net())(x, NAN, 1.0), "alpha and sigma must be numbers"),
    "epsilon and a schedule without signal at its end": (
        lambda: Diffusion(Denoiser(Net(), "epsilon"), zero), 'predict "v" or "x0"'),
    "the score and a schedule without signal at its end": (
        lambda: Diffusion(Denoiser(Net(), "score"), zero), "predicts score"),
    "epsilon sampled where no signal is left": (lambda: Denoiser(Net(), "epsilon")(x, 0.0, 1.0), "where alpha is 0"),
    "a path for a schedule": (lambda: Diffusion(Denoiser(Net()), tall.path()), "got Path"),
    "a share of contexts above 1": (lambda: Diffusion(Denoiser(Net()), tall, p_uncond=1.5), "at most 1; got 1.5"),
    "a share of contexts that is NaN": (lambda: Diffusion(Denoiser(Net()), tall, p_uncond=NAN), "got nan"),
    "diffusion of uint8": (lambda: turn(Diffusion(Denoiser(Net()), tall), whole), "minigen.data.to_float"),
    "a network that gives grey": (
        lambda: turn(Diffusion(Denoiser(Net(lambda x: x[:, :1])), tall), x), "the network's output must have"),
    "a bound over a path": (lambda: diffusion.bound(lambda *_: x, x, tall.path()), "got Path"),
    "a guess of another shape": (lambda: diffusion.squared_error(lambda *_: grey, x, x, 0.5, 0.8), "the guess"),
    "a last step of variance 0": (
        lambda: diffusion.reconstruction_term(lambda *_: x, x, x, 0.9, 0.1, variance=0.0), "above 0; got 0.0"),
    "levels in disorder": (
        lambda: diffusion.information(*torch.rand(2, 3), torch.tensor([1.0, 0.0, 2.0])), "must ascend"),
    "errors at other levels": (
        lambda: diffusion.information(torch.rand(2), torch.rand(3), torch.rand(3)), "shape of log_snr"),
    # distillation
    "a schedule for a path": (
        lambda: distillation.ProgressiveDistillation(Denoiser(Net()), lambda *_: x, tall), "schedule.path(steps)"),
    "a student of epsilon from no signal": (
        lambda: distillation.ProgressiveDistillation(Denoiser(Net(), "epsilon"), lambda *_: x, zero.path()),
        "must see signal"),
    "a path that rises": (
        lambda: distillation.ProgressiveDistillation(Denoiser(Net()), lambda *_: x, ends([1, 0.5, 0], [0, 0.5, 1])),
        "must fall in noise"),
    # flow matching
    "labels of another shape as pairs": (
        lambda: turn(FlowMatching(Velocity(Net()), paired=True), (x, torch.zeros(4, 10))), "the noise of the pairs"),
    "pairs without noise": (lambda: turn(FlowMatching(Velocity(Net()), paired=True), x), "images, noise"),
    "a flow of uint8": (lambda: turn(FlowMatching(Velocity(Net())), whole), "minigen.data.to_float"),
    "a negative spread": (lambda: FlowMatching(Velocity(Net()), spread=-1.0), "above 0; got -1.0"),
    "a velocity without noise": (lambda: flow.velocity_from(x, x, 0.0), "t must be above 0"),
    "a straight path of half a step": (lambda: flow.straight(0.5), "whole number"),
    "a bend of no step": (lambda: flow.bend(lambda *_: x, x, steps=0), "1 or more; got 0"),
    # the evidence lower bound
    "a mean of another shape": (
        lambda: elbo.gaussian_log_prob(torch.zeros(4, 2, 2), torch.zeros(4, 1, 2, 2), 0.0), "mean must broadcast"),
    "a log density of levels": (lambda: elbo.gaussian_log_prob(levels, levels, 0.0), "floating point"),
    "codes with other noise": (
        lambda: elbo.reparameterise(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, 1)), "mean must broadcast"),
    "a Bernoulli law of -1": (lambda: elbo.bernoulli_log_prob(-torch.ones(2, 3), torch.zeros(2, 3)), "got -1..-1"),
    "a Bernoulli law of NaN": (lambda: elbo.bernoulli_log_prob(torch.full((2, 3), NAN), torch.zeros(2, 3)), "0 or 1"),
    "logits of another shape": (lambda: elbo.bernoulli_log_prob(torch.zeros(2, 3), torch.zeros(2, 1)), "shape of x"),
    "a rate of two shapes": (lambda: elbo.kl_to_prior(torch.zeros(4, 2), torch.zeros(4, 1)), "shape of mean"),
    "no importance weight": (lambda: elbo.importance_weighted_bound(torch.zeros(0, 4)), "K at least 1"),
    "importance weights in integers": (lambda: elbo.importance_weighted_bound(levels), "floating point"),
    "negative free bits": (lambda: elbo.free_bits(torch.zeros(4, 2), -1.0), "at least 0; got -1.0"),
    "free bits of a mean": (lambda: elbo.free_bits(torch.zeros(4), 1.0), "kl must be (B, L)"),
    "codes of another length": (
        lambda: elbo.aggregated_log_prob(torch.zeros(4, 3), elbo.Posterior(*torch.zeros(2, 5, 2))), "must be (B, 2)"),
    "a spread of NaN": (lambda: elbo.Gaussian(NAN), "above 0; got nan"),
    "an endless spread": (lambda: elbo.Gaussian(INF), "above 0; got inf"),
    "no latent": (lambda: elbo.LatentModel(Net(), Net(), elbo.Bernoulli(), latent=0), "1 or more; got 0"),
    "an encoder of another size": (
        lambda: latent(lambda x: (torch.zeros(len(x), 3),) * 2).encode(x), "the encoder's mean must be (4, 2)"),
    "codes of uint8": (lambda: latent().encode(whole), "minigen.data.to_float"),
    "a bound of no sample": (lambda: latent().log_prob(x, samples=0), "1 or more; got 0"),
    "minus one sample": (lambda: latent().sample(-1), "0 or more; got -1"),
    "noise of another batch": (lambda: latent().log_weights(x, torch.zeros(1, 5, 2)), "eps must be (K, 4, 2)"),
    "a negative beta": (lambda: elbo.ELBO(latent(), beta=-1.0), "at least 0; got -1.0"),
    "a NaN beta": (lambda: elbo.ELBO(latent(), beta=NAN), "got nan"),
    "a negative warm-up": (lambda: elbo.ELBO(latent(), warmup=-5), "0 or more; got -5"),
    "an ELBO of uint8": (lambda: turn(elbo.ELBO(latent()), whole), "minigen.data.to_float"),
    # likelihood
    "a model without a density": (lambda: MaximumLikelihood(Net()), "log_prob"),
    "a density for the batch": (
        lambda: turn(MaximumLikelihood(_Density(lambda x: torch.zeros(()))), x), "log_prob must be (4,)"),
    "a mixture of integers": (lambda: Mixture(levels, 1.0), "floating point"),
    "a mixture of no spread": (lambda: Mixture(torch.zeros(2, 3), 0.0), "above 0; got 0.0"),
    "a mixture of NaN": (lambda: Mixture(torch.full((2, 3), NAN), 1.0), "must be finite"),
    "a mixture's other images": (lambda: Mixture(torch.zeros(2, 3), 1.0).log_prob(torch.zeros(4, 2)), "(B, 3)"),
    # one pixel at a time
    "a level beyond the last": (
        lambda: autoregressive.categorical_log_prob(torch.zeros(4, 3, 2, 2), levels + 3), "in 0..2; got 3..3"),
    "a negative level": (
        lambda: autoregressive.categorical_log_prob(torch.zeros(4, 3, 2, 2), levels - 1), "in 0..2; got -1..-1"),
    "levels in floats": (
        lambda: autoregressive.categorical_log_prob(torch.zeros(4, 3, 2, 2), levels.float()), "must be int64"),
    "levels in bytes": (
        lambda: autoregressive.categorical_log_prob(torch.zeros(4, 3, 2, 2), levels.to(torch.uint8)), "must be int64"),
    "a mixture of one level": (lambda: autoregressive.logistic_mixture_log_probs(x, 1), "2 or more; got 1"),
    "parameters of no component": (lambda: autoregressive.logistic_mixture_log_probs(x[:, :0], 4), "(B, 3M, H, W)"),
    "a mixture net of one level": (lambda: autoregressive.LogisticMixture(Net(), 1), "2 or more; got 1"),
    # captions
    "a word beyond the last": (
        lambda: captioning.caption_log_prob(torch.zeros(2, 3, 5), torch.full((2, 4), 5)), "in 0..4; got 5..5"),
    "words in floats": (lambda: captioning.caption_log_prob(torch.zeros(2, 3, 5), torch.zeros(2, 4)), "must be int64"),
    "scores of no pair": (lambda: contrastive.info_nce(torch.zeros(0, 0)), "got (0, 0)"),
    "scores in integers": (lambda: contrastive.info_nce(torch.eye(3, dtype=torch.int64)), "floating point"),
    "a bound of other rows": (lambda: contrastive.information_bound(torch.zeros(2, 3)), "got (2, 3)"),
    "vectors of two lengths": (
        lambda: contrastive.cosine_scores(torch.zeros(2, 3), torch.zeros(2, 4), 0.0), "must be (M, 3)"),
    "an endless temperature": (
        lambda: contrastive.DualEncoder(Net(), Net(), temperature=INF), "temperature must be a finite"),
    "recall among none": (lambda: contrastive.recall_at_k(torch.zeros(3, 3), 0), "in 1..3"),
    "recall of NaN": (lambda: contrastive.recall_at_k(torch.full((3, 3), NAN)), "NaN"),
    # the game
    "no logit": (lambda: minimax.value(torch.zeros(0), torch.zeros(3)), "got (0,)"),
    "classes for logits": (lambda: minimax.discriminator_loss(torch.ones(3).long(), torch.zeros(3)), "floating point"),
    "no fake": (lambda: minimax.non_saturating_loss(torch.zeros(0)), "one sample or more"),
    "hinges of integers": (lambda: minimax.hinge_generator_loss(torch.ones(3).long()), "floating point"),
    "densities at other points": (
        lambda: minimax.optimal_logit(torch.zeros(4), torch.zeros(4, 1)), "shape of log_p_data"),
    "R1 with a column of logits": (
        lambda: minimax.r1_penalty(torch.zeros(4, 1), torch.zeros(4, 2, requires_grad=True)), "must be (4,)"),
    "R1 without a gradient": (lambda: minimax.r1_penalty(torch.zeros(4), torch.zeros(4, 2)), "requires_grad_()"),
    "a NaN penalty": (lambda: minimax.Minimax(Fixed(x), Fixed(x), r1=NAN), "got nan"),
    "a generator without a latent": (lambda: minimax.Minimax(Net(), Net()), "`latent` size"),
    "real bytes": (lambda: turn(minimax.Minimax(Fixed(x), Fixed(torch.zeros(4))), whole), "minigen.data.to_float"),
    "fakes of another shape": (
        lambda: turn(minimax.Minimax(Fixed(grey), Fixed(torch.zeros(4))), x), "samples must be (4, 3, 2, 2)"),
    "minus one fake": (lambda: minimax.Minimax(Fixed(x), Fixed(x)).sample(-1), "0 or more; got -1"),
    "an unknown game": (lambda: minimax.DiracGAN(loss="wgan"), "got 'wgan'"),
    "an unknown rule": (lambda: minimax.DiracGAN().eigenvalues("velocity", 0.1), "got 'velocity'"),
    "a state of three": (lambda: minimax.DiracGAN().velocity(torch.zeros(3)), "(..., 2)"),
}  # fmt: skip


class _Density(nn.Module):
    def __init__(self, log_prob: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.log_prob = log_prob


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(call: Callable[[], object], words: str) -> None:
    refused(call, words)
