"""MFU, model FLOPs utilisation: how much of what a GPU could multiply at best goes into the model.

After Chowdhery et al. 2022 ("PaLM", appendix B): the operations that the model needs for what it has seen in a second
(`models/flops.py`), divided by the GPU's peak. Time spent waiting for data, in the optimizer or on padding thus counts
as not used. The peaks are those of the vendor's datasheets and architecture papers, dense (a sparse figure is twice
that), with sums in fp32. Where a peak is not known, as for processors, there is no MFU.
"""

import re
from dataclasses import dataclass

import torch

from systems.pixel_llm.models import PixelLLM
from systems.pixel_llm.models.flops import training_flops
from systems.pixel_llm.models.precision import PrecisionName
from systems.pixel_llm.training.optimizer_step import StepOutcome

__all__ = ["Utilisation", "peak_flops_per_second", "peak_of_gpu", "utilisation_of"]

TERA = 1e12


@dataclass(frozen=True)
class _Peak:
    """Dense peaks of one GPU, in TFLOPS; None where its matrix units do not know the format."""

    name: str
    """Pattern of the whole name that the driver tells: a slice of a GPU (MIG), or a laptop's, has another peak."""
    fp16: float
    bf16: float | None
    tf32: float | None
    fp32: float


_PEAKS = (
    _Peak(r"(NVIDIA )?A100-(SXM4|PCIE)-[48]0GB|NVIDIA A100 80GB PCIe", 312, 312, 156, 19.5),
    _Peak(r"NVIDIA A30", 165, 165, 82, 10.3),
    _Peak(r"NVIDIA A40", 149.7, 149.7, 74.8, 37.4),
    _Peak(r"NVIDIA A10", 125, 125, 62.5, 31.2),
    _Peak(r"NVIDIA H100 80GB HBM3", 989.5, 989.5, 494.5, 67),  # SXM
    _Peak(r"NVIDIA H100 PCIe", 756.5, 756.5, 378, 51),
    _Peak(r"NVIDIA H(100|200) NVL", 835.5, 835.5, 417.5, 60),
    _Peak(r"NVIDIA H200", 989.5, 989.5, 494.5, 67),  # SXM
    _Peak(r"NVIDIA L4", 121, 121, 60, 30.3),
    _Peak(r"NVIDIA L40", 181, 181, 90.5, 90.5),
    _Peak(r"NVIDIA L40S", 362, 362, 183, 91.6),
    _Peak(r"(NVIDIA )?Tesla T4", 65, None, None, 8.1),
    _Peak(r"(NVIDIA )?Tesla V100-SXM2-(16|32)GB", 125, None, None, 15.7),
    _Peak(r"(NVIDIA )?Tesla V100-PCIE-(16|32)GB", 112, None, None, 14),
    _Peak(r"(NVIDIA )?Tesla V100S-PCIE-32GB", 130, None, None, 16.4),
    _Peak(r"(NVIDIA )?GeForce RTX 3090", 71, 71, 35.6, 35.6),
    _Peak(r"(NVIDIA )?GeForce RTX 4090", 165.2, 165.2, 82.6, 82.6),
)


@dataclass(frozen=True)
class Utilisation:
    """What MFU is made of, apart from the time."""

    model: PixelLLM
    peak: float
    """Of the device, in operations a second."""

    def flops_of_step(self, outcome: StepOutcome) -> float:
        """The operations that the model needed for a step."""
        return training_flops(
            self.model.config,
            num_images=outcome.num_images,
            num_captions=outcome.num_captions,
            num_tokens=outcome.num_tokens,
            vocab=self.model.num_embeddings,
        )


def utilisation_of(model: PixelLLM, device: torch.device, precision: PrecisionName) -> Utilisation | None:
    """None where the device's peak is not known, or where parts of the model are frozen: these need fewer operations
    than the formula says.
    """
    peak = peak_flops_per_second(device, precision)
    if peak is None or not all(parameter.requires_grad for parameter in model.parameters()):
        return None
    return Utilisation(model, peak)


def peak_flops_per_second(device: torch.device, precision: PrecisionName) -> float | None:
    """What `device` can do at best where its products are of `precision`; None where that is not known."""
    if device.type != "cuda":
        return None
    # torch's switch for products of fp32 in the format TF32; off unless the program says so.
    is_tf32 = torch.backends.cuda.matmul.allow_tf32
    return peak_of_gpu(torch.cuda.get_device_name(device), precision, is_tf32=is_tf32)


def peak_of_gpu(name: str, precision: PrecisionName, *, is_tf32: bool = False) -> float | None:
    """The peak of the GPU that the driver calls `name`, in operations a second; None where it is not in the table.

    `is_tf32` says whether products of fp32 may be computed in TF32.
    """
    for peak in _PEAKS:
        if re.fullmatch(peak.name, name):
            found = {"bf16": peak.bf16, "fp16": peak.fp16, "fp32": peak.fp32}[precision]
            if precision == "fp32" and is_tf32:
                found = peak.tf32 or peak.fp32
            return None if found is None else found * TERA
    return None
