"""From uint8 images to what the network sees: grey to colour, size, normalisation. One definition for
training, testing and predicting; it travels with the weights."""

import torch
from torch import nn
from torch.nn import functional as F

from imgcls.data.sources import Images

# Mean and standard deviation of ImageNet's training images (red, green, blue; scale 0..1)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CACHED = 4 << 20  # bytes of floats that are computed on before the next: what the cores' caches hold
SMOOTH = {"align_corners": False, "antialias": True}


class Prepare(nn.Module):
    """uint8 (N, C, H, W) → float (N, channels, size, size), normalised, in channels_last memory.

    Args:
        mean, std: (1, C, 1, 1), or mean (1, C, H, W) of every pixel, on the scale 0..255.
        channels: channels to give; 3 repeats a grey image.
        size: side in pixels to give.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        mean: torch.Tensor,
        std: torch.Tensor,
        *,
        channels: int,
        size: int,
        interpolation: str = "nearest",
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.channels, self.size, self.interpolation = channels, size, interpolation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See the class. Normalises before enlarging: fewer pixels to touch, and the same result."""
        x = self._normalised(images)
        if x.shape[-1] != self.size or x.shape[-2] != self.size:
            # torch's plain "nearest" takes wrong pixels at some whole factors (41, 47, …), for rounding
            nearest = self.interpolation == "nearest"
            mode, smooth = ("nearest-exact", {}) if nearest else (self.interpolation, SMOOTH)
            x = F.interpolate(x, (self.size, self.size), mode=mode, **smooth)
        if x.shape[1] != self.channels:
            x = x.expand(-1, self.channels, -1, -1) if x.shape[1] == 1 else x.mean(1, keepdim=True)
        return x.contiguous(memory_format=torch.channels_last)

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Floats (N, C, H, W) of the same layout."""
        n, c, h, w = images.shape
        pixels = images.permute(0, 2, 3, 1)
        plain = images.device.type != "cpu" or torch.compiler.is_compiling()
        if plain or c == 1 or not pixels.is_contiguous():
            return (images - self.mean).div_(self.std)  # no third block of memory: photos fill megabytes
        # The same sums image by image: for single pixels, of three values, a core has no use for its vectors
        mean, std = (v.expand(1, c, h, w).permute(0, 2, 3, 1).reshape(-1) for v in (self.mean, self.std))
        x, some = torch.empty(n, h * w * c), max(CACHED // (4 * h * w * c), 1)
        for part, values in zip(x.split(some), pixels.view(n, h * w * c).split(some), strict=True):
            part.copy_(values).sub_(mean).div_(std)
        return x.view(n, h, w, c).permute(0, 3, 1, 2)


def statistics(
    kind: str, images: Images, rows: torch.Tensor, seen: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, std) for Prepare, on the scale 0..255, from the training images in `rows`.

    zero_one: 0 and 255 · imagenet: of ImageNet · mean_std: per channel · mean_pixel: the mean image and
    the standard deviation of all that is left of the images without it. `seen` is how many channels the
    network sees: a grey image that it sees as colour gets ImageNet's figures of each colour.
    """
    channels = images.pixels.shape[-1]
    if kind == "zero_one":
        return torch.zeros(1, channels, 1, 1), torch.full((1, channels, 1, 1), 255.0)
    if kind == "imagenet":
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) * 255 for v in IMAGENET)
        return (
            (mean, std)
            if (seen or channels) == 3
            else (mean.mean(1, keepdim=True), std.mean(1, keepdim=True))
        )
    total, square = _sums(images.pixels, rows)
    mean_image, mean_square = total / len(rows), square / len(rows)
    if kind == "mean_pixel":
        std = (mean_square - mean_image**2).mean().clamp_min(1.0).sqrt()
        return mean_image.permute(2, 0, 1)[None].float(), std.float().view(1, 1, 1, 1)
    mean = mean_image.mean((0, 1))
    std = (mean_square.mean((0, 1)) - mean**2).clamp_min(1.0).sqrt()  # at least one grey level
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)


def _sums(pixels: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum and sum of squares over images, each (H, W, C) in double precision, some at a time."""
    total = torch.zeros(pixels.shape[1:], dtype=torch.float64)
    square = torch.zeros_like(total)
    for part in rows.split(64):  # few enough that single precision adds their squares exactly
        x = pixels[part].float()
        total += x.sum(0)
        square += x.square_().sum(0)
    return total, square
