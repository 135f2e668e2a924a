"""The program of Clark 2020, "Deeper Networks for Image Classification", as its report describes it.

    python -m imgcls.deeper_networks --res20 --cifar10 --epochs 50 --resume
    imgcls.deeper_networks.main(["--drop", "--cifar", "--epochs", "50"])      # in a notebook

Only a way to say it: the settings are those of conf/papers/clark.yaml, and `python -m imgcls` does the work.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from imgcls import __main__ as imgcls
from imgcls import naming, papers
from imgcls.cli import command
from imgcls.runs import BEST, LAST, METRICS, Run

DATASETS = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
NETWORKS = {"conv": "convnet", "dropout": "dropnet", "vgg": "vgg11", "nin": "nin"}
NETWORKS |= {f"res{depth}": f"resnet{depth}" for depth in (20, 32, 56)}


class How(NamedTuple):  # what a saved model brings with it
    epochs: int = 50
    sgd: bool = False
    scaling: int = 1


NEW = How()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="python -m imgcls.deeper_networks [options] [KEY=VALUE ...]",
        description="Train and test the networks of Clark 2020: each one named on each dataset named.",
        epilog="Beginnings of options will do: --drop, --cifar. VGG-A (--vgg) learned with --sgd only.",
    )
    parser.add_argument("--epochs", type=int, default=NEW.epochs, help="how many to train for (50)")
    parser.add_argument("--scaling", type=int, default=1, help="enlarge images so many times; for new models")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--restart", action="store_true", help="train anew; the saved model is put aside")
    again.add_argument("--resume", action="store_true", help="train the saved model further")
    switches = {
        "all-data": "every dataset",
        "all-arch": "every network",
        "sgd": "SGD, not Adam; for new models",
    }
    networks = {name: f"model={model}" for name, model in NETWORKS.items()}
    for name, said in (switches | DATASETS | networks).items():
        parser.add_argument(f"--{name}", action="store_true", help=said)
    parser.add_argument("more", nargs="*", metavar="KEY=VALUE", help="any other setting of imgcls")
    return parser


def read(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, with lists `datasets` and `networks` of what was chosen."""
    parser = _parser()
    options = parser.parse_intermixed_args(argv)
    options.datasets = [name for name in DATASETS if options.all_data or getattr(options, name)]
    options.networks = [name for name in NETWORKS if options.all_arch or getattr(options, name)]
    for kind, every, known in (("datasets", "--all-data", DATASETS), ("networks", "--all-arch", NETWORKS)):
        if not getattr(options, kind):
            parser.error(f"no {kind} named. Add {every} or some of --{' --'.join(known)}")
    return options


def overrides(dataset: str, network: str, how: How = NEW, more: Sequence[str] = ()) -> list[str]:
    """The command that trains a new network of the report; `more` wins over what it says."""
    row, other = _row(dataset, NETWORKS[network]), _row(dataset, "vgg11" if how.sgd else "convnet")
    words = [word for word in row if not word.startswith("optimizer")]
    words += [word for word in other if word.startswith("optimizer")]
    words += [f"epochs={how.epochs}", f"scaling.factor={how.scaling}", *more]
    return list({word.partition("=")[0]: word for word in words}.values())


def _row(dataset: str, model: str) -> list[str]:
    """What the report ran at native size; a ResNet that it has no row for is trained as its RES20."""
    rows = [row.overrides for row in papers.rows(name="clark")]
    native = [words for words in rows if f"dataset={dataset}" in words and "scaling" not in "".join(words)]
    same = [words for words in native if f"model={model}" in words]
    words = (same or [words for words in native if "model=resnet20" in words])[0]
    return [f"model={model}" if word.startswith("model=") else word for word in words]


def jobs(options: argparse.Namespace) -> Iterator[list[str]]:
    """The command of each pair of dataset and network, made when its turn has come."""
    how, more = How(options.epochs, options.sgd, options.scaling), options.more
    for dataset, network in product(options.datasets, options.networks):
        words = overrides(dataset, network, how, more)
        if options.resume and not command.check(words)[1]:  # else imgcls says what is wrong
            words = overrides(dataset, network, _further(dataset, network, how, more), more)
        yield [*words, *(["restart=true"] if options.restart else [])]


def _further(dataset: str, network: str, how: How, more: Sequence[str]) -> How:
    """The options that train the saved model on; those that were asked for if there is none."""
    if not (found := list(_saved(dataset, network, more))):
        print("no model is saved: trains a new one")
        return how
    latest = found[0][1]  # has the settings, and the longest trained of its kind the weights
    run, own = max((each for each in found if each[1][1:] == latest[1:]), key=lambda each: each[1].epochs)
    if own[1:] != how[1:]:
        print(f"goes on with {'SGD' if own.sgd else 'Adam'} and scaling {own.scaling}, as it was saved")
    if not run.result or run.result["epochs"] < own.epochs:
        return own  # was interrupted, or stopped because the loss fell no more
    longer = own._replace(epochs=own.epochs + how.epochs)
    _hand_on(run, naming.folder(command.check(overrides(dataset, network, longer, more))[0]))
    return longer


def _saved(dataset: str, network: str, more: Sequence[str]) -> Iterator[tuple[Run, How]]:
    """Runs of a network, the latest first, and the options that they had."""
    output = Path(command.check(overrides(dataset, network, more=more))[0]["output"])
    name = f"{dataset}-{NETWORKS[network]}-*/{LAST}"
    for file in sorted(output.glob(name), key=lambda file: file.stat().st_mtime, reverse=True):
        run = Run.existing(file)
        own = run.config
        how = How(own["epochs"], own["optimizer"]["name"] == "sgd", own["scaling"]["factor"])
        if naming.folder(command.check(overrides(dataset, network, how, more))[0]) == run.path:
            yield run, how


def _hand_on(run: Run, folder: Path) -> None:
    """Let a longer run begin where a finished one stands: nothing in these trainings looks at their end."""
    if not (folder / LAST).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for file in (run / name for name in (METRICS, BEST, LAST) if (run / name).exists()):
            shutil.copy2(file, part := folder / f"{file.name}.part")
            part.replace(folder / file.name)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; exits with the code of imgcls if something fails, when all else is done."""
    failed = []
    for words in jobs(read(argv)):
        try:
            imgcls.main(words)
        except SystemExit as stop:
            failed.append(stop.code)
            if stop.code in (130, 143):  # by a signal
                break
    if failed:
        sys.exit(failed[-1])


if __name__ == "__main__":
    main()
