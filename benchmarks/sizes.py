"""The sizes that training is measured at."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Attributes:
        transformers: settings of the Transformers of text, pictures and fusion; what is not set is
            the recipe's.
        model: further settings by their path.
        picture: side of a picture, in pixels.
        batch: cases a step.
        steps: steps an epoch of pretraining; what is repeated is an epoch.
        labelled: cases of an epoch of fine-tuning.
        labelled_batch: cases a step of it.
        read: cases of the data set that the loader reads.
        passes: epochs over which the memory of a worker is watched.
    """

    transformers: dict[str, int]
    model: dict[str, object]
    picture: int
    batch: int
    steps: int
    labelled: int
    labelled_batch: int
    read: int
    passes: int

    def overrides(self, parts: Collection[str]) -> list[str]:
        """Return the settings that bring the parts of a paper's recipe to this size."""
        settings: dict[str, object] = {
            f"model.{part}.{name}": value
            for part in ("text", "image", "fusion")
            for name, value in self.transformers.items()
        }
        settings |= self.model | {"model.image.size": self.picture}
        return [f"{k}={v}" for k, v in settings.items() if k.split(".")[1] in parts]


SIZES = {
    "tiny": Size(
        transformers={"width": 16, "layers": 1, "heads": 2, "feedforward": 32},
        model={
            "model.text.vocab_size": 400,
            "model.text.max_tokens": 64,
            "model.image.patch": 8,
            "model.tabular.steps": 2,
            "model.timeseries.layers": 1,
            "model.simmmm.width": 32,
            "model.simmmm.bottleneck": 8,
        },
        picture=32,
        batch=4,
        steps=2,
        labelled=8,
        labelled_batch=4,
        read=12,
        passes=8,
    ),
    "small": Size(
        transformers={"width": 64, "layers": 3, "heads": 2, "feedforward": 256},
        model={
            "model.text.vocab_size": 4000,
            "model.tabular.steps": 3,
            "model.simmmm.width": 128,
            "model.simmmm.bottleneck": 32,
        },
        picture=224,
        batch=8,
        steps=3,
        labelled=48,
        labelled_batch=16,
        read=200,
        passes=8,
    ),
    "paper": Size(
        transformers={},
        model={},
        picture=224,
        batch=128,
        steps=4,
        labelled=512,
        labelled_batch=128,
        read=2000,
        passes=8,
    ),
}
