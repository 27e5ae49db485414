"""Networks, by mechanism."""

from minigen.nets.attention import Attention, SelfAttention, record_attention
from minigen.nets.classifier import ConvClassifier
from minigen.nets.conv import CodeDecoder, CodeEncoder, ConvEncoder, ConvGenerator
from minigen.nets.discriminators import (
    ConditionalNorm,
    ConvDiscriminator,
    DenseDiscriminator,
    DenseGenerator,
    Discriminator,
    LabelledGenerator,
)
from minigen.nets.dit import DiT
from minigen.nets.field import field_of_view
from minigen.nets.minibatch import MinibatchDiscrimination, MinibatchStd, Packed, minibatch_std
from minigen.nets.mixture import Mixture
from minigen.nets.mlp import LinearEncoder, MLPDenoiser, MLPDiscriminator, MLPEncoder, MLPGenerator
from minigen.nets.pixel_transformer import PixelTransformer
from minigen.nets.pixelcnn import GatedPixelCNN, MaskedConv2d, PixelCNN
from minigen.nets.pixelrnn import PixelRNN
from minigen.nets.spectral import lipschitz_bound, power_iteration, spectrally_normalised
from minigen.nets.text import Captioner, ImageEncoder, Prompted, PromptedPixels, TextEncoder
from minigen.nets.transformer import ModulatedBlock, TransformerBlock
from minigen.nets.translation import (
    PatchDiscriminator,
    ResidualUNet,
    ResnetGenerator,
    TranslationUNet,
    receptive_field,
)
from minigen.nets.unet import UNet
from minigen.nets.words import ConditioningAugmentation, RegionEncoder, WordGenerator

__all__ = [
    "Attention",
    "Captioner",
    "CodeDecoder",
    "CodeEncoder",
    "ConditionalNorm",
    "ConditioningAugmentation",
    "ConvClassifier",
    "ConvDiscriminator",
    "ConvEncoder",
    "ConvGenerator",
    "DenseDiscriminator",
    "DenseGenerator",
    "DiT",
    "Discriminator",
    "GatedPixelCNN",
    "ImageEncoder",
    "LabelledGenerator",
    "LinearEncoder",
    "MLPDenoiser",
    "MLPDiscriminator",
    "MLPEncoder",
    "MLPGenerator",
    "MaskedConv2d",
    "MinibatchDiscrimination",
    "MinibatchStd",
    "Mixture",
    "ModulatedBlock",
    "Packed",
    "PatchDiscriminator",
    "PixelCNN",
    "PixelRNN",
    "PixelTransformer",
    "Prompted",
    "PromptedPixels",
    "RegionEncoder",
    "ResidualUNet",
    "ResnetGenerator",
    "SelfAttention",
    "TextEncoder",
    "TransformerBlock",
    "TranslationUNet",
    "UNet",
    "WordGenerator",
    "field_of_view",
    "lipschitz_bound",
    "minibatch_std",
    "power_iteration",
    "receptive_field",
    "record_attention",
    "spectrally_normalised",
]
