"""A small convolutional network (Chollet 2017, Deep Learning with Python, section 5.1), with optional dropout
before the output (Srivastava et al. 2014).
"""

from collections import OrderedDict

from torch import nn

from imgcls.models.checks import check_choice, check_dropout, check_size

# name: (pixels added on each side, smallest image of which a pixel is left after the third convolution)
PADDINGS = {"valid": (0, 18), "same": (1, 4)}


def convnet(
    *, num_classes: int, in_channels: int, image_size: int, dropout: float = 0.0, padding: str = "valid"
) -> nn.Sequential:
    """Three convolutions and two dense layers: 93,322 parameters on MNIST, 122,570 on CIFAR-10."""
    check_choice("padding", padding, tuple(PADDINGS))
    check_dropout(dropout)
    pad, needed = PADDINGS[padding]
    check_size("convnet", image_size, needed)
    lost = 2 - 2 * pad  # pixels of the side that a 3x3 convolution takes away
    side = ((image_size - lost) // 2 - lost) // 2 - lost
    layers: OrderedDict[str, nn.Module] = OrderedDict(  # sides in pixels: MNIST, valid
        conv1=nn.Conv2d(in_channels, 32, 3, padding=pad),  # 28 -> 26
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),  # 26 -> 13
        conv2=nn.Conv2d(32, 64, 3, padding=pad),  # 13 -> 11
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),  # 11 -> 5
        conv3=nn.Conv2d(64, 64, 3, padding=pad),  # 5 -> 3
        relu3=nn.ReLU(),
        flatten=nn.Flatten(),  # (N, 64, 3, 3) -> (N, 576)
        dense=nn.Linear(64 * side * side, 64),
        relu4=nn.ReLU(),
        dropout=nn.Dropout(dropout),  # there at 0 too, so that both variants have the same layers
        fc=nn.Linear(64, num_classes),
    )
    return nn.Sequential(layers)
