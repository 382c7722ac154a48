"""The weights of a run's best validations, and their mean.

One after another, the best first, each is taken into the mean if the mean then does no worse on the
validation split than without it.

Source: Wortsman et al. 2022 (Model soups), section 2, the greedy recipe.
"""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lanistr.model.checkpoint import fill, read_weights, save_pretrained
from lanistr.model.lanistr import Lanistr
from training.run import CANDIDATES, Run


class Candidates:
    """The weights of the best validations so far, while a run goes on.

    Those that a stored state of the run speaks of stay for as long as it does: a run that is killed
    goes on from it, or from an older one if it is damaged, and may not come by the same weights
    again.

    Args:
        run: in whose folder they stand.
        keep: how many.
        known: score and step of each, the best first; kept up to date, to be stored with the run.
        removes: whether to remove what is of no more use. Of several processes only the one that
            stores the run's states is to: others may see a folder of the network as it was before.
    """

    def __init__(self, run: Run, keep: int, known: list[Any], *, removes: bool = True) -> None:
        self.run = run
        self.keep = keep
        self.known = known
        self.removes = removes
        self._gone: list[tuple[int, int]] = []  # step of each, and the one after which it left

    def folder(self, step: int) -> Path:
        """Return where the weights after a step stand."""
        return self.run.folder / CANDIDATES / f"step-{step:08d}"

    @property
    def best(self) -> Path:
        """Where the best weights stand."""
        _, step = self.known[0]
        return self.folder(step)

    def admit(self, score: float, step: int, stored: Collection[int] = ()) -> bool:
        """Take a validation among the best, if it is one; its weights are then to be written.

        Args:
            score: more is better.
            step: after which, counted from 0.
            stored: numbers of steps after which the run's state was stored, and still is.
        """
        found = [score, step]
        ranked = sorted([*self.known, found], key=lambda each: (-each[0], each[1]))
        self.known[:] = ranked[: self.keep]
        if self.removes:
            self._gone += [(gone, step) for _, gone in ranked[self.keep :]]
        waiting = []
        for gone, since in self._gone:
            if any(gone < each <= since for each in stored):
                waiting.append((gone, since))
            else:
                shutil.rmtree(self.folder(gone), ignore_errors=True)
        self._gone = waiting
        return found in self.known

    def mix(self, model: Lanistr, score: Callable[[Lanistr], float]) -> int:
        """Put the mean into a model and write it as the run's; return of how many it is.

        Args:
            model: of the run's sizes; changed in place.
            score: says how good a model is on the validation split; more is better.

        Raises:
            CheckpointError: weights cannot be read or written.
        """
        taken: list[dict[str, Tensor]] = []
        best = float("-inf")
        for _, step in self.known:
            tried = [*taken, read_weights(self.folder(step))]
            fill(model, _mean(tried), self.folder(step))
            if (found := score(model)) >= best:
                best, taken = found, tried
        fill(model, _mean(taken), self.run.folder)
        save_pretrained(model, self.run.model_folder)
        return len(taken)


def _mean(several: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of weights; what is counted in whole numbers is as in the first."""
    first = several[0]
    return {
        name: torch.stack([each[name] for each in several]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }
