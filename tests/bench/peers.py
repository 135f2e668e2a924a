"""Images per second of training beside what people use now: ResNet-18 on CIFAR-10, batch 128, on the CPU.

    python tests/bench/peers.py CHECKOUTS [rounds]

CHECKOUTS holds clones of kuangliu/pytorch-cifar, ashleve/lightning-hydra-template and
huggingface/pytorch-image-models; those that are missing are left out. The template wants
`pip install rootutils hydra-colorlog`. IMGCLS_DATA is where CIFAR-10 lies.

Each program runs as its README says, from its own entry point, in a process of its own, and is stopped after
some steps; the programs take turns. Counted are the steps after the first three. Changed are: the network
where another is the default, the number of epochs, and the dataset of the template, which has MNIST only.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

DATA = Path(os.environ.get("IMGCLS_DATA", "data")).absolute()
HERE = Path(__file__).parent.absolute()
BATCH, STEPS, SKIPPED = 128, 23, 3


class Clock:
    """Prints the rate after STEPS steps, and ends the process."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self) -> None:
        """One step is done."""
        self.steps += 1
        if self.steps == SKIPPED:
            self.start = time.perf_counter()
        if self.steps == STEPS:
            rate = BATCH * (STEPS - SKIPPED) / (time.perf_counter() - self.start)
            print(f"images/s {rate:.2f}", flush=True)
            os._exit(0)


# What follows runs in the processes of the programs


def pytorch_cifar() -> None:
    """main.py with `net = ResNet18()`, one of its own lines."""
    import io

    os.popen = lambda *words: io.StringIO("24 80")  # type: ignore[assignment]  # it asks for the terminal's size
    sys.path.insert(0, ".")
    import utils  # theirs

    clock = Clock()
    utils.progress_bar = lambda *words: clock.step()
    program = Path("main.py").read_text().replace("\nnet = SimpleDLA()", "\nnet = ResNet18()")
    program = program.replace("root='./data'", f"root={str(DATA)!r}")
    sys.argv = ["main.py"]
    exec(compile(program, "main.py", "exec"), {"__name__": "__main__"})


def template() -> None:
    """src/train.py with the network of imgcls and CIFAR-10 in the place of its MNIST."""
    import runpy

    sys.path[:0] = [str(HERE), "."]
    keys = ("input_size", "lin1_size", "lin2_size", "lin3_size", "output_size")
    words = [f"~model.net.{key}" for key in keys]
    words += ["model.net._target_=imgcls.models.resnet.resnet18", "+model.net.in_channels=3"]
    words += ["+model.net.num_classes=10", "+model.net.image_size=32", "+model.net.stem=cifar"]
    words += ["data._target_=peers_template.CIFAR10Data", f"data.data_dir={DATA}", "data.num_workers=2"]
    words += ["model.optimizer._target_=torch.optim.SGD", "model.optimizer.lr=0.1"]
    words += ["+callbacks.clock._target_=peers_template.Watch", "trainer=cpu", "logger=csv", "test=false"]
    sys.argv = ["src/train.py", *words]
    runpy.run_path("src/train.py", run_name="__main__")


def timm(*more: str) -> None:
    """train.py with the network of imgcls registered among its own."""
    import runpy

    sys.path.insert(0, ".")
    from timm.models import register_model
    from timm.utils import AverageMeter
    from torch import nn

    from imgcls.models.resnet import resnet18

    def imgcls_resnet18(pretrained: bool = False, num_classes: int = 10, **kwargs: object) -> nn.Module:
        net = resnet18(num_classes=num_classes, in_channels=3, image_size=32, stem="cifar")
        net.num_classes = num_classes  # type: ignore[assignment]
        return net

    imgcls_resnet18.__module__ = "timm.models.resnet"
    register_model(imgcls_resnet18)
    clock = Clock()
    update = AverageMeter.update

    def counted(self: AverageMeter, value: float, n: int = 1) -> None:
        update(self, value, n)
        if n > 1:  # the meter of losses, once a step
            clock.step()

    AverageMeter.update = counted
    with TemporaryDirectory() as folder:
        words = ["--dataset", "torch/cifar10", "--data-dir", str(DATA), "--model", "imgcls_resnet18"]
        words += ["--num-classes", "10", "--input-size", "3", "32", "32", "-b", str(BATCH), "-j", "2"]
        words += ["--opt", "sgd", "--lr", "0.1", "--epochs", "1", "--device", "cpu", "--output", folder]
        words += [
            "--mean",
            "0.4914",
            "0.4822",
            "0.4465",
            "--std",
            "0.247",
            "0.2435",
            "0.2616",
            "--log-interval",
            "1",
        ]
        sys.argv = ["train.py", *words, *more]
        runpy.run_path("train.py", run_name="__main__")


def imgcls() -> None:
    """The command of the README, on as many images; the rate that it reports, of the whole epoch."""
    with TemporaryDirectory() as folder:
        words = ["model=resnet18", "dataset=cifar10", f"batch_size={BATCH}", "epochs=1", f"output={folder}"]
        words += [f"dataset.limit={BATCH * STEPS}", "dataset.val_fraction=0", "progress=none"]
        words += [f"dataset.root={DATA}"]
        out = subprocess.run(
            [sys.executable, "-m", "imgcls", *words], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"([\d,]+) images/s", out)
    assert found, out
    print(f"images/s {found[1].replace(',', '')}")


FAST = ("--amp", "--amp-dtype", "bfloat16", "--channels-last")
WAYS: dict[str, tuple[str, Callable[[], None]]] = {
    "imgcls": ("", imgcls),
    "kuangliu/pytorch-cifar": ("pytorch-cifar", pytorch_cifar),
    "ashleve/lightning-hydra-template": ("lightning-hydra-template", template),
    "timm train.py": ("pytorch-image-models", timm),
    "timm train.py, bf16, channels_last": ("pytorch-image-models", lambda: timm(*FAST)),
}


def rate(name: str, checkouts: Path) -> float | None:
    """Images per second of one program, run once in a process of its own; None where it is not there."""
    folder = checkouts / WAYS[name][0] if WAYS[name][0] else HERE
    if not folder.is_dir():
        return None
    command = [sys.executable, str(HERE / "peers.py"), "--way", name]
    with TemporaryDirectory() as room:
        environment = os.environ | {"PROJECT_ROOT": room, "TQDM_DISABLE": "1"}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    found = re.search(r"images/s ([\d.]+)", run.stdout)
    if not found:
        print(f"{name}: no rate\n{run.stdout[-500:]}\n{run.stderr[-1500:]}")
        return None
    return float(found[1])


def main() -> None:
    """Let the programs take turns, and print medians of the ratios within rounds."""
    checkouts, rounds = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    rates: dict[str, list[float | None]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name in WAYS:
            rates[name].append(rate(name, checkouts))
    print(f"{'program':40} {'images/s':>10} {'imgcls is':>10}")
    for name, found in rates.items():
        pairs = [(own, other) for own, other in zip(rates["imgcls"], found, strict=True) if own and other]
        if pairs:
            ratio = statistics.median(own / other for own, other in pairs)
            print(f"{name:40} {statistics.median(other for _, other in pairs):10.1f} {ratio:9.2f}x")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--way"]:
        WAYS[sys.argv[2]][1]()
    else:
        main()
