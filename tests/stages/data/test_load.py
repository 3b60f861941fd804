"""`DATA=`: a name or a path."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.data.load import DataConfig, load_data
from stages.data.parts import TrainingSplit
from stages.data.shapes import ShapesConfig
from stages.errors import InputError
from stages.seals import digest
from stages.store import Store, describe

SHAPES = ShapesConfig(train=2, test=1, width=64, height=48, objects=2, clutter=1)
CAT = ("cat", 3, 4, 20, 30)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_shapes_are_drawn_once(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    config = DataConfig(shapes=SHAPES)
    data = load_data(config, store)
    assert data.name == "shapes"
    assert (len(data.train), len(data.test)) == (2, 1)
    assert all(record.path.is_relative_to(store.root) for record in data.train)
    assert "draw_shapes" in capsys.readouterr().err
    again = load_data(config, Store(store.root))
    assert "draw_shapes" not in capsys.readouterr().err
    assert again.fingerprint == data.fingerprint


def test_other_shapes_are_another_data_set(store: Store) -> None:
    first = load_data(DataConfig(shapes=SHAPES), store)
    other_shapes = ShapesConfig(**{**SHAPES.__dict__, "seed": 5})
    other = load_data(DataConfig(shapes=other_shapes), store)
    assert first.fingerprint != other.fingerprint


def test_the_drawn_sets_fingerprint_is_not_of_its_files(store: Store) -> None:
    """Drawn again on another day or another machine, what was made from it still stands."""
    data = load_data(DataConfig(shapes=SHAPES), store)
    elsewhere = Store(store.root.parent / "elsewhere")
    assert load_data(DataConfig(shapes=SHAPES), elsewhere).fingerprint == data.fingerprint


def test_drawn_otherwise_other_things_are_learnt(store: Store) -> None:
    """With the same boxes, perhaps."""
    data = load_data(DataConfig(shapes=SHAPES), store)
    paler = load_data(DataConfig(shapes=dataclasses.replace(SHAPES, contrast=9.0)), store)
    assert TrainingSplit(paler).fingerprint != TrainingSplit(data).fingerprint
    elsewhere = Store(store.root.parent / "elsewhere")
    again = load_data(DataConfig(shapes=SHAPES), elsewhere)
    assert TrainingSplit(again).fingerprint == TrainingSplit(data).fingerprint


def test_a_path(
    store: Store, make_voc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_voc({"a": [CAT], "b": [CAT]}, folder="my photographs")
    data = load_data(DataConfig(name=str(root)), store)
    assert data.name == "my photographs"
    assert [record.image_id for record in data.train] == ["a"]
    assert [artifact.path.name.partition("-")[0] for artifact in store.used] == ["look_at_files"]
    monkeypatch.chdir(root)
    assert load_data(DataConfig(name="."), store).name == "my photographs"
    monkeypatch.setenv("HOME", str(root.parent))
    assert load_data(DataConfig(name="~/my photographs"), store).fingerprint == data.fingerprint


def test_splits_are_handed_on(store: Store, make_voc: Callable[..., Path]) -> None:
    root = make_voc({stem: [CAT] for stem in "abc"}, {"train": "a", "val": "b", "test": "c"})
    data = load_data(DataConfig(str(root), train_split="val", test_split="train"), store)
    assert [record.image_id for record in data.train] == ["b"]
    assert [record.image_id for record in data.test] == ["a"]


@pytest.mark.parametrize("name", ["nowhere", "no/where", "~no-such-user-here/voc", "a file"])
def test_no_such_folder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").write_text("")
    with pytest.raises(InputError) as raised:
        load_data(DataConfig(name=name), store)
    assert name in str(raised.value)


def test_a_folder_of_another_layout_says_what_is_looked_for(store: Store, tmp_path: Path) -> None:
    (tmp_path / "photos" / "annotations").mkdir(parents=True)
    (tmp_path / "photos" / "objects.csv").write_text("")
    with pytest.raises(InputError) as raised:
        load_data(DataConfig(name=str(tmp_path / "photos")), store)
    for wanted in ("JPEGImages/", "annotations/*.json", "data.yaml"):
        assert wanted in str(raised.value)
    assert str(tmp_path / "photos") in str(raised.value)


@pytest.mark.parametrize("layout", ["make_voc", "make_coco", "make_yolo"])
def test_the_layout_is_seen(store: Store, request: pytest.FixtureRequest, layout: str) -> None:
    root = request.getfixturevalue(layout)({"a": [CAT], "b": [CAT], "c": []}, folder="mine")
    data = load_data(DataConfig(str(root)), store)
    assert data.name == "mine"
    assert [record.path.stem for record in [*data.train, *data.test]] == ["a", "b", "c"]
    other = "trainval" if layout == "make_voc" else "train"
    with pytest.raises(InputError, match=f"{other}"):
        load_data(DataConfig(str(root), test_split=other), store)


def test_a_name_is_fetched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_voc: Callable[..., Path]
) -> None:
    """What is in the downloads' folder is not fetched again, and comes before a folder of the name."""
    make_voc({"a": [CAT], "b": [CAT]}, folder="mine/voc2007")
    (tmp_path / "voc2007").mkdir()
    monkeypatch.chdir(tmp_path)
    data = load_data(DataConfig("voc2007", downloads="mine"), store)
    assert data.name == "voc2007"
    assert [record.image_id for record in data.train] == ["a"]
    with pytest.raises(InputError, match="no data set that we read"):
        load_data(DataConfig("./voc2007", downloads="mine"), store)


