"""Files that `torch.save` or safetensors wrote, or somebody else made to look so: nothing is executed."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from stages.errors import check_regular, one_line
from stages.seals import check_zip


def load_tensors(path: Path, device: str = "cpu", ours: bool = False) -> Any:
    """What is in the file, its tensors on `device`.

    Args:
        ours: it is a zip archive with the checksums that PyTorch writes, and never looks at: they are
            looked at. (Others' weights may be of the older format, or saved without.)

    Raises:
        InputError: it is a pipe or a device.
        OSError: it cannot be read.
        ValueError: saying in one line what is wrong: it is damaged, holds code, or is an archive
            that unpacks to more than it is.
    """
    refuse_compressed(path)
    if ours:
        _check_records(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        # What PyTorch says around it is how to load the file without this protection.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].splitlines()[0]
        reason = one_line(reason.partition(" Please ")[0])[:120]
        raise ValueError(f"damaged, or holds more than tensors: {reason or 'no reason'}") from None
    except OSError:
        raise
    except Exception as error:  # the unpickler fails on rubbish in every way there is
        raise ValueError(one_line(error)[:120] or type(error).__name__) from None


def load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A .safetensors file's tensors, on the CPU, and its metadata.

    Raises:
        InputError: it is a pipe or a device.
        OSError: it cannot be read.
        ValueError: it is no such file, or damaged.
    """
    check_regular(path)
    with open(path, "rb"):
        pass  # safetensors' own errors do not say why
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()}, notes  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:  # its own, and PyTorch's of types that it does not know
        raise ValueError(one_line(error)[:120] or type(error).__name__) from None


def _check_records(path: Path) -> None:
    try:
        check_zip(path)
    except OSError:
        raise
    except Exception as error:  # a damaged list of records leads anywhere
        raise ValueError(one_line(error)[:120] or type(error).__name__) from None


def is_plain(value: object) -> bool:
    """Whether it is a tensor of real numbers as networks have them: not sparse, not quantised."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type != "meta"
        and not (value.is_quantized or value.is_complex())
    )


def refuse_compressed(path: Path) -> None:
    """PyTorch and `np.savez` compress nothing, but would unpack two megabytes to two gigabytes.

    Raises:
        InputError: it is a pipe or a device.
        OSError: it cannot be read.
        ValueError: it is a zip archive that holds more than it is.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, IndexError):
        return  # as it was before PyTorch 1.6, or damaged, which `torch.load` says
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its records are compressed, which ours are not")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its records are larger than the file")
