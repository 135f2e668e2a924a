"""Random changes to training batches, made on the batch's own device, each image with its own draw.

Flips, by chance or in turn (Jordan 2024, arXiv:2404.00498, section 3.6), shifted crops (He et al. 2016),
small affine warps, brightness and contrast, Cutout (DeVries & Taylor 2017), mixup (Zhang et al. 2017), CutMix
(Yun et al. 2019) and label smoothing (Szegedy et al. 2016).
All draws come from torch's default generators, so `torch.manual_seed`, which seeds every device, fixes them;
what moves pixels only can be made of many batches at once, each with draws of its own.
On several ranks each draws for the whole batch and takes its share: their number changes no image. (Mixup and
CutMix pair images within a share, and Cutout's grey is the share's mean.)
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from imgcls import keys
from imgcls.data import pixels
from imgcls.data.loader import ALL, Share
from imgcls.errors import ConfigError

MODES = ("zero", "reflect")
ALTERNATING = "alternating"  # as hflip: the other way round in every epoch
PICKED = 64  # bytes of an image that decide which way it comes first
# Of each option: the highest value (the lowest is 0) and how `describe` words it. Zoom stops short of
# 1 - 1 = 0, at which an image has no size.
_OPTIONS: dict[str, tuple[float, str]] = {
    "hflip": (1, "flip {:g}"),
    "vflip": (1, "vertical flip {:g}"),
    "crop": (math.inf, "crop {:g} ({mode})"),
    "rotate": (180, "rotate ±{:g}°"),
    "translate": (1, "translate ±{:g}"),
    "scale": (0.9, "scale ±{:g}"),
    "brightness": (1, "brightness ±{:g}"),
    "contrast": (1, "contrast ±{:g}"),
    "cutout": (math.inf, "cutout {:g}"),
    "mixup": (math.inf, "mixup {:g}"),
    "cutmix": (math.inf, "cutmix {:g}"),
    "label_smoothing": (1, "label smoothing {:g}"),
}
_WHOLE = ("crop", "cutout")  # counted in pixels


class Augment(nn.Module):
    """Augments uint8 (N, C, H, W) batches; everything is off until asked for, and then costs nothing."""

    def __init__(
        self,
        *,
        hflip: float | str = 0.0,
        vflip: float = 0.0,
        crop: int = 0,
        crop_mode: str = "zero",
        rotate: float = 0.0,
        translate: float = 0.0,
        scale: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        cutout: int = 0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.hflip, self.vflip, self.seed = hflip, vflip, seed
        self.crop, self.crop_mode = crop, crop_mode
        self.rotate, self.translate, self.scale = rotate, translate, scale
        self.brightness, self.contrast = brightness, contrast
        self.cutout = cutout
        self.mixup, self.cutmix = mixup, cutmix
        self.label_smoothing = label_smoothing  # only kept here: the loss applies it
        self._check()
        self._places = bool(crop or hflip or vflip)
        self._warps = bool(rotate or translate or scale)
        self._recolours = bool(brightness or contrast)
        # Whole batches at once come out as one by one: bytes are moved, and nothing is computed of them.
        self.only_places = self._places and not (self._warps or self._recolours or cutout)
        # In a tuple, which hides them from nn.Module: they are no part of a checkpoint.
        self._mixers = tuple(
            kind(alpha=alpha) for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix)) if alpha
        )

    def _check(self) -> None:
        """Raises one ConfigError that names every bad value."""
        problems = [_problem(key, getattr(self, key)) for key in _OPTIONS]
        if self.crop_mode not in MODES:
            problems.append(f"augmentation.crop_mode={self.crop_mode!r}: give {' or '.join(MODES)}")
        if any(problems):
            raise ConfigError("; ".join(filter(None, problems)))

    @property
    def mixes(self) -> bool:
        """Whether `mix` has anything to do."""
        return bool(self._mixers)

    def describe(self) -> str:
        """What is on, in one line: "flip 0.5, crop 4 (reflect)", or "none"."""
        on = [(getattr(self, key), words) for key, (_, words) in _OPTIONS.items()]
        said = (_worded(words, value, self.crop_mode) for value, words in on if value)
        return ", ".join(said) or "none"

    def extra_repr(self) -> str:
        """What stands between the brackets of `repr`."""
        return self.describe()

    def forward(self, images: Tensor, share: Share = ALL, epoch: int = 0) -> Tensor:
        """New uint8 images (N, C, H, W), channels last; the very same tensor when all is off.

        `share` says which images of a batch these are, if not all; alternating flips go by the `epoch`.
        """
        if not (self._places or self._warps or self._recolours or self.cutout):
            return images
        x = images.permute(0, 2, 3, 1).contiguous()
        # Cutout's paper blanks with the data's mean. The batch's is close to it and costs one pass;
        # it is taken first, before black margins darken it.
        fill = x.mean((0, 1, 2), dtype=torch.float32) if self.cutout else None
        draw = Draw(x, share)
        if self._places:
            x = self._place(x, draw, epoch)
        if self._warps or self._recolours:
            x = self._in_floats(x, draw)
        if fill is not None:
            x = self._blank(x, fill, draw)
        return pixels.channels_last(x)

    def many(self, images: Tensor, sizes: Sequence[int], seeds: Sequence[int], epoch: int = 0) -> Tensor:
        """Several batches, one after another in uint8 (N, C, H, W), as `forward` changes each; `only_places`.

        A batch of so many images (`sizes`) gets what the default generator draws after its seed.
        """
        draw = Draws(sizes, seeds, images.device)
        return pixels.channels_last(self._place(images.permute(0, 2, 3, 1).contiguous(), draw, epoch))

    def _place(self, x: Tensor, draw: "Draw", epoch: int) -> Tensor:
        """Flips and crops bytes (N, H, W, C)."""
        side = min(x.shape[1:3])
        if self.crop >= side and self.crop_mode == "reflect":
            raise ConfigError(
                f"augmentation.crop={self.crop}: images {side} pixels wide reflect at most {side - 1}; "
                "give a smaller crop or augmentation.crop_mode=zero"
            )
        # Whole numbers, not a scaled rand: every offset from 0 to 2 * crop, both included, is equally likely.
        offsets = 2 * self.crop + 1
        down, right = draw.whole(offsets, 2)
        if self.vflip:
            down = down + offsets * draw.coin(self.vflip)
        if self.hflip:
            right = right + offsets * self._flips(x, draw, epoch)
        return pixels.place(x, self.crop, self.crop_mode, down, right, bool(self.hflip))

    def _flips(self, x: Tensor, draw: "Draw", epoch: int) -> Tensor:
        """Which of bytes (N, H, W, C) are flipped, (N,).

        Which way an image comes first is a function of the seed and of the image: the parity of some of its
        bytes. So it need not be known which image of the set it is, on whatever way it came.
        """
        if isinstance(self.hflip, int | float):
            return draw.coin(self.hflip)
        picked = x.flatten(1).index_select(1, _picked(self.seed, x[0].numel(), x.device))
        return (picked.sum(1) + epoch) % 2

    def _in_floats(self, x: Tensor, draw: "Draw") -> Tensor:
        """Warps and recolours bytes (N, H, W, C), rounding once at the end."""
        y = x.float()
        if self._warps:
            angle, zoom, *shift = draw.rand(4) * 2 - 1
            reach = [self.translate * side * way for side, way in zip(x.shape[1:3], shift, strict=True)]
            angle = angle * math.radians(self.rotate)
            y = pixels.warp(y, angle, 1 + self.scale * zoom, torch.stack(reach))
        if self._recolours:
            y = pixels.recolour(y, draw.factor(self.brightness), draw.factor(self.contrast))
        return y.round_().to(torch.uint8)  # no value can have left 0..255

    def _blank(self, x: Tensor, fill: Tensor, draw: "Draw") -> Tensor:
        """Blanks one square per image of bytes (N, H, W, C); its centre is any pixel."""
        centre = torch.stack([draw.whole(side) for side in x.shape[1:3]]).unsqueeze(2)
        return pixels.blank(x, self.cutout, centre, fill.round().to(torch.uint8))

    def mix(self, images: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mixup or CutMix of float images (N, C, H, W) and labels (N,) with each neighbour: targets (N, K).

        One draw for the batch. It is made on the host, where its value is needed, so that no device waits.
        """
        targets = F.one_hot(labels, num_classes).float()
        if not self._mixers:
            return images, targets
        which = int(torch.randint(len(self._mixers), ())) if len(self._mixers) > 1 else 0
        images, targets = self._mixers[which](images, targets)
        # Mixup rolls the batch, which on a GPU loses the layout.
        return pixels.channels_last(images.permute(0, 2, 3, 1)), targets


