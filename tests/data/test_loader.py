import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

from systems.pixel_llm.data.dataset import ImageCaptionDataset
from systems.pixel_llm.data.loader import choose_num_workers, make_loader
from systems.pixel_llm.data.options import DataOptions
from systems.pixel_llm.data.picture_loader import PictureLoader
from systems.pixel_llm.data.shapes import ShapesDataset
from systems.pixel_llm.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset(tmp_path: Path) -> ImageCaptionDataset:
    for number in range(5):
        Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"picture {number}")
    return ImageCaptionDataset(tmp_path, image_size=(4, 4))


def test_batches_cover_the_dataset(dataset: ImageCaptionDataset) -> None:
    loader = make_loader(dataset, batch_size=2, shuffle=False)
    assert [batch["captions"] for batch in loader] == [
        ["picture 0", "picture 1"],
        ["picture 2", "picture 3"],
        ["picture 4"],
    ]
    assert [tuple(batch["images"].shape) for batch in loader] == [(2, 3, 4, 4), (2, 3, 4, 4), (1, 3, 4, 4)]
    shuffled = make_loader(dataset, batch_size=2, shuffle=True)
    assert sorted(caption for batch in shuffled for caption in batch["captions"]) == dataset.captions


def test_pictures_with_a_transform_of_the_users_are_read_by_processes(tmp_path: Path, dataset: Any) -> None:
    assert isinstance(make_loader(dataset, batch_size=2, shuffle=False), PictureLoader)
    transformed = ImageCaptionDataset(tmp_path, transform=lambda picture: torch.zeros(3, 4, 4))
    loader = make_loader(transformed, batch_size=2, shuffle=True)
    assert isinstance(loader, DataLoader)
    assert isinstance(loader.sampler, RandomSampler)
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
    assert loader.pin_memory == torch.cuda.is_available()
    with_workers = make_loader(transformed, batch_size=2, shuffle=False, num_workers=2)
    assert (with_workers.num_workers, with_workers.persistent_workers) == (2, True)


@pytest.mark.parametrize(
    ("num_samples", "num_cores", "expected"),
    [(10_000, 1, 0), (10_000, 2, 0), (10_000, 3, 2), (10_000, 64, 8), (255, 64, 0), (256, 6, 5)],
)
def test_workers_are_chosen_where_they_pay(num_samples: int, num_cores: int, expected: int) -> None:
    assert choose_num_workers(num_samples, num_cores=num_cores) == expected


def test_wrong_settings_are_refused(dataset: ImageCaptionDataset) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        make_loader(dataset, batch_size=0, shuffle=False)
    with pytest.raises(ConfigError, match="num_workers must be at least 0"):
        make_loader(dataset, batch_size=1, shuffle=False, num_workers=-1)
    with pytest.raises(ConfigError, match="worker_timeout_seconds must be at least 0"):
        make_loader(dataset, batch_size=1, shuffle=False, worker_timeout_seconds=-1)


def test_either_loader_gets_the_timeout(dataset: ImageCaptionDataset) -> None:
    settings = {"batch_size": 1, "shuffle": False, "worker_timeout_seconds": 7}
    threads = make_loader(dataset, **settings)
    assert isinstance(threads, PictureLoader)
    assert threads.timeout_seconds == 7
    shapes = ShapesDataset(4, image_size=32)
    assert [make_loader(shapes, num_workers=number, **settings).timeout for number in (0, 1)] == [0, 7]


class TestOptions:
    @pytest.mark.parametrize(
        "settings",
        [
            {"batch_size": 0},
            {"num_workers": -1},
            {"validation_fraction": 0.0},
            {"validation_fraction": 1.0},
            {"worker_timeout_seconds": -1.0},
            {"worker_timeout_seconds": float("inf")},
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, settings: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match=f"{next(iter(settings))} must be"):
            DataOptions(**settings)  # type: ignore[arg-type]

    def test_they_load_no_torch(self) -> None:
        code = "import sys, systems.pixel_llm.data.options; sys.exit('torch' in sys.modules or 'PIL' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0
