"""What the network sees, against torchvision's transforms and numpy's statistics."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as T
from torchvision.transforms.v2 import functional as TF

from imgcls.data.prepare import IMAGENET, Prepare, statistics
from imgcls.data.sources import Images


def noise(count: int, side: int, channels: int, seed: int = 0) -> Images:
    """Images of unlike channels, some rows brighter than others."""
    draw = np.random.default_rng(seed)
    high = 120 + 40 * np.arange(channels)
    pixels = draw.integers(0, high, (count, side, side, channels)) * draw.uniform(0.5, 1, (count, 1, 1, 1))
    return Images(torch.from_numpy(pixels.astype(np.uint8)), torch.zeros(count, dtype=torch.int64))


def batch(images: Images) -> Tensor:
    """As a loader gives them: (N, C, H, W), channels last in memory."""
    return images.pixels.permute(0, 3, 1, 2)


def prepare(images: Images, kind: str, rows: Tensor | None = None, **options: Any) -> Prepare:
    mean, std = statistics(kind, images, torch.arange(len(images)) if rows is None else rows)
    _, side, _, channels = images.pixels.shape
    return Prepare(mean, std, **{"channels": channels, "size": side, **options})


def torchvisions(images: Images, mean: Any, std: Any) -> Tensor:
    """ToTensor and Normalize of one PIL image after another."""
    to_float = T.Compose([T.ToImage(), T.ToDtype(torch.float32, scale=True), T.Normalize(mean, std)])
    return torch.stack([to_float(Image.fromarray(pixels.squeeze())) for pixels in images.pixels.numpy()])


def moments(images: Images) -> tuple[list[float], list[float]]:
    """numpy's mean and standard deviation of each channel, on the scale 0..1."""
    pixels = images.pixels.numpy().astype(np.float64) / 255
    return pixels.mean((0, 1, 2)).tolist(), pixels.std((0, 1, 2)).tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_zero_one_is_to_tensor(channels: int) -> None:
    images = noise(20, 9, channels)
    theirs = torchvisions(images, [0] * channels, [1] * channels)
    assert torch.allclose(prepare(images, "zero_one")(batch(images)), theirs, rtol=0, atol=1e-6)


def test_imagenet_is_to_tensor_and_normalize() -> None:
    images = noise(20, 9, 3)
    ours = prepare(images, "imagenet")(batch(images))
    assert torch.allclose(ours, torchvisions(images, *IMAGENET), rtol=0, atol=1e-6)


