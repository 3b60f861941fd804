"""VOC's XML beside the images or in a folder of its own, without the lists of the VOC layout."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from stages.data.beside import Beside, find_pairs
from stages.data.by_name import Marked
from stages.data.files import Names
from stages.data.voc_xml import read_annotation, read_marked


class XMLFolder(Beside):
    """Images with an XML each: Roboflow's VOC, a folder that labelImg worked in. See `Beside`."""

    suffix = ".xml"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout."""
        return bool(find_pairs(root, XMLFolder.suffix, Names()))

    def _named_by(self, annotation: Path) -> str:
        return PureWindowsPath(read_annotation(annotation).filename).name  # knows both slashes

    def _of(self, image_id: str, image: Path, annotation: Path) -> Marked:
        return read_marked(annotation, image_id, image)
