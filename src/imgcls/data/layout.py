"""Which image files there are, and of which class and part each is: from class folders or a CSV.

Only names are read here; what is in the files is for `imgcls.data.scan` to say.
"""

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from imgcls.data.files import CACHE, PARTS, TEST, TRAIN, VAL, Files, brief
from imgcls.data.images import SUFFIXES, natural
from imgcls.errors import DataError

# What folders and CSV entries of the parts may be called
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation"), VAL),
    **dict.fromkeys(("test", "testing"), TEST),
}

Entry = tuple[int, str, str]  # part, class, name of the file relative to the root


def find(root: str) -> Files:
    """The images under a folder, or those that a CSV lists."""
    path = Path(root).expanduser().absolute()
    aside: Counter[str] = Counter()
    if path.is_file():
        return _files(path.parent, list(_rows(path)), f"listed in {path.name}", aside)
    if not path.is_dir():
        raise DataError(f"dataset.root={root} is not there. {_expected(path)}")
    folders = _folders(path, path, aside)
    splits = _splits(path, folders)
    if not splits:
        _refuse_wrapper(path, folders)
        return _files(path, _entries(path, path, TRAIN, folders, aside), "in class folders", aside)
    entries: list[Entry] = []
    for part, folder in splits.items():
        entries += _entries(path, path / folder, part, _folders(path, path / folder, aside), aside)
    return _files(path, entries, f"in class folders of {', '.join(splits.values())}", aside)


def _expected(root: Path) -> str:
    """What a root has to look like."""
    return f"Expected {root}/CLASS/IMAGE, {root}/train/CLASS/IMAGE (also val, test), or a CSV of path,label."


def _hidden(name: str) -> bool:
    """Made by programs, not by users: .DS_Store, .ipynb_checkpoints, __MACOSX."""
    return name.startswith((".", "__"))


def _folders(root: Path, place: Path, aside: Counter[str]) -> list[str]:
    """Names of the folders in `place`; DataError for images beside them."""
    names = []
    for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
        if not entry.is_dir():
            if _is_image(entry.name, aside):
                raise DataError(f"{place} has images directly in it ({entry.name}). {_expected(root)}")
        elif not _hidden(entry.name):
            names.append(entry.name)
        else:
            aside[f"{entry.name}/"] += 1
    return names


def _is_image(name: str, aside: Counter[str]) -> bool:
    """Whether a file's name is that of an image; what is none is counted."""
    suffix = Path(name).suffix.lower()
    if not _hidden(name) and suffix[1:] in SUFFIXES:
        return True
    if name.startswith(CACHE):
        return False
    aside["hidden files" if _hidden(name) else f"*{suffix}" if suffix else "files without a suffix"] += 1
    return False


def _splits(root: Path, folders: list[str]) -> dict[int, str]:
    """{part: folder} if the folders are those of parts; a lone `train` among others is a class."""
    found = {name: SPLITS[name.lower()] for name in folders if name.lower() in SPLITS}
    others = [f"{name}/" for name in folders if name not in found]
    if not found or (len(found) == 1 and (others or TRAIN not in found.values())):
        return {}
    names = " and ".join(f"{name}/" for name in found)
    if others:
        raise DataError(f"{root} has {others[0]} beside {names}. Move what is no part of the data elsewhere.")
    if TRAIN not in found.values() or len(set(found.values())) < len(found):
        raise DataError(f"{root} has {names}. Give it one folder train, and at most one val and one test.")
    return {part: name for name, part in sorted(found.items(), key=lambda item: item[1])}


def _refuse_wrapper(root: Path, folders: list[str]) -> None:
    """DataError for a folder within a folder, as archives often unpack."""
    if len(folders) == 1 and any(entry.is_dir() for entry in os.scandir(root / folders[0])):
        inner = root / folders[0]
        raise DataError(f"{root} has only one folder, {folders[0]}. Did you mean dataset.root={inner}?")


