"""A store of any size, filled by a few statements: what some thousand runs of a few pipelines leave behind.

A run is a context with 20 executions: its DAG and 19 tasks, each of which knows the DAG by the custom property
`parent_dag_id`, as Kubeflow Pipelines writes it. An execution uses two artifacts and makes three. There are eleven
pipelines whatever the size, so that at 1,000,000 executions a pipeline's context has 90,909 of them.

Ids are numbers of a series, so everything can be found without asking: execution `e` is in the run `(e - 1) // 20 + 1`
and made the artifacts `3e - 2` to `3e`.
"""

from typing import Final

from bench import servers
from bench.databases import Bed

RUN: Final = 20
"""Executions of a run."""
PIPELINES: Final = 11
VERSION: Final = 1
"""Of what is filled in: grows when stores that were kept are of no use any more."""
FIRST_MS: Final = 1_700_000_000_000

CONTAINER, DAG, DATASET, MODEL, RUN_TYPE, PIPELINE_TYPE = 101, 102, 103, 104, 105, 106
"""Ids of types."""
_TYPES: Final = (
    (CONTAINER, "system.ContainerExecution", 0),
    (DAG, "system.DAGExecution", 0),
    (DATASET, "system.Dataset", 1),
    (MODEL, "system.Model", 1),
    (RUN_TYPE, "system.PipelineRun", 2),
    (PIPELINE_TYPE, "system.Pipeline", 2),
)


