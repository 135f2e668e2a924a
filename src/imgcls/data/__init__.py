"""Data: sources of uint8 images, loaders, and the batched tensor work done on the device."""
