"""Attention against a plain loop, and dropout against what it promises."""

import math

import pytest
import torch

from systems.pixel_llm.models.layers import MLP, CrossAttention, Dropout, SelfAttention, attend, matmul_attention

SIZES = [(5, 5), (1, 5), (3, 7), (1, 1), (16, 16)]


def plain_attention(query, key, value, *, is_causal):
    """One number at a time, as the formula reads; queries are the last ones of the keys' positions."""
    batch, num_heads, num_queries, width = query.shape
    num_keys = key.shape[2]
    result = torch.zeros_like(query, dtype=torch.float64)
    for b in range(batch):
        for k in range(num_heads):
            for t in range(num_queries):
                seen = num_keys - num_queries + t + 1 if is_causal else num_keys
                scores = [
                    float(query[b, k, t].double() @ key[b, k, s].double()) / math.sqrt(width) for s in range(seen)
                ]
                weights = [math.exp(score - max(scores)) for score in scores]
                for s in range(seen):
                    result[b, k, t] += weights[s] / sum(weights) * value[b, k, s].double()
    return result


def draw(num_queries, num_keys, dtype=torch.float32):
    generator = torch.Generator().manual_seed(num_queries * 100 + num_keys)
    query, key, value = (
        torch.randn(2, 3, length, 8, generator=generator).to(dtype) for length in (num_queries, num_keys, num_keys)
    )
    return query * 2, key, value


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), SIZES)
@pytest.mark.parametrize("function", [attend, matmul_attention])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 5e-2)])
def test_attention_is_the_formula(function, num_queries, num_keys, is_causal, dtype, tolerance):
    query, key, value = draw(num_queries, num_keys, dtype)
    result = function(query, key, value, is_causal=is_causal)
    assert result.dtype == dtype
    expected = plain_attention(query, key, value, is_causal=is_causal)
    torch.testing.assert_close(result.double(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("num_queries", "num_keys"), SIZES)
def test_the_two_kernels_agree_in_gradients(num_queries, num_keys, is_causal):
    gradients = []
    for function in (attend, matmul_attention):
        inputs = [tensor.requires_grad_() for tensor in draw(num_queries, num_keys)]
        function(*inputs, is_causal=is_causal).square().sum().backward()
        gradients.append([tensor.grad for tensor in inputs])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_attention_takes_views_of_one_projection():
    layer = SelfAttention(24, 3)
    query, key, value = layer.project(torch.randn(2, 5, 24))
    assert query.shape == key.shape == value.shape == (2, 3, 5, 8)
    torch.testing.assert_close(
        attend(query, key, value), attend(query.contiguous(), key.contiguous(), value.contiguous())
    )


def test_self_attention_keeps_the_order_of_query_key_value():
    """`qkv` holds the queries' rows, then the keys', then the values', head after head in each."""
    layer = SelfAttention(6, 2)
    hidden = torch.randn(1, 4, 6)
    weight, bias = layer.qkv.weight, layer.qkv.bias
    for place, projected in enumerate(layer.project(hidden)):
        for head in range(2):
            rows = slice(6 * place + 3 * head, 6 * place + 3 * head + 3)
            torch.testing.assert_close(projected[0, head], hidden[0] @ weight[rows].T + bias[rows])


def test_self_attention_treats_positions_alike():
    layer = SelfAttention(24, 3)
    hidden = torch.randn(2, 5, 24)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(layer(hidden[:, order]), layer(hidden)[:, order])


def test_cross_attention_looks_up_a_value():
    """With one image token there is nothing to choose: every caption token reads its value."""
    layer = CrossAttention(24, 3)
    value = torch.randn(2, 3, 1, 8)
    result = layer(torch.randn(2, 5, 24), torch.randn(2, 3, 1, 8), value)
    expected = layer.out(value.reshape(2, 1, 24)).expand(2, 5, 24)
    torch.testing.assert_close(result, expected)


def test_mlp_is_two_maps_with_a_gelu_between():
    layer = MLP(8, 20)
    hidden = torch.randn(3, 4, 8)
    inner = hidden @ layer.up.weight.T + layer.up.bias
    inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    torch.testing.assert_close(layer(hidden), inner @ layer.down.weight.T + layer.down.bias)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5, 0.9, 0.998, 0.9999])
def test_dropout_drops_its_share_and_keeps_the_expected_value(rate):
    torch.manual_seed(3)
    count = 400_000
    result = Dropout(rate)(torch.full((count,), 2.0))
    # The share is a multiple of 1/256, at most 255/256; the bounds are five standard deviations.
    share = min(round(256 * rate), 255) / 256
    deviation = math.sqrt(share * (1 - share) / count)
    assert abs(float((result == 0).float().mean()) - share) < 5 * deviation
    assert abs(float(result.mean()) - 2.0) < 5 * 2.0 * deviation / (1 - share)
    assert len(result.unique()) == 2


@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (9,), (3, 5), (2, 3, 4, 5), (0,), (4, 0, 3), (1023,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_takes_any_shape(shape, dtype):
    torch.manual_seed(0)
    values = torch.ones(shape, dtype=dtype)
    result = Dropout(0.5)(values)
    assert result.shape == values.shape
    assert result.dtype == dtype
    assert set(result.flatten().tolist()) <= {0.0, 2.0}


def test_dropout_decides_each_value_on_its_own():
    """No two of the eight decisions drawn together go together, nor do neighbours."""
    torch.manual_seed(1)
    kept = (Dropout(0.5)(torch.ones(50_000, 8)) > 0).float()
    correlation = torch.corrcoef(torch.cat([kept.T, kept.roll(1, 0).T]))
    off_diagonal = correlation - torch.eye(16)
    assert float(off_diagonal.abs().max()) < 5 / math.sqrt(50_000)


def test_dropout_takes_values_that_are_not_contiguous():
    values = torch.arange(1.0, 25).view(4, 6)
    for view in (values.T, values[:, ::2], values.expand(3, 4, 6), values[1:, 1:]):
        torch.manual_seed(5)
        result = Dropout(0.5)(view)
        torch.manual_seed(5)
        torch.testing.assert_close(result, Dropout(0.5)(view.contiguous()))
        assert bool(((result == 0) | (result == 2 * view)).all())


def test_dropout_follows_the_global_generator():
    dropout, values = Dropout(0.3), torch.randn(101)
    torch.manual_seed(11)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(11)
    assert torch.equal(dropout(values), first)
    assert torch.equal(dropout(values), second)
    assert not torch.equal(first, second)


def test_dropout_does_nothing_outside_training():
    values = torch.randn(100)
    assert Dropout(0.9).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_the_gradient_passes_where_the_value_passed():
    torch.manual_seed(2)
    values = torch.ones(1000, requires_grad=True)
    result = Dropout(0.25)(values)
    result.sum().backward()
    assert torch.equal(values.grad, result.detach())
