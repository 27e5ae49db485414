"""One file for each derived objective: pure loss functions on top, the trainable objective below.

Here are the classes; a chapter's functions are in its own module, such as `objectives.diffusion.add_noise`.
"""

from minigen.objectives.autoregressive import Autoregressive, LogisticMixture
from minigen.objectives.captioning import Captioning
from minigen.objectives.conditional import Auxiliary, Conditional
from minigen.objectives.contrastive import Contrastive, DualEncoder
from minigen.objectives.cycle import Cycle, ImagePool
from minigen.objectives.diffusion import Denoiser, Diffusion, Path, Schedule, TimestepAdapter
from minigen.objectives.distillation import ProgressiveDistillation
from minigen.objectives.elbo import ELBO, Bernoulli, Gaussian, LatentModel
from minigen.objectives.flow import FlowMatching, Velocity
from minigen.objectives.likelihood import MaximumLikelihood
from minigen.objectives.minimax import DiracGAN, Game, Minimax
from minigen.objectives.paired import Paired, Regression
from minigen.objectives.relativistic import Relativistic
from minigen.objectives.vq import VQVAE
from minigen.objectives.wasserstein import Wasserstein
from minigen.objectives.words import DAMSM, AttnGAN, WordMatcher

__all__ = [
    "DAMSM",
    "ELBO",
    "VQVAE",
    "AttnGAN",
    "Autoregressive",
    "Auxiliary",
    "Bernoulli",
    "Captioning",
    "Conditional",
    "Contrastive",
    "Cycle",
    "Denoiser",
    "Diffusion",
    "DiracGAN",
    "DualEncoder",
    "FlowMatching",
    "Game",
    "Gaussian",
    "ImagePool",
    "LatentModel",
    "LogisticMixture",
    "MaximumLikelihood",
    "Minimax",
    "Paired",
    "Path",
    "ProgressiveDistillation",
    "Regression",
    "Relativistic",
    "Schedule",
    "TimestepAdapter",
    "Velocity",
    "Wasserstein",
    "WordMatcher",
]
