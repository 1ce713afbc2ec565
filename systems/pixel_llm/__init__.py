"""Pixel LLM: a folder of captioned pictures in, a model that captions new ones out.

Importing this package costs nothing: no torch, no side effect. The work lives in the subpackages, which resolve their
public names on first use:

    from systems.pixel_llm.models import create_pixel_llm
    from systems.pixel_llm.training import CheckpointManager, ImageCaptionDataset, Trainer
    from systems.pixel_llm.inference import Captioner
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
