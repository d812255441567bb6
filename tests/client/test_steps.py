"""What a step logs is in the store, under the right keys, and never in the step's way."""

import asyncio
import hashlib
import logging
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mdstore
from mdstore.client.once import idempotency_key
from mdstore.errors import InvalidArgument, Unavailable
from mdstore.steps import identity as steps
from mdstore.steps import spool
from mdstore.values import ExecutionState
from mdstore.wire import ingestion, mlmd, service
from tests.client.reading import Stored, stored
from tests.client.servers import Server
from tests.up.processes import until

NOWHERE = "grpc://127.0.0.1:9"


def read(url: str) -> Stored:
    with mdstore.connect(url) as client:
        return stored(client)


@pytest.fixture(params=["in process", "over gRPC"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "in process":
        return str(request.getfixturevalue("database"))
    return f"grpc://127.0.0.1:{request.getfixturevalue('port')}"


def test_a_step_records_what_it_used_made_and_measured(url: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n")
    with mdstore.run("prepare", pipeline="churn", store=url, run_id="r1") as step:
        step.output("table", table, type="system.Dataset", properties={"rows": 1, "columns": ["a", "b"]})
    with mdstore.run("train", pipeline="churn", store=url, run_id="r1", parameters={"rate": 0.1}) as step:
        step.input("table", table)
        step.log_parameter("layers", [64, 8])
        step.output("model", "s3://models/churn", type="system.Model", digest="sha256:ab")
        step.log_metric("accuracy", 0.8)
        step.log_metrics({"accuracy": 0.9, "loss": 1})

    found = read(url)

    train = found.executions["step:r1/train/0"]
    assert (train.type, train.state) == ("system.ContainerExecution", ExecutionState.COMPLETE)
    assert train.custom_properties["parameters"] == {"rate": 0.1, "layers": [64, 8]}
    assert train.custom_properties["started_at"] <= train.custom_properties["finished_at"]
    assert found.inputs["step:r1/train/0"] == {"table": "step:r1/prepare/0/table"}
    assert found.outputs["step:r1/train/0"] == {
        "model": "step:r1/train/0/model",
        "metrics": "step:r1/train/0/metrics",
    }
    made = found.artifacts["step:r1/prepare/0/table"]
    assert (made.type, made.uri) == ("system.Dataset", table.as_uri())
    assert made.custom_properties["digest"] == f"sha256:{hashlib.sha256(b'a,b' + bytes([10])).hexdigest()}"
    assert (made.custom_properties["rows"], made.custom_properties["columns"]) == (1, {"list": ["a", "b"]})
    metrics = found.artifacts["step:r1/train/0/metrics"]
    assert (metrics.type, metrics.custom_properties["accuracy"], metrics.custom_properties["loss"]) == (
        "system.Metrics", 0.9, 1.0,
    )  # fmt: skip
    assert found.artifacts["step:r1/train/0/model"].custom_properties["digest"] == "sha256:ab"
    assert found.parents["r1"] == ["churn"]
    assert found.members["r1"] == found.members["churn"] == found.executions.keys() | found.artifacts.keys()
    assert (found.contexts["r1"].type, found.contexts["churn"].type) == ("system.PipelineRun", "system.Pipeline")


def test_one_request_per_transition(database: str) -> None:
    before = read(database).commits
    with mdstore.run("train", store=database) as step:
        for number in range(200):
            step.log_metric(f"m{number}", number)
            step.log_parameter(f"p{number}", number)
        step.output("model", "s3://b/m")

    assert read(database).commits == before + 2


def test_a_block_that_fails_is_recorded_and_raises_its_own_error(url: str) -> None:
    @mdstore.run("bad", store=url)
    def bad() -> float:
        with mdstore.run("inner") as step:
            step.output("partial", "s3://b/p")
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        bad()

    found = read(url)
    assert found.named("bad").state is ExecutionState.FAILED
    assert found.named("bad").custom_properties["message"] == "ZeroDivisionError: division by zero"
    assert found.named("inner").state is ExecutionState.COMPLETE
    (run,) = found.contexts.values()
    assert (run.custom_properties["state"], run.custom_properties["display_name"]) == ("FAILED", "bad")
    assert len(found.artifacts) == 1


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (KeyboardInterrupt(), ExecutionState.CANCELED),
        (SystemExit(0), ExecutionState.COMPLETE),
        (SystemExit(3), ExecutionState.FAILED),
        (ValueError("x" * 50_000), ExecutionState.FAILED),
        (ValueError("nul \0 and \udcff"), ExecutionState.FAILED),
    ],
)
def test_however_a_block_ends(error: BaseException, state: ExecutionState, database: str) -> None:
    with pytest.raises(type(error)), mdstore.run("s", store=database):
        raise error

    assert read(database).execution.state is state


def test_a_run_of_its_own_says_how_it_went(database: str) -> None:
    with mdstore.run("outer", store=database, pipeline="p") as outer:
        assert read(database).contexts[str(outer.run_id)].custom_properties["state"] == "RUNNING"
        with mdstore.run("inner"):
            pass
        assert read(database).contexts[str(outer.run_id)].custom_properties["state"] == "RUNNING"

    run = read(database).contexts[str(outer.run_id)]
    assert run.custom_properties["state"] == "SUCCEEDED"
    assert run.custom_properties["finished_at"] >= run.custom_properties["started_at"]


def test_steps_inside_steps_belong_to_the_same_run(database: str) -> None:
    with mdstore.run("train", store=database, pipeline="churn") as train:
        for rate in (0.1, 0.2):
            with mdstore.run("trial", parameters={"rate": rate}) as trial:
                trial.log_metric("loss", rate)
                with mdstore.run("a/b"):
                    pass

    found = read(database)
    base = f"step:{train.run_id}/train/0"
    assert found.executions.keys() == {
        base, f"{base}/trial/0", f"{base}/trial/1", f"{base}/trial/0/a%2Fb/0", f"{base}/trial/1/a%2Fb/0",
    }  # fmt: skip
    assert found.executions[f"{base}/trial/1"].custom_properties["parent"] == base
    assert found.executions[f"{base}/trial/1"].custom_properties["attempt"] == 1
    assert found.members[str(train.run_id)] >= found.executions.keys()


def test_a_decorated_function_is_a_step_each_time_it_is_called(database: str) -> None:
    @mdstore.run("add", store=database, run_id="r")
    def add(a: int, b: int = 1) -> int:
        """Adds."""
        return a + b

    assert (add(1), add(2, b=2)) == (2, 4)
    assert (add.__name__, add.__doc__) == ("add", "Adds.")
    assert read(database).executions.keys() == {"step:r/add/0", "step:r/add/1"}


def test_asyncio_steps_nest_per_task_and_never_wait_on_the_loop(database: str) -> None:
    @mdstore.run("leaf")
    async def leaf(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    async def story() -> str:
        async with mdstore.run("root", store=database) as root:
            root.log_metric("m", 1)
            assert await asyncio.gather(*(leaf(number) for number in range(5))) == list(range(5))
        return str(root.run_id)

    run_id = asyncio.run(story())

    found = read(database)
    assert found.executions.keys() == {
        f"step:{run_id}/root/0", *(f"step:{run_id}/root/0/leaf/{n}" for n in range(5)),
    }  # fmt: skip
    assert {e.state for e in found.executions.values()} == {ExecutionState.COMPLETE}


def test_a_cancelled_task_is_recorded_as_canceled(database: str) -> None:
    async def story() -> None:
        async def work() -> None:
            async with mdstore.run("slow", store=database):
                await asyncio.sleep(60)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())

    assert read(database).execution.state is ExecutionState.CANCELED


def test_start_and_end_without_a_block(database: str) -> None:
    step = mdstore.run("notebook", store=database).start()
    step.log_metric("m", 1)
    step.flush()
    assert read(database).execution.state is ExecutionState.RUNNING
    step.end()
    step.end()

    assert read(database).execution.state is ExecutionState.COMPLETE


def test_the_same_run_name_and_attempt_is_the_same_step(database: str) -> None:
    for attempt in (0, 0, 1):
        with mdstore.run("train", store=database, run_id="r", attempt=attempt) as step:
            step.output("model", "s3://b/m", type="system.Model")
            step.log_metric("accuracy", 0.5 + attempt)

    found = read(database)
    assert found.executions.keys() == {"step:r/train/0", "step:r/train/1"}
    assert len(found.artifacts) == 4


def test_one_name_and_several_locations_are_several_outputs(database: str) -> None:
    with mdstore.run("split", store=database, run_id="r") as step:
        for part in ("a", "b", "a"):
            step.output("part", f"s3://b/{part}", properties={part: 1})

    found = read(database)
    assert found.outputs["step:r/split/0"] == {"part": "step:r/split/0/part", "part/1": "step:r/split/0/part/1"}
    assert [found.artifacts[f"step:r/split/0/part{x}"].uri for x in ("", "/1")] == ["s3://b/a", "s3://b/b"]


def test_a_file_that_is_not_there_yet_gets_its_digest_at_the_end(database: str, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    with mdstore.run("train", store=database, run_id="r") as step:
        step.output("model", model, type="system.Model")
        step.flush()
        model.write_bytes(b"weights")

    artifact = read(database).artifacts["step:r/train/0/model"]
    assert artifact.custom_properties["digest"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    assert artifact.type == "system.Model"


def test_a_folder_has_a_digest_of_all_its_files(database: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "x").write_bytes(b"1")
    (folder / "a").write_bytes(b"2")
    with mdstore.run("train", store=database) as step:
        step.output("model", folder)

    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in (("a", b"2"), ("b/x", b"1")))
    (artifact,) = read(database).artifacts.values()
    assert artifact.custom_properties["digest"] == f"sha256-tree:{hashlib.sha256(lines.encode()).hexdigest()}"


class Scalar:
    """As NumPy's and PyTorch's."""

    def __init__(self, value: float) -> None:
        self._value = value

    def item(self) -> float:
        return self._value

    def __float__(self) -> float:
        return self._value


def test_values_of_every_kind_are_kept_as_well_as_can_be(database: str) -> None:
    with mdstore.run("s", store=database) as step:
        step.log_parameters(
            {
                "scalar": Scalar(2.5), "none": None, "path": Path("/x"), "long": "y" * 50_000, "nan": math.nan,
                "nul": "a\0b", "surrogate": "\udcff", "big": 2**70, "huge": 10**400, "nested": {"a": [1, {2}]}, "\0": 1,
            }
        )  # fmt: skip
        step.log_metrics({"nan": math.nan, "inf": -math.inf, "scalar": Scalar(0.5), "int": 10**12})

    found = read(database)
    parameters = found.execution.custom_properties["parameters"]
    assert (parameters["scalar"], parameters["none"], parameters["path"]) == (2.5, None, "/x")
    assert len(parameters["long"]) == 10_000
    assert (parameters["nan"], parameters["nul"], parameters["nested"]) == (
        "NaN",
        "a\N{REPLACEMENT CHARACTER}b",
        {"a": [1, [2]]},
    )
    assert parameters["big"] == 2**70
    assert len(parameters["huge"]) == 401
    (metrics,) = found.artifacts.values()
    kept = metrics.custom_properties
    assert (kept["nan"], kept["inf"], kept["scalar"], kept["int"]) == ("NaN", "-Infinity", 0.5, 10**12)


MISUSES: list[Callable[[Any], object]] = [
    lambda step: step.log_metric("m", "not a number"),
    lambda step: step.log_metric("m", None),
    lambda step: step.log_metric(None, 1),
    lambda step: step.input("i", 3),
    lambda step: step.output("o", object()),
    lambda step: step.output("o", "s3://b/o", properties=3),
    lambda step: step.log_parameters({"p": object()}),
    lambda step: step.output("o", "s3://b/o", type=""),
    lambda step: step.start(),
]


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_does_not_make_a_step_fail_and_nothing_else_is_lost(misuse: Any, database: str) -> None:
    with mdstore.run("s", store=database) as step:
        step.log_metric("before", 1)
        misuse(step)
        step.flush()
        step.log_metric("after", 1)

    found = read(database)
    assert found.execution.state is ExecutionState.COMPLETE
    kept = {name for artifact in found.artifacts.values() for name in artifact.custom_properties}
    assert "after" in kept


def test_strict_steps_raise_what_the_store_says(database: str) -> None:
    with pytest.raises(Unavailable), mdstore.run("s", store=NOWHERE, strict=True):
        raise AssertionError("must not begin")
    with pytest.raises(ValueError, match="could not convert"), mdstore.run("s", store=database, strict=True) as step:
        step.log_metric("m", "x")  # type: ignore[arg-type]  # the point


def test_a_strict_steps_own_error_goes_before_that_of_logging_it(database: str) -> None:
    client = mdstore.connect(database)

    @mdstore.run("s", store=client, strict=True)
    def fail() -> None:
        client.close()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()


def test_without_a_store_the_step_runs_and_is_kept(spool_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mdstore"), mdstore.run("s") as step:
        step.log_metric("m", 1)

    assert len(list(spool_folder.glob("*.spool"))) == 1
    assert "MDSTORE_STORE" in caplog.text


def test_a_store_that_does_not_answer_costs_a_bounded_time(spool_folder: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with mdstore.run("s", store=address, timeout_s=0.5) as step:
            for number in range(500):
                step.log_metric(f"m{number}", number)
                step.flush()
        took = time.monotonic() - began

    # One try at the start, few in between (they get rarer), two at the end.
    assert took < 6


def test_the_environment_says_which_store_and_run(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDSTORE_STORE", database)
    monkeypatch.setenv("MDSTORE_RUN_ID", "nightly")
    monkeypatch.setenv("MDSTORE_ATTEMPT", "2")
    with mdstore.run("s"):
        pass

    found = read(database)
    assert found.executions.keys() == {"step:nightly/s/2"}
    assert found.contexts.keys() == {"nightly"}
    assert "state" not in found.contexts["nightly"].custom_properties


def test_a_client_may_be_handed_in_and_stays_open(database: str) -> None:
    with mdstore.connect(database) as client:
        with mdstore.run("s", store=client):
            pass
        assert stored(client).execution.state is ExecutionState.COMPLETE


def test_an_idempotency_key_around_a_step_is_not_the_steps(url: str) -> None:
    with idempotency_key("somebody's"), mdstore.run("s", store=url, strict=True) as step:
        step.log_metric("m", 1)
        step.flush()

    assert read(url).execution.state is ExecutionState.COMPLETE


def test_threads_say_which_step_they_are_in(database: str) -> None:
    with mdstore.run("outer", store=database, run_id="r") as outer:

        def work(number: int) -> None:
            with mdstore.run(f"w{number}", parent=outer) as step:
                step.log_metric("m", number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert read(database).executions.keys() == {
        "step:r/outer/0", *(f"step:r/outer/0/w{number}/0" for number in range(8)),
    }  # fmt: skip


def test_a_forked_child_logs_to_the_step_and_does_not_end_it(database: str) -> None:
    with Server(database) as server:
        server.start()
        with mdstore.run("s", store=server.url, run_id="r") as step:
            step.log_metric("parent", 1)
            child = os.fork()
            if not child:
                try:
                    step.log_metric("child", 2)
                    step.end()
                finally:
                    os._exit(0)
            assert until("the child's end", lambda: os.waitpid(child, os.WNOHANG)[0], seconds=20) == child
            assert read(server.url).execution.state is ExecutionState.RUNNING
            assert read(server.url).artifacts["step:r/s/0/metrics"].custom_properties["child"] == 2

    found = read(database)
    assert found.execution.state is ExecutionState.COMPLETE
    assert found.artifacts["step:r/s/0/metrics"].custom_properties["parent"] == 1


@pytest.mark.parametrize("url", ["nonsense", "mars://x", "grpc://", "sqlite:////proc/none/x.db"])
def test_an_address_that_is_none_is_said_and_what_is_logged_is_kept(
    url: str, spool_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mdstore.run("s", store=url) as step:
        step.log_metric("m", 1)

    assert len(list(spool_folder.glob("*.spool"))) == 1
    assert list(spool_folder.glob("*.refused")) == []
    assert "the store cannot be reached" in caplog.text


def test_names_of_any_length_make_external_ids_that_every_database_holds(database: str) -> None:
    with mdstore.run("s" * 1000, store=database, run_id="r" * 150) as step:
        step.output("o" * 1000, "s3://b/o")
        step.output("o" * 1000, "s3://b/other")
        with mdstore.run("t" * 1000) as inner:
            inner.log_metric("m" * 1000, 1)

    found = read(database)
    assert (len(found.executions), len(found.artifacts)) == (2, 3)
    assert max(map(len, (*found.executions, *found.artifacts))) <= 255


ARGO = {"ARGO_NODE_ID": "wf-1", "ARGO_WORKFLOW_UID": "uid-1", "MDSTORE_NAMESPACE": "pipelines"}


def test_in_a_pod_of_argos_the_step_is_the_writers_execution(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ARGO.items():
        monkeypatch.setenv(name, value)
    key = {"external_id": "default/pipelines/uid-1/wf-1"}
    run = {"type": "system.PipelineRun", "name": "uid-1"}
    writers = ingestion.IngestRequest(
        contexts=[{"key": run, "type": run["type"]}],
        executions=[{"key": key, "type": "system.ContainerExecution", "state": mlmd.Execution.RUNNING}],
        associations=[{"context": run, "member": key}],
    )
    writers.executions[0].custom_properties["started_at"].string_value = "earlier"
    with mdstore.connect(database) as client:
        client.ingest(writers)

    with mdstore.run("train", store=database, pipeline="churn") as step:
        step.output("model", "s3://b/m", type="system.Model")
        with mdstore.run("inner"):
            pass
    with mdstore.run("after", store=database):
        pass

    found = read(database)
    pod = "default/pipelines/uid-1/wf-1"
    assert found.executions.keys() == {pod, f"{pod}/inner/0", f"{pod}/after/0"}
    assert found.executions[pod].custom_properties["started_at"] == "earlier"
    assert found.outputs[pod] == {"model": f"{pod}/model"}
    assert found.contexts.keys() == {"uid-1", "pipelines/churn"}


def test_under_kubeflows_launcher_the_step_is_the_launchers_execution(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mdstore.connect(database) as client:
        type_id = client.put_execution_type(
            service.PutExecutionTypeRequest(execution_type={"name": "system.ContainerExecution"})
        ).type_id
        run_type = client.put_context_type(
            service.PutContextTypeRequest(context_type={"name": "system.PipelineRun"})
        ).type_id
        launchers = mlmd.Execution(type_id=type_id, name="run/x", last_known_state=mlmd.Execution.RUNNING)
        context = mlmd.Context(type_id=run_type, name="kfp-run")
        response = client.put_execution(service.PutExecutionRequest(execution=launchers, contexts=[context]))
        command = ["launch", "--run_id", "kfp-run", "--execution_id", str(response.execution_id)]
        monkeypatch.setenv("ARGO_NODE_ID", "n")
        monkeypatch.setattr("mdstore.steps.place._ancestors", lambda: iter([command]))

        with mdstore.run("train", store=client, parameters={"rate": 1}) as step:
            step.output("extra", "s3://b/x")
            step.log_metric("accuracy", 0.9)
        # As the launcher does when it ends: the whole node, as it was before.
        launchers.id = response.execution_id
        launchers.last_known_state = mlmd.Execution.COMPLETE
        client.put_executions(service.PutExecutionsRequest(executions=[launchers]))
        found = stored(client)

    assert found.executions.keys() == {"run/x"}
    assert found.execution.external_id is None
    base = f"kubeflow:kfp-run/{response.execution_id}"
    assert found.outputs["run/x"] == {"extra": f"{base}/extra", "metrics": f"{base}/metrics"}
    assert found.artifacts[f"{base}/metrics"].custom_properties["parameters"] == {"rate": 1}
    assert found.members["kfp-run"] == {"run/x", *found.artifacts}


def test_a_launcher_that_writes_elsewhere_gets_an_execution_here(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGO_NODE_ID", "n")
    command = ["launch", "--pipeline_name", "p", "--run_id", "elsewhere", "--execution_id", "77"]
    monkeypatch.setattr("mdstore.steps.place._ancestors", lambda: iter([command]))

    for _ in range(2):
        steps._joined.clear()
        with mdstore.run("train", store=database):
            pass

    found = read(database)
    assert found.executions.keys() == {"kubeflow:elsewhere/77"}
    assert found.parents["elsewhere"] == ["p"]


def test_an_id_of_another_store_does_not_hit_what_an_observer_made_in_the_same_run(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = {"type": "system.PipelineRun", "name": "elsewhere"}
    sibling = {"external_id": "default/kubeflow/uid/other-node"}
    with mdstore.connect(database) as client:
        response = client.ingest(
            ingestion.IngestRequest(
                contexts=[{"key": run, "type": run["type"]}],
                executions=[{"key": sibling, "type": "system.ContainerExecution"}],
                associations=[{"context": run, "member": sibling}],
            )
        )
    command = ["launch", "--run_id", "elsewhere", "--execution_id", str(response.execution_ids[0])]
    monkeypatch.setenv("ARGO_NODE_ID", "n")
    monkeypatch.setattr("mdstore.steps.place._ancestors", lambda: iter([command]))
    with mdstore.run("train", store=database) as step:
        step.log_metric("m", 1)

    found = read(database)
    assert found.executions.keys() == {sibling["external_id"], f"kubeflow:elsewhere/{response.execution_ids[0]}"}
    assert sibling["external_id"] not in found.outputs


def test_what_a_store_refuses_is_set_aside_and_said(
    database: str, spool_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mdstore.run("s", store=database, type="\0") as step:
        step.log_metric("m", 1)

    assert len(list(spool_folder.glob("*.refused"))) >= 1
    assert "refuses" in caplog.text
    with pytest.raises(InvalidArgument), mdstore.run("s", store=database, type="\0", strict=True):
        pass


POISONS: list[Callable[[Any], object]] = [
    lambda step: step.input("i", "s3://b/\udcff"),
    lambda step: step.input("i", "s3://b/a\0b"),
    lambda step: step.input("i", "s3://b/i", type=None),
    lambda step: step.input("i", "s3://b/i", digest=3),
    lambda step: step.output("o", "s3://b/\ud800", digest="sha256:\0"),
    lambda step: step.output("o", "s3://b/o", type=""),
    lambda step: step.output("o", "s3://b/o", type="\0"),
    lambda step: step.output("o", "s3://b/o", properties={"": 1}),
    lambda step: step.log_metric("", 1),
    lambda step: step.log_parameter("", 1),
]


@pytest.mark.parametrize("poison", POISONS)
def test_what_cannot_be_kept_does_not_keep_the_step_from_ending(poison: Any, database: str) -> None:
    with mdstore.run("s", store=database) as step:
        poison(step)

    assert read(database).execution.state is ExecutionState.COMPLETE


@pytest.mark.parametrize("poison", POISONS[:4])
def test_what_is_no_text_takes_nothing_else_along(poison: Any, database: str, spool_folder: Path) -> None:
    with mdstore.run("s", store=database) as step:
        step.log_metric("m", 1)
        poison(step)

    assert "m" in {name for found in read(database).artifacts.values() for name in found.custom_properties}
    assert not list(spool_folder.glob("*"))


def test_a_refused_record_of_the_spool_still_ends_its_step(database: str, spool_folder: Path) -> None:
    with Server(database) as server:
        with mdstore.run("s", store=server.url, run_id="r") as step:
            step.output("o", "s3://b/o", type="\0")
        assert list(spool_folder.glob("*.spool"))
        server.start()
        with mdstore.run("next", store=server.url):
            pass

    assert read(database).named("s").state is ExecutionState.COMPLETE
    assert list(spool_folder.glob("*.refused"))


def test_a_pipeline_without_a_name_is_none(database: str, spool_folder: Path) -> None:
    with mdstore.run("s", store=database, pipeline=""):
        pass

    assert read(database).execution.state is ExecutionState.COMPLETE
    assert not list(spool_folder.glob("*.refused"))


def test_what_a_strict_step_could_not_send_waits_for_the_next_flush_and_the_next_end(database: str) -> None:
    def passes(say: Callable[[], object]) -> bool:
        try:
            say()
        except Unavailable:
            return False  # gRPC waits a moment before it connects again
        return True

    with Server(database) as server:
        server.start()
        step = mdstore.run("s", store=server.url, run_id="r", strict=True).start()
        server.kill()
        step.log_metrics({f"m{number}": number for number in range(400)})
        for number in range(50):
            step.output("o", f"s3://b/{number}")
        with pytest.raises(Unavailable):
            step.flush()
        server.start()
        until("the flush", lambda: passes(step.flush))
        found = read(server.url)
        assert len(found.artifacts["step:r/s/0/metrics"].custom_properties) >= 400
        assert len(found.outputs["step:r/s/0"]) == 51

        server.kill()
        with pytest.raises(Unavailable):
            step.end()
        server.start()
        until("the end", lambda: passes(step.end))
        assert read(server.url).execution.state is ExecutionState.COMPLETE


def test_a_task_that_is_cancelled_while_its_step_begins_leaves_none_running(spool_folder: Path) -> None:
    # Somebody who answers nothing: beginning takes all of its time.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"grpc://127.0.0.1:{silent.getsockname()[1]}"

        async def work() -> None:
            async with mdstore.run("s", store=url, run_id="r", timeout_s=2.0):
                raise AssertionError("must not begin")

        async def story() -> None:
            task = asyncio.create_task(work())
            await asyncio.to_thread(select.select, [silent], [], [], 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(story())

    (path,) = spool.files(spool_folder)
    with spool.Reader.holding(path) as reader:
        states = [request.executions[0].state for request in reader.records()]
    assert states == [ExecutionState.RUNNING, ExecutionState.CANCELED]
