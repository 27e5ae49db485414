"""From noise, or from nothing, to images: along a path of noise levels, pixel by pixel, word by word."""

from minigen.samplers.autoregressive import draw
from minigen.samplers.captions import generate, score_captions
from minigen.samplers.diffusion import ancestral, ddim, ddpm, dpm_solver_2m, heun
from minigen.samplers.guidance import autoguidance, classifier_free, extrapolate
from minigen.samplers.ode import divergence, ode_log_prob

__all__ = ["ancestral", "autoguidance", "classifier_free", "ddim", "ddpm", "divergence", "dpm_solver_2m", "draw"]
__all__ += ["extrapolate", "generate", "heun", "ode_log_prob", "score_captions"]
