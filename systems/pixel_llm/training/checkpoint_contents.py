"""What the files of a checkpoint hold: a model's and an optimizer's tensors in, the same model and optimizer out.

`write_model` and `write_training_state` fill a folder. `prepare_model` and `prepare_optimizer` take from one: they
check everything against the live objects first and change nothing, and give back the action that then applies it. A
model that knows its own folder format (`FolderModel`, as PixelLLM) writes and reads itself; of any other module the
state dict is stored, each memory once: names that share it (tied weights) are noted as aliases in the file's metadata.

An optimizer's state is stored by position, so the names and shapes of its parameters are stored with it and compared;
where groups have names, the state follows them to other positions (`group_layout.py`).
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from systems.pixel_llm.checkpoint_folder import AVERAGE_FILE, MODEL_FILE, OPTIMIZER_FILE, TRAINING_STATE_FILE
from systems.pixel_llm.errors import CheckpointError, ConfigError
from systems.pixel_llm.folder_reader import FolderReader
from systems.pixel_llm.folder_writer import FolderSink, FolderWriter
from systems.pixel_llm.tensor_bytes import sources_of
from systems.pixel_llm.tensor_file import TensorEntry, write_tensors
from systems.pixel_llm.tensor_fit import misfits, told_misfits
from systems.pixel_llm.training.group_layout import laid_out_anew
from systems.pixel_llm.training.state_codec import decode_state, encode_state
from systems.pixel_llm.weights_file import expected_tensors, read_weights

__all__ = [
    "FolderModel", "num_bytes_of", "prepare_model", "prepare_optimizer", "read_average", "read_training_state",
    "unwrapped", "write_average", "write_model", "write_training_state",
]  # fmt: skip

logger = logging.getLogger(__name__)

Left = dict[str, str]
"""Name of what a partial loading has left -> why."""

_ALIASES = "aliases"
_OTHER_BYTES = 64 << 10  # of what is no tensor
_MAX_STATE_BYTES = 256 << 20  # a real one has kilobytes, and a line for each epoch
# How a step is computed, not what: these stay as the live optimizer was made.
_IMPLEMENTATION_OPTIONS = ("foreach", "fused", "capturable", "differentiable")
# State of torch.optim's optimizers that has the shape of its parameter. Their fused kernels do not check it.
_ELEMENTWISE_STATE = {
    "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta",
    "sum", "ax", "prev", "step_size",
}  # fmt: skip


@runtime_checkable
class FolderModel(Protocol):
    """A model that writes and reads its own files in a folder, `model.safetensors` among them."""

    def save_pretrained(self, folder: Path) -> object:
        """Write all files into the existing `folder`."""

    def load_weights(self, folder: Path, device: torch.device | None = None) -> object:
        """Check that `folder` fits this model, then take its weights in place; parameters stay the same objects."""


@runtime_checkable
class StreamedModel(FolderModel, Protocol):
    """One that can write and read the same files through a writer and a reader, which hash them on the way."""

    def write_files(self, writer: FolderSink) -> object:
        """Write all files."""

    def read_files(self, reader: FolderReader, *, device: torch.device | None = None, strict: bool = True) -> Left:
        """As `load_weights`, or, without `strict`, take what fits and give what was left."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside torch.compile's and data-parallel wrappers: those with one child, so named, and nothing else."""
    children = dict(model.named_children())
    own = [*model.parameters(recurse=False), *model.buffers(recurse=False)]
    if not own and len(children) == 1 and (name := next(iter(children))) in ("_orig_mod", "module"):
        return unwrapped(children[name])
    return model


def num_bytes_of(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, average: Mapping[str, Tensor] | None
) -> int:
    """About how many bytes the files of a checkpoint will have."""
    values = [*model.state_dict().values(), *(average or {}).values()]
    if optimizer is not None:
        values += [value for state in optimizer.state.values() for value in state.values()]
    return _OTHER_BYTES + sum(value.nbytes for value in values if isinstance(value, Tensor))


