"""The image operations behind `Augment`: whole batches at once, each image with its own drawn values.

Every function takes (N, H, W, C), the order that batches have in memory, where a pixel is one run of bytes.
None of them draws anything: the random values are arguments.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """Images (N, H, W, C) as (N, C, H, W) in channels last layout, copied only if they are not laid out so.

    With one channel, torch takes other strides for contiguous too, but then picks its kernels by them:
    passing through one dimension sets them all.
    """
    return images.contiguous().view(-1).view(images.shape).permute(0, 3, 1, 2)


WIDE = 64  # pixels of a line, from which on the CPU mirrors images faster one by one than all at once


def place(
    images: Tensor, margin: int, mode: str, down: Tensor, right: Tensor, mirrored: bool = True
) -> Tensor:
    """Crops uint8 images out of their padded selves: the rows of window `down`, the columns of `right` (N,).

    One gather does it all: flips and reflections are only other indices. `mirrored` says whether any columns
    may run backwards.
    """
    n, h, w, c = images.shape
    if mirrored and w >= WIDE and images.device.type == "cpu":
        images, right = _mirrored(images, margin, right)
        mirrored = False
        if not (margin or down.any()):
            return images
    rows = windows(h, margin, mode, images.device).index_select(0, down)
    if not mirrored:
        return _lines(images, margin, mode, rows, right)
    columns = windows(w, margin, mode, images.device).index_select(0, right)
    if margin and mode == "zero":
        images = F.pad(images, (0, 0, margin, margin, margin, margin))
    tall, wide = images.shape[1:3]
    # Row k of the batch as one tall image, so that a single number says which pixel of which image.
    rows = rows + torch.arange(0, n * tall, tall, device=images.device).unsqueeze(1)
    pixel = torch.add(columns.unsqueeze(1), rows.unsqueeze(2), alpha=wide).view(-1)
    # Of single bytes, one dimension is gathered at twice the speed of two.
    source = images.view(-1) if c == 1 else images.view(-1, c)
    return source.index_select(0, pixel).view(n, h, w, c)


def _mirrored(images: Tensor, margin: int, right: Tensor) -> tuple[Tensor, Tensor]:
    """Images, those turned whose columns run backwards, and from where their columns run forwards then.

    One at a time, for an image fits in a core's cache: of 224 px that is six times as fast as all at once.
    """
    offsets = 2 * margin + 1
    backwards = right >= offsets
    images = images.clone()  # these may still be the caller's own
    for image, turned in zip(images, backwards.tolist(), strict=True):
        if turned:
            image.copy_(image.flip(1))
    return images, torch.where(backwards, 2 * margin + offsets - right, right)


def _lines(images: Tensor, margin: int, mode: str, rows: Tensor, right: Tensor) -> Tensor:
    """`place` by whole lines of pixels, none of which runs backwards."""
    n, h, w, c = images.shape
    if margin and mode == "reflect":  # rows lead back into the image by themselves
        left, end = images[:, :, 1 : margin + 1].flip(2), images[:, :, -margin - 1 : -1].flip(2)
        images = torch.cat([left, images, end], 2)
    elif margin:
        images = F.pad(images, (0, 0, margin, margin, margin, margin))
    tall, wide = images.shape[1:3]
    first = right + torch.arange(0, n * tall * wide, tall * wide, device=images.device)
    first = torch.add(first.unsqueeze(1), rows, alpha=wide).view(-1)
    # Every place in memory at which a line may begin, as a row of its own; none is copied but those chosen
    lines = images.view(-1).as_strided((n * tall * wide - w + 1, w * c), (c, 1))
    return lines.index_select(0, first).view(n, h, w, c)


@lru_cache
def windows(side: int, margin: int, mode: str, device: torch.device) -> Tensor:
    """The indices of each crop of a padded line, offsets 0 to 2 * margin, then again backwards: (K, side).

    A zero margin is pixels of its own; a reflected one leads back into the image, whose edge is not repeated.
    Kept, as building one takes as long as using it.
    """
    line = torch.arange(-margin, side + margin, device=device)
    line = (side - 1) - (line.abs() - (side - 1)).abs() if mode == "reflect" else line + margin
    forwards = line.unfold(0, side, 1)
    return torch.cat([forwards, forwards.flip(1)])


def warp(images: Tensor, angle: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """Float images turned by `angle` (N,) radians, zoomed (N,), then shifted (2, N) pixels down and right.

    One bilinear resampling for all three, black outside, as torchvision's `affine`.
    """
    h, w = images.shape[1:3]
    down, right = shift.unsqueeze(-1)
    # From where in the old image does each new pixel come: undo the shift, then the zoom, then the turn.
    y = (_centred(h, images) - down).unsqueeze(2)
    x = (_centred(w, images) - right).unsqueeze(1)
    cos, sin = (angle.cos() / zoom).view(-1, 1, 1), (angle.sin() / zoom).view(-1, 1, 1)
    # By hand, as F.affine_grid is a matrix product, which TF32 or autocast would make coarse.
    # Its scale, -1 to 1 from edge to edge, is set on single rows and columns, before they span the image.
    grid = torch.stack([cos * x * (2 / w) + sin * y * (2 / w), cos * y * (2 / h) - sin * x * (2 / h)], dim=-1)
    return F.grid_sample(images.permute(0, 3, 1, 2), grid, align_corners=False).permute(0, 2, 3, 1)


def _centred(side: int, like: Tensor) -> Tensor:
    """Pixel coordinates (side,) counted from the middle of the image."""
    return torch.arange(side, device=like.device) - (side - 1) / 2


def recolour(images: Tensor, brightness: Tensor | None, contrast: Tensor | None) -> Tensor:
    """Multiplies float images by `brightness` (N,), then stretches them about their mean grey by `contrast`.

    In place: on the CPU, fresh memory for each step would cost more than the arithmetic.
    """
    if brightness is not None:
        images.mul_(brightness.view(-1, 1, 1, 1)).clamp_(0, 255)
    if contrast is not None:
        # grey + contrast * (image - grey), sorted so that the image is passed over only twice.
        offset = (1 - contrast) * _mean_grey(images)
        images.mul_(contrast.view(-1, 1, 1, 1)).add_(offset.view(-1, 1, 1, 1)).clamp_(0, 255)
    return images


def _mean_grey(images: Tensor) -> Tensor:
    """The mean grey of each image, (N,)."""
    channels = images.mean((1, 2))
    if channels.shape[1] == 1:
        return channels[:, 0]
    red, green, blue = channels.unbind(1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue  # luma (ITU-R BT.601), with torchvision's digits


def blank(images: Tensor, side: int, centre: Tensor, fill: Tensor) -> Tensor:
    """Images with a square of `side` pixels about `centre` (2, N, 1) set to `fill` (C,), clipped at edges."""
    image = torch.arange(len(images), device=images.device).view(-1, 1, 1)
    reach = torch.arange(side, device=images.device) - side // 2
    # What hangs over an edge is moved onto it, where the square is anyway, as its centre is in the image.
    down, right = ((at + reach).clamp(0, n - 1) for at, n in zip(centre, images.shape[1:3], strict=True))
    images = images.clone()  # these may still be the caller's own
    images[image, down.unsqueeze(2), right.unsqueeze(1)] = fill
    return images
