"""Augmentation: every pixel where it belongs, every draw possible, and one seed one result."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from imgcls.data import pixels
from imgcls.data.augment import Augment
from imgcls.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
GROUP = sorted(path.stem for path in (CONF / "augmentation").glob("*.yaml"))
EVERYTHING: dict[str, Any] = {
    "hflip": 0.5,
    "vflip": 0.5,
    "crop": 2,
    "rotate": 20,
    "translate": 0.1,
    "scale": 0.1,
    "brightness": 0.2,
    "contrast": 0.2,
    "cutout": 4,
}
SHAPES = [(4, 1, 28, 28), (4, 3, 32, 32), (1, 3, 9, 13), (1, 1, 5, 5), (3, 3, 13, 8)]


def noise(n: int, c: int, h: int, w: int, seed: int = 0) -> Tensor:
    """Random bytes as the loader hands them on: (N, C, H, W), channels last in memory."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, h, w, c), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def copies(image: Tensor, n: int) -> Tensor:
    """One image (C, H, W) n times, (n, C, H, W), channels last in memory."""
    return image.expand(n, *image.shape).contiguous(memory_format=torch.channels_last)


def smooth(n: int, c: int, side: int) -> Tensor:
    """Random images without sharp edges, on which two ways to resample must agree."""
    coarse = noise(n, c, 5, 5).float()
    return F.interpolate(coarse, size=(side, side), mode="bilinear").round().to(torch.uint8)


def nhwc(images: Tensor) -> Tensor:
    """The order and type that the float operations of `pixels` work in."""
    return images.permute(0, 2, 3, 1).float()


def nchw_bytes(images: Tensor) -> Tensor:
    """The way back."""
    return images.round().to(torch.uint8).permute(0, 3, 1, 2)


def crops(image: Tensor, margin: int, mode: str) -> dict[bytes, tuple[int, int]]:
    """Every crop of an image (C, H, W) padded by torch, by its bytes."""
    _, h, w = image.shape
    how = "reflect" if mode == "reflect" else "constant"
    padded = F.pad(image[None].float(), (margin,) * 4, mode=how)[0].to(torch.uint8)
    offsets = [(y, x) for y in range(2 * margin + 1) for x in range(2 * margin + 1)]
    return {padded[:, y : y + h, x : x + w].numpy().tobytes(): (y, x) for y, x in offsets}


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(("c", "h", "w", "margin"), [(1, 6, 6, 2), (3, 6, 7, 4)])
def test_crop_draws_every_offset_and_is_exact(mode: str, c: int, h: int, w: int, margin: int) -> None:
    """All (2p + 1)^2 crops appear, about equally often, and nothing else does."""
    image = noise(1, c, h, w)[0]
    known, n = crops(image, margin, mode), 20_000
    torch.manual_seed(1)
    out = Augment(crop=margin, crop_mode=mode)(copies(image, n))
    seen = Counter(known[each.numpy().tobytes()] for each in out)
    expected = n / (2 * margin + 1) ** 2
    assert len(seen) == (2 * margin + 1) ** 2
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in seen.values())


@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_flips_and_crop_together(mode: str) -> None:
    """Both flips of every crop appear and nothing else, whatever the neighbours in the batch are."""
    images = noise(6, 3, 5, 7)
    augment = Augment(hflip=0.5, vflip=0.5, crop=1, crop_mode=mode)
    variants = [
        {
            key: (flips, at)
            for flips in [(), (1,), (2,), (1, 2)]
            for key, at in crops(image.flip(flips), 1, mode).items()
        }
        for image in images
    ]
    torch.manual_seed(0)
    seen = {
        variants[i][image.numpy().tobytes()] for _ in range(100) for i, image in enumerate(augment(images))
    }
    assert len(seen) == 4 * 9


