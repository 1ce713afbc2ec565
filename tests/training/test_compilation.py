"""Compiled training: the same objective in a few shapes, each compiled once; checkpoints that know nothing of it."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from systems.pixel_llm.errors import ConfigError
from systems.pixel_llm.training.compilation import FewShapes, check_compiler, padding_for
from systems.pixel_llm.training.micro_batches import micro_batches
from systems.pixel_llm.training.optimizer_step import OptimizerStep

# torch means to hide this one, and cannot where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

CAPTIONS = ["a", "a red square on a white background", "two blue circles", "", "a small green triangle", "red"]


@pytest.fixture(autouse=True)
def _nothing_compiled():
    torch.compiler.reset()


@pytest.fixture
def model(tiny_model):
    model = tiny_model(dropout=0.0)
    model.fit_tokenizer(CAPTIONS * 3)
    return model.double()


class Graphs:
    """A backend that counts what it is asked to compile, and runs it as it is."""

    def __init__(self):
        self.shapes = []

    def __call__(self, graph, inputs):
        self.shapes.append([tuple(each.shape) for each in inputs if not isinstance(each, torch.nn.Parameter)])
        return graph.forward


def batch_of(captions, *, index=None):
    count = len(captions) if index is None else max(index) + 1
    images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double()
    batch = {"images": images, "captions": captions}
    return batch if index is None else batch | {"caption_image_index": torch.tensor(index)}


def loss_and_gradient(model, batch, *, pad, parts=1):
    step = OptimizerStep(
        model, torch.optim.SGD(model.parameters(), lr=0.1), torch.nn.CrossEntropyLoss(), device=torch.device("cpu"),
        precision="fp32", max_grad_norm=None, seed=0, pad=pad,
    )  # fmt: skip
    loss = step.accumulate(micro_batches([batch], model.encode_captions, parts=parts), step=0)
    return loss, [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("index", [None, [0, 0, 1, 2, 2, 3], [0, 0, 0, 0, 1, 2]])
@pytest.mark.parametrize(("batch_size", "parts"), [(32, 1), (10, 2), (4, 1)])
def test_padding_to_few_shapes_changes_no_loss_and_no_gradient(model, index, batch_size, parts):
    batch = batch_of(CAPTIONS, index=index)
    wanted, gradients = loss_and_gradient(model, batch, pad=None)
    few = FewShapes(batch_size, max_seq_len=64)
    loss, found = loss_and_gradient(model, batch, pad=few, parts=parts)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-12)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_pictures_go_to_quarters_captions_and_lengths_to_multiples(model):
    few = FewShapes(32, max_seq_len=20)

    def shapes(captions, *, index=None):
        (part,) = micro_batches([batch_of(captions, index=index)], model.encode_captions)
        padded = few(part)
        assert padded.num_tokens == part.num_tokens
        assert torch.equal(
            padded.tokens.targets.flatten()[padded.tokens.supervised],
            part.tokens.targets.flatten()[part.tokens.supervised],
        )
        return len(padded.images), tuple(padded.tokens.input_ids.shape)

    assert shapes(["a"] * 32) == (32, (32, 8))
    assert shapes(["a"] * 31) == (32, (32, 8))
    assert shapes(["a"] * 3) == (8, (8, 8))
    assert shapes(["xyzxyz qwertz"] * 33) == (40, (40, 16))
    assert shapes(["qxj vzq kwx jqz vvk"] * 16) == (16, (16, 20)), "never beyond max_seq_len"
    assert shapes(["a"] * 11, index=[0] * 8 + [1, 2, 3]) == (8, (16, 8))


def test_the_loader_tells_the_usual_batch_size(tiny_model, shapes_loader):
    model = tiny_model()
    assert padding_for(model, shapes_loader(batch_size=5)) is None, "nothing is compiled"
    model.compile_blocks(backend="eager")
    assert padding_for(model, shapes_loader(batch_size=5)) == FewShapes(5, max_seq_len=64)
    assert padding_for(model, []) == FewShapes(32, max_seq_len=64)


@pytest.mark.parametrize(
    "settings",
    [{}, pytest.param({"gradient_checkpointing": True, "gradient_accumulation_steps": 2}, marks=pytest.mark.slow)],
)
def test_each_shape_is_compiled_once(tiny_trainer, tiny_model, shapes_loader, settings):
    graphs = Graphs()
    model = tiny_model(dropout=0.1)
    model.compile_blocks(backend=graphs)
    # Six batches an epoch, with captions of unequal lengths; the last one has half the pictures.
    trainer = tiny_trainer(
        model=model, train_loader=shapes_loader(22, batch_size=4), val_loader=shapes_loader(6), **settings
    )
    trainer.train(1)
    first = len(graphs.shapes)
    assert 3 <= first <= 8, graphs.shapes
    assert not torch._dynamo.utils.counters["graph_break"]
    trainer.train(4)
    assert len(graphs.shapes) - first <= 2, "a length that only a later epoch has"
    model.generate(torch.randn(3, 3, 32, 32), max_length=9)
    before = len(graphs.shapes)
    trainer.train(5)
    assert len(graphs.shapes) == before, "captioning is not compiled"


def test_compiled_and_plain_runs_read_each_others_checkpoints(tiny_trainer, tiny_model):
    settings = {"ema_decay": 0.9, "freeze": "encoder.stem"}
    compiled = tiny_model()
    compiled.compile_blocks(backend="eager")
    tiny_trainer("a", model=compiled, **settings).train(1)
    assert list(compiled.state_dict()) == list(tiny_model().state_dict())
    plain = tiny_trainer("a", **settings)
    plain.train(2, resume_from="epoch_1")
    again = tiny_model()
    again.compile_blocks(backend="eager")
    assert len(tiny_trainer("a", model=again, **settings).train(3, resume_from="epoch_2")["train_losses"]) == 3


@pytest.mark.slow
def test_a_compiled_run_resumes_to_the_same_bits(tiny_trainer, tiny_model, shapes_loader, tmp_path):
    def trained(folder, *, epochs, resume_from=None):
        torch.compiler.reset()
        model = tiny_model(stochastic_depth=0.2)
        model.compile_blocks(backend="eager")
        trainer = tiny_trainer(
            folder, model=model, train_loader=shapes_loader(10, batch_size=4), schedule="constant", warmup_steps=0
        )
        trainer.train(epochs, resume_from=resume_from)

    trained("whole", epochs=2)
    trained("parts", epochs=1)
    trained("parts", epochs=2, resume_from="epoch_1")
    whole, parts = (load_file(tmp_path / name / "epoch_2" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_real_code_learns_the_same_and_resumes_to_the_same_bits(tiny_trainer, tiny_model, shapes_loader, tmp_path):
    def trained(folder, *, epochs, resume_from=None, dropout=0.1, **settings):
        torch.compiler.reset()
        trainer = tiny_trainer(
            folder, model=tiny_model(dropout=dropout), train_loader=shapes_loader(10, batch_size=4),
 schedule="constant", warmup_steps=0, **settings,
        )  # fmt: skip
        return trainer.train(epochs, resume_from=resume_from)["train_losses"]

    trained("whole", epochs=2, compile=True, deterministic=True)
    trained("parts", epochs=1, compile=True, deterministic=True)
    trained("parts", epochs=2, resume_from="epoch_1", compile=True, deterministic=True)
    whole, parts = (load_file(tmp_path / name / "epoch_2" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    plain = trained("plain", epochs=3, dropout=0.0)
    compiled = trained("compiled", epochs=3, dropout=0.0, compile=True)
    assert compiled == pytest.approx(plain, rel=1e-4)


@pytest.mark.slow
def test_without_a_compiler_the_error_names_it():
    program = (
        "import torch\n"
        "from systems.pixel_llm.errors import ConfigError\n"
        "from systems.pixel_llm.training.compilation import check_compiler\n"
        "try:\n    check_compiler(torch.device('cpu'))\n"
        "except ConfigError as error:\n    print('told:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"CXX": "no-such-compiler", "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert "told: compile=True does not work on this machine" in done.stdout, done.stderr
    assert "g++" in done.stdout
    assert "leave compile out" in done.stdout


@pytest.mark.slow
def test_with_a_compiler_there_is_nothing_to_tell():
    check_compiler(torch.device("cpu"))


def test_a_value_that_is_none_of_the_two_is_told(tiny_trainer):
    with pytest.raises(ConfigError, match="compile must be True or False, not 'inductor'"):
        tiny_trainer(compile="inductor")