class Draw:
    """Random values for a share of a batch, one per image: drawn for the whole batch, images last."""

    def __init__(self, images: Tensor, share: Share) -> None:
        self.count, self.device = share.total or len(images), images.device
        self.mine = slice(share.rank, None, share.ranks)

    def rand(self, *rows: int) -> Tensor:
        """From 0 to 1, float (*rows, N)."""
        return torch.rand(*rows, self.count, device=self.device)[..., self.mine]

    def whole(self, limit: int, *rows: int) -> Tensor:
        """From 0 to below `limit`, int64 (*rows, N)."""
        return torch.randint(limit, (*rows, self.count), device=self.device)[..., self.mine]

    def coin(self, chance: float) -> Tensor:
        """One throw each, bool (N,)."""
        return self.rand() < chance

    def factor(self, spread: float) -> Tensor | None:
        """One factor each, (N,), from 1 - spread to 1 + spread; None if it is always 1."""
        return 1 + spread * (self.rand() * 2 - 1) if spread else None


class Draws(Draw):
    """Random values for several batches, each from a generator of its own."""

    def __init__(self, sizes: Sequence[int], seeds: Sequence[int], device: torch.device) -> None:
        self.device = device
        self.batches = [
            (size, torch.Generator(device).manual_seed(seed)) for size, seed in zip(sizes, seeds, strict=True)
        ]

    def rand(self, *rows: int) -> Tensor:
        """See Draw."""
        return self._joined(lambda n, own: torch.rand(*rows, n, generator=own, device=self.device))

    def whole(self, limit: int, *rows: int) -> Tensor:
        """See Draw."""
        return self._joined(
            lambda n, own: torch.randint(limit, (*rows, n), generator=own, device=self.device)
        )

    def _joined(self, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        return torch.cat([draw(*batch) for batch in self.batches], -1)


@lru_cache
def _picked(seed: int, count: int, device: torch.device) -> Tensor:
    """Which of an image's `count` bytes decide how it comes first, int64 (PICKED,)."""
    return torch.randint(count, (PICKED,), generator=keys.generator(seed, "flips")).to(device)


def _worded(words: str, value: float | str, mode: str) -> str:
    """What an option does, as `describe` says it."""
    return words.format(value, mode=mode) if not isinstance(value, str) else f"{value} flip"


def _problem(key: str, value: Any) -> str:
    """What is wrong with an option's value, or nothing."""
    if (key, value) == ("hflip", ALTERNATING):
        return ""
    highest = _OPTIONS[key][0]
    whole = key in _WHOLE
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and 0 <= value <= highest and value < math.inf:
        return ""
    valid = "from 0 up" if highest == math.inf else f"from 0 to {highest:g}"
    return f"augmentation.{key}={value!r}: give a {'whole number' if whole else 'number'} {valid}"
