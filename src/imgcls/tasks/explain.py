"""Show what a finished run looks at: Grad-CAM, filters and feature maps, and its test images in the plane."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgcls.runs import Run, writable
from imgcls.tasks.evaluate import fits, settings_of, weights_of

IMAGES = 12  # in the picture of Grad-CAM
STAGES = 5  # of the network in the picture of feature maps
PICTURES = ("gradcam.png", "maps.png", "filters.png", "embedding.png")


@dataclass
class Shown:
    """Images uint8 (N, H, W, C) to explain, their names, their classes if known, and what they are."""

    pixels: Any
    names: list[str]
    true: list[int] | None
    what: str


def main(config: dict[str, Any], folder: Path, typed: Sequence[str] = ()) -> None:
    """Explain `run` by its mistakes on the test set, or by `source`; leaves pictures in `folder`."""
    from imgcls import build, checkpoints

    run = Run.existing(config["run"], config["output"])
    settings = settings_of(run, config, typed)
    settings["trainer"]["compile"] = False  # what is compiled lets nobody look inside
    writable(folder)
    classifier = build.restored(settings, checkpoints.load(weights_of(run, settings["select"])))
    if config["source"]:
        fit = config["fit"] if "fit" in typed else settings["dataset"].get("fit", config["fit"])
        shown = files(config["source"], classifier.domain, fit)
    else:
        other = config["dataset"] if "dataset" in typed else None
        shown = tested(settings, other, classifier, folder)
    draw(classifier, shown, config["layer"], settings["model"]["name"], folder)
    print(f"in {folder}/:")
    print("  " + "  ".join(name for name in PICTURES if (folder / name).exists()))


def files(source: str, domain: Any, fit: str) -> Shown:
    """The user's own images; of many, some spread over all."""
    import numpy as np

    from imgcls.data.images import find_images, read_image

    found = find_images(source)
    some = [found[row] for row in np.linspace(0, len(found) - 1, min(IMAGES, len(found))).astype(int)]
    pixels = np.stack([read_image(path, domain.image_channels, domain.image_size, fit) for path in some])
    what = f"{len(some)} of {len(found):,} images"
    return Shown(pixels, [path.name for path in some], None, what)


def tested(config: dict[str, Any], other: Mapping[str, Any] | None, classifier: Any, folder: Path) -> Shown:
    """The surest mistakes on the test set, then the least sure of the right; draws the set in the plane."""
    import numpy as np

    from imgcls import build
    from imgcls.explain import embedding

    images = build.data(config, other or config["dataset"])
    fits(classifier.domain, images)
    with embedding.kept(classifier.network) as features:
        build.trainer(config).test(classifier, datamodule=images, verbose=False)
    kept, title = classifier.scores.kept(), images.source.title
    labels, sure = kept["labels"], kept["confidence"][:, 0]
    right = labels == kept["top"][:, 0]
    draw_plane(features, labels, right, list(images.classes), title, folder)
    rows = np.lexsort((np.where(right, sure, -sure), right))[:IMAGES]
    count = int((~right).sum())
    what = f"the surest of {count:,}" if count >= IMAGES else f"all {count}, then what was least sure"
    names = [images.classes[label] for label in labels[rows]]
    return Shown(
        images.tested.pixels[rows].numpy(), names, labels[rows].tolist(), f"mistakes on {title}: {what}"
    )


def draw_plane(
    features: list[Any], labels: Any, right: Any, classes: list[str], title: str, folder: Path
) -> None:
    """The test images by what enters the last layer, for each of its batches (N, D)."""
    import numpy as np

    from imgcls import figures
    from imgcls.explain import embedding

    rows = embedding.chosen(len(labels))
    if len(rows) < embedding.LEAST:
        print(f"embedding.png: left out, {len(rows)} images are too few")
        return
    points = embedding.planes(np.concatenate([x.numpy() for x in features])[rows])
    what = f"{len(rows):,} test images of {title} by what enters the last layer"
    figures.save(figures.plane(points, labels[rows], right[rows], classes, what), folder / "embedding.png")


def draw(classifier: Any, shown: Shown, layer: str | None, model: str, folder: Path) -> None:
    """Filters, feature maps and Grad-CAM of the images shown, computed in single precision on the CPU."""
    import torch

    from imgcls import figures
    from imgcls.explain import maps

    network = classifier.float().cpu().eval().network
    with torch.no_grad():
        x = classifier.prepare(torch.from_numpy(shown.pixels).permute(0, 3, 1, 2))
    found = maps.feature_maps(network, x[:1])
    at = maps.target(found, layer)
    if (weights := maps.filters(network)) is not None:
        title = f"{model}: filters of the first convolution"
        figures.save(figures.filters(weights.numpy(), title), folder / "filters.png")
    if found:
        stages = {each.name: each.values[0].numpy() for each in maps.stages(found)[-STAGES:]}
        title = f"{model}: strongest feature maps, image of {shown.names[0]}"
        figures.save(figures.maps(shown.pixels[0], stages, title), folder / "maps.png")
    if at is None:
        size = f"of {maps.LEAST}x{maps.LEAST} cells or more" if found else "at its end"
        print(f"gradcam.png: left out, {model} has no feature map {size}")
        return
    title = f"{model}: Grad-CAM at {at.name} ({at.side}x{at.side}), {shown.what}"
    heats = _explained(network, at.module, x, shown, classifier.domain.classes)
    figures.save(figures.heats(heats, title), folder / "gradcam.png")


def _explained(network: Any, layer: Any, x: Any, shown: Shown, classes: list[str]) -> list[Any]:
    """Each image with what speaks for the class that was said, and for the true one; or for the second."""
    import torch

    from imgcls.explain.maps import grad_cam
    from imgcls.figures import Explained, Heat

    with torch.no_grad():
        shares = network(x).softmax(1)
    first, second = shares.topk(2).indices.T
    wrong = first != torch.tensor(shown.true) if shown.true else torch.zeros(len(x), dtype=torch.bool)
    other = torch.where(wrong, torch.tensor(shown.true or 0), second)
    heats = [grad_cam(network, layer, x, labels).numpy() for labels in (first, other)]
    found = []
    for row, (pixels, name) in enumerate(zip(shown.pixels, shown.names, strict=True)):
        pairs = zip(heats, (first[row], other[row]), strict=True)
        own = [Heat(h[row], f"for {classes[k]}: {100 * shares[row, k]:.0f} %") for h, k in pairs]
        found.append(Explained(pixels, f"is {name}" if shown.true else name, bool(wrong[row]), own))
    return found
