"""The image operations behind `Augment`: whole batches at once, each image with its own drawn values.

Every function takes (N, H, W, C): the order that batches have in memory, in which a row of an image is one
run of bytes. None of them draws anything: the random values are arguments.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def channels_last(images: Tensor) -> Tensor:
    """Images (N, H, W, C) as (N, C, H, W) in channels last layout, copied only if they are not laid out so.

    With one channel, torch takes other strides for contiguous too, but then picks its kernels by them:
    passing through one dimension sets them all.
    """
    return images.contiguous().view(-1).view(images.shape).permute(0, 3, 1, 2)


def place(
    images: Tensor,
    margin: int,
    mode: str,
    corner: Tensor | tuple[int, int] = (0, 0),
    mirrored: Tensor | None = None,
    upended: Tensor | None = None,
) -> Tensor:
    """Crops uint8 images out of their padded selves at `corner` (2, N, 1), flipped where (N, 1) masks say.

    Copies whole rows, since a row of the padded image that starts anywhere is still one run of bytes;
    a gather pixel by pixel is slower, and more so the larger the images.
    """
    n, h, w, c = images.shape
    image = torch.arange(n, device=images.device).unsqueeze(1)
    row = torch.arange(h, device=images.device)
    if upended is not None:
        row = torch.where(upended, h - 1 - row, row)
    row = row + corner[0]
    if mode == "reflect":
        row = (h - 1) - ((row - margin).abs() - (h - 1)).abs()
    canvas = _canvas(images, margin, mode, both=mirrored is not None)
    if mirrored is not None:
        image = image + n * mirrored
    tall, wide = canvas.shape[1:3]
    start = (image * tall + row) * wide + corner[1]
    rows = canvas.view(-1).unfold(0, w * c, c)  # a view: row k is the w pixels from pixel k on
    return rows.index_select(0, start.view(-1)).view(n, h, w, c)


def _canvas(images: Tensor, margin: int, mode: str, both: bool) -> Tensor:
    """The padded images (N or 2N, H', W', C); with `both`, their mirror images follow them."""
    mirror = images.flip(2) if both or mode == "reflect" else images
    canvas = _pad(images, mirror, margin, mode)
    # Mirroring everything and choosing by index costs a third of torch.where on bytes.
    return torch.cat([canvas, _pad(mirror, images, margin, mode)]) if both else canvas


def _pad(images: Tensor, mirror: Tensor, margin: int, mode: str) -> Tensor:
    """Images with a zero margin all round, or a reflected one left and right (rows reflect by index)."""
    if not margin:
        return images
    if mode == "zero":
        return F.pad(images, (0, 0, margin, margin, margin, margin))
    # The edge itself is not repeated. Spelt out, since not every backend of F.pad reflects bytes.
    return torch.cat([mirror[:, :, -1 - margin : -1], images, mirror[:, :, 1 : 1 + margin]], dim=2)


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
    images = images.clone()
    images[image, down.unsqueeze(2), right.unsqueeze(1)] = fill
    return images