def test_imagenet_of_grey_takes_the_mean_of_its_colours() -> None:
    images = noise(20, 9, 1)
    ours = prepare(images, "imagenet")(batch(images))
    assert torch.allclose(ours, torchvisions(images, [0.449], [0.226]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_std_is_to_tensor_and_normalize_by_the_data(channels: int) -> None:
    images = noise(20, 9, channels)
    ours = prepare(images, "mean_std")(batch(images))
    assert torch.allclose(ours, torchvisions(images, *moments(images)), rtol=0, atol=1e-6)
    assert torch.allclose(ours.mean((0, 2, 3)), torch.zeros(channels), atol=1e-5)
    assert torch.allclose(ours.std((0, 2, 3), correction=0), torch.ones(channels), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_pixel_takes_the_mean_image_away(channels: int) -> None:
    images = noise(20, 9, channels)
    pixels = images.pixels.numpy().astype(np.float64)
    left = pixels - pixels.mean(0)
    expected = torch.from_numpy((left / left.std()).astype(np.float32)).permute(0, 3, 1, 2)
    ours = prepare(images, "mean_pixel")(batch(images))
    assert torch.allclose(ours, expected, rtol=0, atol=1e-5)
    assert torch.allclose(ours.mean(0), torch.zeros(channels, 9, 9), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_numpys_over_the_given_rows_only(channels: int) -> None:
    images, rows = noise(2500, 6, channels), torch.arange(0, 2500, 2)  # more than one part of a thousand
    images.pixels[1::2] = 255
    chosen = images.pixels[rows].numpy().astype(np.float64)
    mean, std = statistics("mean_std", images, rows)
    assert mean.shape == std.shape == (1, channels, 1, 1)
    assert np.allclose(mean.flatten().numpy(), chosen.mean((0, 1, 2)), rtol=1e-7, atol=0)
    assert np.allclose(std.flatten().numpy(), chosen.std((0, 1, 2)), rtol=1e-7, atol=0)
    mean, std = statistics("mean_pixel", images, rows)
    assert mean.shape == (1, channels, 6, 6)
    assert np.allclose(mean[0].permute(1, 2, 0).numpy(), chosen.mean(0), rtol=1e-7, atol=0)
    assert float(std) == pytest.approx((chosen - chosen.mean(0)).std(), rel=1e-7)


def test_a_constant_image_is_divided_by_one_grey_level() -> None:
    images = Images(torch.full((5, 4, 4, 1), 200, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    for kind in ("mean_std", "mean_pixel"):
        mean, std = statistics(kind, images, torch.arange(5))
        assert mean.unique().tolist() == [200] and std.unique().tolist() == [1]
        assert prepare(images, kind)(batch(images)).abs().max() == 0


@pytest.mark.parametrize("kind", ["zero_one", "mean_std", "mean_pixel"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_whole_images_are_normalised_as_pixels_are(kind: str, count: int) -> None:
    images = noise(count + 3, 12, 3)
    prepared, some = prepare(images, kind), batch(images)[:count]
    before = some.clone()
    expected = (some - prepared.mean).div_(prepared.std)
    assert torch.equal(prepared(some), expected)
    assert torch.equal(prepared(some.contiguous()), expected)  # of another layout, pixel by pixel
    assert torch.equal(prepared(some.float()), expected)
    assert torch.equal(some, before)


def test_three_channels_repeat_a_grey_one() -> None:
    images = noise(4, 9, 1)
    one = prepare(images, "mean_std")(batch(images))
    three = prepare(images, "mean_std", channels=3)(batch(images))
    assert torch.equal(three, one.repeat(1, 3, 1, 1))


def test_one_channel_is_the_mean_of_three() -> None:
    images = noise(4, 9, 3)
    three = prepare(images, "mean_std")(batch(images))
    one = prepare(images, "mean_std", channels=1)(batch(images))
    assert torch.allclose(one, three.mean(1, keepdim=True), atol=1e-7)


@pytest.mark.parametrize("factor", [2, 3, 5, 41, 47, 64])
@pytest.mark.parametrize("side", [7, 8])
def test_nearest_repeats_every_pixel(side: int, factor: int) -> None:
    images = noise(2, side, 3)
    small = prepare(images, "mean_std")(batch(images))
    large = prepare(images, "mean_std", size=side * factor)(batch(images))
    assert torch.equal(large, small.repeat_interleave(factor, 2).repeat_interleave(factor, 3))


def test_normalising_before_enlarging_changes_nothing() -> None:
    """Three times as large first, then normalised: what a pipeline of single images would do."""
    images = noise(3, 7, 3)
    repeated = images.pixels.repeat_interleave(3, 1).repeat_interleave(3, 2)
    theirs = prepare(images, "mean_std", size=21)
    assert torch.equal(theirs(batch(images)), theirs(repeated.permute(0, 3, 1, 2)))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "size"), [(32, 224), (28, 32), (31, 224), (32, 20)])
def test_smooth_sizes_are_torchvisions_with_antialias(mode: str, side: int, size: int) -> None:
    """To 1e-4 of a standard deviation, although there the image is normalised last."""
    images = noise(2, side, 3)
    mean, std = moments(images)
    ours = prepare(images, "mean_std", size=size, interpolation=mode)(batch(images))
    resized = TF.resize(batch(images).float() / 255, [size, size], InterpolationMode(mode), antialias=True)
    assert ours.shape == (2, 3, size, size)
    assert torch.allclose(ours, TF.normalize(resized, mean, std), rtol=0, atol=1e-4)


def test_the_modes_differ() -> None:
    images = noise(2, 8, 1)
    modes = ("nearest", "bilinear", "bicubic")
    one, two, three = (prepare(images, "zero_one", size=20, interpolation=m)(batch(images)) for m in modes)
    assert min((one - two).abs().max(), (two - three).abs().max(), (one - three).abs().max()) > 0.01


@pytest.mark.parametrize("options", [{}, {"size": 27}, {"size": 27, "interpolation": "bilinear"}])
@pytest.mark.parametrize(("channels", "out"), [(1, 1), (1, 3), (3, 3)])
def test_the_output_is_channels_last(channels: int, out: int, options: dict[str, Any]) -> None:
    images = noise(2, 9, channels)
    x = prepare(images, "mean_std", **{"channels": out, **options})(batch(images))
    side = options.get("size", 9)
    assert x.dtype == torch.float32 and x.shape == (2, out, side, side)
    assert x.stride() == (out * side * side, 1, out * side, out)  # also of one channel, by which torch goes


def test_the_batch_is_left_as_it_was() -> None:
    images = noise(4, 9, 3)
    before = images.pixels.clone()
    prepare(images, "zero_one")(batch(images)).zero_()
    assert torch.equal(images.pixels, before)


def test_the_statistics_travel_with_the_weights() -> None:
    images = noise(4, 9, 3)
    made = prepare(images, "mean_pixel")
    assert made.state_dict().keys() == {"mean", "std"} and not list(made.parameters())
    other = Prepare(torch.zeros(1, 3, 9, 9), torch.ones(1, 1, 1, 1), channels=3, size=9)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other(batch(images)), made(batch(images)))


def test_grey_seen_as_colour_is_normalised_by_each_colour_of_imagenet() -> None:
    """As torchvision does it with an image converted to RGB."""
    grey = torch.randint(256, (2, 1, 8, 8), dtype=torch.uint8)
    images = Images(grey.permute(0, 2, 3, 1).contiguous(), torch.zeros(2, dtype=torch.int64))
    mean, std = statistics("imagenet", images, torch.arange(2), 3)
    seen = Prepare(mean, std, channels=3, size=8)(grey)
    colours = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    centre, spread = colours
    assert torch.allclose(seen, (grey.expand(-1, 3, -1, -1) / 255 - centre) / spread, atol=1e-6)
