"""What Kubeflow Pipelines' driver, launcher and importer once asked the library is answered as the library did."""

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdstore.client.client import Client
from mdstore.wire import mlmd, service
from tests.judge.library import normalised, ours

RECORDINGS = Path(__file__).resolve().parents[2] / "examples" / "metadata-calls"
COUNTS = {"kfp-2.0.5": 1315, "kfp-2.17.0": 4247}


def calls(name: str) -> Iterator[tuple[int, str, str, Any, Any]]:
    """Number, method, code, request and response of each call in the order in which they were served."""
    with gzip.open(RECORDINGS / f"{name}.jsonl.gz", "rt") as lines:
        for line in lines:
            call = json.loads(line)
            request, response = (
                getattr(service, f"{call['method']}{part}").FromString(base64.b64decode(call[part.lower()] or ""))
                for part in ("Request", "Response")
            )
            yield call["n"], call["method"], call["code"], request, response


@pytest.mark.parametrize("name", COUNTS)
def test_a_recording_is_answered_as_the_library_answered_it(each: Client, name: str) -> None:
    tokens: dict[str, str] = {}
    number = 0
    for number, method, code, request, expected in calls(name):
        if "options" in request.DESCRIPTOR.fields_by_name and method.startswith("Get"):
            token = request.options.next_page_token
            if token:
                # A token is for the server that gave it: ours for the page before stands in its place.
                request.options.next_page_token = tokens[token]
        our_code, message, found = ours(each, method, request)
        assert our_code == code, f"call {number}, {method}: {message}"
        if "next_page_token" in found.DESCRIPTOR.fields_by_name and expected.next_page_token:
            tokens[expected.next_page_token] = found.next_page_token
        # Ids too: an empty store counts as the library's did.
        assert normalised(method, found) == normalised(method, expected), f"call {number}, {method}"
    assert number == COUNTS[name]
    states = {found.last_known_state for found in each.get_executions(service.GetExecutionsRequest()).executions}
    assert mlmd.Execution.COMPLETE in states
