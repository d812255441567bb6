"""Runs that went away while nobody watched: known from a writer's earlier life, and not among what is there now.

Of every open run a document is kept, written with the run and taken away with its end. When a new watch lists the
workflows, those that have a document and are not in the list are closed: how they ended nobody will ever tell.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import orjson

from mdstore.client.client import Client
from mdstore.values import ExecutionState
from mdstore.vocabulary import PIPELINE_RUN, Property
from mdstore.wire import ingestion, mlmd, service
from mdstore_writer.contexts import contexts
from mdstore_writer.observe import ObservedRun
from mdstore_writer.records import ContextRecord, ExecutionKey, ExecutionRecord
from mdstore_writer.requests import Requests

COLLECTION: Final = "writer.open-runs"
MESSAGE: Final = "the workflow went away while nobody watched: how it ended is not known"
_PAGE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run that was not over when it was last seen."""

    key: str
    """`<cluster>/<namespace>/<workflow uid>`."""
    context: str
    """The name of its context."""
    workflow: str

    @property
    def namespace(self) -> str:
        """The workflow's."""
        return self.key.split("/")[1]

    @property
    def uid(self) -> str:
        """The workflow's."""
        return self.key.split("/")[2]

    def content(self) -> bytes:
        """As the store keeps it."""
        return orjson.dumps({"context": self.context, "workflow": self.workflow})


def open_run(run: ObservedRun) -> OpenRun:
    """What is kept of a run that is not over."""
    workflow = run.workflow
    return OpenRun(
        key=f"{run.cluster}/{workflow.namespace}/{workflow.uid}",
        context=contexts(run).run.name,
        workflow=workflow.name,
    )


def open_runs(client: Client, cluster: str, namespace: str | None) -> Iterator[OpenRun]:
    """The runs of a cluster, or of one of its namespaces, that were open when they were last seen."""
    prefix, after = f"{cluster}/" if namespace is None else f"{cluster}/{namespace}/", ""
    while True:
        page = client.list_documents(
            ingestion.ListDocumentsRequest(collection=COLLECTION, key_prefix=prefix, after_key=after, limit=_PAGE)
        ).documents
        for document in page:
            content = orjson.loads(document.value)
            yield OpenRun(key=document.key, context=content["context"], workflow=content["workflow"])
        if len(page) < _PAGE:
            return
        after = page[-1].key


def close_lost(client: Client, cluster: str, namespace: str | None, there: Collection[str]) -> list[OpenRun]:
    """Close the runs that are not there any more.

    Args:
        client: the store.
        cluster: its name in the keys.
        namespace: what was listed; None for all.
        there: uids of the workflows in the list, and of those that a watch has told of.

    Returns:
        The runs that were closed.
    """
    lost = [run for run in open_runs(client, cluster, namespace) if run.uid not in there]
    requests = Requests()
    for run in lost:
        requests.context(
            ContextRecord(
                type=PIPELINE_RUN,
                name=run.context,
                properties={Property.STATE: "DELETED", Property.MESSAGE: MESSAGE},
            )
        )
        for execution in _open_executions(client, run.context):
            ours = execution.HasField("external_id")
            requests.execution(
                ExecutionRecord(
                    key=ExecutionKey(external_id=execution.external_id)
                    if ours
                    else ExecutionKey(external_id="", store_id=execution.id, run=run.context),
                    type=execution.type,
                    state=ExecutionState.CANCELED,
                    properties={Property.MESSAGE: MESSAGE},
                )
            )
        requests.document(COLLECTION, run.key, None)
    for request in requests.take():
        client.ingest(request)
    return lost


def _open_executions(client: Client, run: str) -> Iterator[mlmd.Execution]:
    context = client.get_context_by_type_and_name(
        service.GetContextByTypeAndNameRequest(type_name=PIPELINE_RUN, context_name=run)
    ).context
    options = mlmd.ListOperationOptions(max_result_size=_PAGE)
    while context.id:
        page = client.get_executions_by_context(
            service.GetExecutionsByContextRequest(context_id=context.id, options=options)
        )
        yield from (execution for execution in page.executions if execution.last_known_state < mlmd.Execution.COMPLETE)
        if not page.next_page_token:
            return
        options.next_page_token = page.next_page_token
