"""GoogLeNet (Szegedy et al. 2014, Going Deeper with Convolutions, sections 5 and 6).

Layers, initial weights and state_dict keys are torchvision's, whose batch norm the paper does not have and
whose 5x5 convolutions are 3x3. Without batch norm it is the network of the paper's table 1 and figure 3.

Auxiliary heads: in training a network may return more than logits, namely the pair (logits, auxiliary), where
auxiliary lists (logits of a head, weight of its loss). Whoever trains it adds each head's loss times its
weight to the main loss. In evaluation there are logits only. Since everything is returned, and nothing kept
on the module, this holds in torch.compile, in torch.export and under DistributedDataParallel.
"""

from functools import partial
from typing import Any, NamedTuple

import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux

from imgcls.models.adapt import load_pretrained
from imgcls.models.checks import check_choice, check_dropout, check_fit, check_size
from imgcls.models.resnet import STEMS, Stem, pick_stem

AUXILIARY_WEIGHT = 0.3  # section 5: losses of both heads are added with this weight

SMALLEST = {"imagenet": 15, "cifar": 2}  # px of which the pools leave something


class Outputs(NamedTuple):
    """What is returned in training: a plain pair to whoever takes it apart."""

    logits: Tensor
    auxiliary: list[tuple[Tensor, float]]  # a head's logits and the weight of its loss


class PlainConv(nn.Module):
    """A convolution with bias in place of torchvision's with batch norm."""

    def __init__(self, in_channels: int, out_channels: int, **geometry: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, **geometry)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        return F.relu(self.conv(x), inplace=True)


class PlainInception(Inception):
    """Four branches side by side, the third with the 5x5 convolution of the paper."""

    def __init__(self, *channels: int) -> None:
        super().__init__(*channels, conv_block=PlainConv)
        reduced, out = channels[4:6]
        self.branch3[1] = PlainConv(reduced, out, kernel_size=5, padding=2)


BATCH_NORM = (BasicConv2d, Inception, InceptionAux)
PLAIN = (PlainConv, PlainInception, partial(InceptionAux, conv_block=PlainConv))


class GoogLeNet(torchvision.models.GoogLeNet):
    """Stem, nine inception blocks, average over the image, one dense layer, two heads for training."""

    maxpool1: nn.Module
    maxpool2: nn.Module

    def __init__(
        self, stem: Stem, num_classes: int, in_channels: int, aux: bool, dropout: float, batch_norm: bool
    ) -> None:
        blocks = BATCH_NORM if batch_norm else PLAIN
        # The paper drops 0.4 before the output and 0.7 in the heads; torchvision has 0.2 and 0.7
        super().__init__(num_classes, aux, init_weights=False, blocks=[*blocks], dropout=dropout)
        kernel, stride, pool = stem
        if (stem, in_channels) != (STEMS["imagenet"], 3):
            self.conv1 = blocks[0](in_channels, 64, kernel_size=kernel, stride=stride, padding=kernel // 2)
        if not pool:
            self.maxpool1, self.maxpool2 = nn.Identity(), nn.Identity()
        if not batch_norm:  # figure 3: after the first pool and before the second
            self.maxpool1 = nn.Sequential(self.maxpool1, nn.LocalResponseNorm(5))
            self.maxpool2 = nn.Sequential(nn.LocalResponseNorm(5), self.maxpool2)
        self._init_weights(batch_norm)

    def _init_weights(self, batch_norm: bool) -> None:
        """torchvision's; without batch norm so small weights let the signal vanish, hence He et al. 2015."""
        for module in self.modules():
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            if batch_norm:
                nn.init.trunc_normal_(module.weight, std=0.01)
            elif module is not self.fc:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor | Outputs:
        """Images (N, C, H, W) -> logits (N, num_classes), in training with the heads' beside them."""
        out = super().forward(x)
        if isinstance(out, Tensor):
            return out
        heads = (out.aux_logits1, out.aux_logits2)
        return Outputs(out.logits, [(logits, AUXILIARY_WEIGHT) for logits in heads])


def googlenet(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    stem: str = "auto",
    aux: bool = True,
    dropout: float = 0.4,
    batch_norm: bool = True,
    pretrained: bool | str = False,
) -> GoogLeNet:
    """GoogLeNet: 9,960,638 parameters for 10 classes, 5,610,154 of them outside the auxiliary heads."""
    check_choice("stem", stem, ("auto", *STEMS))
    check_choice("aux", aux, (True, False))
    check_choice("batch_norm", batch_norm, (True, False))
    check_dropout(dropout)
    check_fit(pretrained, "googlenet", stem=stem, batch_norm=batch_norm)
    chosen = pick_stem(stem, image_size, pretrained, STEMS)
    # Without early pools the inception blocks see 32, 16 and 8 px of 32; with them 28, 14 and 7 px of 224
    check_size("googlenet", image_size, SMALLEST["imagenet" if chosen.pool else "cifar"])
    made = GoogLeNet(chosen, num_classes, in_channels, aux, dropout, batch_norm)
    made.transform_input = bool(pretrained)  # those weights were trained on another scale of the images
    load_pretrained(made, "googlenet", pretrained, num_classes, in_channels)
    return made
