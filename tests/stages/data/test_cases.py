"""Data sets as people's tools wrote them, each read to its last pixel before anything would be trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.images import image_tensor
from stages.data.load import DataConfig, load_data
from stages.errors import InputError
from stages.store import Store

CASES = Path(__file__).parents[3] / "../shared/cases"
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason="needs the exports, which lie beside the checkout"
)
EVERYTHING = ((8, 4), (24, 12))
HELD_OUT = "are held out to test on"


def read(case: str, store: Path, **options: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Images and objects of both splits; every image is decoded."""
    data = load_data(DataConfig(str(CASES / case), **options), Store(store))  # type: ignore[arg-type]
    splits = (data.train, data.test)
    for records in splits:
        for record in records:
            image = image_tensor(record)
            assert tuple(image.shape[1:]) == (record.height, record.width)
            assert (record.boxes[:, :2] < record.boxes[:, 2:]).all()
    images = (len(splits[0]), len(splits[1]))
    objects = [sum(len(record.boxes) for record in records) for records in splits]
    return images, (objects[0], objects[1])


@pytest.mark.parametrize(
    ("case", "expected", "said"),
    [
        ("01-cvat-voc/small", EVERYTHING, ""),
        ("01-cvat-voc/capital", EVERYTHING, ""),
        ("01-cvat-voc/default", ((6, 2), (18, 6)), HELD_OUT),
        ("01-cvat-voc/parts", EVERYTHING, ""),
        ("03-voc-blanks/plain", EVERYTHING, ""),
        ("03-voc-blanks/silent", EVERYTHING, ""),
        ("03-voc-blanks/quoted", EVERYTHING, ""),
        ("04-labelimg-size0/zero", EVERYTHING, ""),
        ("04-labelimg-size0/nosize", EVERYTHING, ""),
        ("05-voc-endings/png", EVERYTHING, ""),
        ("05-voc-endings/tif", EVERYTHING, ""),
        ("05-voc-endings/BMP", EVERYTHING, ""),
        ("05-voc-endings/Jpg", EVERYTHING, ""),
        ("05-voc-endings/WEBP", EVERYTHING, ""),
        ("06-roboflow-voc", EVERYTHING, ""),
        ("07-roboflow-coco", EVERYTHING, ""),
        ("08-roboflow-yolo/full", EVERYTHING, ""),
        ("08-roboflow-yolo/notest", ((8, 3), (24, 9)), ""),
        ("09b-cvat-coco-default", ((10, 2), (30, 6)), HELD_OUT),
        ("12-labelstudio-yolo", ((10, 2), (30, 6)), HELD_OUT),
        ("17-duplicates/coco", EVERYTHING, "there twice, the second of each: 24: "),
        ("17-duplicates/yolo", EVERYTHING, "there twice, the second of each: 24: "),
        ("17-duplicates/once", EVERYTHING, ""),
        ("19-negatives/mostly", ((1, 4), (3, 3)), "7 of 8 training images have no object"),
        ("21-truncated/train", EVERYTHING, "1 JPEGs lack their end"),
        ("21-truncated/test", EVERYTHING, "1 JPEGs lack their end"),
        ("22-exif/stored", EVERYTHING, "objects were marked on images as they are stored: 2"),
        ("22-exif/shown", EVERYTHING, ""),
        ("24b-coco-polygons/flat", EVERYTHING, "taken for one polygon: "),
        ("24b-coco-polygons/odd", EVERYTHING, "outlines that are no x y pairs, left out"),
        ("24b-coco-polygons/none", EVERYTHING, ""),
        ("24b-coco-polygons/emptyinner", EVERYTHING, ""),
        ("26-lvis-classes", ((24, 6), (1248, 312)), ""),
        ("28-yolo-wrong/halfmissing", ((4, 4), (12, 12)), "4 of 8 images have no label file"),
    ],
)
def test_a_case_reads(
    case: str,
    expected: tuple[tuple[int, int], tuple[int, int]],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert read(case, tmp_path) == expected
    words = capsys.readouterr().err
    assert said in words
    assert f"training: {expected[0][0]} images, {expected[1][0]} objects: " in words


def test_images_that_nobody_annotated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = "19-negatives/noxml"
    with pytest.raises(InputError, match=r"--data\.negatives use"):
        read(case, tmp_path)
    (images, _), (objects, _) = read(case, tmp_path, negatives="use")
    (fewer, _), (as_many, _) = read(case, tmp_path, negatives="skip")
    assert (images, objects) == (8, as_many)
    assert fewer < images
    assert "have no object" in capsys.readouterr().err
