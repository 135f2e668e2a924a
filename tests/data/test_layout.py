"""Which files are found, as what; names alone decide, so that the files here are empty."""

import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from imgcls.data.files import PARTS, Files
from imgcls.data.layout import find
from imgcls.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def entries(files: Files) -> list[str]:
    """part:class:name of each file, in order."""
    rows = zip(files.parts, files.labels, files.names, strict=True)
    return [f"{PARTS[part]}:{files.classes[label]}:{name}" for part, label, name in rows]


def refusal(root: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        find(str(root))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def expected(root: Path) -> str:
    return f"Expected {root}/CLASS/IMAGE, {root}/train/CLASS/IMAGE (also val, test), or a CSV of path,label."


def test_class_folders(tmp_path: Path) -> None:
    files = find(str(touch(tmp_path, "bee/1.png", "ant/b.JPG", "ant/a.webp", "ant/deep/er/c.tif")))
    assert files.classes == ("ant", "bee")
    assert entries(files) == [
        "train:ant:ant/a.webp",
        "train:ant:ant/b.JPG",
        "train:ant:ant/deep/er/c.tif",
        "train:bee:bee/1.png",
    ]
    assert (files.root, files.layout) == (tmp_path, "in class folders")


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "TEST")])
def test_folders_of_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = touch(tmp_path, *(f"{part}/{name}/1.png" for part in names for name in ("ant", "bee")))
    files = find(str(root))
    assert [line.split(":")[0] for line in entries(files)] == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert files.layout == f"in class folders of {', '.join(names)}"


@pytest.mark.parametrize("parts", [("train",), ("train", "val"), ("train", "test")])
def test_val_and_test_may_be_missing(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = touch(tmp_path, *(f"{part}/{name}/1.png" for part in parts for name in ("ant", "bee")))
    assert Counter(line.split(":")[0] for line in entries(find(str(root)))) == dict.fromkeys(parts, 2)


def test_a_class_may_be_called_train_or_test(tmp_path: Path) -> None:
    assert find(str(touch(tmp_path / "a", "train/1.png", "bus/1.png"))).classes == ("bus", "train")
    assert find(str(touch(tmp_path / "b", "test/1.png", "quiz/1.png"))).classes == ("quiz", "test")


def test_empty_class_folders_matter_in_train_only(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/ant/1.png", "train/bee/1.png", "test/ant/1.png", "test/bee/notes.txt")
    assert len(find(str(root))) == 3
    (root / "train/cow").mkdir()
    assert refusal(root).startswith(f"{root}/train/cow has no images (jpg, jpeg, png, ")
    assert refusal(root).endswith("Put some there, or remove it.")


def test_classes_are_in_natural_order(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"{name}/x.png" for name in ("10", "2", "1", "a10", "A2", "20")))
    assert find(str(root)).classes == ("1", "2", "10", "20", "A2", "a10")


def test_spaces_and_umlauts(tmp_path: Path) -> None:
    root = touch(tmp_path, "Grüne Äpfel/mein Bild (1).png", "日本/写真.png")
    assert entries(find(str(root))) == [
        "train:Grüne Äpfel:Grüne Äpfel/mein Bild (1).png",
        "train:日本:日本/写真.png",
    ]


def test_what_programs_leave_is_left_out_and_counted(tmp_path: Path) -> None:
    names = ["ant/1.png", "bee/1.png", "ant/.ipynb_checkpoints/1.png", ".ipynb_checkpoints/1.png"]
    names += ["__MACOSX/ant/1.png", "ant/._1.png", ".DS_Store", "bee/notes.txt", "readme.TXT", "ant/clip.mp4"]
    names += ["LICENSE", ".imgcls-photos.json"]
    files = find(str(touch(tmp_path, *names)))
    assert files.names == ["ant/1.png", "bee/1.png"]
    assert files.aside == {
        ".ipynb_checkpoints/": 2,
        "__MACOSX/": 1,
        "hidden files": 2,
        "*.txt": 2,
        "*.mp4": 1,
        "files without a suffix": 1,
    }


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = touch(tmp_path / "photos", "ant/1.png")
    touch(tmp_path / "elsewhere", "1.png", "2.png")
    (root / "bee").symlink_to(tmp_path / "elsewhere")
    (root / "ant/again").symlink_to(root / "ant")
    (root / "ant/gone.png").symlink_to(tmp_path / "nothing")
    assert find(str(root)).names == ["ant/1.png", "ant/gone.png", "bee/1.png", "bee/2.png"]


def test_a_list(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "path,label,split\nb/2.png,10,test\na/1.png,9,train\n/abs/3.png,10,Train\n4.png,9,valid\n"
    )
    files = find(str(table))
    assert entries(files) == ["train:9:a/1.png", "train:10:/abs/3.png", "val:9:4.png", "test:10:b/2.png"]
    assert (files.classes, files.layout) == (("9", "10"), "listed in list.csv")
    assert files.paths[:2] == [f"{tmp_path}/a/1.png", "/abs/3.png"]


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_a_list_as_spreadsheets_write_it(tmp_path: Path, comma: str) -> None:
    lines = ["label,note,path", 'ant,"one, two",1.png', "bee,,ü.png"]
    text = "\r\n".join(line.replace(",", comma) for line in lines)
    (tmp_path / "list.csv").write_bytes(text.encode("utf-8-sig"))
    assert entries(find(str(tmp_path / "list.csv"))) == ["train:ant:1.png", "train:bee:ü.png"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1.png,ant\n", " begins with '1.png,ant'. Begin it with path,label or path,label,split."),
        ("", " begins with ''. Begin it with path,label or path,label,split."),
        ("path,label\n1.png,\n", "line 2 of {} must have a path and a label. Mend it."),
        ("path,label\n1.png,ant\n1,2.png,ant\n", "line 3 of {} must have a path and a label. Mend it."),
        ("path,label\n1.png,ant\n1.png,bee\n", "line 3 of {} lists 1.png again. Remove one of them."),
        (
            "path,label,split\n1.png,ant,\n",
            "line 2 of {} must have a path and a label, and train, val or test. Mend it.",
        ),
        ("path,label,split\n1.png,ant,dev\n", "and train, val or test. Mend it."),
        ("path,label\n1.png,ant\n", " has only one class, ant. Expected "),
        ("path,label,split\n1.png,ant,test\n", " has no classes to train on. Expected "),
    ],
)
def test_refused_lists(tmp_path: Path, text: str, fault: str) -> None:
    table = tmp_path / "list.csv"
    table.write_text(text)
    assert fault.format(table) in refusal(table)


