"""LabelMe's layout: a JSON beside each image, or in a folder of its own."""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PureWindowsPath
from reprlib import repr as shown

import numpy as np

from stages.data.beside import Beside, find_pairs
from stages.data.by_name import Marked, own_size
from stages.data.faults import Faults
from stages.data.files import Names
from stages.data.labelme_file import is_labelme, objects_of, read_labelme
from stages.data.objects import Named


class LabelMeFolder(Beside):
    """Images with a JSON each. See `Beside`.

    Polygons, circles and masks are outlines, rectangles are boxes; points and lines are left out.
    """

    suffix = ".json"

    @staticmethod
    def fits(root: Path) -> bool:
        """Whether the folder is in this layout: JSON files of the images' names hold shapes."""
        names = Names()
        for pair in find_pairs(root, LabelMeFolder.suffix, names).values():
            images = names.images_in(pair.images)
            files = names.files_in(pair.annotations, LabelMeFolder.suffix)
            beside = (file for stem, file in files.items() if stem in images)
            if any(map(is_labelme, islice(beside, 5))):
                return True
        return False

    def _named_by(self, annotation: Path) -> str:
        return PureWindowsPath(read_labelme(annotation).image).name  # knows both slashes

    def _marked(self, split: str, faults: Faults) -> list[Marked]:
        self._left_out, self._odd = Named(), Named()
        marked = super()._marked(split, faults)
        where = self._where(split)
        self._left_out.report(f"{where}: left out shapes that are no regions")
        self._odd.report(f"{where}: outlines that are not used")
        return marked

    def _of(self, image_id: str, image: Path, annotation: Path) -> Marked:
        file = read_labelme(annotation)
        width, height = file.size or own_size(image)
        if (width, height) == (0, 0):
            return Marked.bare(image_id, image, (0, 0))
        objects = objects_of(file, width, height)
        for kind in objects.left_out:
            self._left_out.add(f"{shown(kind)} in {annotation.name}")
        for why in objects.odd:
            self._odd.add(f"{annotation.name} ({why})")
        return Marked(
            image_id=image_id,
            path=image,
            width=width,
            height=height,
            names=objects.names,
            boxes=np.array(objects.boxes, np.float64).reshape(-1, 4),
            difficult=np.array(objects.difficult, bool),
            outlines=tuple(objects.outlines),
        )
