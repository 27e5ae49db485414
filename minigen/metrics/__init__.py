"""How good a model is: its likelihood, its samples against worlds with known truth, and its samples against others."""

from minigen.metrics.clips import ClipReport, clip_report, frame_entropies
from minigen.metrics.divergences import gaussian_kl, gaussian_w2_squared, moment_match, wasserstein_1d
from minigen.metrics.likelihood import Estimate, bits_per_dim, nll, relative_gap
from minigen.metrics.samples import (
    PrecisionRecall,
    frechet_distance,
    inception_score,
    kernel_distance,
    nearest,
    precision_recall,
)
from minigen.metrics.worlds import (
    HIGH_QUALITY_CEILING,
    Coverage,
    FreeEntropy,
    ModeReport,
    coverage,
    evenness,
    free_entropy,
    modes,
    obeyed_mask,
    region_score,
    valid_mask,
    validity,
    varied_entropy,
)

__all__ = [
    "HIGH_QUALITY_CEILING",
    "ClipReport",
    "Coverage",
    "Estimate",
    "FreeEntropy",
    "ModeReport",
    "PrecisionRecall",
    "bits_per_dim",
    "clip_report",
    "coverage",
    "evenness",
    "frame_entropies",
    "frechet_distance",
    "free_entropy",
    "gaussian_kl",
    "gaussian_w2_squared",
    "inception_score",
    "kernel_distance",
    "modes",
    "moment_match",
    "nearest",
    "nll",
    "obeyed_mask",
    "precision_recall",
    "region_score",
    "relative_gap",
    "valid_mask",
    "validity",
    "varied_entropy",
    "wasserstein_1d",
]