def _entries(root: Path, place: Path, part: int, folders: list[str], aside: Counter[str]) -> list[Entry]:
    """All images of the class folders in `place`; DataError for an empty one to train on."""
    entries: list[Entry] = []
    for name in folders:
        images = [(part, name, file) for file in _images(root, place / name, aside)]
        # A class to validate or test on may be empty, but one to train on is hardly meant to be.
        if not images and part == TRAIN:
            kinds = ", ".join(SUFFIXES)
            raise DataError(f"{place / name} has no images ({kinds}). Put some there, or remove it.")
        entries += images
    return entries


def _images(root: Path, folder: Path, aside: Counter[str]) -> Iterator[str]:
    """Images in a folder and all below, as names relative to the root, in order."""
    seen, outer = set(), len(os.path.join(root, ""))  # noqa: PTH118 - text is quicker than a million paths
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads in a circle
            folders.clear()
            continue
        seen.add(real)
        aside.update(f"{name}/" for name in folders if _hidden(name))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        inner = Path(place).as_posix()[outer:]
        yield from (f"{inner}/{name}" for name in sorted(files) if _is_image(name, aside))


def _refuse(error: OSError) -> None:
    """A folder that cannot be read must not look empty."""
    raise error


def _rows(path: Path) -> Iterator[Entry]:
    """The lines of a CSV with the columns path, label and perhaps split; commas, semicolons or tabs."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not in UTF-8. Save it as a CSV in UTF-8.") from error
    head = text.partition("\n")[0].strip()
    # Spreadsheets write semicolons where the comma is in decimal fractions.
    table = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    if not {"path", "label"} <= set(table.fieldnames or ()):
        raise DataError(f"{path} begins with {head[:60]!r}. Begin it with path,label or path,label,split.")
    known: set[str] = set()
    for row in table:
        # csv keeps what is beyond the last column under None: a comma in a path that is not in quotes
        name, label, split = (str(row.get(key) or "").strip() for key in ("path", "label", "split"))
        part = SPLITS.get(split.lower()) if "split" in row else TRAIN
        if not name or not label or part is None or None in row:
            parts = ", and train, val or test" if "split" in row else ""
            raise DataError(f"line {table.line_num} of {path} must have a path and a label{parts}. Mend it.")
        if name in known:
            raise DataError(f"line {table.line_num} of {path} lists {name} again. Remove one of them.")
        known.add(name)
        yield part, label, name


def _files(root: Path, entries: list[Entry], layout: str, aside: Counter[str]) -> Files:
    """The files of all entries; DataError for classes that cannot be told apart or learned."""
    called = {name for _, name, _ in entries}
    refuse_unprintable(called)
    _refuse_alike(called)
    found = {name for part, name, _ in entries if part == TRAIN}
    if len(found) < 2:
        what = f"only one class, {found.pop()}" if found else "no classes to train on"
        raise DataError(f"{root} has {what}. {_expected(root)}")
    classes = tuple(sorted(found, key=lambda name: natural(Path(name))))
    labels = {name: label for label, name in enumerate(classes)}
    for part, name, file in entries:
        if name not in labels:
            what = f"{file} ({PARTS[part]}) is of class {name}, which is not in train"
            raise DataError(f"{root}: {what}. Classes to train on are {brief(classes, 5)}.")
    entries.sort(key=lambda entry: entry[0])  # stable: a list's own order is kept within each part
    parts, names = [part for part, _, _ in entries], [file for _, _, file in entries]
    numbers = np.array([labels[name] for _, name, _ in entries])
    return Files(root, names, numbers, np.array(parts), classes, layout, aside)


def refuse_unprintable(names: Iterable[str]) -> None:
    """DataError for a class whose name no terminal, table or file in UTF-8 can show."""
    for name in names:
        if odd := [c for c in name if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]:
            what = f"the name of class {name!a} has a character that cannot be shown ({odd[0]!a})"
            raise DataError(f"{what}. Give it another name.")


def _refuse_alike(names: set[str]) -> None:
    """DataError for two classes that a reader, or another file system, takes for one."""
    first: dict[str, str] = {}
    for name in sorted(names):
        # Macs store é as e and an accent; Windows takes Cat for cat.
        key = unicodedata.normalize("NFC", name.strip().casefold())
        if key in first:
            pair = f"{first[key]!a} and {name!a}"
            raise DataError(f"the classes {pair} are spelt alike. Merge them, or give one another name.")
        first[key] = name
