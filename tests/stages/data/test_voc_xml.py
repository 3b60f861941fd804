"""VOC's XML, from whatever tool: every fault named by its file."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from PIL import Image

from stages.data.voc_xml import read_annotation, read_marked
from stages.errors import InputError


def xml_of(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def fault_of(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_annotation(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


SIZE = "<size><width>10</width><height>8</height></size>"
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"


def test_parts_of_an_object_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>2</xmin></bndbox></part>"
    text = f"<annotation>{SIZE}<object>{part}<name>man</name>{BOX}</object></annotation>"
    read = read_annotation(xml_of(tmp_path, text))
    assert (read.names, read.size) == (["man"], (10, 8))
    assert read.boxes.tolist() == [[0, 0, 5, 5]]
    assert read.difficult.tolist() == [False]


def test_blanks_around_values(tmp_path: Path) -> None:
    box = BOX.replace(">1<", ">\n 1 <")
    flag = "<difficult> 1\n</difficult>"
    text = f"<annotation>{SIZE}<object><name> man\n</name>{flag}{box}</object></annotation>"
    read = read_annotation(xml_of(tmp_path, text))
    assert read.names == ["man"]
    assert read.boxes.tolist() == [[0, 0, 5, 5]]
    assert read.difficult.tolist() == [True]


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
        '<!DOCTYPE x [<!ENTITY c SYSTEM "file:///etc/hostname">]>',
    ],
)
def test_entities_are_refused(tmp_path: Path, declaration: str) -> None:
    text = f"{declaration}<annotation>{SIZE}<object><name>&c;</name>{BOX}</object></annotation>"
    assert "EntitiesForbidden" in fault_of(xml_of(tmp_path, text))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not xml at all",
        b"\xff\xd8\xff\xe0 a photograph",
        b"\x00\x01\x02",
        f"<annotation>{SIZE}".encode(),
        f"<annotation>{SIZE}</annotation".encode(),
        f"<annotation>{SIZE}</annotations>".encode(),
        f'<?xml version="1.0" encoding="no-such"?><annotation>{SIZE}</annotation>'.encode(),
        f'<?xml version="1.0" encoding="utf-16"?><annotation>{SIZE}</annotation>'.encode(),
        f'<?xml version="1.0" encoding="hex"?><annotation>{SIZE}</annotation>'.encode(),
        b"<annotation>\xe9</annotation>",
    ],
)
def test_broken_xml_is_named(tmp_path: Path, content: bytes) -> None:
    assert "not readable as XML" in fault_of(xml_of(tmp_path, content))


def test_a_folder_named_like_an_annotation(tmp_path: Path) -> None:
    (tmp_path / "a.xml").mkdir()
    fault_of(tmp_path / "a.xml")


def test_an_annotation_that_is_not_there(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "a.xml").endswith("missing")


@pytest.mark.parametrize("value", ["", "wide", "nan", "inf", "1e999", "-4", "0"])
@pytest.mark.parametrize("side", ["width", "height"])
def test_a_size_that_is_none(tmp_path: Path, side: str, value: str) -> None:
    number = "10" if side == "width" else "8"
    size = SIZE.replace(f"<{side}>{number}", f"<{side}>{value}")
    assert size != SIZE
    fault = fault_of(xml_of(tmp_path, f"<annotation>{size}</annotation>"))
    assert side in fault or "image size" in fault


@pytest.mark.parametrize("side", ["xmin", "ymin", "xmax", "ymax"])
@pytest.mark.parametrize("value", ["", "left", "nan", "-inf"])
def test_a_box_that_is_none(tmp_path: Path, side: str, value: str) -> None:
    old = "1" if side.endswith("min") else "5"
    box = BOX.replace(f"<{side}>{old}", f"<{side}>{value}")
    assert box != BOX
    text = f"<annotation>{SIZE}<object><name>man</name>{box}</object></annotation>"
    assert side in fault_of(xml_of(tmp_path, text))


@pytest.mark.parametrize("name", ["", "<name/>", "<name> \n</name>"])
def test_an_object_without_a_name(tmp_path: Path, name: str) -> None:
    text = f"<annotation>{SIZE}<object>{name}{BOX}</object></annotation>"
    assert "without a name" in fault_of(xml_of(tmp_path, text))


# ------------------------------------------------------------------ as other tools write it


@pytest.mark.parametrize("size", ["", "<size/>", SIZE.replace(">10<", ">0<").replace(">8<", ">0<")])
def test_the_size_is_the_images_own_where_the_file_has_none(tmp_path: Path, size: str) -> None:
    """labelImg writes 0×0 for an image that it could not measure."""
    text = f"<annotation>{size}<object><name>man</name>{BOX}</object></annotation>"
    assert read_annotation(xml_of(tmp_path, text)).size is None
    Image.new("RGB", (12, 9)).save(tmp_path / "a.png")
    marked = read_marked(tmp_path / "a.xml", "a", tmp_path / "a.png")
    assert (marked.width, marked.height) == (12, 9)
    assert marked.boxes.tolist() == [[0, 0, 5, 5]]


def test_an_image_turned_by_exif_has_the_size_it_is_shown_in(tmp_path: Path) -> None:
    image = Image.new("RGB", (12, 9))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    marked = read_marked(xml_of(tmp_path, "<annotation/>"), "a", tmp_path / "a.jpg")
    assert (marked.width, marked.height) == (9, 12)


def test_an_unreadable_image_of_unknown_size_has_no_objects(tmp_path: Path) -> None:
    """What becomes of the image is another's to decide."""
    (tmp_path / "a.jpg").write_text("no image")
    text = f"<annotation><object><name>man</name>{BOX}</object></annotation>"
    marked = read_marked(xml_of(tmp_path, text), "a", tmp_path / "a.jpg")
    assert (marked.width, marked.height) == (0, 0)
    assert marked.names == []
    assert marked.boxes.shape == (0, 4)


@pytest.mark.parametrize("declared", ["", "utf-8", "utf-16", "latin-1", "gb2312"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_a_byte_order_mark_tells_the_encoding(
    tmp_path: Path, mark: bytes, encoding: str, declared: str
) -> None:
    first = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    text = f"{first}<annotation>{SIZE}<object><name>Löwe 猫</name>{BOX}</object></annotation>"
    read = read_annotation(xml_of(tmp_path, mark + text.encode(encoding)))
    assert read.names == ["Löwe 猫"]


def test_floats_attributes_and_what_is_not_asked_for(tmp_path: Path) -> None:
    """As CVAT writes it: no `difficult`, an empty `<depth>`, attributes of an object."""
    text = (
        "<annotation><folder>x</folder><filename> a b.jpg </filename>"
        "<size><width>10</width><height>8.0</height><depth></depth></size><segmented>0</segmented>"
        "<object><name>man</name><occluded>0</occluded><bndbox><xmin>1.5</xmin><ymin>2.25</ymin>"
        "<xmax>5.75</xmax><ymax>6</ymax></bndbox><attributes><attribute><name>rotation</name>"
        "<value>0.0</value></attribute></attributes></object></annotation>"
    )
    read = read_annotation(xml_of(tmp_path, text))
    assert read.size == (10, 8)
    assert read.filename == "a b.jpg"
    assert read.names == ["man"]
    assert read.boxes.tolist() == [[0.5, 1.25, 5.75, 6]]
    assert read.difficult.tolist() == [False]


def test_a_name_that_no_file_can_hold(tmp_path: Path) -> None:
    text = f"<annotation>{SIZE}<object><name>{'x' * 5000}</name>{BOX}</object></annotation>"
    assert "no file can hold" in fault_of(xml_of(tmp_path, text))