@pytest.mark.parametrize("mode", ["zero", "reflect"])
@pytest.mark.parametrize(("c", "margin"), [(1, 2), (3, 2), (3, 0)])
def test_lines_move_as_pixels_do(mode: str, c: int, margin: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, offsets = noise(200, c, 5, 7).permute(0, 2, 3, 1), 2 * margin + 1
    down, right = torch.randint(2 * offsets, (2, 200), generator=torch.Generator().manual_seed(0))
    by_pixels = pixels.place(images, margin, mode, down, right)
    assert torch.equal(
        pixels.place(images, margin, mode, down, right % offsets, mirrored=False),
        pixels.place(images, margin, mode, down, right % offsets),
    )
    monkeypatch.setattr(pixels, "WIDE", 7)
    assert torch.equal(pixels.place(images, margin, mode, down, right), by_pixels)


@pytest.mark.parametrize("hflip", [0.0, 0.5, "alternating"])
@pytest.mark.parametrize("side", [12, pixels.WIDE])
def test_many_batches_at_once_are_augmented_as_one_by_one(hflip: float | str, side: int) -> None:
    augment = Augment(hflip=hflip, vflip=0.5, crop=2, crop_mode="reflect", seed=3)
    images, sizes, seeds = noise(11, 3, side, side), (4, 4, 3), (5, 6, 7)
    one_by_one = []
    for part, seed in zip(images.split(sizes), seeds, strict=True):
        torch.manual_seed(seed)
        one_by_one.append(augment(part, epoch=1))
    found = augment.many(images, sizes, seeds, epoch=1)
    assert augment.only_places and torch.equal(found, torch.cat(one_by_one))
    assert found.stride() == images.stride()


def test_what_computes_or_looks_at_a_batch_is_not_made_of_many_at_once() -> None:
    options = ({"rotate": 5}, {"scale": 0.1}, {"brightness": 0.1}, {"cutout": 2})
    assert not any(Augment(hflip=0.5, **some).only_places for some in options)
    assert not Augment().only_places and Augment(crop=1, mixup=0.2).only_places


@pytest.mark.parametrize(("key", "axis"), [("hflip", 3), ("vflip", 2)])
def test_flip_is_exact_and_drawn_per_image(key: str, axis: int) -> None:
    images = noise(1000, 3, 4, 5)
    out = Augment(**{key: 0.3})(images)
    flipped = (out == images.flip(axis)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert bool((flipped ^ kept).all())
    assert 230 < int(flipped.sum()) < 370
    assert torch.equal(Augment(**{key: 1.0})(images), images.flip(axis))


@pytest.mark.parametrize(("c", "h", "w"), [(3, 32, 32), (1, 28, 28), (3, 21, 32)])
def test_warp_agrees_with_torchvision(c: int, h: int, w: int) -> None:
    """Turn, zoom and shift in one go, edges included; torchvision's angles run the other way in `rotate`."""
    images = noise(4, c, h, w)
    degrees, zooms = [0.0, 17.0, -33.0, 90.0], [1.0, 1.2, 0.8, 1.0]
    shifts = [[0.0, 3.0, -2.0, 0.0], [0.0, -1.0, 4.0, 2.0]]
    out = nchw_bytes(
        pixels.warp(nhwc(images), torch.tensor(degrees).deg2rad(), torch.tensor(zooms), torch.tensor(shifts))
    )
    assert torch.equal(out[0], images[0])
    for i, image in enumerate(images):
        moved = [shifts[1][i], shifts[0][i]]
        expected = TF.affine(
            image, degrees[i], moved, zooms[i], [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        assert int((out[i].int() - expected.int()).abs().max()) <= 1


def test_rotation_alone_agrees_with_torchvision() -> None:
    """An angle of the class's own draw, found again from the seed."""
    images = smooth(3, 3, 32)
    torch.manual_seed(5)
    out = Augment(rotate=40)(images)
    torch.manual_seed(5)
    angles = (torch.rand(4, 3)[0] * 2 - 1) * 40
    for image, each, angle in zip(images, out, angles.tolist(), strict=True):
        expected = TF.rotate(image, -angle, interpolation=InterpolationMode.BILINEAR)
        assert int((each.int() - expected.int()).abs()[:, 4:-4, 4:-4].max()) <= 2
    assert angles.abs().min() > 1


def test_translation_stays_within_its_bound() -> None:
    """A white dot moves along both axes, to both sides, and never further than asked."""
    image = torch.zeros(1, 41, 41, dtype=torch.uint8)
    image[0, 20, 20] = 255
    out = Augment(translate=0.2)(copies(image, 500)).float()[:, 0]
    weights, at = out.sum((1, 2)), torch.arange(41.0) - 20
    for axis in (1, 2):
        moved = (out.sum(3 - axis) * at).sum(1) / weights
        assert -8.3 < float(moved.min()) < -7.5
        assert 7.5 < float(moved.max()) < 8.3


def test_scale_stays_within_its_bound() -> None:
    """The area of a white square grows and shrinks as the zoom factor squared."""
    image = torch.zeros(1, 40, 40, dtype=torch.uint8)
    image[:, 10:30, 10:30] = 255
    side = Augment(scale=0.25)(copies(image, 300)).float().div(255).sum((1, 2, 3)).sqrt()
    assert 14.8 < float(side.min()) < 15.5
    assert 24.5 < float(side.max()) < 25.2


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("key", ["brightness", "contrast"])
def test_recolouring_agrees_with_torchvision(key: str, c: int) -> None:
    images = noise(24, c, 9, 8)
    torch.manual_seed(3)
    out = Augment(**{key: 0.6})(images)
    torch.manual_seed(3)
    factors = 1 + 0.6 * (torch.rand(24) * 2 - 1)
    adjust = TF.adjust_brightness if key == "brightness" else TF.adjust_contrast
    expected = torch.stack([adjust(i, float(f)) for i, f in zip(images, factors, strict=True)])
    assert int((out.int() - expected.int()).abs().max()) <= 1
    assert float(factors.min()) < 0.8 < 1.2 < float(factors.max())


@pytest.mark.parametrize("side", [1, 4, 5])
def test_cutout_blanks_one_clipped_square(side: int) -> None:
    """Black images with one white one among them: the blank is grey, square, and cut off only at edges."""
    images = copies(torch.zeros(1, 12, 12, dtype=torch.uint8), 2000)
    images[0] = 255
    images[1:500] = 100
    fill = int(images.float().mean().round())
    torch.manual_seed(0)
    holes = Augment(cutout=side)(images)[:, 0] == fill
    down, right = holes.any(2), holes.any(1)
    assert torch.equal(holes, down.unsqueeze(2) & right.unsqueeze(1))
    for covered in (down, right):
        assert set(covered.sum(1).tolist()) == set(range((side + 1) // 2, side + 1))
        inner = ~(covered[:, 0] | covered[:, -1])
        assert bool((covered[inner].sum(1) == side).all())
        assert bool(covered.any(0).all())
        assert int((covered.int().diff(dim=1) != 0).sum(1).max()) <= 2  # one run, no gaps


def test_cutout_fills_with_the_mean_colour_of_the_batch() -> None:
    images = noise(8, 3, 10, 10)
    images[:, 2] //= 4
    out = Augment(cutout=6)(images)
    changed = (out != images).any(1)
    mean = images.float().mean((0, 2, 3)).round().to(torch.uint8)
    assert bool((out.permute(0, 2, 3, 1)[changed] == mean).all())


@pytest.mark.parametrize("alphas", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
@pytest.mark.parametrize("c", [1, 3])
def test_mixed_targets_follow_the_pixels(alphas: dict[str, float], c: int) -> None:
    """Image i is all i: how much of each label there is must be how much of each image there is."""
    n, augment = 5, Augment(**alphas)
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, c, 8, 8)
    images = images.contiguous(memory_format=torch.channels_last)
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, targets = augment.mix(images, torch.arange(n), n + 1)
        assert mixed.shape == images.shape and mixed.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(targets.sum(1), torch.ones(n)) and targets.shape == (n, n + 1)
        assert torch.allclose(mixed.mean((1, 2, 3)), targets[:, :n] @ torch.arange(n).float(), atol=1e-5)
        own = targets.diagonal()
        assert torch.allclose(targets[range(n), [4, 0, 1, 2, 3]], 1 - own, atol=1e-6)
        shares.append(float(own[0]))
        flat = bool((mixed == mixed[:, :1, :1, :1]).all())
        assert flat or "cutmix" in alphas  # mixup blends all of an image alike
    assert len(set(shares)) > 5 and images[1].eq(1).all()


def test_both_mixes_take_turns() -> None:
    augment, images = Augment(mixup=1.0, cutmix=1.0), noise(4, 3, 8, 8).float()
    torch.manual_seed(0)
    mixed = [augment.mix(images, torch.arange(4), 4)[0] for _ in range(40)]
    cut = [bool(((each == images) | (each == images.roll(1, 0))).all()) for each in mixed]
    assert 8 < sum(cut) < 32


def test_mix_when_off_only_encodes_the_labels() -> None:
    images = noise(3, 1, 4, 4).float()
    mixed, targets = Augment(hflip=0.5).mix(images, torch.tensor([2, 0, 1]), 3)
    assert mixed is images
    assert targets.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert not Augment(hflip=0.5).mixes and Augment(cutmix=1).mixes


def test_one_seed_one_result() -> None:
    images, augment = noise(16, 3, 16, 16), Augment(**EVERYTHING, mixup=0.2, cutmix=1.0)

    def result(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(seed)
        out = augment(images)
        return out, *augment.mix(out.float(), torch.arange(16), 16)

    assert all(torch.equal(a, b) for a, b in zip(result(3), result(3), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(result(3), result(4), strict=True))


@pytest.mark.parametrize("key", [key for key in EVERYTHING if key not in ("hflip", "vflip")])
def test_images_of_a_batch_get_their_own_draws(key: str) -> None:
    out = Augment(**{key: EVERYTHING[key]})(copies(noise(1, 3, 16, 16)[0], 8))
    assert len({image.numpy().tobytes() for image in out}) > 4


@pytest.mark.parametrize("options", [EVERYTHING, *({key: value} for key, value in EVERYTHING.items())])
@pytest.mark.parametrize(
    "shape", [(4, 1, 28, 28), (4, 3, 32, 32), (1, 3, 9, 13), (1, 1, 5, 5), (3, 3, 13, 8)]
)
def test_form_is_kept(options: dict[str, Any], shape: tuple[int, int, int, int]) -> None:
    """Bytes in, bytes out, shape and layout alike, and the given tensor is left as it was."""
    images = noise(*shape)
    before = images.clone()
    out = Augment(**options, crop_mode="reflect")(images)
    assert out.dtype == torch.uint8 and out.shape == images.shape
    assert out.stride() == images.stride() and out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, before)


@pytest.mark.parametrize("c", [1, 3])
def test_layout_of_the_input_does_not_matter(c: int) -> None:
    """What comes out is channels last even from batches that are not, also where one channel hides it."""
    images, augment = noise(4, c, 12, 12), Augment(**EVERYTHING, mixup=0.2)
    torch.manual_seed(0)
    out = augment(images)
    torch.manual_seed(0)
    again = augment(images.contiguous())
    mixed = augment.mix(images.contiguous().float(), torch.arange(4), 4)[0]
    assert torch.equal(again, out)
    assert out.stride() == again.stride() == mixed.stride() == (144 * c, 1, 12 * c, c)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("mode", ["zero", "reflect"])
def test_a_gpu_is_never_waited_for(mode: str) -> None:
    images, labels = noise(8, 3, 16, 16).cuda(), torch.arange(8).cuda()
    augment = Augment(**EVERYTHING, crop_mode=mode, mixup=0.2, cutmix=1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = augment(images)
        mixed = [augment.mix(out.float(), labels, 10)[0] for _ in range(8)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(each.stride() == images.stride() for each in (out, *mixed))


def test_all_off_returns_the_very_tensor() -> None:
    images = noise(2, 3, 8, 8)
    assert Augment()(images) is images
    assert Augment(mixup=0.2, label_smoothing=0.1)(images) is images
    assert not Augment(**EVERYTHING).state_dict()


def test_describe() -> None:
    assert Augment().describe() == "none"
    assert repr(Augment()) == "Augment(none)"
    assert Augment(hflip=0.5, crop=4, crop_mode="reflect").describe() == "flip 0.5, crop 4 (reflect)"
    assert repr(Augment(rotate=15, mixup=0.2)) == "Augment(rotate ±15°, mixup 0.2)"


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("hflip", 1.5, "a number from 0 to 1"),
        ("vflip", -0.1, "a number from 0 to 1"),
        ("vflip", math.nan, "a number from 0 to 1"),
        ("crop", -1, "a whole number from 0 up"),
        ("crop", 2.5, "a whole number from 0 up"),
        ("crop_mode", "wrap", "zero or reflect"),
        ("rotate", 181, "a number from 0 to 180"),
        ("translate", "far", "a number from 0 to 1"),
        ("scale", 1.0, "a number from 0 to 0.9"),
        ("brightness", None, "a number from 0 to 1"),
        ("cutout", True, "a whole number from 0 up"),
        ("mixup", math.inf, "a number from 0 up"),
        ("label_smoothing", 2, "a number from 0 to 1"),
    ],
)
def test_bad_values_are_named(key: str, value: object, valid: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Augment(**{key: value})
    assert str(caught.value) == f"augmentation.{key}={value!r}: give {valid}"


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Augment(hflip=2, crop=-1, crop_mode="wrap", mixup=-1)
    named = [part.split("=")[0] for part in str(caught.value).split("; ")]
    assert named == [f"augmentation.{key}" for key in ("hflip", "crop", "mixup", "crop_mode")]


def test_reflection_needs_an_image_wider_than_its_margin() -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.crop=8.*at most 7"):
        Augment(crop=8, crop_mode="reflect")(noise(2, 3, 8, 9))
    assert Augment(crop=8)(noise(2, 3, 8, 9)).shape == (2, 3, 8, 9)


def test_the_group_is_complete() -> None:
    known = "affine cutmix cutout flip flip_crop flip_jitter flip_rotate mixup none shift smooth"
    assert " ".join(GROUP) == known


@pytest.mark.parametrize("name", GROUP)
def test_config_builds(name: str, tmp_path: Path) -> None:
    """Each file composes, bears its own name, says in its first line what it does, and is a valid choice."""
    (tmp_path / "main.yaml").write_text(
        f"defaults: [augmentation: {name}, _self_]\nhydra: {{searchpath: ['file://{CONF}']}}\n"
    )
    with initialize_config_dir(str(tmp_path), version_base=None):
        options: Any = OmegaConf.to_container(compose("main").augmentation)
    assert options.pop("name") == name
    augment = Augment(**options)
    assert (augment.describe() == "none") == (name == "none")
    assert augment(noise(2, 3, 32, 32)).shape == (2, 3, 32, 32)
    first = (CONF / "augmentation" / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ") and len(first) <= 80


def test_alternating_flips_show_each_image_both_ways_in_turn() -> None:
    """Once in two epochs each way, in any batch; about half of them come mirrored at first."""
    images = noise(400, 3, 8, 8)
    augment = Augment(hflip="alternating", seed=3)
    torch.manual_seed(0)
    first, second, third = (augment(images, epoch=epoch) for epoch in range(3))
    flipped = (first != images).any(3).any(2).any(1)
    assert torch.equal(first[flipped], images[flipped].flip(3))
    assert torch.equal(second, first.flip(3)) and torch.equal(third, first)
    assert 150 < int(flipped.sum()) < 250
    order = torch.randperm(400)
    assert torch.equal(augment(images[order][:100]), first[order][:100])


def test_which_way_an_image_comes_first_goes_by_the_seed() -> None:
    images = noise(400, 3, 8, 8)
    one, same, other = (Augment(hflip="alternating", seed=seed)(images) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert 100 < int((one != other).any(3).any(2).any(1).sum()) < 300


def test_alternating_flips_go_with_crops_and_are_described() -> None:
    augment = Augment(hflip="alternating", crop=2, crop_mode="reflect")
    assert augment.describe() == "alternating flip, crop 2 (reflect)"
    images = noise(50, 3, 8, 8)
    torch.manual_seed(0)
    one = augment(images, epoch=0)
    torch.manual_seed(0)
    assert torch.equal(augment(images, epoch=1), one.flip(3))  # the same crops, the other way round