def can_be_taken(model: nn.Module) -> bool:
    """Whether its files can be copied into memory, to be written in the background: not where it writes them itself."""
    model = unwrapped(model)
    return isinstance(model, StreamedModel) or not isinstance(model, FolderModel)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_model(model: nn.Module, writer: FolderSink) -> None:
    """Write the files of `model`, which is unwrapped.

    Raises:
        CheckpointError: its state dict holds something else than dense tensors of a common dtype, or it writes a
            folder on the disk only, and `writer` is none.
        OSError, SafetensorError: the disk is full or failing.
    """
    if isinstance(model, StreamedModel):
        model.write_files(writer)
        return
    if isinstance(model, FolderModel):
        if not isinstance(writer, FolderWriter):
            raise CheckpointError(f"{type(model).__name__} has no write_files(): it cannot be saved in the background.")
        model.save_pretrained(writer.folder)
        return
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first_names: dict[tuple[Any, ...], str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            kind = "sparse or meta tensor" if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{type(model).__name__}: {name!r} in its state dict is a {kind}; a checkpoint holds dense tensors "
                "only. Make it one, or leave it out of the state dict."
            )
        first_name = first_names.setdefault(_memory(value), name) if value.numel() else name
        if first_name == name:
            tensors[name] = value
        else:
            aliases[name] = first_name
    _write_tensors(writer, MODEL_FILE, tensors, metadata={_ALIASES: json.dumps(aliases)} if aliases else {})


def write_average(average: Mapping[str, Tensor], writer: FolderSink) -> None:
    """Write averaged weights, by the names of the parameters.

    Raises:
        OSError: the disk is full or failing.
    """
    _write_tensors(writer, AVERAGE_FILE, average, metadata={})


def write_training_state(
    writer: FolderSink,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    *,
    training_state: dict[str, Any] | None,
) -> None:
    """Write `training_state.json` and, where there is an optimizer, `optimizer.safetensors`.

    Raises:
        CheckpointError: a value cannot be saved; the message names its place.
        OSError: the disk is full or failing.
    """
    tree, tensors = encode_state(training_state, where="training_state")
    if tensors:
        raise CheckpointError(f"{next(iter(tensors))} is a tensor. Store numbers: training_state goes into JSON.")
    content = {"training_state": tree, "optimizer": None}
    if optimizer is not None:
        optimizer_tree, tensors = encode_state(optimizer.state_dict(), where="optimizer")
        _write_tensors(writer, OPTIMIZER_FILE, tensors, metadata={})
        content["optimizer"] = {
            "class": type(optimizer).__name__,
            "parameters": _describe_parameters(optimizer, model),
            "state": optimizer_tree,
        }
    writer.write(TRAINING_STATE_FILE, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _write_tensors(
    writer: FolderSink, name: str, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]
) -> None:
    try:
        sources = sources_of(tensors)
    except KeyError as error:
        raise CheckpointError(f"{name} cannot hold tensors of {error}. Use a common dtype.") from error
    with writer.file(name) as file:
        write_tensors(file, sources, metadata={"format": "pt", **metadata})


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for two tensors that are the same view of the same memory."""
    storage = tensor.untyped_storage().data_ptr()
    return (tensor.device, storage, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype)


def _describe_parameters(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[list[dict[str, Any]]]:
    """Name (None outside the model) and shape of each parameter of each group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [
        [{"name": names.get(id(parameter)), "shape": list(parameter.shape)} for parameter in group["params"]]
        for group in optimizer.param_groups
    ]


# --- reading the model ------------------------------------------------------------------------------------------------


