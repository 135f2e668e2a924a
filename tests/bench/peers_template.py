"""What lightning-hydra-template is given by `peers.py`: CIFAR-10 in the way of its own MNIST, and a clock."""

from typing import Any

from lightning import LightningDataModule
from lightning.pytorch.callbacks import Callback
from peers import BATCH, Clock
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10


class CIFAR10Data(LightningDataModule):
    """torchvision's transforms per image, in workers."""

    def __init__(self, data_dir: str, num_workers: int, **others: Any) -> None:
        super().__init__()
        self.root, self.workers = data_dir, num_workers
        self.batch_size_per_device = BATCH

    def _loader(self, train: bool) -> DataLoader[Any]:
        change = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if train else []
        scale = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
        steps = transforms.Compose([*change, transforms.ToTensor(), scale])
        data = CIFAR10(self.root, train=train, transform=steps)
        return DataLoader(data, BATCH, shuffle=train, num_workers=self.workers)

    def train_dataloader(self) -> DataLoader[Any]:
        """The training images, shuffled."""
        return self._loader(True)

    def val_dataloader(self) -> DataLoader[Any]:
        """The test images, as its MNIST has a validation set."""
        return self._loader(False)


class Watch(Callback):
    """Counts the steps of training."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_train_batch_end(self, *words: Any) -> None:
        """One step is done."""
        self.clock.step()
