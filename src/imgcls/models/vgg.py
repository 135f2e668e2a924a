"""VGG (Simonyan & Zisserman 2014, Very Deep Convolutional Networks, table 1), with or without batch norm.

Layers and state_dict keys are torchvision's, so that its ImageNet weights load where fc is [4096, 4096].
Initial weights are PyTorch's defaults, with which the deep networks learn only with batch norm.
"""

import logging
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from imgcls.errors import ConfigError
from imgcls.models.adapt import load_pretrained
from imgcls.models.checks import check_choice, check_count, check_dropout, check_fit

log = logging.getLogger(__name__)

CONVOLUTIONS = {  # of each stage; a pool ends every stage, three dense layers follow the last
    "vgg7": (1, 1, 1, 1),  # not the paper's: shallower, with a pool less
    "vgg9": (1, 1, 2, 2),
    "vgg11": (1, 1, 2, 2, 2),  # column A of the paper's table
    "vgg13": (2, 2, 2, 2, 2),  # B
    "vgg16": (2, 2, 3, 3, 3),  # D
    "vgg19": (2, 2, 4, 4, 4),  # E
}
WIDENING = (1, 2, 4, 8, 8)  # channels of each stage per channel of the first

HEADS = {"flatten": None, "adaptive": 7, "average": 1}  # pixels of the side that the dense layers see


def activated(convolution: nn.Conv2d, batch_norm: bool) -> list[nn.Module]:
    """The convolution, a norm of its outputs if asked, ReLU."""
    norm = [nn.BatchNorm2d(convolution.out_channels)] if batch_norm else []
    return [convolution, *norm, nn.ReLU(inplace=True)]


def stages(
    depths: Sequence[int], in_channels: int, width: int, kernel: int, batch_norm: bool, ceil: bool
) -> nn.Sequential:
    """(N, in_channels, H, W) -> (N, 8 * width, H / 2^stages, W / 2^stages)."""
    layers: list[nn.Module] = []
    inplanes = in_channels
    for depth, widening in zip(depths, WIDENING, strict=False):
        for _ in range(depth):
            planes = widening * width
            layers += activated(nn.Conv2d(inplanes, planes, kernel, padding=kernel // 2), batch_norm)
            inplanes, kernel = planes, 3  # only the first of all may have a larger kernel
        layers.append(nn.MaxPool2d(2, ceil_mode=ceil))
    return nn.Sequential(*layers)


def dense(inputs: int, hidden: Sequence[int], num_classes: int, dropout: float) -> nn.Sequential:
    """Hidden layers with dropout on their outputs, then the logits; (N, inputs) -> (N, num_classes)."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(inputs, size), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        inputs = size
    return nn.Sequential(*layers, nn.Linear(inputs, num_classes))


class VGG(nn.Module):
    """Stages of convolutions, then dense layers."""

    def __init__(self, features: nn.Module, avgpool: nn.Module, classifier: nn.Module, fc_l2: float) -> None:
        super().__init__()
        self.features, self.avgpool, self.classifier = features, avgpool, classifier
        self.fc_l2 = fc_l2

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))

    def penalty(self) -> Tensor:
        """A scalar to add to the loss in training, as of any network that has a method of this name.

        Here fc_l2 times the sum of the squared weights of the hidden dense layers, as in Keras. Weight decay
        halves that sum: fc_l2=0.0005 pulls at these weights as weight_decay=0.001 would.
        """
        *hidden, last = (layer.weight for layer in self.classifier.modules() if isinstance(layer, nn.Linear))
        total = last.new_zeros(())
        for weight in hidden if self.fc_l2 else []:  # no pass over millions of weights for nothing
            total = total + self.fc_l2 * weight.square().sum()
        return total


def pick_rounding(name: str, ceil_pools: bool | None, image_size: int) -> bool:
    """Whether pools round up; null: only where rounding down would leave nothing of the image."""
    pools = len(CONVOLUTIONS[name])
    if ceil_pools or image_size >= 2**pools:
        return bool(ceil_pools)
    nothing = f"{pools} pools that round down leave nothing of {image_size} px"
    if ceil_pools is None:
        log.info("ceil_pools: true, because %s", nothing)
        return True
    raise ConfigError(f"{name}: {nothing}. Use model.ceil_pools=true, or scaling=to32.")


def check_counts(option: str, values: object) -> None:
    """Refuse anything but a list of whole numbers from 1 on."""
    if not isinstance(values, list | tuple):
        raise ConfigError(f"{option}={values} is not an option. Use a list of whole numbers, as [64,128].")
    for value in values:
        check_count(option, value)


def check_l2(value: object) -> None:
    """Refuse penalties that would reward large weights."""
    if not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ConfigError(f"fc_l2={value} is not an option. Use a number of at least 0.")


def vgg(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    batch_norm: bool = True,
    width: int = 64,
    kernel: int = 3,
    fc: Sequence[int] | None = None,
    dropout: float = 0.5,
    fc_l2: float = 0.0,
    head: str | None = None,
    ceil_pools: bool | None = None,
    pretrained: bool | str = False,
) -> VGG:
    """The network `name` of CONVOLUTIONS, once its options are found good."""
    check_choice("batch_norm", batch_norm, (True, False))
    check_count("width", width)
    check_choice("kernel", kernel, (3, 5))
    check_counts("fc", [] if fc is None else fc)
    check_dropout(dropout)
    check_l2(fc_l2)
    check_choice("head", head, (None, *HEADS))
    check_choice("ceil_pools", ceil_pools, (None, True, False))
    check_fit(pretrained, "vgg", width=width, kernel=kernel, fc=fc and [*fc], head=head)
    fc = fc if fc is not None else [4096, 4096] if pretrained else [512, 512]
    head = head or ("adaptive" if pretrained else "flatten")
    ceil = pick_rounding(name, ceil_pools, image_size)
    shrunk = 2 ** len(CONVOLUTIONS[name])
    side = HEADS[head] or (image_size + ceil * (shrunk - 1)) // shrunk
    avgpool = nn.AdaptiveAvgPool2d(side) if HEADS[head] else nn.Identity()
    features = stages(CONVOLUTIONS[name], in_channels, width, kernel, batch_norm, ceil)
    made = VGG(features, avgpool, dense(8 * width * side * side, fc, num_classes, dropout), fc_l2)
    load_pretrained(made, name + "_bn" * batch_norm, pretrained, num_classes, in_channels)
    return made


# Parameters for 1000 classes of 224 px with fc [4096, 4096]: without | with batch norm
vgg7 = partial(vgg, "vgg7")  # 2,869,770 by default on CIFAR-10
vgg9 = partial(vgg, "vgg9")  # 5,821,194
vgg11 = partial(vgg, "vgg11")  # 132,863,336 | 132,868,840
vgg13 = partial(vgg, "vgg13")  # 133,047,848 | 133,053,736
vgg16 = partial(vgg, "vgg16")  # 138,357,544 | 138,365,992
vgg19 = partial(vgg, "vgg19")  # 143,667,240 | 143,678,248
