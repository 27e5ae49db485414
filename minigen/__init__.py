"""minigen: the equations of image generation as a small, tested PyTorch library."""

__version__ = "0.1.0"
