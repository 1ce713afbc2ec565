"""TrainState: what is saved to go on from."""

import json

import pytest

from systems.pixel_llm.errors import CheckpointError
from systems.pixel_llm.training.state import TrainState


def test_it_survives_json_to_the_last_bit() -> None:
    state = TrainState(epoch=2, batch_in_epoch=3, step=23, epoch_loss_sum=0.1 + 0.2, epoch_num_tokens=7, progress=1 / 3)
    state.history["train_losses"] += [1 / 3, 2e-17]
    state.history["val_steps"].append(10)
    assert TrainState.from_dict(json.loads(json.dumps(state.to_dict()))) == state


def test_what_is_saved_does_not_change_with_the_run() -> None:
    state = TrainState()
    saved = state.to_dict()
    state.history["train_losses"].append(1.0)
    assert saved["history"]["train_losses"] == []
    assert TrainState().history["train_losses"] == [], "no two states share a history"


def test_fields_of_another_version_are_named() -> None:
    values = TrainState().to_dict()
    values["colour"] = values.pop("step")
    with pytest.raises(CheckpointError, match=r"missing \['step'\], unknown \['colour'\]"):
        TrainState.from_dict(values)


def test_what_an_earlier_version_did_not_count_begins_now() -> None:
    values = TrainState(step=7).to_dict()
    del values["validation_parts"], values["history"]["distinct_captions"]
    assert TrainState.from_dict(values) == TrainState(step=7)


def test_the_mean_loss_is_over_tokens_and_a_new_epoch_forgets_it() -> None:
    state = TrainState(epoch_loss_sum=6.0, epoch_num_tokens=4, batch_in_epoch=2, step=5)
    assert state.mean_epoch_loss == 1.5
    state.begin_epoch(3)
    assert (state.epoch, state.batch_in_epoch, state.mean_epoch_loss, state.step) == (3, 0, None, 5)
