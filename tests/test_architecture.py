"""Who may import whom, and where a modality may be singled out (DESIGN, sections 2 and 8)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from lanistr.modalities import Modality

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("lanistr", "training", "export", "service", "clients", "benchmarks")
HEAVY = {"torch", "transformers", "torchvision", "timm"}
TORCH_BACKEND = "service.engine.backends.torch"
"""The only module of the service that may import torch."""

OFFLINE = ("service.score", "service.score_ray")
"""The commands that score tables without HTTP: they read and write them as the clients do."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_of(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def imports(name: str) -> Iterator[str]:
    """Yield every module that a module imports, ours by their full name, others by their first."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert not node.level, f"{name}: imports stand in full"
            # `from package import module` imports the module, `from module import name` does not.
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found = [each if each in FILES else base for each in inner]
        else:
            continue
        yield from (each if each in FILES else each.partition(".")[0] for each in found)


GRAPH = {name: set(imports(name)) for name in FILES}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def breaches(importer: str, *forbidden: str) -> list[str]:
    return [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        if within(name, importer)
        for other in sorted(others)
        if any(within(other, each) for each in forbidden)
    ]


def test_the_graph_was_found():
    assert {"lanistr.batch", "service.app", "training.loop", "clients.client"} <= set(GRAPH)
    assert "lanistr.batch" in GRAPH["lanistr.preprocess"]
    assert "training.data.store" in GRAPH["training.prepare.prepared"]


def test_the_import_graph_has_no_circle():
    ours = {name: others & set(FILES) - {name} for name, others in GRAPH.items()}
    try:
        TopologicalSorter(ours).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_the_core_imports_none_of_the_rooms_around_it():
    assert breaches("lanistr", "training", "export", "service", "clients", "benchmarks") == []


def test_the_core_outside_the_model_imports_neither_the_model_nor_torch():
    found = breaches("lanistr", "lanistr.model", *HEAVY)
    assert [each for each in found if not each.startswith("lanistr.model")] == []


def test_preprocessing_imports_only_what_stands_below_it():
    above = ("lanistr.preprocess", "lanistr.bundle", "lanistr.calibration", "lanistr.importance")
    for name in GRAPH:
        if within(name, "lanistr") and name.count(".") == 1 and name not in above:
            assert breaches(name, "lanistr.preprocess") == [] or within(name, "lanistr.model")
    assert breaches("lanistr.preprocess", "lanistr.bundle", "lanistr.model") == []


def test_training_and_export_do_not_import_the_service_or_the_clients():
    assert breaches("training", "service", "clients", "export") == []
    assert breaches("export", "service", "clients") == []


def test_the_service_imports_neither_training_nor_export_nor_the_model():
    assert breaches("service", "training", "export", "lanistr.model") == []
    found = breaches("service", *HEAVY)
    assert [each for each in found if not each.startswith(TORCH_BACKEND)] == []


def test_of_the_service_only_what_scores_tables_imports_the_clients_and_nothing_imports_that():
    found = breaches("service", "clients")
    assert {each.partition(" ")[0] for each in found} <= set(OFFLINE)
    others = [package for package in PACKAGES if package != "benchmarks"]
    found = [each for package in others for each in breaches(package, *OFFLINE)]
    assert {each.partition(" ")[0] for each in found} <= set(OFFLINE)


def test_the_clients_import_nothing_of_ours():
    others = [package for package in PACKAGES if package != "clients"]
    assert breaches("clients", *others, *HEAVY) == []


def test_everything_outside_the_model_imports_without_torch():
    light = [
        name for name in FILES if within(name, "lanistr") and not within(name, "lanistr.model")
    ]
    light += ["training.prepare.__main__", "training.prepare.synthetic", "training.data.store"]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *light],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())
    assert "lanistr" in done.stdout.split()


# ---- modalities ---------------------------------------------------------------------------------

MEMBERS = {each.name for each in Modality}
OWN_FILES = {f"{each}.py" for each in Modality}


def names_a_member(node: ast.AST) -> bool:
    """Whether an expression is a member of Modality, or a tuple, list or set with one."""
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(names_a_member(each) for each in node.elts)
    return (
        isinstance(node, ast.Attribute)
        and node.attr in MEMBERS
        and isinstance(node.value, ast.Name)
        and node.value.id == "Modality"
    )


def names_modality(node: ast.AST) -> bool:
    """Whether an expression is a variable called `modality`, as everywhere in the house."""
    return isinstance(node, ast.Name) and node.id == "modality"


def singled_out(node: ast.AST) -> bool:
    """Whether a node decides by which modality it has before it."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        literal = any(isinstance(s, ast.Constant) and s.value in [*Modality] for s in sides)
        return any(map(names_a_member, sides)) or (literal and any(map(names_modality, sides)))
    return isinstance(node, ast.MatchValue) and names_a_member(node.value)


def test_no_modality_is_singled_out_outside_its_own_files():
    found = [
        f"{FILES[name].relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in TREES.items()
        if FILES[name].name not in OWN_FILES
        for node in ast.walk(tree)
        if singled_out(node)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("code", "guilty"),
    [
        ("modality == Modality.TEXT", True),
        ("Modality.TEXT is not m", True),
        ("m in (Modality.TEXT, Modality.IMAGE)", True),
        ("modality == 'image'", True),
        ("match m:\n case Modality.IMAGE: pass", True),
        ("modality in parts", False),
        ("kind == 'image'", False),
        ("{Modality.TEXT: read}", False),
    ],
)
def test_the_rule_sees_what_it_should(code: str, guilty: bool):
    assert any(singled_out(node) for node in ast.walk(ast.parse(code))) == guilty
