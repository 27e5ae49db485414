"""The number format of a run: which one the hardware has units for, and the loss scaling that fp16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

PRECISIONS = ("fp32", "bf16", "fp16", "auto")
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

# The rule of torch.amp.GradScaler with its defaults, and a floor.
FIRST_SCALE, GROWTH, BACKOFF, GROWTH_INTERVAL = 2.0**16, 2.0, 0.5, 2000
LEAST_SCALE = 2.0**-8


def resolve(precision: str, device: torch.device) -> str:
    """The format that is meant, "fp32", "bf16" or "fp16". Nothing is measured: the hardware says what it has.

    "auto" is bf16 where the hardware has units for it (CUDA from compute capability 8.0; CPUs with AVX512-BF16 or AMX),
    fp16 on older CUDA devices, and fp32 elsewhere.

    Raises ValueError for another name, and for fp16 on a device that is neither CUDA nor CPU.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if precision == "fp16" and device.type not in ("cuda", "cpu"):
        raise ValueError(f"precision 'fp16' needs a CUDA device or a CPU; got {device.type}: take 'fp32' or 'auto'")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_computes_bf16() else "fp32"


def _cpu_computes_bf16() -> bool:
    """Whether this CPU has units for bf16; without them oneDNN emulates it, which is slower than fp32."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    units = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # unknown to old versions of torch: then fp32
    return any(getattr(torch.cpu, name, bool)() for name in units)


def full_precision(device_type: str) -> AbstractContextManager[Any]:
    """A block inside an objective's turn that autocast leaves alone, for penalties on gradients.

    A squared gradient loses half of its digits twice over in half precision, and overflows in fp16. What enters the
    block must be fp32; a network that is called inside computes with its fp32 parameters.
    """
    return torch.autocast(device_type, enabled=False)


class LossScaler:
    """The factor on one player's fp16 loss that keeps its gradients above underflow. Micikevicius et al. 2018, 3.2.

    A move whose gradient overflows is skipped and halves the scale; GROWTH_INTERVAL good moves in a row double it.
    Everything stays on the device. `scale` and `skipped` (1 where the last move was skipped) are scalars.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), FIRST_SCALE, device=device)
        self.good = torch.zeros((), dtype=torch.int32, device=device)  # moves since the scale changed
        self.skipped = torch.zeros((), device=device)
        self.interval = GROWTH_INTERVAL

    def unscale_(self, gradients: list[Tensor]) -> Tensor:
        """Divide the gradients by the scale; a scalar says whether any was not finite (1) or none (0)."""
        found, inverse = torch.zeros_like(self.scale), self.scale.reciprocal()
        for dtype in {g.dtype for g in gradients}:
            alike = [g for g in gradients if g.dtype == dtype]
            torch._amp_foreach_non_finite_check_and_unscale_(alike, found, inverse)
        return found

    def update(self, skipped: Tensor) -> Tensor:
        """Move the scale on after a move; a scalar says whether it was bad (1) although the scale could not fall."""
        self.skipped, spent = skipped, skipped * (self.scale <= LEAST_SCALE)
        torch._amp_update_scale_(self.scale, self.good, skipped, GROWTH, BACKOFF, self.interval)
        self.scale.clamp_(min=LEAST_SCALE)
        return spent

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"scale": self.scale.item(), "good": self.good.item()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.scale.fill_(state["scale"])
        self.good.fill_(state["good"])