def prepare_model(
    model: nn.Module, reader: FolderReader, device: torch.device | None, *, strict: bool
) -> Callable[[], Left]:
    """Check that the weights in a folder fit `model`, which is unwrapped, and return the action that takes them.

    A `FolderModel` checks by itself, in the action, before it changes anything. The tensors are read to `device` (the
    CPU if None). The action gives what was left, which only without `strict` is anything.

    Raises:
        CheckpointError: names or shapes differ; the message tells which.
        ConfigError: the model reads its folder itself, and knows nothing of `strict`.
    """
    if isinstance(model, StreamedModel):
        return lambda: model.read_files(reader, device=device, strict=strict)
    if isinstance(model, FolderModel):
        if not strict:
            raise ConfigError(f"{type(model).__name__} loads its own folder, whole or not at all: leave strict out.")
        return lambda: _load_folder_model(model, reader.folder, device)
    path = reader.folder / MODEL_FILE
    found, aliases = _read_entries(reader, MODEL_FILE)
    own = expected_tensors(model)
    wrong = misfits({name: entry for name, entry in found.items() if name not in aliases or name in own}, own)
    if wrong and strict:
        raise CheckpointError(
            f"{path} does not fit this {type(model).__name__}: {told_misfits(wrong)}. Build the model with the "
            "settings that it was saved with, or pass strict=False to take what fits."
        )
    tensors = read_weights(reader, MODEL_FILE, device=device)
    tensors |= {alias: tensors[name] for alias, name in aliases.items() if alias in own}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in wrong}

    def apply() -> Left:
        try:
            model.load_state_dict(tensors, strict=strict)
        except RuntimeError as error:
            raise CheckpointError(f"{path} could not be loaded: {error}") from error
        return wrong

    return apply


def _load_folder_model(model: FolderModel, folder: Path, device: torch.device | None) -> Left:
    model.load_weights(folder, device=device)
    return {}


def _read_entries(reader: FolderReader, file: str) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """What a file of tensors holds under every name, aliases included, and the aliases: alias -> stored name."""
    header = reader.header(file)
    try:
        aliases = json.loads(header.metadata.get(_ALIASES, "{}"))
        return header.tensors | {alias: header.tensors[name] for alias, name in aliases.items()}, aliases
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{reader.folder / file}: its aliases are none ({error!r}). Choose another checkpoint."
        ) from error


def read_average(reader: FolderReader) -> dict[str, Tensor] | None:
    """The averaged weights in a folder, by the names of the parameters; None where there are none.

    Raises:
        CheckpointError: they cannot be read.
    """
    return read_weights(reader, AVERAGE_FILE, device=None) if reader.holds(AVERAGE_FILE) else None


# --- reading the training state ---------------------------------------------------------------------------------------


