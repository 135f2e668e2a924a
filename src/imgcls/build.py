"""Configuration → data, network, classifier, trainer. The only file that makes objects from names."""

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn
from torch.optim import Optimizer

from imgcls import dashboards, devices, keys
from imgcls.checkpoints import AtomicIO, Keeper
from imgcls.classifier import Classifier, Domain
from imgcls.data.augment import Augment
from imgcls.data.datamodule import ImageData
from imgcls.data.features import Backbone, Features
from imgcls.data.files import Files
from imgcls.data.prepare import Prepare
from imgcls.data.sources import Source
from imgcls.distributed import launch, ranks
from imgcls.divergence import FirstWeights
from imgcls.errors import CheckpointError, ConfigError
from imgcls.lean import NoProfiler, slim
from imgcls.models.adapt import without_weights
from imgcls.models.airbench import proxy
from imgcls.models.freeze import freeze
from imgcls.models.init import initialise
from imgcls.models.whitening import parts as patches_of
from imgcls.models.whitening import whiten
from imgcls.optim import decay, early
from imgcls.optim.hardest import Hardest
from imgcls.optim.lookahead import Lookahead
from imgcls.optim.muon import Muon
from imgcls.progress import ProgressBar
from imgcls.runs import Run
from imgcls.weights import read_into

Config = Mapping[str, Any]


def locate(path: str) -> Any:
    """What a dotted path names."""
    module, _, attribute = path.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_={path} cannot be imported ({error}). Check its spelling.") from error


def call(config: Config, **facts: Any) -> Any:
    """Call a group's `_target_` with its settings and the facts that only code knows."""
    target = locate(config["_target_"])
    settings = {k: v for k, v in config.items() if k not in ("_target_", "name")}
    unknown = settings.keys() - signature(target).parameters.keys()
    if unknown and not any(p.kind == p.VAR_KEYWORD for p in signature(target).parameters.values()):
        known = ", ".join(signature(target).parameters)
        raise ConfigError(f"{config['name']} has no setting {', '.join(sorted(unknown))}. It knows: {known}.")
    return target(**settings, **facts)


def data(config: Config, dataset: Config | None = None, source: Source | None = None) -> ImageData:
    """The images of a configuration, or of another dataset under it; `source` are those, if loaded before."""
    options = dict(dataset or config["dataset"])
    if source is None:
        target = locate(options["_target_"])
        source = target(**{key: options[key] for key in signature(target).parameters if key in options})
    names = ("val_fraction", "limit", "overfit", "resident", "num_workers")
    return ImageData(
        source,
        batch_size=config["batch_size"],
        part=config["batch_size"] // config["accumulate"],
        seed=config["seed"],
        **{key: options[key] for key in names},
    )


def files(dataset: Config) -> tuple[str, Files]:
    """(title, files) of a dataset of image files, without reading them."""
    target = locate(dataset["_target_"])
    found = locate(f"{target.__module__}.found")
    return found(**{key: dataset[key] for key in signature(found).parameters if key in dataset})


def optimizer(config: Config) -> Callable[[nn.Module], Optimizer]:
    """A maker of the configured optimizer, for any network."""
    group = config["optimizer"]
    made = locate(group["_target_"])
    own = ("name", "_target_", "decay_all", "weight_decay", "bias_lr", "head_lr")
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in group.items() if k not in own}

    rates = {key: group[key] for key in ("bias_lr", "head_lr") if key in group} | {"muon": made is Muon}

    def make(network: nn.Module) -> Optimizer:
        weights = decay.groups(network, group["weight_decay"], group["decay_all"], **rates)
        ends = early.parts(network, config["freeze_after"])
        weights = early.apart(weights, network, ends, config["epochs"])
        for some in weights:
            some["lr"] = group["lr"] * some.pop("times", 1.0)
        able = {"fused": options["fused"] and _can_fuse(config, network)} if "fused" in options else {}
        return made(weights, **{**options, **able})

    return make


