"""Samplers refuse a start, a path, logits or a context that they would turn into wrong images without a word."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from refusals import refused
from torch import Tensor, nn

from minigen.nets.pixelcnn import GatedPixelCNN
from minigen.objectives.diffusion import Denoiser, Path, Schedule
from minigen.samplers import autoregressive, captions, ddim, ddpm, dpm_solver_2m, generate, guidance, heun, ode

NAN = math.nan
noise = torch.zeros(2, 1, 4, 4)
path = Schedule.cosine(10).path(4)
SAMPLERS = {"ddpm": ddpm, "ddim": ddim, "heun": heun, "dpm_solver_2m": dpm_solver_2m}


def denoise(x: Tensor, alpha: float, sigma: float, *rest: Tensor) -> Tensor:
    return 0.5 * x


def flipped(path: Path) -> Path:
    return Path(path.alpha.flip(0), path.sigma.flip(0))


STARTS: dict[str, tuple[Tensor, object, str]] = {
    "a schedule": (noise, Schedule.cosine(10), "schedule.path(steps)"),
    "a list of levels": (noise, [(0.0, 1.0), (1.0, 0.0)], "got list"),
    "a path that runs to noise": (noise, flipped(path), "must fall in noise"),
    "a path that stands still": (noise, Path(torch.ones(3), torch.ones(3)), "must fall in noise"),
    "one level": (noise, Path(torch.ones(1), torch.ones(1)), "2 levels or more"),
    "alpha and sigma of two lengths": (noise, Path(path.alpha, path.sigma[1:]), "2 levels or more"),
    "a level of NaN": (noise, Path(torch.tensor([NAN, 1.0]), torch.tensor([1.0, 0.0])), "must fall in noise"),
    "a start in integers": (noise.long(), path, "torch.randn"),
    "a start of NaN": (noise + NAN, path, "must be finite; got NaN or infinity in 32"),
    "an endless start": (noise + math.inf, path, "must be finite"),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(("x", "path", "words"), STARTS.values(), ids=STARTS)
def test_each_sampler_refuses_a_wrong_start_or_path(sampler: Callable, x: Tensor, path: Path, words: str) -> None:
    refused(lambda: next(sampler(denoise, x, path)), words)


@pytest.mark.parametrize("predict", ["epsilon", "score"])
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_network_of_noise_is_not_asked_where_no_signal_is_left(sampler: Callable, predict: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
            return x

    start = Schedule.cosine(10).zero_terminal().path(4)
    refused(lambda: next(sampler(Denoiser(Net(), predict), noise, start)), "where alpha is 0")
    assert all(x.isfinite().all() for x in sampler(Denoiser(Net(), "v"), noise + 1, start))


logits = torch.zeros(3, 5)
uniform = torch.zeros(3)
classes = torch.tensor([1, 2])
pixels = GatedPixelCNN(3, width=4, layers=1)
some = torch.zeros(2, 4, 4)
known = torch.zeros(2, 1, 4, 4, dtype=torch.int64), torch.zeros(4, 4, dtype=torch.bool)


def log_p(x: Tensor, alpha: float, sigma: float) -> Tensor:
    return x.flatten(1).sum(1)


class Captioner(nn.Module):
    length = 5

    def see(self, x: Tensor) -> Tensor:
        return x


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "eta of NaN": (lambda: next(ddim(denoise, noise, path, eta=NAN)), "got nan"),
    "a denoiser of another shape": (lambda: next(ddim(lambda x, *_: x[:, :, :1], noise, path)), "shape of x_t"),
    "guesses of two shapes": (lambda: guidance.extrapolate(noise, noise[:1], 2.0), "shape of uncond"),
    "a NaN scale": (lambda: guidance.extrapolate(noise, noise, NAN), "guidance_scale must be a finite number; got nan"),
    "a NaN scale of captions": (
        lambda: guidance.classifier_free(denoise, noise, noise, guidance_scale=NAN), "got nan"),
    "a NaN scale of a classifier": (lambda: guidance.classifier(denoise, log_p, guidance_scale=NAN), "got nan"),
    "an endless scale": (lambda: guidance.autoguidance(denoise, denoise, guidance_scale=math.inf), "got inf"),
    "one uncond for all": (
        lambda: guidance.classifier_free(denoise, torch.zeros(2, 3), torch.zeros(1, 3), guidance_scale=2.0),
        "shape of cond"),
    "conditions of other images": (
        lambda: guidance.classifier_free(denoise, *torch.zeros(2, 3, 4), guidance_scale=2.0)(noise, 0.5, 0.8),
        "x_t must be (3"),
    "conditions of other images, unguided": (
        lambda: guidance.classifier_free(denoise, *torch.zeros(2, 3, 4), guidance_scale=1.0)(noise, 0.5, 0.8),
        "x_t must be (3"),
    "a trace of another shape": (lambda: ode.divergence(noise[:1], noise), "shape of x"),
    "probes of other images": (
        lambda: ode.divergence(noise, noise, probes=torch.zeros(1, 3, 1, 4, 4)), "probes must be (n, 2, 1, 4, 4)"),
    "no probe": (lambda: ode.divergence(noise, noise, probes=torch.zeros(0, 2, 1, 4, 4)), "1 or more; got 0"),
    "a denoiser without gradients": (
        lambda: ode.ode_log_prob(torch.no_grad()(lambda x, *_: 0.5 * x), noise, steps=1), "outside of no_grad"),
    "a denoiser that is cut off": (
        lambda: ode.ode_log_prob(lambda x, *_: 0.5 * x.detach(), noise, steps=1), "without detach()"),
    "a classifier without gradients": (
        lambda: guidance.classifier(denoise, torch.no_grad()(log_p), guidance_scale=1.0)(noise, 0.5, 0.8),
        "outside of no_grad"),
    "class 0 for no class": (
        lambda: guidance.classifier_free(denoise, classes, torch.zeros_like(classes), guidance_scale=2.0),
        "torch.full_like(cond, -1)"),
    "None for no class": (
        lambda: guidance.classifier_free(denoise, classes, None, guidance_scale=2.0), "uncond must be a tensor"),
    "a scale in words": (lambda: guidance.extrapolate(noise, noise, "2"), "must be a number; got '2'"),
    "scales for each image": (
        lambda: guidance.extrapolate(noise, noise, torch.ones(2)), "guidance_scale must be a number"),
    "half a step of a path": (lambda: Schedule.cosine(10).path(2.5), "whole number"),
    "half a level": (lambda: Schedule.cosine(10.5), "whole number"),
    "a density of bytes": (lambda: ode.ode_log_prob(denoise, noise.to(torch.uint8)), "minigen.data.to_float"),
    "a density of NaN": (lambda: ode.ode_log_prob(denoise, noise + NAN), "must be finite"),
    "noise from 1 down": (lambda: ode.ode_log_prob(denoise, noise, low=1.0, high=0.5), "above 1; got 0.5"),
    "noise from 0": (lambda: ode.ode_log_prob(denoise, noise, low=0.0), "above 0; got 0.0"),
    "a path of no step": (lambda: ode.ode_log_prob(denoise, noise, steps=0), "1 or more; got 0"),
    "a negative temperature": (lambda: autoregressive.draw(logits, uniform, temperature=-1.0), "got -1.0"),
    "a NaN temperature": (lambda: autoregressive.draw(logits, uniform, temperature=NAN), "got nan"),
    "NaN logits": (lambda: autoregressive.draw(logits + NAN, uniform), "look for the step that diverged"),
    "NaN logits, the most probable": (lambda: autoregressive.draw(logits + NAN, uniform, temperature=0), "logits must"),
    "logits of one row endless": (
        lambda: autoregressive.draw(torch.full((3, 5), -math.inf), uniform), "not all of a row"),
    "logits in integers": (lambda: autoregressive.draw(logits.long(), uniform), "floating point"),
    "one number for all": (lambda: autoregressive.draw(logits, uniform[:1]), "uniform must be (3,); got (1,)"),
    "numbers above 1": (lambda: autoregressive.draw(logits, uniform + 1), "in [0, 1); got 1..1"),
    "numbers below 0": (lambda: autoregressive.draw(logits, uniform - 1), "in [0, 1); got -1..-1"),
    "numbers of NaN": (lambda: autoregressive.draw(logits, uniform + NAN), "in [0, 1)"),
    "logits of no level": (lambda: autoregressive.draw(torch.zeros(3, 0), uniform), "K at least 1"),
    "a mask of numbers": (
        lambda: next(autoregressive.sample(pixels, some, known=(known[0], known[1].float()))), "mask must be bool"),
    "known levels that there are not": (
        lambda: next(autoregressive.sample(pixels, some, known=(known[0] + 3, ~known[1]))), "in 0..2; got 3..3"),
    "logits of all pixels": (lambda: autoregressive.draw(torch.zeros(3, 5, 2, 2), uniform), "logits must be (n, K)"),
    "numbers for a channel": (lambda: next(autoregressive.sample(pixels, some[:, None])), "uniform must be (n, H, W)"),
    "a mask for each image": (
        lambda: next(autoregressive.sample(pixels, some, known=(known[0], known[1].expand(2, 4, 4)))),
        "the mask of known pixels must be (4, 4)"),
    "known levels of other images": (
        lambda: next(autoregressive.sample(pixels, some, known=(known[0][:1], known[1]))), "must be (2, 1, 4, 4)"),
    "known levels in floats": (
        lambda: next(autoregressive.sample(pixels, some, known=(known[0].float(), known[1]))), "must be int64"),
    "a context of other images": (
        lambda: next(autoregressive.sample(pixels, some, context=torch.zeros(3, 4))), "context must be (2"),
    "captions of bytes": (lambda: generate(Captioner(), noise.byte(), torch.zeros(2, 4)), "minigen.data.to_float"),
    "numbers for other captions": (lambda: generate(Captioner(), noise, torch.zeros(2, 5)), "uniform must be (2, 4)"),
    "one caption": (lambda: captions.score_captions(Captioner(), noise, torch.zeros(5).long()), "must be (C, T)"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused(call: Callable[[], object], words: str) -> None:
    refused(call, words)
