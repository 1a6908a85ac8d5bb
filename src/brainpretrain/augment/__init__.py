"""Augmentation, batched on the device: what is drawn (`Policy.sample`) is kept apart from what is done (`Policy.apply`)."""
