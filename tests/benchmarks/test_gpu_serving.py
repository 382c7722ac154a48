"""The benchmark of the torch backend: its bound computes what the model does, all is answered."""

import json
import sys
from contextlib import closing

import pytest
import torch

from benchmarks.bound import Alone, probabilities
from benchmarks.gpu_serving import main
from benchmarks.load import Senders
from benchmarks.servers import HOST, running
from benchmarks.servers.model import Model
from benchmarks.workload import as_features, workload
from lanistr.bundle import Bundle


@pytest.fixture(scope="module")
def bundle(stays_bundle) -> Bundle:
    return Bundle.open(stays_bundle)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_the_bound_computes_every_case_whatever_stands_beside_it(bundle, size):
    cases = [as_features(each, bundle) for each in workload(bundle, 12, seed=0)]
    assert len({frozenset(each.rows) for each in cases}) > 1
    alone = Alone(bundle, torch.device("cpu"), "fp32")
    model = Model(bundle.folder, "fp32", threads=1)
    found = probabilities(bundle, alone(alone.batches(cases, size)))
    for case, said in zip(cases, found, strict=True):
        assert said == pytest.approx(model.alone(case)["probabilities"], abs=1e-4)


@pytest.mark.usefixtures("forked_servers")
def test_processes_of_clients_send_different_bodies_at_a_time():
    bodies = [b"%d" % number for number in range(12)]
    with (
        running(["benchmarks.servers.trivial"]) as server,
        closing(Senders(2, HOST, "/", bodies)) as senders,
    ):
        alone = senders.send(server.port, clients=1, seconds=0.2)
        load = senders.send(server.port, clients=3, seconds=0.2)
    assert alone.sent == [number % len(bodies) for number in range(len(alone.sent))]
    assert set(load.sent) == set(range(len(bodies)))
    assert set(load.statuses) == {200}
    assert len(load.latencies) == len(load.answers) == len(load.sent)


@pytest.mark.usefixtures("forked_servers")
def test_the_service_is_measured_beside_its_bound(bundle, monkeypatch, capsys):
    words = ["--bundle", str(bundle.folder), "--device", "cpu", "--precision", "fp32"]
    words += ["--workers", "1", "--senders", "1", "--clients", "1", "2", "--batch", "1", "4"]
    words += ["--cases", "8", "--checked", "8", "--seconds", "0.2", "--warm", "0.1"]
    monkeypatch.setattr(sys, "argv", ["gpu_serving", *words, "--repetitions", "2"])
    main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["way"] for row in found["bound"]] == ["batches of 1", "batches of 4"]
    assert [(row["server"], row["clients"]) for row in found["service"]] == [
        (server, clients) for server in ("lanistr", "lanistr x 1") for clients in (1, 2)
    ]
    assert found["one_sender"] > 0
    for row in [*found["bound"], *found["service"]]:
        assert 0 < row["rate"]["low"] <= row["rate"]["median"] <= row["rate"]["high"]
        assert row["differs"] < 1e-4
    for row in found["service"]:
        assert row["failed"] == 0
        assert 0 < row["share"]["low"] <= row["share"]["high"]
