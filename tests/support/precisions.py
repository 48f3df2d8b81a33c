"""The precisions of a CPU that tests run in."""

import torch

PRODUCT_DTYPES = {  # by precision, the dtype in which matrices are multiplied
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-mixed": torch.bfloat16,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
}
