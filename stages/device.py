"""What the device is good at."""

from __future__ import annotations

from typing import Literal

import torch

from stages.errors import InputError

DType = Literal["auto", "float32", "bfloat16"]


def choose_device(wanted: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`.

    Raises:
        InputError: CUDA was asked for and there is none.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("DEVICE=cuda, but PyTorch finds no CUDA device here")
    if wanted not in ("cpu", "cuda"):
        raise InputError(f"DEVICE={wanted}: takes auto, cpu or cuda")
    return wanted


def choose_dtype(wanted: DType, device: str) -> Literal["float32", "bfloat16"]:
    """bfloat16 for `auto` where the device multiplies it natively, else float32."""
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    # Without such instructions bfloat16 is emulated, and slower than float32.
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def autocast(device: str, dtype: str) -> torch.autocast:
    """Mixed precision in `dtype`, off for float32."""
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