def read_training_state(reader: FolderReader) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The caller's training state as it was saved, and what is noted of the optimizer; None for what there is not.

    Raises:
        CheckpointError: `training_state.json` is missing or not what a save writes.
    """
    text = reader.text(TRAINING_STATE_FILE, max_bytes=_MAX_STATE_BYTES, what="training state")
    try:
        content = json.loads(text)
        return decode_state(content["training_state"], {}), content["optimizer"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        path = reader.folder / TRAINING_STATE_FILE
        raise CheckpointError(f"{path}: not readable ({error!r}). Choose another checkpoint.") from error


def prepare_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, reader: FolderReader, saved: dict[str, Any] | None
) -> Callable[[], None]:
    """Check that the optimizer state in a folder fits, and return the action that takes it once the weights are loaded.

    Args:
        optimizer: over parameters of `model`; its implementation options (fused, foreach) stay as they are.
        model: unwrapped.
        reader: of the checkpoint. Where its optimizer has no state left, the live one begins afresh, with a warning.
        saved: what `read_training_state` tells of the optimizer.

    Raises:
        CheckpointError: there is no optimizer state, or it is of another kind of optimizer or of other parameters.
    """
    if saved is None:
        raise CheckpointError(
            f"{reader.folder} was saved without an optimizer. Pass optimizer=None to load the weights alone."
        )
    path = reader.folder / OPTIMIZER_FILE
    has_state = reader.holds(OPTIMIZER_FILE)
    tensors = read_weights(reader, OPTIMIZER_FILE, device=None) if has_state else {}
    try:
        state, found = laid_out_anew(
            decode_state(saved["state"], tensors), saved["parameters"],
            optimizer=optimizer, expected=_describe_parameters(optimizer, model),
        )  # fmt: skip
        saved = saved | {"parameters": found}
        problem = _optimizer_problem(optimizer, model, saved, state, shapes=_shapes_after_load(model, reader))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not the state of an optimizer ({error!r}). Choose another.") from error
    if problem is not None:
        raise CheckpointError(
            f"{path} does not fit: {problem}. Build model and optimizer as they were saved, or pass optimizer=None "
            "to load the weights alone."
        )
    if not has_state:
        logger.warning(
            "%s has weights alone (save_optimizer='latest'): the optimizer begins afresh, with its learning rates but "
            "without momentum.", reader.folder,
        )  # fmt: skip
    return lambda: _load_optimizer(optimizer, state, path)


def _shapes_after_load(model: nn.Module, reader: FolderReader) -> dict[str, tuple[int, ...]]:
    """Shapes that parameters will have once the weights are in, where a `FolderModel` may resize them."""
    if not isinstance(model, FolderModel):
        return {}
    saved, _ = _read_entries(reader, MODEL_FILE)
    # The file may hold a tied parameter under any of its names.
    named = list(model.named_parameters(remove_duplicate=False))
    shapes = {id(parameter): saved[name].shape for name, parameter in named if name in saved}
    return {name: shapes[id(parameter)] for name, parameter in named if id(parameter) in shapes}


def _optimizer_problem(
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    saved: dict[str, Any],
    state: dict[str, Any],
    *,
    shapes: Mapping[str, tuple[int, ...]],
) -> str | None:
    if saved["class"] != type(optimizer).__name__:
        return f"it is the state of {saved['class']}, and this optimizer is {type(optimizer).__name__}"
    found, expected = saved["parameters"], _describe_parameters(optimizer, model)
    sizes_found, sizes_expected = [len(group) for group in found], [len(group) for group in expected]
    if sizes_found != sizes_expected or sizes_found != [len(group["params"]) for group in state["param_groups"]]:
        return f"its groups have {sizes_found} parameters, and this optimizer's have {sizes_expected}"
    position = 0
    for found_group, expected_group, group in zip(found, expected, state["param_groups"], strict=True):
        for there, here, index in zip(found_group, expected_group, group["params"], strict=True):
            shape = shapes.get(here["name"], tuple(here["shape"]))
            if there["name"] != here["name"] or tuple(there["shape"]) != shape:
                return (
                    f"parameter {position} is {there['name']} {there['shape']} there and {here['name']} {list(shape)} "
                    "here"
                )
            for key, value in state["state"].get(index, {}).items():
                is_checked = key in _ELEMENTWISE_STATE and type(optimizer).__module__.startswith("torch.optim")
                if is_checked and isinstance(value, Tensor) and tuple(value.shape) != shape:
                    return f"{key} of {here['name']} has shape {list(value.shape)}, the parameter {list(shape)}"
            position += 1
    return None


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], path: Path) -> None:
    for group, live in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for key, value in live.items():
            if key in _IMPLEMENTATION_OPTIONS and key in group:
                group[key] = value
            elif isinstance(value, Tensor) and isinstance(group.get(key), Tensor):  # such as a learning rate
                group[key] = group[key].to(value.device)
    try:
        optimizer.load_state_dict(state)
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} could not be loaded: {error}") from error
    # The file holds every tensor row by row. Fused kernels walk parameter and state in the order of memory, so the
    # state of a transposed or channels-last parameter must lie as the parameter does; torch does not see to it.
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[key] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
