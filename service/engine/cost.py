"""What a job costs, in tokens: what is encoded, and what is fused."""

from collections.abc import Collection, Mapping, Sequence

from lanistr.batch import Arrays, Features
from lanistr.importance import Subset
from lanistr.manifest import FUSION, Graph
from lanistr.modalities import Modality
from service.engine.cache import Key


class Cost:
    """Counts tokens by the graphs' shapes."""

    def __init__(self, graphs: Mapping[str, Graph]) -> None:
        encoders = [each for each in Modality if each in graphs]
        self._fixed = {each: _fixed_tokens(graphs[each]) for each in encoders}
        self._open = {each: _open_axes(graphs[each]) for each in encoders}

    def case(
        self,
        features: Features,
        coalitions: Sequence[Subset],
        keys: Mapping[Modality, Sequence[Key]],
        held: Collection[Key],
    ) -> int:
        """Return the tokens that all graphs work on for a case; see `parts`."""
        return sum(self.parts(features, coalitions, keys, held).values())

    def parts(
        self,
        features: Features,
        coalitions: Sequence[Subset],
        keys: Mapping[Modality, Sequence[Key]],
        held: Collection[Key],
    ) -> dict[str, int]:
        """Return the tokens of a case by graph: encoded once, and fused once a coalition.

        Args:
            features: the case.
            coalitions: subsets of its modalities.
            keys: of its rows, by modality.
            held: keys of rows that are encoded already.
        """
        tokens: dict[str, int] = {FUSION: 0}
        for modality, rows in features.rows.items():
            costs = [self.row(modality, row) for row in rows]
            times = sum(modality in subset for subset in coalitions)
            tokens[modality] = sum(
                cost for cost, key in zip(costs, keys[modality], strict=True) if key not in held
            )
            tokens[FUSION] += times * (self.fixed_tokens(modality) or sum(costs))
        return tokens

    def row(self, modality: Modality, row: Arrays) -> int:
        """Return the tokens that an encoder works on for one row.

        The size of the axes that the graph leaves open (the words of a note), or the tokens that it
        returns (the patches of a picture, the steps of a series).
        """
        sizes: list[int] = [
            row[name].shape[axis] for name, axis in self._open[modality] if name in row
        ]
        return max([1, *sizes, self._fixed[modality] or 1])

    def fixed_tokens(self, modality: Modality) -> int | None:
        """Return how many tokens a row becomes; None where that depends on the row."""
        return self._fixed[modality]


def _fixed_tokens(encoder: Graph) -> int | None:
    tokens = encoder.outputs["tokens"].shape[1]
    return None if isinstance(tokens, str) else tokens


def _open_axes(encoder: Graph) -> list[tuple[str, int]]:
    """Return the axes of a row that a graph leaves open, by the name of the input."""
    return [
        (name, axis)
        for name, tensor in encoder.inputs.items()
        for axis, size in enumerate(tensor.shape[1:])
        if isinstance(size, str)
    ]