def test_a_list_in_another_encoding(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_bytes("path,label\nü.png,ant\n".encode("latin-1"))
    assert refusal(table) == f"{table} is not in UTF-8. Save it as a CSV in UTF-8."


def test_a_missing_root(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    assert refusal(root) == f"dataset.root={root} is not there. {expected(root)}"


def test_images_beside_folders(tmp_path: Path) -> None:
    root = touch(tmp_path, "ant/1.png", "bee/1.png", "cover.jpg")
    assert refusal(root) == f"{root} has images directly in it (cover.jpg). {expected(root)}"
    root = touch(tmp_path / "parts", "train/ant/1.png", "train/bee/1.png", "test/1.png")
    assert refusal(root) == f"{root}/test has images directly in it (1.png). {expected(root)}"


def test_fewer_than_two_classes(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} has no classes to train on. {expected(tmp_path)}"
    touch(tmp_path, "ant/1.png")
    assert refusal(tmp_path) == f"{tmp_path} has only one class, ant. {expected(tmp_path)}"


def test_a_folder_within_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "photos/ant/1.png", "photos/bee/1.png")
    inner = tmp_path / "photos"
    assert refusal(tmp_path) == f"{tmp_path} has only one folder, photos. Did you mean dataset.root={inner}?"


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("train", "val", "extra"), " has extra/ beside train/ and val/. Move what is no part "),
        (("train", "val", "valid"), " has train/ and val/ and valid/. Give it one folder train, "),
        (("val", "test"), " has test/ and val/. Give it one folder train, and at most one val and one test."),
    ],
)
def test_doubtful_parts(tmp_path: Path, names: tuple[str, ...], fault: str) -> None:
    assert fault in refusal(touch(tmp_path, *(f"{name}/ant/1.png" for name in names)))


@pytest.mark.parametrize(
    ("first", "second", "pair"),
    [
        ("Cat", "cat", "'Cat' and 'cat'"),
        ("cat", "cat ", "'cat' and 'cat '"),
        *[
            (unicodedata.normalize(form, "café"), unicodedata.normalize(other, "CAFÉ"), "and 'caf")
            for form, other in (("NFC", "NFD"), ("NFD", "NFC"))
        ],
    ],
)
def test_classes_spelt_alike(tmp_path: Path, first: str, second: str, pair: str) -> None:
    line = refusal(touch(tmp_path, f"{first}/1.png", f"{second}/1.png", "dog/1.png"))
    assert line.startswith("the classes '") and pair.lower() in line.lower()
    assert line.endswith(" are spelt alike. Merge them, or give one another name.")


def test_a_class_that_is_not_trained_on(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/ant/1.png", "train/bee/1.png", "val/ant/1.png", "val/aardvark/1.png")
    what = "val/aardvark/1.png (val) is of class aardvark, which is not in train"
    assert refusal(root) == f"{root}: {what}. Classes to train on are ant, bee."
