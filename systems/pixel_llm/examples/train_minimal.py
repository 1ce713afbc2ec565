"""The shortest useful program: train on a folder of captioned pictures, then caption one of them.

python -m systems.pixel_llm.examples.train_minimal FOLDER
"""

import sys

from systems.pixel_llm.data import find_format, make_loader
from systems.pixel_llm.inference import Captioner
from systems.pixel_llm.models import create_pixel_llm
from systems.pixel_llm.training import ImageCaptionDataset, Trainer


def main(folder: str, checkpoint_dir: str = "checkpoints", num_epochs: int = 20) -> None:
    """Train the `tiny` preset on `folder` and print what it says of the first picture."""
    model = create_pixel_llm("tiny")
    caption_format, manifest = find_format(folder)
    dataset = ImageCaptionDataset(folder, caption_format, manifest, image_size=model.config.image_height_width)
    loader = make_loader(dataset, batch_size=32, shuffle=True)
    Trainer(model, loader, checkpoint_dir=checkpoint_dir, learning_rate=1e-3).train(num_epochs)
    picture = dataset.samples[0].image_path
    print(picture, Captioner(model).caption(picture), sep="\t")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m systems.pixel_llm.examples.train_minimal FOLDER")
    main(sys.argv[1])
