"""The demo's story, and what GraphQL has to say about it: questions that cross runs, with answers told by hand.

The answers come from reading what the workflows are and did (`tests/cluster/story/templates.yaml`), not from the
system. They name no ids, so they hold for the replayed recording and for a live run of the same story alike.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

Ask = Callable[..., Any]
"""`ask(query, **variables)`: GraphQL's `data`."""

S3: Final = "s3://artifacts/"
CUSTOMERS: Final = "datasets/customers/2026-11-18"
CUSTOMERS_19: Final = "datasets/customers/2026-11-19"
FEATURES: Final = "features/churn/2026-11-18/features.csv"
MODEL: Final = "models/churn/churn-train-nov18/model.csv"
WEIGHTS: Final = "models/churn/churn-train-nov18/rate-0.01/weights.csv"
RELEASE: Final = "releases/churn/churn-release-nov18/release.yaml"
METRICS: Final = "metrics/churn/churn-release-nov18/metrics.json"
WIDE: Final = "models/churn/churn-train-nov18-wide"

LINEAGE: Final = """
  nodes {
    __typename
    ... on Artifact { uri isIn: state }
    ... on Execution { taskName state attempt run { name } }
  }
  edges {
    eventType name
    from { ... on Artifact { uri } ... on Execution { taskName run { name } } }
    to { ... on Artifact { uri } ... on Execution { taskName run { name } } }
  }
  runs { name }
  truncated cutBy
"""


def step(task: str, run: str, state: str = "COMPLETE", attempt: int | None = None) -> tuple[object, ...]:
    return ("Execution", task, run, state, attempt)


def thing(key: str) -> tuple[object, ...]:
    return ("Artifact", S3 + key, "LIVE")


