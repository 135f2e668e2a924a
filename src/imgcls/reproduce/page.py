"""A paper's table with ours beside it, as a page of HTML that needs no other file."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgcls import __version__
from imgcls.reproduce import pictures
from imgcls.reproduce.outcome import Outcome, titled
from imgcls.reproduce.texts import grid, markdown, remarks, table_csv
from imgcls.runs import write_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #262626; max-width: 80rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 }
h2 { font-size: 1.15rem; margin-top: 2.2rem }
.by { color: #666; margin-top: 0 }
.stamp { background: #fff0e0; border-left: 4px solid #D55E00; padding: .4rem .8rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .87rem }
th { text-align: left; border-bottom: 2px solid #8c8c8c; vertical-align: bottom }
th.n { text-align: right }
td, th { padding: .25rem .7rem .25rem 0 }
td { border-bottom: 1px solid #e6e6e6; vertical-align: top }
td.row, td.n, td.run { white-space: nowrap }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.within { color: #00734f }
.better { color: #0072B2 }
.worse { color: #D55E00 }
td.run, .remarks { color: #666; font-size: .8rem }
img { max-width: 100%; margin-top: .8rem }
li { margin: .15rem 0 }
"""
HEAD = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{style}</style>"


def page(outcome: Outcome, drawn: Mapping[str, Sequence[Path]]) -> str:
    """All tables, each with its pictures."""
    paper, esc = outcome.paper, html.escape
    by = f"{outcome.authors}. Run again with imgcls {__version__}"
    parts = [HEAD.format(title=esc(f"{paper.name}, run again"), style=STYLE)]
    parts += [f"<h1>{esc(paper.title)}</h1>", f"<p class=by>{esc(by)}</p>"]
    parts += [f"<p class=stamp>{esc(stamp)}</p>" for stamp in outcome.stamps]
    for name, entries in outcome.tables.items():
        parts += [f"<h2>{esc(titled(name))}</h2>", _table(*grid(outcome, entries))]
        parts += [_list(remarks(entries), "remarks"), *map(_image, drawn.get(name, ()))]
    facts = [f"{name}: {text}" for name, text in outcome.facts.items()]
    lists = {"How to read this": outcome.notes, "What the paper leaves open": paper.resolves, "Ran on": facts}
    parts += [f"<h2>{title}</h2>{_list(texts)}" for title, texts in lists.items()]
    return "\n".join([*filter(None, parts), "</html>\n"])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th class="{_kind(column)}">{html.escape(column)}' for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, columns, row))}\n" for row in rows)
    return f"<div class=wide><table><tr>{head}\n{body}</table></div>"


def _cell(column: str, text: str) -> str:
    kind = text if column == "verdict" else _kind(column)
    return f'<td class="{kind}">{html.escape(text)}'


def _kind(column: str) -> str:
    """The class of a column's cells: n for numbers."""
    return {"row": "row", "what": "", "verdict": "", "state": "", "run": "run"}.get(column, "n")


def _list(texts: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{html.escape(text)}\n" for text in texts)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def _image(picture: Path) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'<img alt="{html.escape(picture.stem)}" src="data:image/png;base64,{data}">'


def write(outcome: Outcome, folder: Path) -> list[Path]:
    """Write table.md, table.csv, table.html and the pictures; returns all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {name: pictures.draw(outcome, name, folder) for name in outcome.tables}
    texts = {
        "table.md": markdown(outcome),
        "table.csv": table_csv(outcome),
        "table.html": page(outcome, drawn),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *(path for paths in drawn.values() for path in paths)]
