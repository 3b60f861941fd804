"""Fetching a file from an address; a server that falls silent is not waited for for ever."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

TIMEOUT = 60.0  # seconds
BLOCK = 2**17  # bytes


def fetch_file(url: str, path: Path, timeout: float = TIMEOUT) -> None:
    """Write what is at the address to `path`; whoever calls has its checksum, and removes a part of it.

    Args:
        timeout: seconds without an answer, and without another byte, until it is given up. (torchvision
            and torch.hub wait for ever.)

    Raises:
        TimeoutError: nothing came for so long.
        OSError, http.client.HTTPException, ValueError: there is no such address, or it cannot be written.
    """
    request = Request(url, headers={"User-Agent": "rcnn-family"})
    try:
        with urlopen(request, timeout=timeout) as answer, open(path, "wb") as file:
            length = getattr(answer, "length", None)  # none of file://
            with tqdm(total=length, unit="B", unit_scale=True, unit_divisor=1024) as bar:
                while block := answer.read(BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except (TimeoutError, URLError) as error:
        if not isinstance(getattr(error, "reason", error), TimeoutError):
            raise
        raise TimeoutError(f"nothing came for {timeout:g} s") from None
