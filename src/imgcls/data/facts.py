"""What is known of each dataset before a file of it is opened: counts, sizes and class names.

Nothing heavy is imported here: the command line checks configurations against these facts before torch loads.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Facts:
    """One dataset of square images: image_size in pixels, train and test in images, classes by label."""

    title: str
    channels: int
    image_size: int
    train: int
    test: int
    classes: tuple[str, ...]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


_DIGITS = tuple("0123456789")
_FASHION = _names("T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot")
_CIFAR10 = _names("airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck")
_CIFAR100 = _names(
    """apple, aquarium_fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus,
    butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch,
    crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo,
    keyboard, lamp, lawn_mower, leopard, lion, lizard, lobster, man, maple_tree, motorcycle, mountain, mouse,
    mushroom, oak_tree, orange, orchid, otter, palm_tree, pear, pickup_truck, pine_tree, plain, plate, poppy,
    porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper,
    snail, snake, spider, squirrel, streetcar, sunflower, sweet_pepper, table, tank, telephone, television,
    tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow_tree, wolf, woman, worm"""
)
_KMNIST = _names("o, ki, su, tsu, na, ha, ma, ya, re, wo")
_STL10 = _names("airplane, bird, car, cat, deer, dog, horse, monkey, ship, truck")
_UPPER, _LOWER = (
    tuple(alphabet) for alphabet in ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
)
_DISTINCT = tuple("abdefghnqrt")  # small letters that do not look like the capital ones

# EMNIST's splits: images to train on, to test on, and classes
EMNIST: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "balanced": (112_800, 18_800, _DIGITS + _UPPER + _DISTINCT),
    "byclass": (697_932, 116_323, _DIGITS + _UPPER + _LOWER),
    "bymerge": (697_932, 116_323, _DIGITS + _UPPER + _DISTINCT),
    "letters": (124_800, 20_800, _LOWER),
    "digits": (240_000, 40_000, _DIGITS),
    "mnist": (60_000, 10_000, _DIGITS),
}

# Class names are torchvision's where it has them, otherwise the publisher's; a digit is just a digit.
FACTS: dict[str, Facts] = {
    # Its 1,797 images have no official test set: imgcls.data.sources.digits always holds the same 360 out.
    "digits": Facts("Digits", 1, 8, 1_437, 360, _DIGITS),
    "mnist": Facts("MNIST", 1, 28, 60_000, 10_000, _DIGITS),
    "fashion_mnist": Facts("Fashion-MNIST", 1, 28, 60_000, 10_000, _FASHION),
    "kmnist": Facts("Kuzushiji-MNIST", 1, 28, 60_000, 10_000, _KMNIST),
    **{
        f"emnist_{split}": Facts(f"EMNIST ({split})", 1, 28, train, test, classes)
        for split, (train, test, classes) in EMNIST.items()
    },
    "cifar10": Facts("CIFAR-10", 3, 32, 50_000, 10_000, _CIFAR10),
    "cifar100": Facts("CIFAR-100", 3, 32, 50_000, 10_000, _CIFAR100),
    # The files label a 0 as 10; torchvision makes it 0, so that the label is the digit.
    "svhn": Facts("SVHN", 3, 32, 73_257, 26_032, _DIGITS),
    "stl10": Facts("STL-10", 3, 96, 5_000, 8_000, _STL10),
}
