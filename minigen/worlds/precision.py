"""Where and in which type the worlds compute: float64, on the device of the data wherever that device has it."""

import torch
from torch import Tensor

Device = torch.device | str | None  # where samples are to stand; None is where they are drawn


def exact(x: Tensor) -> Tensor:
    """`x` in float64, on its own device; on the CPU where the device has no float64 (Apple's MPS)."""
    return (x.cpu() if x.device.type == "mps" else x).to(torch.float64)


def widen(x: Tensor) -> Tensor:
    """`x` (...) in float32 at least: what is summed in float16 or bfloat16 stays behind, as counts do above 256."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def like(result: Tensor, x: Tensor) -> Tensor:
    """A float64 `result` on the device of `x` and in its float type; integers have none, so they keep float64."""
    if x.is_floating_point():
        return result.to(device=x.device, dtype=x.dtype)
    return result.to(dtype=torch.float32 if x.device.type == "mps" else torch.float64).to(x.device)


def drawing_device(generator: torch.Generator | None, device: Device) -> torch.device:
    """Where to draw random numbers: where the generator lives, else on the device asked for, else on the CPU."""
    return generator.device if generator is not None else torch.device(device or "cpu")
