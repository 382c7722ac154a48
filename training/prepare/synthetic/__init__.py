"""Records made by chance in the raw form that users have, with a known signal in each modality.

Every case has a latent state that all its modalities share, and each modality shows a view of its
own: state and noise mixed. The label depends on the mean of the views. So one modality alone
predicts in part, each further one adds something, and what unlabelled cases teach about one view
(from the others) helps where labels are few.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import numpy as np
from pydantic import Discriminator, Field, Tag

from lanistr.errors import ConfigError, unknown_name
from lanistr.modalities import Modality
from lanistr.sample import Sample
from lanistr.schema import Schema
from lanistr.tasks import find_task
from training.prepare.synthetic import reviews, stays

MAKERS: Mapping[str, Callable[[int, np.random.Generator], Sample]] = {
    "mortality": stays.make,
    "rating": reviews.make,
}


Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[
    Annotated[Share, Tag("all")] | Annotated[dict[Modality, Share], Tag("by modality")],
    Discriminator(lambda given: "by modality" if isinstance(given, dict) else "all"),
]
"""One share for all modalities, or one for each that is named."""


class SyntheticOptions(Schema):
    """How many records, and how incomplete.

    Attributes:
        samples: number of cases.
        missing: chance that a case lacks a modality, each by itself; one for all, or by modality,
            0 for those not named. One modality always stays.
        unlabelled: share of the cases without a label.
        seed: the same seed makes the same records, whatever the number asked for.
    """

    samples: int = Field(default=2000, ge=1)
    missing: Shares = 0.3
    unlabelled: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0)

    def share(self, modality: Modality) -> float:
        """Return the chance that a case lacks a modality."""
        missing = self.missing
        return missing.get(modality, 0.0) if isinstance(missing, dict) else missing


def draw(task: str, options: SyntheticOptions) -> Iterator[Sample]:
    """Yield the cases one by one.

    Raises:
        ConfigError: there is no generator for this task, or it makes no such modality.
    """
    if task not in MAKERS:
        raise ConfigError(
            "no synthetic records for this task",
            field="task",
            seen=task,
            accepted=unknown_name(task, MAKERS),
        )
    modalities = find_task(task).modalities
    missing = {each: options.share(each) for each in modalities}
    for each in options.missing if isinstance(options.missing, dict) else ():
        if each not in modalities:
            raise ConfigError(
                f"no such modality in {task}",
                field="missing",
                seen=str(each),
                accepted=unknown_name(each, modalities),
            )
    for number in range(options.samples):
        rng = np.random.default_rng([options.seed, number])
        case = MAKERS[task](number, rng)
        kept = _keep(list(case.parts), missing, rng)
        labelled = rng.random() >= options.unlabelled
        yield Sample(
            {modality: part for modality, part in case.parts.items() if modality in kept},
            id=case.id,
            label=case.label if labelled else None,
            group=case.group,
            subgroups=case.subgroups,
        )


def _keep(
    modalities: list[Modality], missing: Mapping[Modality, float], rng: np.random.Generator
) -> list[Modality]:
    kept = [each for each in modalities if rng.random() >= missing[each]]
    return kept or [modalities[int(rng.integers(len(modalities)))]]
