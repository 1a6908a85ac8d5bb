"""Augmentation, batched on the device: drawing (`Policy.draw`) is separate from applying (`Policy.apply`)."""
