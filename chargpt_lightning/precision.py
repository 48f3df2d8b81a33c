"""Which precision a machine trains in, where the user names none, and the dtype of a precision."""

import torch
from lightning.pytorch.plugins import Precision
from torch import Tensor


def native_precision(accelerator: str) -> str:
    """The fastest that loses no accuracy: bf16 for the matrix products where the device has instructions for it.

    Without them bf16 is emulated, and slower than float32.

    Args:
        accelerator: As Lightning's Trainer takes it; "auto" is a GPU if there is one.

    Returns:
        `bf16-mixed` or `32-true`.
    """
    if accelerator == "cpu" or not torch.accelerator.is_available():
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    else:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


@torch.no_grad()
def product_dtype(precision: Precision, weight: Tensor) -> torch.dtype:
    """The dtype in which a run multiplies matrices, read off a product that is computed as the run computes.

    Args:
        precision: The run's precision, `Trainer.precision_plugin`.
        weight: One of the network's parameters, after the precision has converted the network.
    """
    factor = torch.ones(1, 1, dtype=weight.dtype, device=weight.device)
    with precision.forward_context():
        return (factor @ factor).dtype
