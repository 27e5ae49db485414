"""Improved techniques for the minimax game (Salimans et al. 2016; chapter 03): other targets for the two players."""

from __future__ import annotations

import torch
from torch import Tensor

from minigen.data.checks import need_float, need_number, need_same
from minigen.objectives.minimax import discriminator_loss
from minigen.worlds.precision import widen


def smoothed_discriminator_loss(real_logits: Tensor, fake_logits: Tensor, *, real: float = 0.9) -> Tensor:
    """-E [r log D(x) + (1 - r) log(1 - D(x))] - E log(1 - D(G(z))), the target of real samples being r = `real`.

    Logits (B,). Salimans et al. 2016, section 3.4, one-sided label smoothing; chapter 03. With r = 1 it is -V.
    """
    need_number("real, the target of real samples,", real, low=0, high=1)
    whole = discriminator_loss(real_logits, fake_logits)
    return whole + (1 - real) * widen(real_logits).mean()  # log(1 - D) = log D - l


def smoothed_optimum(log_p_data: Tensor, log_p_model: Tensor, *, real: float = 0.9, fake: float = 0.0) -> Tensor:
    """The best D for the targets `real` and `fake`, from log-densities (B,): (r p_data + f p_g) / (p_data + p_g), (B,).

    Salimans et al. 2016, section 3.4.
    """
    need_same("log_p_model", log_p_model, "log_p_data", log_p_data)
    share = torch.sigmoid(log_p_data - log_p_model)
    return fake + (real - fake) * share


def feature_matching_loss(real_features: Tensor, fake_features: Tensor) -> Tensor:
    """|E h(x) - E h(G(z))|^2: the generator's loss by features (B, D) of the discriminator. Salimans et al. 2016, 3.1.

    The difference of the means over the batch, squared and summed over the features.
    """
    for name, features in (("real_features", real_features), ("fake_features", fake_features)):
        need_float(name, features)
    gap: Tensor = widen(real_features).flatten(1).mean(0) - widen(fake_features).flatten(1).mean(0)
    return gap.square().sum()
