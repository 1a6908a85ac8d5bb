"""What a pretext file declares about itself. No torch, since a dry run reads it.

A file of this folder has `ABOUT = About(...)` with literal arguments, which `pretext.about` reads without importing the file.
"""

from __future__ import annotations

from dataclasses import dataclass

# kinds of tasks, and the logged scalars that show for each whether the network learns: errors and accuracies of guesses
# that need no network, and for classes of crops the spread of the embeddings, which is 0 when all crops look alike
KINDS = {
    "reconstruction": ("loss_zero", "loss_mean"),
    "voxels": ("accuracy", "accuracy_majority", "loss_majority"),
    "crops": ("accuracy", "accuracy_majority", "spread"),
    "views": ("rotation_accuracy",),
}

# titles of the arrays input, masked, output and target of `reconstruct`, and of their difference, by kind of picture
PICTURES = {
    "reconstruction": ("input", "masked input", "output", "target", "error"),
    "corruption": ("image", "corrupted input", "output", "target", "error"),
    "classes": ("foreground image", "fused input", "predicted class", "true class", "difference"),
    "overlaps": ("patch with its base crops", "target crop", "predicted overlap", "true overlap", "difference"),
}


@dataclass(frozen=True)
class About:
    """What a pretext task is.

    Attributes:
        kinds: what the network learns, of `KINDS`: to reconstruct, or to name the class of voxels, of crops or of views.
        picture: what the arrays of `reconstruct` show, of `PICTURES`.
        hides: True if voxels are hidden from the network, so that no output may depend on them.
        architectures: backbones that it takes; empty: all.
        samples: least number of samples in a batch.
    """

    kinds: tuple[str, ...]
    picture: str
    hides: bool = False
    architectures: tuple[str, ...] = ()
    samples: int = 1

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS] or not self.kinds:
            raise ValueError(f"kinds {unknown or self.kinds}: give some of {', '.join(KINDS)}")
        if self.picture not in PICTURES:
            raise ValueError(f"picture '{self.picture}': give one of {', '.join(PICTURES)}")

    @property
    def baselines(self) -> set[str]:
        """Scalars that every forward pass must return beside `loss`."""
        return {name for kind in self.kinds for name in KINDS[kind]}

    def takes(self, architecture: str) -> bool:
        """True if the task can be trained on this kind of backbone."""
        return not self.architectures or architecture in self.architectures