def _can_fuse(config: Config, network: nn.Module) -> bool:
    """Not where a gradient is scaled (it is unscaled before it is clipped), in shares, or only a shape."""
    trainer = config["trainer"]
    scaled = (
        devices.precision(trainer["precision"], devices.accelerator(trainer["accelerator"])) == "16-mixed"
    )
    return not (scaled or trainer["strategy"] == "fsdp" or any(p.is_meta for p in network.parameters()))


def classifier(config: Config, images: ImageData) -> Classifier:
    """The classifier for these images, with weights drawn from the seed."""
    scaling, options = config["scaling"], config["dataset"]
    prepare = images.prepare(
        options["normalize"],
        options["channels"],
        scaling["factor"],
        scaling["size"],
        scaling["interpolation"],
    )
    height, width, channels = images.shape
    domain = Domain(list(images.classes), max(height, width), channels, prepare.size, prepare.channels)
    file = config["init"].get("file")
    with without_weights() if file else nullcontext():
        made = _assemble(config, prepare, domain, config["epochs"] * images.steps_per_epoch)
    if file:
        read_into(made.network, Path(file).expanduser(), config["init"]["head"])
    whitened = [made.network] if config["init"].get("first") == "whitened" else []
    if config["hardest"]:
        made.hardest = _hardest(config, made)
        whitened.append(made.hardest.proxy)
    if whitened:
        count, part = patches_of(prepare.size)
        sample = images.sample(count, "whitening").split(part)
        for network in whitened:
            whiten(network, map(prepare, sample))
    images.change = made.change if made.augment.only_places else None
    return made


