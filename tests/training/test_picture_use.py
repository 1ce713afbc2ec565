"""The loss gap of shuffled pictures: what it is by a plain loop, what it tells, and the alarm that it raises."""

import json
import logging

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from systems.pixel_llm.data.collate import collate_captions
from systems.pixel_llm.training.micro_batches import MicroBatch
from systems.pixel_llm.training.picture_use import NUM_PICTURES, PictureUse, picture_alarm

CAPTIONS = ["a red disc", "a blue square on the left", "a green ring", "two rings", "a red ring under a blue disc"]


class Pictures(Dataset):
    """Five pictures, with a caption each."""

    captions = CAPTIONS

    def __len__(self):
        return len(CAPTIONS)

    def __getitem__(self, index):
        image = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(index)).expand(3, 32, 32)  # one colour
        return {"image": image, "caption": CAPTIONS[index], "image_path": f"{index}.png"}


def loader(batch_size):
    return DataLoader(Pictures(), batch_size=batch_size, collate_fn=collate_captions)


def trained(tiny_trainer, *, batch_size, folder="run", **settings):
    return tiny_trainer(folder, train_loader=loader(5), val_loader=loader(batch_size), **settings)


def last_validation(trainer):
    lines = trainer.checkpoint_manager.checkpoint_dir.joinpath("metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "validation"][-1]


@pytest.mark.parametrize("batch_size", [5, 2, 1])
def test_the_gap_is_the_rise_of_the_loss_with_another_picture(tiny_trainer, batch_size):
    trainer = trained(tiny_trainer, batch_size=batch_size, ema_decay=0.5)
    trainer.train(2)
    pictures, model = Pictures(), trainer.model.eval()
    rise, num_tokens = 0.0, 0
    for index in range(5):
        first = index - index % batch_size
        count = min(batch_size, 5 - first)
        # Half a batch back, in a circle; a picture alone in its batch sees the last of the batch before.
        wrong = first + (index - first - count // 2) % count if count > 1 else index - 1
        if wrong < 0:
            continue
        tokens = model.encode_captions([CAPTIONS[index]])
        with torch.no_grad(), trainer._averaging.in_use():
            losses = [
                trainer._stepping.loss(MicroBatch(pictures[which]["image"][None], tokens, None)).item()
                for which in (index, wrong)
            ]
        rise += (losses[1] - losses[0]) * len(tokens.supervised)
        num_tokens += len(tokens.supervised)
    assert last_validation(trainer)["shuffled_loss_gap"] == pytest.approx(rise / num_tokens, abs=1e-5)


def test_a_model_that_sees_has_a_gap_and_a_blind_one_none(tiny_trainer):
    seeing = trained(tiny_trainer, batch_size=5, learning_rate=1e-2, schedule="constant")
    seeing.train(80)
    assert last_validation(seeing)["shuffled_loss_gap"] > 0.2
    blind = trained(tiny_trainer, batch_size=5, folder="blind")
    blind.train(1)
    with torch.no_grad():
        for block in blind.model.decoder.blocks:
            for parameter in block.cross_attention.parameters():
                parameter.zero_()
    blind.train(2)
    assert abs(last_validation(blind)["shuffled_loss_gap"]) < 0.01


def test_a_single_picture_has_nothing_to_be_shuffled_with(tiny_trainer):
    one = Subset(Pictures(), [0])
    val_loader = DataLoader(one, batch_size=5, collate_fn=collate_captions)
    trainer = tiny_trainer(train_loader=loader(5), val_loader=val_loader)
    trainer.train(1)
    assert "shuffled_loss_gap" not in last_validation(trainer)


def test_no_more_than_the_first_pictures_are_looked_at(tiny_model):
    seen = []

    def loss_of(part):
        seen.append(len(part.images))
        return torch.tensor(1.0)

    use = PictureUse(loss_of)
    part = MicroBatch(torch.zeros(NUM_PICTURES // 2, 3, 1, 1), tiny_model().encode_captions(["a"]), None)
    for _ in range(5):
        use(part, torch.tensor(0.5))
    assert seen == [NUM_PICTURES // 2] * 2
    assert use.gap == pytest.approx(0.5)


def test_the_alarm_comes_with_a_sign_and_not_before_half_the_run():
    well = {"shuffled_loss_gap": 0.3, "distinct_captions": 0.7, "progress": 1.0, "step": 100}
    assert picture_alarm(**well) is None
    assert picture_alarm(shuffled_loss_gap=None, distinct_captions=None, progress=1.0, step=100) is None
    blind = picture_alarm(**well | {"shuffled_loss_gap": 0.004})
    assert "no more than 0.004 nats" in blind
    assert "lower learning_rate" in blind
    assert "1.0 % are different" in picture_alarm(**well | {"distinct_captions": 0.01})
    assert picture_alarm(**well | {"shuffled_loss_gap": 0.004, "progress": 0.49}) is None
    assert picture_alarm(**well | {"shuffled_loss_gap": 0.004, "step": 99}) is None


def test_a_run_that_ignores_its_pictures_is_told_once(tiny_trainer, caplog):
    trainer = trained(tiny_trainer, batch_size=5, learning_rate=1e-6, max_steps=200)
    with caplog.at_level(logging.INFO):
        trainer.train()
    told = [record for record in caplog.records if "hardly looks at its pictures" in record.message]
    assert [record.levelname for record in told] == ["WARNING"]
    position = caplog.records.index(told[0])
    assert sum("validation loss" in record.message for record in caplog.records[:position]) == 5
    assert "with wrong pictures +0.0" in caplog.text or "with wrong pictures -0.0" in caplog.text


def test_captions_that_are_all_the_same_raise_it_too(tiny_trainer, caplog):
    same = {"distinct_captions": 0.02}
    trainer = trained(
        tiny_trainer, batch_size=5, scorer=lambda model, is_stopped: same, metric="val_loss", max_steps=100
    )
    with caplog.at_level(logging.INFO):
        history = trainer.train()
    assert history["distinct_captions"] == [0.02] * 10
    assert "of its captions, 2.0 % are different" in caplog.text
