"""Compiles the pipelines of this folder to what Kubeflow's API server takes; the results are kept beside this file.

Needs the SDK, in an environment of its own: `uv run --no-project --python 3.11 --with kfp==2.5.0 compile.py`.
Steps run in the images that `images/build.sh` makes.
"""

from pathlib import Path

from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output, OutputPath

BUSYBOX = "localhost/busybox:1"
PYTHON = "localhost/python:1"


@dsl.container_component
def make(rows: int, data: Output[Dataset], count: OutputPath(str)):
    """Numbers from 1 to `rows`, and how many they are."""
    script = 'mkdir -p "$(dirname "$1")" "$(dirname "$2")"; seq "$0" >"$1"; wc -l <"$1" | tr -d "\\n " >"$2"'
    return dsl.ContainerSpec(image=BUSYBOX, command=["sh", "-ec"], args=[script, rows, data.path, count])


@dsl.component(base_image=PYTHON, install_kfp_package=False)
def train(
    data: Input[Dataset], base: Input[Dataset], note: str, model: Output[Model], metrics: Output[Metrics]
) -> float:
    """A plain Python step: kfp's own executor runs it."""
    with open(data.path) as file:
        rows = [int(line) for line in file]
    mean = sum(rows) / len(rows)
    with open(model.path, "w") as file:
        file.write(f"{mean} {note}")
    model.metadata["framework"] = "none"
    model.metadata["rows"] = len(rows)
    metrics.log_metric("mean", mean)
    return mean


@dsl.container_component
def score(part: str, model: Input[Model], out: Output[Dataset]):
    """The model, for one part."""
    script = 'mkdir -p "$(dirname "$2")"; { echo "$0"; cat "$1"; } >"$2"'
    return dsl.ContainerSpec(image=BUSYBOX, command=["sh", "-ec"], args=[script, part, model.path, out.path])


@dsl.container_component
def fail(model: Input[Model]):
    """Ends with 7."""
    return dsl.ContainerSpec(image=BUSYBOX, command=["sh", "-c"], args=['cat "$0"; exit 7', model.path])


@dsl.component(base_image=PYTHON, install_kfp_package=False)
def wait(gate: str, data: Output[Dataset]):
    """Works until somebody answers at the gate."""
    import time
    import urllib.request

    while True:
        try:
            urllib.request.urlopen(gate, timeout=2)
            break
        except OSError:  # also an answer that is no 2xx
            time.sleep(0.2)
    with open(data.path, "w") as file:
        file.write("1\n2\n3\n")


@dsl.container_component
def copy(data: Input[Dataset], copied: Output[Dataset]):
    """The same again."""
    script = 'mkdir -p "$(dirname "$1")"; cat "$0" >"$1"'
    return dsl.ContainerSpec(image=BUSYBOX, command=["sh", "-ec"], args=[script, data.path, copied.path])


@dsl.pipeline
def evaluation(rows: int, model: Input[Model]):
    """A pipeline within one: a DAG of its own."""
    make(rows=rows)
    score(part="all", model=model)


def imported() -> dsl.importer:
    """A dataset that was there before."""
    return dsl.importer(
        artifact_uri="minio://mlpipeline/imported/base.csv",
        artifact_class=Dataset,
        reimport=False,
        metadata={"origin": "warehouse"},
    )


@dsl.pipeline(name="churn")
def churn(rows: int = 5, note: str = 'quote " and \\ and ü'):
    """All that a run can have: an importer, Python steps, containers, a loop, conditions, a nested DAG."""
    made = make(rows=rows)
    trained = train(data=made.outputs["data"], base=imported().output, note=note)
    with dsl.ParallelFor(items=["a", "b"]) as part:
        score(part=part, model=trained.outputs["model"])
    with dsl.If(made.outputs["count"] == "5"):
        make(rows=2)
    with dsl.If(made.outputs["count"] == "6"):
        make(rows=3)
    evaluation(rows=3, model=trained.outputs["model"])


@dsl.pipeline(name="failing")
def failing(rows: int = 4):
    """Its last step fails."""
    made = make(rows=rows)
    trained = train(data=made.outputs["data"], base=imported().output, note="-")
    fail(model=trained.outputs["model"])


@dsl.pipeline(name="gated")
def gated(gate: str):
    """A step that works until it may end, and one after it."""
    waited = wait(gate=gate)
    copy(data=waited.outputs["data"])


if __name__ == "__main__":
    for pipeline in (churn, failing, gated):
        compiler.Compiler().compile(pipeline, str(Path(__file__).parent / f"{pipeline.name}.yaml"))