def test_an_unknown_name_lists_the_known(store: Store) -> None:
    with pytest.raises(InputError, match="shapes, voc2007, voc2012, coco, pets or the path"):
        load_data(DataConfig("voc2008"), store)


def test_loading_is_light() -> None:
    """Importing torchvision takes seconds, and selective search's workers never load torch."""
    code = "import sys, stages.data.load; print({'torch', 'torchvision'} & set(sys.modules))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout == "set()\n"


def test_a_configuration_can_be_described() -> None:
    configs = [
        DataConfig(),
        DataConfig(name="x"),
        DataConfig(train_split="train"),
        DataConfig(test_split="train"),
        DataConfig(downloads="elsewhere"),
        DataConfig(shapes=SHAPES),
    ]
    assert len({digest(describe(config)) for config in configs}) == len(configs)


# ------------------------------------------------------------------ zip files and single files


def zipped(root: Path, to: Path, inner: str = "") -> Path:
    """The folder as a .zip, its files below `inner`."""
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(root.rglob("*")):
            if path.is_file():
                archive.write(path, Path(inner) / path.relative_to(root))
    return to


@pytest.mark.parametrize("inner", ["", "export"])
def test_a_zip_is_unpacked_once(
    store: Store,
    make_yolo: Callable[..., Path],
    tmp_path: Path,
    inner: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_yolo({"a": [CAT], "b": [CAT]})
    archive = zipped(root, tmp_path / "my export.zip", inner)
    config = DataConfig(str(archive), downloads=str(tmp_path / "kept"))
    data = load_data(config, store)
    assert data.name == "my export"
    assert [record.path.name for record in [*data.train, *data.test]] == ["a.jpg", "b.jpg"]
    assert "unpacking" in capsys.readouterr().err
    assert load_data(config, store).fingerprint == data.fingerprint
    assert "unpacking" not in capsys.readouterr().err
    assert [folder.name[:10] for folder in (tmp_path / "kept").iterdir()] == ["my export-"]


def test_a_changed_zip_is_unpacked_again(
    store: Store, make_yolo: Callable[..., Path], tmp_path: Path
) -> None:
    archive = zipped(make_yolo({"a": [CAT], "b": [CAT]}), tmp_path / "export.zip")
    config = DataConfig(str(archive), downloads=str(tmp_path / "kept"))
    before = load_data(config, store).fingerprint
    zipped(make_yolo({"a": [CAT], "b": [CAT, CAT]}, folder="other"), archive)
    assert load_data(config, store).fingerprint != before


def test_a_damaged_zip_leaves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "export.zip").write_text("no zip")
    with pytest.raises(InputError, match=r"export\.zip: "):
        load_data(DataConfig(str(tmp_path / "export.zip"), downloads=str(tmp_path / "kept")), store)
    assert list((tmp_path / "kept").iterdir()) == []


def test_the_file_that_says_what_is_there(
    store: Store, make_yolo: Callable[..., Path], make_coco: Callable[..., Path], tmp_path: Path
) -> None:
    yolo = make_yolo({"a": [CAT], "b": [CAT]})
    (yolo / "data.yaml").rename(yolo / "mine.YML")
    data = load_data(DataConfig(str(yolo / "mine.YML")), store)
    assert (data.name, len(data.train), len(data.test)) == ("yolo", 1, 1)
    coco = make_coco({stem: [CAT] for stem in "abcdef"})
    data = load_data(DataConfig(str(coco / "annotations/instances_train.json")), store)
    assert len(data.train) + len(data.test) == 5  # a part of it is held out
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(
        InputError, match=r"photo\.jpg: no data set: takes a folder, a \.zip of one"
    ):
        load_data(DataConfig(str(tmp_path / "photo.jpg")), store)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 7.0])
def test_a_part_that_cannot_be_held_out(store: Store, share: float) -> None:
    with pytest.raises(InputError, match=r"--data\.holdout"):
        load_data(DataConfig(shapes=SHAPES, holdout=share), store)
