"""Graphs that are not what their manifest says are refused when they are loaded."""

import dataclasses

import numpy as np
import pytest

from lanistr.errors import BundleError
from lanistr.modalities import Modality
from service.engine.backends.onnx import OnnxBackend
from service.settings import Settings


def load(bundle):
    return OnnxBackend(bundle, "cpu", "auto", Settings().threads)


def with_graphs(bundle, **changes):
    graphs = bundle.manifest.graphs | changes
    manifest = bundle.manifest.model_copy(update={"graphs": graphs})
    return dataclasses.replace(bundle, manifest=manifest)


@pytest.mark.parametrize("task", ["mortality", "rating"])
def test_the_demo_graphs_compute(bundles, task):
    backend = load(bundles[task])
    assert backend.device == "CPU"
    width = bundles[task].manifest.width
    output, embedding = backend.fuse(np.ones((3, 5, width), np.float32), np.ones((3, 5), np.bool_))
    assert output.shape == (3, bundles[task].task.label.outputs)
    assert embedding.shape == (3, width)


def test_a_graph_in_the_place_of_another_is_refused(bundles):
    graphs = bundles["mortality"].manifest.graphs
    swapped = graphs["text"].model_copy(update={"file": graphs["image"].file})
    with pytest.raises(BundleError, match="not what the manifest says: names"):
        load(with_graphs(bundles["mortality"], text=swapped))


def test_another_type_is_refused(bundles):
    graph = bundles["mortality"].manifest.graphs[Modality.IMAGE]
    pixels = graph.inputs["pixels"].model_copy(update={"dtype": "float32"})
    changed = graph.model_copy(update={"inputs": {"pixels": pixels}})
    with pytest.raises(BundleError, match="shapes"):
        load(with_graphs(bundles["mortality"], image=changed))


def test_a_width_that_does_not_fit_is_refused(bundles):
    bundle = bundles["mortality"]
    manifest = bundle.manifest.model_copy(update={"width": bundle.manifest.width + 1})
    with pytest.raises(BundleError, match="tokens"):
        load(dataclasses.replace(bundle, manifest=manifest))
