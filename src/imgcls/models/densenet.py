"""DenseNet-121, -169 and -201 (Huang et al. 2016, Densely Connected Convolutional Networks, table 1).

torchvision's network, with its initial weights and state_dict keys, for small images and other channels too.
"""

from functools import partial

import torchvision
from torch import nn

from imgcls.models.adapt import load_pretrained
from imgcls.models.checks import check_choice, check_count, check_dropout, check_fit, check_size
from imgcls.models.resnet import STEMS, pick_stem

# name: layers in each dense block
DEPTHS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}


def _densenet(
    name: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    stem: str = "auto",
    growth_rate: int = 32,
    width: int = 64,
    dropout: float = 0.0,
    pretrained: bool | str = False,
) -> torchvision.models.DenseNet:
    """The network `name` of DEPTHS, once its options are found good."""
    check_choice("stem", stem, ("auto", *STEMS))
    check_count("growth_rate", growth_rate)
    check_count("width", width)
    check_dropout(dropout)
    check_fit(pretrained, "densenet", stem=stem, growth_rate=growth_rate, width=width)
    kernel, stride, pool = pick_stem(stem, image_size, pretrained, STEMS)
    # After the stem three transitions halve the image, odd sides rounded down: 8 px leave one
    check_size(name, image_size, 7 * stride * (1 + pool) + 1)
    net = torchvision.models.DenseNet(
        growth_rate, DEPTHS[name], width, drop_rate=dropout, num_classes=num_classes
    )
    # In its place: dense blocks see 56 to 7 px of 224 (imagenet stem), 32 to 4 px of 32 (cifar stem)
    first = net.features.conv0
    if (first.in_channels, first.stride) != (in_channels, (stride, stride)):
        first = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(first.weight)
        net.features.conv0 = first
    if not pool:
        net.features.pool0 = nn.Identity()
    load_pretrained(net, name, pretrained, num_classes, in_channels)
    return net


densenet121 = partial(_densenet, "densenet121")  # 7,978,856 parameters for 1000 classes
densenet169 = partial(_densenet, "densenet169")  # 14,149,480
densenet201 = partial(_densenet, "densenet201")  # 20,013,928
