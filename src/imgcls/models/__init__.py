"""Networks: one family a file, each a plain nn.Module made by num_classes, in_channels and image_size."""
