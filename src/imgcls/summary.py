"""What a finished run says on the terminal: its scores and the paths of what was written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from imgcls import dashboards


def rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The summary as (name, value)."""
    test = result["test"]
    shown = [
        ("test accuracy", f"{test['acc']:.2%}  ({test['n']:,} images)"),
        ("top-5", f"{test['top5']:.2%}"),
        (
            "macro precision / recall / F1",
            f"{test['precision']:.4f} / {test['recall']:.4f} / {test['f1']:.4f}",
        ),
        ("test loss", f"{test['loss']:.4f}"),
    ]
    if best := result.get("best"):
        shown.append(("best validation accuracy", f"{best['val/acc']:.2%}  (epoch {best['epoch']:.0f})"))
    if "parameters" in result:
        shown.append(("parameters", f"{result['parameters']:,}"))
        shown.append(("multiply-adds per image", f"{result['multiply_adds']:,}"))
    if "seconds" in result:
        shown.append(("training", f"{result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s"))
    return shown


def show(title: str, result: Mapping[str, Any], folder: Path, files: list[str]) -> None:
    """Print the table and the paths."""
    console = Console()
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows(result):
        table.add_row(name, value)
    console.print(table)
    for warning in result.get("warnings", []):
        console.print(f"[yellow]note:[/] {warning}", highlight=False)
    # Plain print: a path must stay in one piece, to be copied or clicked.
    print(f"in {folder}/:")
    print("  " + "  ".join(name for name in files if (folder / name).exists()))
    for line in dashboards.places(folder):
        print(line)
