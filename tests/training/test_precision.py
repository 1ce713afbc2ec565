"""Which number format is chosen, and that bf16 stays inside the products."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.models.precision import resolve_precision
from systems.pixel_llm.training import Trainer
from systems.pixel_llm.training.precision import autocast_context

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_given_precision_stands(name: str) -> None:
    assert resolve_precision(name, CPU) == name


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision must be 'auto', 'fp32', 'bf16' or 'fp16', not 'fp8'"):
        resolve_precision("fp8", CPU)


@pytest.mark.parametrize(
    ("has_avx512", "has_amx", "expected"),
    [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")],
)
def test_auto_is_bf16_on_processors_that_are_fast_at_it(
    monkeypatch: pytest.MonkeyPatch, has_avx512: bool, has_amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx, raising=False)
    assert resolve_precision("auto", CPU) == expected


def test_auto_is_fp32_where_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("auto", torch.device("meta")) == "fp32"


def test_the_context_rounds_products_only_where_asked() -> None:
    weight = torch.eye(2)
    with autocast_context("bf16", CPU):
        assert (weight @ weight).dtype == torch.bfloat16
    with autocast_context("fp32", CPU):
        assert (weight @ weight).dtype == torch.float32


def test_a_bf16_run_keeps_weights_moments_and_loss_in_fp32(
    tiny_trainer: Callable[..., Trainer], tiny_model: Any
) -> None:
    seen = []

    def loss_fn(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(predictions.dtype)
        return torch.nn.functional.cross_entropy(predictions, targets)

    bf16 = tiny_trainer("bf16", model=tiny_model(dropout=0.0), precision="bf16", loss_fn=loss_fn)
    fp32 = tiny_trainer("fp32", model=tiny_model(dropout=0.0))
    losses = [trainer.train(1)["train_losses"][0] for trainer in (bf16, fp32)]
    assert bf16.precision == "bf16"
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]
    assert set(seen) == {torch.float32}
    assert {parameter.dtype for parameter in bf16.model.parameters()} == {torch.float32}
    moments = [value for state in bf16.optimizer.state.values() for value in state.values() if value.dim() > 0]
    assert {moment.dtype for moment in moments} == {torch.float32}
