"""The small real parts that the tests of training are made of: a one-layer model, drawn shapes, a Trainer over both.

Each is given as a function, so that a test says only what matters to it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.models import PixelLLM, create_pixel_llm
from systems.pixel_llm.training import Trainer


def make_model(*, seed: int = 0, dropout: float = 0.1, **settings: Any) -> PixelLLM:
    """A model of one layer each and width 32; the same `seed` gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_pixel_llm(
            image_size=32, patch_size=16, vision_embed_dim=32, vision_num_layers=1, text_num_layers=1, dropout=dropout,
            **{"vocab_size": 400, "max_seq_len": 64} | settings,
        )  # fmt: skip


def make_loader(num_samples: int = 12, *, batch_size: int = 4, dataset: Any = None, **settings: Any) -> DataLoader[Any]:
    """A shuffling loader of freshly drawn shapes, or of `dataset`."""
    dataset = ShapesDataset(num_samples, image_size=32) if dataset is None else dataset
    collate = ShapesDataset(1, image_size=32).get_collate_fn()
    settings = {"shuffle": True, "collate_fn": collate} | settings
    return DataLoader(dataset, batch_size=batch_size, **settings)


@pytest.fixture
def tiny_model() -> Callable[..., PixelLLM]:
    """Call it as `tiny_model(seed=0, dropout=0.1, **settings)`."""
    return make_model


@pytest.fixture
def shapes_loader() -> Callable[..., DataLoader[Any]]:
    """Call it as `shapes_loader(num_samples=12, batch_size=4, dataset=None, **DataLoader's settings)`."""
    return make_loader


@pytest.fixture
def tiny_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Call it as `tiny_trainer(folder="run", model=None, train_loader=None, **Trainer's settings)`.

    What is left out is made anew, always the same; checkpoints go to the folder of that name in tmp_path.
    """

    def make_trainer(folder: str = "run", *, model: Any = None, train_loader: Any = None, **settings: Any) -> Trainer:
        return Trainer(
            make_model() if model is None else model,
            make_loader() if train_loader is None else train_loader,
            checkpoint_dir=tmp_path / folder,
            device="cpu",
            **{"precision": "fp32", "progress": "off", "learning_rate": 1e-3} | settings,
        )

    return make_trainer