def _hardest(config: Config, made: Classifier) -> Hardest:
    """What chooses a batch's hardest images for this classifier; its first layer is to be whitened."""
    torch.default_generator.manual_seed(keys.key(config["seed"], "proxy"))
    domain = made.domain
    network = proxy(num_classes=len(domain.classes), in_channels=domain.channels, image_size=domain.size)
    if config["trainer"]["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
    if config["trainer"]["compile"]:
        network.compile()
    return Hardest(
        config["hardest"],
        network,
        config["batch_size"],
        made.factor or (lambda step: 1.0),
        made.augment.label_smoothing,
    )


def restored(config: Config, checkpoint: Mapping[str, Any]) -> Classifier:
    """The classifier of a checkpoint, without its data."""
    domain, state = Domain(**checkpoint["imgcls"]["domain"]), checkpoint["state_dict"]
    mean, std = state["prepare.mean"], state["prepare.std"]
    interpolation = config["scaling"]["interpolation"]
    prepare = Prepare(mean, std, channels=domain.channels, size=domain.size, interpolation=interpolation)
    with without_weights():
        made = _assemble(config, prepare, domain)
    load_weights(made, checkpoint)
    return made


def load_weights(made: Classifier, checkpoint: Mapping[str, Any]) -> None:
    """Put a checkpoint's weights into a classifier; CheckpointError if they do not fit."""
    try:
        ranks.load(made, checkpoint["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint's weights do not fit this network ({str(error).splitlines()[-1].strip()}). "
            "Use the configuration that it was trained with."
        ) from error


def _assemble(config: Config, prepare: Prepare, domain: Domain, steps: int = 1) -> Classifier:
    torch.default_generator.manual_seed(keys.key(config["seed"], "weights"))
    network = call(
        config["model"], num_classes=len(domain.classes), in_channels=domain.channels, image_size=domain.size
    )
    drawn = {k: v for k, v in config["init"].items() if k not in ("name", "first", "file", "head")}
    initialise(network, **drawn)
    frozen = freeze(network, config["freeze"])
    if config["trainer"]["channels_last"]:
        network = network.to(memory_format=torch.channels_last)
    if config["trainer"]["compile"]:
        network.compile()
    augment = Augment(**{k: v for k, v in config["augmentation"].items() if k != "name"}, seed=config["seed"])
    return Classifier(
        network,
        prepare,
        augment,
        domain,
        optimizer=optimizer(config),
        schedule=config["schedule"],
        steps=steps,
        parts=config["accumulate"],
        clip=config["clip"],
        seed=config["seed"],
        frozen=frozen,
        ends=early.parts(network, config["freeze_after"]),
        tta=config["tta"],
    )


def features(config: Config, classifier: Classifier, images: ImageData, trainer: Trainer) -> None:
    """Let the images come as the features that the frozen part of the network makes of them."""
    context = trainer.precision_plugin.forward_context
    backbone = Backbone(classifier.network, classifier.trained, classifier.prepare, context)
    device = devices.describe(devices.accelerator(config["trainer"]["accelerator"]))
    facts = {"data": images.source.digest, "precision": trainer.precision, "device": device}
    images.features = Features(backbone, Path(config["output"]) / "features", facts)


def callbacks(config: Config, run: Run) -> list[Callback]:
    """What watches over training; the keeper comes last, after all that decides to stop."""
    bar = ProgressBar(config["progress"], config["epochs"])
    found: list[Callback] = [bar]
    if config["ema"]:
        found.append(EMAWeightAveraging(decay=config["ema"]))
    if config["lookahead"]:
        found.append(Lookahead(config["lookahead"]))
    if config["on_divergence"] == "record":
        found.append(FirstWeights(run))
    stopping = config["early_stopping"]
    if stopping["patience"]:
        mode = "max" if stopping["monitor"].endswith("acc") else "min"
        found.append(
            EarlyStopping(
                stopping["monitor"],
                min_delta=stopping["min_delta"],
                patience=stopping["patience"],
                mode=mode,
                check_on_train_epoch_end=True,
            )
        )
    boards = dashboards.chosen(config, run)

    def tell(row: dict[str, float]) -> None:
        bar.epoch(row)
        for board in boards:
            board.epoch(row)

    return [*found, *boards, Keeper(run, config["checkpoint_minutes"], tell)]


def quiet() -> None:
    """Silence advice that does not hold here, and advertisements."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*LeafSpec.*")


def trainer(config: Config, run: Run | None = None) -> Trainer:
    """A Lightning Trainer; with a run it trains and keeps, without it only tests."""
    quiet()
    options = config["trainer"]
    device, precision = devices.settle(options)
    made = Trainer(
        accelerator=device,
        devices=options["devices"],
        num_nodes=options["num_nodes"],
        strategy=_strategy(options),
        sync_batchnorm=options["sync_batchnorm"] and launch.count(options) > 1,
        precision=precision,  # type: ignore[arg-type]
        max_epochs=config["epochs"],
        deterministic=options["deterministic"],
        profiler=_profiler(options["profiler"], run),
        callbacks=callbacks(config, run) if run else [],
        plugins=[AtomicIO(), *([TorchElasticEnvironment()] if launch.count(options) > 1 else [])],
        logger=False,
        enable_checkpointing=run is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our loaders share out the images themselves
    )
    # Lightning's handler of SIGTERM talks to the other ranks from within, which hangs; the keeper listens.
    made._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return slim(made)


def _strategy(options: Config) -> Strategy | str:
    """How several devices work on one network."""
    if (count := launch.count(options)) == 1:
        return "auto"
    if options["strategy"] == "fsdp":
        return ModelParallelStrategy(count, tensor_parallel_size=1, save_distributed_checkpoint=False)
    # Statistics of batch norm are taken from rank 0 when they are used, not at every step.
    return DDPStrategy(broadcast_buffers=False)


def _profiler(kind: str | None, run: Run | None) -> Profiler:
    if not kind or not run:
        return NoProfiler()
    made = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}[kind]
    return made(dirpath=run.path, filename="profile")
