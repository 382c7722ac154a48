"""What a table is scored by: a task, and the model that answers for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from clients.answers import Model
from clients.document import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A task and a model, as ``GET /tasks/{task}`` describes them.

    Attributes:
        task: its name.
        model: that answers.
        precision: of its graphs; another one answers a little differently.
        modalities: parts that the task takes.
        fields: of its table row, each with its kind: ``number`` or ``category``.
        label: kind of what is predicted: binary, multiclass, ordinal or regression.
        classes: names; none for regression.
    """

    task: str
    model: Model
    precision: str
    modalities: tuple[str, ...]
    fields: Mapping[str, str]
    label: str
    classes: tuple[str, ...]

    @classmethod
    def read(cls, document: Document) -> "Target":
        """Read it from what the service says of a task. Raises `MalformedError`."""
        fields: dict[str, str] = {}
        if document.has("tabular"):
            described = document.document("tabular").document("fields")
            fields = {name: described.document(name).text("kind") for name in described.raw}
        label = document.document("label")
        return cls(
            task=document.text("name"),
            model=Model.read(document.document("model")),
            precision=document.text("precision"),
            modalities=document.texts("modalities"),
            fields=fields,
            label=label.text("kind"),
            classes=label.texts("classes") if label.has("classes") else (),
        )
