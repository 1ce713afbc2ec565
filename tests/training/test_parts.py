"""Patterns take parameters by name, and one that takes none is answered with what there is."""

from typing import Any

import pytest

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.parts import named_parameters_of, part_names


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("encoder", ["encoder.norm.weight", "encoder.blocks.0.mlp_norm.bias"], ["decoder.norm.weight"]),
        ("encoder.norm", ["encoder.norm.weight", "encoder.norm.bias"], ["encoder.blocks.0.mlp_norm.bias"]),
        ("encoder.norm.bias", ["encoder.norm.bias"], ["encoder.norm.weight"]),
        ("encoder.stem*", ["encoder.stem.projection.weight"], ["encoder.norm.weight"]),
        ("*coder.norm", ["encoder.norm.weight", "decoder.norm.weight"], ["encoder.blocks.0.mlp_norm.bias"]),
        ("encoder.blocks.[0-3]", ["encoder.blocks.0.mlp_norm.bias"], ["encoder.norm.weight"]),
        ("decoder.token_embedding", ["decoder.token_embedding.weight"], ["decoder.position_embedding.weight"]),
    ],
)
def test_what_a_pattern_takes(tiny_model: Any, pattern: str, taken: list[str], left: list[str]) -> None:
    model = tiny_model()
    found = named_parameters_of(model, pattern, setting="freeze")
    own = dict(model.named_parameters())
    assert set(taken) <= found.keys()
    assert not found.keys() & set(left)
    assert all(parameter is own[name] for name, parameter in found.items())


@pytest.mark.parametrize("pattern", ["encodr", "enc", "encoder.", "encoder.blocks.7", "zzz", "Encoder", ""])
def test_a_pattern_that_takes_nothing_is_answered_with_what_there_is(tiny_model: Any, pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        named_parameters_of(tiny_model(), pattern, setting="freeze")
    assert str(caught.value).startswith(f"freeze: {pattern!r} takes no parameter of this model.")
    for part in ("encoder", "encoder.stem", "decoder.token_embedding"):
        assert part in str(caught.value)


def test_the_parts_in_the_order_of_the_model(tiny_model: Any) -> None:
    names = part_names(tiny_model())
    assert names[:2] == ["encoder", "encoder.stem"]
    assert {"decoder", "decoder.blocks", "decoder.norm"} <= set(names)
    assert len(names) == len(set(names))