def runs(executions: int) -> int:
    """How many runs there are; they are the contexts from 12 on."""
    return -(-executions // RUN)


def run_context(number: int) -> int:
    """The id of a run's context, by its number from 1 on."""
    return PIPELINES + number


def build(bed: Bed, name: str, executions: int) -> None:
    """Make a database that holds so many executions, with the library's schema and nothing of ours."""
    bed.drop(name)
    # The library makes its tables when it is opened.
    with servers.peer(bed, name, "kept", processes=1):
        pass
    indexes = _drop_indexes(bed, name)
    before = {"sqlite": ("PRAGMA synchronous = OFF", "PRAGMA journal_mode = MEMORY"), "mariadb": _MARIADB}
    after = {"sqlite": ("PRAGMA journal_mode = DELETE",)}
    bed.execute(
        name,
        *before.get(bed.engine, ()),
        "BEGIN",
        *_filling(bed.engine, executions),
        "COMMIT",
        *after.get(bed.engine, ()),
    )
    bed.execute(name, *indexes, *_settling(bed.engine))


_MARIADB: Final = ("SET SESSION sql_mode = 'PIPES_AS_CONCAT,STRICT_TRANS_TABLES'", "SET SESSION unique_checks = 0")


def _filling(engine: str, executions: int) -> list[str]:
    def numbers(count: int) -> str:
        match engine:
            case "sqlite":
                series = f"SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}"
                return f"(WITH RECURSIVE s(n) AS ({series}) SELECT n FROM s)"
            case "postgresql":
                return f"(SELECT generate_series(1, {count}) AS n)"
        return f"(SELECT seq AS n FROM seq_1_to_{count})"

    def fill(table: str, columns: str, values: str, count: int, where: str = "") -> str:
        return f"INSERT INTO {table} ({columns}) SELECT {values} FROM {numbers(count)} AS numbers{where}"

    half = "DIV" if engine == "mariadb" else "/"
    text = "CHAR(20)" if engine == "mariadb" else "TEXT"
    run = f"((n - 1) {half} {RUN})"
    maker = f"((n - 1) {half} 3)"
    time = f"{FIRST_MS} + n * 1000"
    dag = f"{run} * {RUN} + 1"
    types = (
        f"INSERT INTO Type (id, name, type_kind) VALUES ({number}, '{name}', {kind})" for number, name, kind in _TYPES
    )

    def words(expression: str) -> str:
        return f"CAST({expression} AS {text})"

    count, contexts = executions, runs(executions)
    artifacts = 3 * count
    is_dag = f"(n - 1) % {RUN} = 0"
    execution_property = "execution_id, name, is_custom_property, string_value"
    return [
        *types,
        f"INSERT INTO TypeProperty (type_id, name, data_type) VALUES ({DATASET}, 'rows', 1), ({MODEL}, 'rows', 1)",
        fill(
            "Context",
            "id, type_id, name, create_time_since_epoch, last_update_time_since_epoch",
            f"n, {PIPELINE_TYPE}, 'pipeline-' || {words('n')}, {time}, {time}",
            PIPELINES,
        ),
        fill(
            "Context",
            "id, type_id, name, create_time_since_epoch, last_update_time_since_epoch",
            f"n + {PIPELINES}, {RUN_TYPE}, 'run-' || {words('n')}, {time}, {time}",
            contexts,
        ),
        fill("ParentContext", "context_id, parent_context_id", f"n + {PIPELINES}, (n - 1) % {PIPELINES} + 1", contexts),
        fill(
            "Execution",
            "id, type_id, last_known_state, name, create_time_since_epoch, last_update_time_since_epoch",
            f"n, CASE WHEN {is_dag} THEN {DAG} ELSE {CONTAINER} END, 3, "
            f"CASE WHEN {is_dag} THEN 'run/' || {words('n')} END, {time}, {time} + n % 7919",
            count,
        ),
        fill("ExecutionProperty", execution_property, f"n, 'display_name', TRUE, 'task ' || {words('n % 100')}", count),
        fill("ExecutionProperty", execution_property, f"n, 'pod_name', TRUE, 'pod-' || {words('n')}", count),
        fill("ExecutionProperty", execution_property, "n, 'image', TRUE, ''", count),
        fill(
            "ExecutionProperty",
            "execution_id, name, is_custom_property, int_value",
            f"n, 'parent_dag_id', TRUE, {dag}",
            count,
            f" WHERE NOT {is_dag}",
        ),
        fill(
            "Artifact",
            "id, type_id, uri, state, create_time_since_epoch, last_update_time_since_epoch",
            f"n, CASE WHEN n % 3 = 0 THEN {MODEL} ELSE {DATASET} END, "
            f"'s3://bucket/run-' || {words(f'n {half} 60')} || '/' || {words('n')}, 2, "
            f"{FIRST_MS} + {maker} * 1000, {FIRST_MS} + {maker} * 1000",
            artifacts,
        ),
        fill("ArtifactProperty", "artifact_id, name, is_custom_property, int_value", "n, 'rows', FALSE, n", artifacts),
        fill(
            "ArtifactProperty",
            "artifact_id, name, is_custom_property, string_value",
            f"n, 'display_name', TRUE, 'output ' || {words('n % 3')}",
            artifacts,
        ),
        fill(
            "Event",
            "id, artifact_id, execution_id, type, milliseconds_since_epoch",
            f"n, n, {maker} + 1, 4, {FIRST_MS} + {maker} * 1000",
            artifacts,
        ),
        *(
            fill(
                "Event",
                "id, artifact_id, execution_id, type, milliseconds_since_epoch",
                f"n + {artifacts + place * count}, 3 * n - {back}, n, 3, {time}",
                count,
                f" WHERE 3 * n > {back}",
            )
            for place, back in enumerate((4, 92))
        ),
        _PATHS,
        fill("Association", "context_id, execution_id", f"{run} + {PIPELINES + 1}, n", count),
        fill("Association", "context_id, execution_id", f"{run} % {PIPELINES} + 1, n", count),
        fill("Attribution", "context_id, artifact_id", f"{maker} {half} {RUN} + {PIPELINES + 1}, n", artifacts),
    ]


_PATHS: Final = (
    "INSERT INTO EventPath (event_id, is_index_step, step_key) "
    "SELECT id, FALSE, CASE type WHEN 4 THEN 'output' ELSE 'input' END FROM Event"
)


def _drop_indexes(bed: Bed, name: str) -> list[str]:
    """Make filling fast; returns the statements that make the indexes again."""
    match bed.engine:
        case "sqlite":
            found = bed.execute(name, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
        case "postgresql":
            found = bed.execute(
                name,
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT IN "
                "(SELECT conname FROM pg_constraint)",
            )
        case _:
            return []  # InnoDB merges what it inserts
    bed.execute(name, *(f'DROP INDEX "{index}"' for index, _ in found))
    return [text for _, text in found]


def _settling(engine: str) -> list[str]:
    """What a database does by itself in time, or needs after ids were given."""
    tables = ("Type", "Artifact", "Execution", "Context", "Event", "Association", "Attribution")
    match engine:
        case "sqlite":
            return []
        case "postgresql":
            return [
                *(
                    f"SELECT setval(pg_get_serial_sequence('{table.lower()}', 'id'), (SELECT max(id) FROM {table}))"
                    for table in tables
                ),
                "VACUUM ANALYZE",
            ]
    properties = ("ArtifactProperty", "ExecutionProperty", "ContextProperty", "EventPath", "ParentContext")
    return [f"ANALYZE TABLE {', '.join((*tables, *properties))}"]
