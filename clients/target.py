"""What a table is scored by: a task, and the model that answers for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from clients.answers import Model
from clients.document import Document


def fold(word: str) -> str:
    """Return a word as the service compares it: neither case nor white space counts."""
    return " ".join(word.split()).casefold()


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a table row, or a variable of a series.

    Attributes:
        kind: ``number`` or ``category``.
        words: that it lists, other spellings too, see `fold`; they are values in it, whatever
            else they mean.
        units: that a number may be in, see `fold`.
        unit: of them, that of a number alone; none where it has no unit.
    """

    kind: str
    words: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    unit: str = ""

    @classmethod
    def read(cls, document: Document) -> "Field":
        """Read it from what the service says of a field. Raises `MalformedError`."""
        words = list(document.texts("categories")) if document.has("categories") else []
        if document.has("synonyms"):
            words += document.document("synonyms").raw
        unit = document.text("unit") if document.has("unit") else ""
        units = [unit]
        if document.has("units"):
            units += document.document("units").raw
        listed, known = (frozenset(filter(None, map(fold, each))) for each in (words, units))
        return cls(document.text("kind"), listed, known, fold(unit))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A task and a model, as ``GET /tasks/{task}`` describes them.

    Attributes:
        task: its name.
        model: that answers.
        precision: of its graphs; another one answers a little differently.
        modalities: parts that the task takes.
        fields: of its table row.
        variables: of its series.
        label: kind of what is predicted: binary, multiclass, ordinal or regression.
        classes: names; none for regression.
    """

    task: str
    model: Model
    precision: str
    modalities: tuple[str, ...]
    fields: Mapping[str, Field]
    variables: Mapping[str, Field]
    label: str
    classes: tuple[str, ...]

    @classmethod
    def read(cls, document: Document) -> "Target":
        """Read it from what the service says of a task. Raises `MalformedError`."""
        label = document.document("label")
        return cls(
            task=document.text("name"),
            model=Model.read(document.document("model")),
            precision=document.text("precision"),
            modalities=document.texts("modalities"),
            fields=_fields(document, "tabular", "fields"),
            variables=_fields(document, "timeseries", "variables"),
            label=label.text("kind"),
            classes=label.texts("classes") if label.has("classes") else (),
        )


def _fields(document: Document, part: str, name: str) -> dict[str, Field]:
    if not document.has(part):
        return {}
    described = document.document(part).document(name)
    return {each: Field.read(described.document(each)) for each in described.raw}