def nodes(lineage: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """A lineage's nodes as `step` and `thing` write them, sorted; a node that comes twice is there twice."""
    told = [
        ("Artifact", node["uri"], node["isIn"])
        if node["__typename"] == "Artifact"
        else ("Execution", node["taskName"], node["run"]["name"], node["state"], node["attempt"])
        for node in lineage["nodes"]
    ]
    return sorted(told, key=repr)


def edges(lineage: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """A lineage's edges as `(from, the input's or output's name, to)`, sorted."""

    def end(node: Mapping[str, Any]) -> str:
        return str(node["uri"]).removeprefix(S3) if "uri" in node else f"{node['run']['name']}.{node['taskName']}"

    return sorted((end(edge["from"]), edge["name"], end(edge["to"])) for edge in lineage["edges"])


def names(found: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted(each["name"] for each in found)


def told(*expected: tuple[object, ...]) -> list[tuple[object, ...]]:
    return sorted(expected, key=repr)


def upstream(ask: Ask, key: str) -> Mapping[str, Any]:
    query = f"query ($uri: String!) {{ artifact(uri: $uri) {{ lineage(direction: UPSTREAM) {{ {LINEAGE} }} }} }}"
    found: Mapping[str, Any] = ask(query, uri=S3 + key)["artifact"]["lineage"]
    assert not found["truncated"], found["cutBy"]
    return found


def everything_behind_the_released_model(ask: Ask) -> None:
    """The complete upstream of the model that was released: each artifact, each execution, each edge."""
    lineage = upstream(ask, MODEL)
    data, train = "customers-data-nov18", "churn-train-nov18"
    assert nodes(lineage) == told(
        thing(MODEL),
        step("publish", train, attempt=0),
        thing(WEIGHTS),
        step("fit", train, attempt=0),  # the first rate; the second was preempted, the third was worse
        thing(FEATURES),
        # A day later the wide training had the same features from the cache. It has an output event too, as in Kubeflow
        # Pipelines, but the model did not come from there.
        step("features", train, attempt=0),
        thing(f"{CUSTOMERS}/train.csv"),
        step("split", data, attempt=0),
        thing(f"{CUSTOMERS}/raw.csv"),
        step("extract", data, attempt=0),
    )
    assert edges(lineage) == sorted(
        [
            (f"{data}.extract", "raw", f"{CUSTOMERS}/raw.csv"),
            (f"{CUSTOMERS}/raw.csv", "raw", f"{data}.split"),
            (f"{data}.split", "train", f"{CUSTOMERS}/train.csv"),
            (f"{CUSTOMERS}/train.csv", "train", f"{train}.features"),
            (f"{train}.features", "features", FEATURES),
            (FEATURES, "features", f"{train}.fit"),
            (f"{train}.fit", "weights", WEIGHTS),
            (WEIGHTS, "weights", f"{train}.publish"),
            (f"{train}.publish", "model", MODEL),
        ]
    )
    assert names(lineage["runs"]) == sorted([data, train])


def which_runs_used_the_customer_table(ask: Ask) -> None:
    """Directly: the run that split it, and the other team's. Through what came of it: all but the next day's."""
    answer = ask(
        "query ($uri: String!) { artifact(uri: $uri) { usedByRuns { name } usedBy { runs { name } truncated } } }",
        uri=f"{S3}{CUSTOMERS}/raw.csv",
    )["artifact"]
    assert names(answer["usedByRuns"]) == ["customers-data-nov18", "fraud-train-nov18"]
    assert not answer["usedBy"]["truncated"]
    assert names(answer["usedBy"]["runs"]) == sorted(
        [
            "customers-data-nov18",
            "churn-train-nov18",
            "churn-release-nov18",
            "fraud-train-nov18",
            "churn-train-nov18-wide",
            "churn-release-nov19",
        ]
    )


def where_the_other_teams_model_came_from(ask: Ask) -> None:
    """Two steps of its own, on the table that the first pipeline extracted."""
    lineage = upstream(ask, "models/fraud/fraud-train-nov18/model.csv")
    run = "fraud-train-nov18"
    assert nodes(lineage) == told(
        thing(f"models/fraud/{run}/model.csv"),
        step("fit", run, attempt=0),
        thing(f"features/fraud/{run}/profile.csv"),
        step("profile", run, attempt=0),
        thing(f"{CUSTOMERS}/raw.csv"),
        step("extract", "customers-data-nov18", attempt=0),
    )


def how_the_table_became_a_release(ask: Ask) -> None:
    """Three ways: as test data; as training data; and as training data through the model's evaluation.

    That a later run had the features from the cache is no fourth way.
    """
    ends = ask(
        "query ($a: String!, $b: String!) { from: artifact(uri: $a) { id } to: artifact(uri: $b) { id } }",
        a=f"{S3}{CUSTOMERS}/raw.csv",
        b=S3 + RELEASE,
    )
    answer = ask(
        "query ($from: ID!, $to: ID!) { paths(from: $from, to: $to) { truncated paths { nodes "
        "{ ... on Artifact { uri } ... on Execution { taskName } } } } }",
        **{name: node["id"] for name, node in ends.items()},
    )["paths"]
    assert not answer["truncated"]
    ways = [[node["taskName"] for node in path["nodes"] if "taskName" in node] for path in answer["paths"]]
    training = ["split", "features", "fit", "publish"]
    assert ways == [["split", "evaluate", "deploy"], [*training, "deploy"], [*training, "evaluate", "deploy"]]


RUN: Final = """
query ($name: String!) { run(name: $name) {
  name state pipeline { name }
  executions(first: 100) { nodes { taskName type state attempt exitCode message } }
} }
"""


def attempts(ask: Ask, run: str, task: str) -> Sequence[tuple[object, ...]]:
    found = ask(RUN, name=run)["run"]["executions"]["nodes"]
    return sorted(
        (node["attempt"], node["state"], node["exitCode"])
        for node in found
        if node["taskName"] == task and node["type"] == "system.ContainerExecution"  # not the loop around them
    )


def what_became_of_the_day_whose_data_failed_its_check(ask: Ask) -> None:
    """It failed twice and went no further; the day was run again, and only that second table was ever used."""
    run = ask(RUN, name="customers-data-nov19")["run"]
    assert (run["state"], run["pipeline"]["name"]) == ("FAILED", "customers-data")
    assert attempts(ask, "customers-data-nov19", "validate") == [(0, "FAILED", 4), (1, "FAILED", 4)]
    [split] = [node for node in run["executions"]["nodes"] if node["taskName"] == "split"]
    assert split["state"] == "CANCELED"
    assert "depends condition not met" in split["message"]

    found = ask(
        "query ($uri: String!) { artifacts(filter: {uri: $uri}) { nodes { producer { run { name } } "
        "consumers { nodes { taskName run { name } } } } } }",
        uri=f"{S3}{CUSTOMERS_19}/raw.csv",
    )["artifacts"]["nodes"]
    used = {
        artifact["producer"]["run"]["name"]: sorted(
            f"{node['run']['name']}.{node['taskName']}" for node in artifact["consumers"]["nodes"]
        )
        for artifact in found
    }
    assert len(found) == 2
    assert used == {
        "customers-data-nov19": ["customers-data-nov19.validate", "customers-data-nov19.validate"],
        "customers-data-nov19-again": ["customers-data-nov19-again.split", "customers-data-nov19-again.validate"],
    }
    assert ask(RUN, name="customers-data-nov19-again")["run"]["state"] == "SUCCEEDED"


def what_the_second_release_was_judged_by(ask: Ask) -> None:
    """Its metrics come from two days: the first day's features from the cache, and the second day's second table."""
    lineage = upstream(ask, "metrics/churn/churn-release-nov19/metrics.json")
    assert {thing(f"{CUSTOMERS}/train.csv"), thing(f"{CUSTOMERS_19}/test.csv"), thing(f"{WIDE}/model.csv")} <= set(
        nodes(lineage)
    )
    # The run that the cached features came from is in, since its step made them.
    assert set(names(lineage["runs"])) == {
        "customers-data-nov18",
        "churn-train-nov18",
        "churn-train-nov18-wide",
        "customers-data-nov19-again",
        "churn-release-nov19",
    }


def that_features_were_made_once(ask: Ask) -> None:
    """The wide training took them from the cache, and the API names the run that really made them."""
    assert [
        (node["taskName"], node["state"])
        for node in ask(RUN, name="churn-train-nov18-wide")["run"]["executions"]["nodes"]
        if node["taskName"] == "features"
    ] == [("features", "CACHED")]
    [artifact] = ask(
        "query ($uri: String!) { artifacts(filter: {uri: $uri}) { nodes { producer { state run { name } } } } }",
        uri=S3 + FEATURES,
    )["artifacts"]["nodes"]
    assert artifact["producer"] == {"state": "COMPLETE", "run": {"name": "churn-train-nov18"}}


def that_a_preempted_trial_was_tried_again(ask: Ask) -> None:
    """Of the trials of three rates the second needed two attempts."""
    assert attempts(ask, "churn-train-nov18", "fit") == [
        (0, "COMPLETE", 0),
        (0, "COMPLETE", 0),
        (0, "FAILED", 143),
        (1, "COMPLETE", 0),
    ]


def that_the_second_release_was_held_back(ask: Ask) -> None:
    """Its accuracy was below the threshold: nothing was deployed, and the exit handler ran all the same."""
    found = ask(RUN, name="churn-release-nov19")["run"]
    assert found["state"] == "SUCCEEDED"
    [deploy] = [node for node in found["executions"]["nodes"] if node["taskName"] == "deploy"]
    assert (deploy["state"], deploy["message"]) == ("CANCELED", "when '0.8500 >= 0.99' evaluated false")
    released = ask('{ artifacts(filter: {uriPrefix: "s3://artifacts/releases/"}) { nodes { uri } } }')["artifacts"]
    assert released["nodes"] == [{"uri": S3 + RELEASE}]


QUESTIONS: Final[Sequence[Callable[[Ask], None]]] = (
    everything_behind_the_released_model,
    which_runs_used_the_customer_table,
    where_the_other_teams_model_came_from,
    how_the_table_became_a_release,
    what_became_of_the_day_whose_data_failed_its_check,
    what_the_second_release_was_judged_by,
    that_features_were_made_once,
    that_a_preempted_trial_was_tried_again,
    that_the_second_release_was_held_back,
)
