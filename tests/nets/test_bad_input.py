"""Networks over images refuse integer pixels, networks over tokens what is no token, and say what to do."""

from __future__ import annotations

import pytest
import torch

from minigen import nets
from minigen.data.levels import to_float

IMAGE = (1, 8, 8)
NETS = {
    "UNet": lambda: (nets.UNet(1, width=8, multipliers=(1, 2), attention=()), IMAGE, (torch.zeros(2),)),
    "UNet alone": lambda: (nets.UNet(1, width=8, attention=(), noise_level=False), IMAGE, ()),
    "DiT": lambda: (nets.DiT(1, size=8, width=16, depth=1), IMAGE, (torch.zeros(2),)),
    "ConvEncoder": lambda: (nets.ConvEncoder(IMAGE, 4, width=8), IMAGE, ()),
    "CodeEncoder": lambda: (nets.CodeEncoder(1, 4, width=8), IMAGE, ()),
    "MLPEncoder": lambda: (nets.MLPEncoder(IMAGE, 4), IMAGE, ()),
    "MLPDiscriminator": lambda: (nets.MLPDiscriminator(IMAGE), IMAGE, ()),
    "MLPDiscriminator, scaled": lambda: (nets.MLPDiscriminator(IMAGE, scale=0.5), IMAGE, ()),
    "MLPDenoiser": lambda: (nets.MLPDenoiser(3), (3,), (torch.zeros(2),)),
    "LinearEncoder": lambda: (nets.LinearEncoder(3, 2), (3,), ()),
    "ImageEncoder": lambda: (nets.ImageEncoder(IMAGE, width=8), IMAGE, ()),
    "PatchDiscriminator": lambda: (nets.PatchDiscriminator(1, width=4, layers=1), IMAGE, ()),
    "TranslationUNet": lambda: (nets.TranslationUNet(1, 1, width=4), IMAGE, ()),
    "ResnetGenerator": lambda: (nets.ResnetGenerator(1, 1, width=4, blocks=1), IMAGE, ()),
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("name", NETS)
def test_integer_images_are_refused_and_the_error_says_what_to_call(name: str, dtype: torch.dtype) -> None:
    net, shape, more = NETS[name]()
    pixels = torch.randint(256, (2, *shape)).to(dtype)
    with pytest.raises(ValueError, match=rf"must be floats in \[-1, 1\]; got {dtype}: data.to_float makes them"):
        net(pixels, *more)
    net(to_float(torch.randint(256, (2, *shape))), *more)  # and what it names is taken


READERS = {
    "TextEncoder": lambda tokens: nets.TextEncoder(6, length=5, width=8, blocks=1)(tokens),
    "Captioner": lambda tokens: nets.Captioner(nets.ImageEncoder(IMAGE, width=8), 6, length=5, blocks=1)(
        tokens, torch.zeros(len(tokens), *IMAGE)
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_token_is_refused(name: str) -> None:
    right = torch.tensor([[1, 3, 5, 2]])
    READERS[name](right)
    for wrong, says in (
        (torch.tensor([[1, 6, 2, 0]]), r"tokens must be int64 in 0\.\.5; got \d\.\.6"),
        (torch.tensor([[1, -3, 2, 0]]), r"0\.\.5; got -3\.\.2"),
        (right.int(), "torch.int32"),
        (right.float(), "torch.float32"),
        (right[0], r"\(\d,\)"),
    ):
        with pytest.raises(ValueError, match=says):
            READERS[name](wrong)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_a_mixture_refuses_integer_images_too(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=rf"must be floating point; got {dtype}: .*data\.to_float"):
        nets.Mixture(torch.randn(4, 3, 2, 2), 1.0).log_prob(torch.zeros(2, 3, 2, 2, dtype=dtype))
