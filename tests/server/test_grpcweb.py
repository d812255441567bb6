"""grpc-web on the HTTP port, with requests that a browser would send and some that none would."""

import base64
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import pytest

from mdstore.server.calls import Limits
from mdstore.server.serving import Plan
from mdstore.store.store import Store
from mdstore.wire import changes, mlmd, service
from tests.server.served import Server, running
from tests.server.web import SERVICE, call, framed, post

PUT_TYPE = service.PutContextTypeRequest(context_type=mlmd.ContextType(name="system.PipelineRun"))
GET_TYPE = service.GetContextTypeRequest(type_name="system.PipelineRun")


@pytest.mark.parametrize("text", [False, True])
def test_a_write_and_a_read(server: Server, text: bool) -> None:
    put = call(server.http, "PutContextType", PUT_TYPE, text=text)
    assert put.trailers == {"grpc-status": "0"}
    type_id = service.PutContextTypeResponse.FromString(put.messages[0]).type_id

    got = call(server.http, "GetContextType", GET_TYPE, text=text)
    assert service.GetContextTypeResponse.FromString(got.messages[0]).context_type.id == type_id


def test_text_may_come_in_pieces_with_their_own_padding(server: Server) -> None:
    body = framed(PUT_TYPE.SerializeToString())
    pieces = b"".join(base64.b64encode(body[at : at + 7]) for at in range(0, len(body), 7))
    assert post(f"{server.http}{SERVICE}PutContextType", pieces, text=True).status == 0


@pytest.mark.parametrize("text", [False, True])
def test_an_error_has_no_message_and_says_why_in_the_trailers(server: Server, text: bool) -> None:
    found = call(server.http, "GetContextType", service.GetContextTypeRequest(type_name="läuft nicht\n%"), text=text)
    assert found.messages == []
    assert found.status == grpc.StatusCode.NOT_FOUND.value[0]
    assert "läuft nicht" in found.message


def test_an_error_is_the_same_as_over_grpc(server: Server, channel: grpc.Channel) -> None:
    request = service.PutArtifactsRequest(artifacts=[mlmd.Artifact(type_id=4711, name="ä\x00%\r\n")])
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}PutArtifacts")(request.SerializeToString())
    found = call(server.http, "PutArtifacts", request)
    assert (found.status, found.message) == (caught.value.code().value[0], caught.value.details())


def test_an_answer_is_the_same_as_over_grpc(server: Server, channel: grpc.Channel) -> None:
    types = service.GetArtifactTypesRequest()
    over_grpc = channel.unary_unary(f"{SERVICE}GetArtifactTypes")(types.SerializeToString())
    assert call(server.http, "GetArtifactTypes", types).messages == [over_grpc]


def test_the_change_feed_is_a_stream_of_frames(server: Server, channel: grpc.Channel) -> None:
    call(server.http, "PutContextType", PUT_TYPE)
    request = changes.FollowRequest(from_seq=1, once=True, max_commits=1).SerializeToString()
    path = "/mdstore.v1.ChangeFeed/Follow"
    over_grpc = list(channel.unary_stream(path)(request))
    for text in (False, True):
        body = framed(request)
        found = post(server.http + path, base64.b64encode(body) if text else body, text=text)
        assert found.messages == over_grpc
        assert len(over_grpc) >= 2
        assert found.status == 0


MALFORMED = {
    "nothing": b"",
    "half a header": b"\x00\x00",
    "a length without its bytes": b"\x00\x00\x00\x00\x09abc",
    "a huge length": b"\x00\xff\xff\xff\xff",
    "two messages": framed(b"") * 2,
    "trailers only": b"\x80\x00\x00\x00\x00",
    "an unknown flag": b"\x02\x00\x00\x00\x00",
    "no message of this method": framed(b"\xff\xff\xff"),
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_request_is_an_invalid_argument(server: Server, body: bytes) -> None:
    found = post(f"{server.http}{SERVICE}GetContextType", body)
    assert found.status == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert found.message


def test_text_that_is_no_base64_is_an_invalid_argument(server: Server) -> None:
    for body in (b"!!!", b"AAAAA", b"=", "ä".encode()):
        assert post(f"{server.http}{SERVICE}GetContextType", body, text=True).status == 3


def test_a_compressed_message_is_unimplemented(server: Server) -> None:
    assert post(f"{server.http}{SERVICE}GetContextType", b"\x01\x00\x00\x00\x00").status == 12


def test_an_unknown_method_is_unimplemented(server: Server) -> None:
    assert post(f"{server.http}{SERVICE}DropEverything", framed(b"")).status == 12
    assert post(f"{server.http}/other.Service/GetContextType", framed(b"")).status == 12


def test_what_is_no_grpc_web_is_an_unsupported_media_type(server: Server) -> None:
    for media in ("application/json", "application/grpc", ""):
        response = httpx.post(f"{server.http}{SERVICE}GetContextType", content=b"{}", headers={"content-type": media})
        assert response.status_code == 415
    assert httpx.get(f"{server.http}{SERVICE}GetContextType").status_code == 405


def test_a_request_over_the_limit_is_refused_before_it_is_read(store: Store) -> None:
    with running(store, Plan(http_port=0, limits=Limits(message_bytes=2000))) as server:
        path = f"{server.http}{SERVICE}GetContextType"
        assert post(path, framed(b"\x0a\xbe\x0f" + b"n" * 1982)).status == 5
        assert post(path, framed(b"n" * 2001)).status == 8
        assert post(path, base64.b64encode(framed(b"n" * 2001)), text=True).status == 8


def test_bodies_that_arrive_slowly_do_not_fill_the_memory(store: Store) -> None:
    limits = Limits(message_bytes=3000, queued_bytes=5000)
    with running(store, Plan(http_port=0, limits=limits)) as server:
        host, port = server.http.removeprefix("http://").split(":")
        head = f"POST {SERVICE}GetContextType HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web\r\n"
        slow = [socket.create_connection((host, int(port))) for _ in range(3)]
        for connection in slow:
            connection.sendall(f"{head}content-length: 2000\r\n\r\n".encode() + b"n" * 1999)
            time.sleep(0.1)
        assert b"grpc-status: 8" in slow[2].recv(10_000)
        assert post(f"{server.http}{SERVICE}GetContextType", framed(b"n" * 1500)).status == 8
        for connection in slow:
            connection.close()
        time.sleep(0.2)
        assert call(server.http, "GetContextType", GET_TYPE).status == 5


def test_a_deadline_is_honoured(server: Server) -> None:
    assert call(server.http, "GetContextType", GET_TYPE, grpc_timeout="1n").status == 4
    assert call(server.http, "GetContextType", GET_TYPE, grpc_timeout="10S").status == 5
    for malformed in ("soon", "1", "123456789S", "-1S", "1s"):
        assert call(server.http, "GetContextType", GET_TYPE, grpc_timeout=malformed).status == 3


def test_a_client_that_goes_away_leaves_no_call_behind(server: Server) -> None:
    host, port = server.http.removeprefix("http://").split(":")
    for sent in (b"", b"half a bo"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                f"POST {SERVICE}GetContextType HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web\r\n"
                "content-length: 100\r\n\r\n".encode()
                + sent
            )
            time.sleep(0.1)
    assert call(server.http, "GetContextType", GET_TYPE).status == 5
    assert "mdstore_calls_under_way 0.0" in httpx.get(f"{server.http}/metrics").text


ORIGIN = "https://pipelines.example"


def preflight(server: Server, origin: str) -> httpx.Response:
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,grpc-timeout,idempotency-key,traceparent,x-grpc-web,"
        "x-user-agent",
    }
    return httpx.options(f"{server.http}{SERVICE}GetContextType", headers=headers)


def test_other_origins_may_not_call_unless_they_are_named(server: Server) -> None:
    refused = preflight(server, ORIGIN)
    assert refused.status_code == 405
    assert not [name for name in refused.headers if name.startswith("access-control")]
    answered = call(server.http, "GetContextType", GET_TYPE, origin=ORIGIN)
    assert "access-control-allow-origin" not in answered.response.headers


@pytest.mark.parametrize("allowed", [ORIGIN, "*"])
def test_an_origin_that_is_named_may_call(store: Store, allowed: str) -> None:
    with running(store, Plan(http_port=0, cors_origins=("https://other.example", allowed))) as server:
        asked = preflight(server, ORIGIN)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == allowed
        assert "POST" in asked.headers["access-control-allow-methods"]
        granted = {name.strip().lower() for name in asked.headers["access-control-allow-headers"].split(",")}
        assert granted >= {
            "content-type",
            "grpc-timeout",
            "idempotency-key",
            "traceparent",
            "x-grpc-web",
            "x-user-agent",
        }

        answered = call(server.http, "GetContextType", GET_TYPE, origin=ORIGIN).response.headers
        assert answered["access-control-allow-origin"] == allowed
        assert answered["access-control-expose-headers"] == "grpc-message, grpc-status"
        if allowed != "*":
            assert preflight(server, "https://evil.example").status_code == 400


@pytest.mark.parametrize("text", [False, True])
def test_a_body_of_very_many_pieces_keeps_nobody_waiting(server: Server, text: bool) -> None:
    # Empty frames, or bytes of base64 with their padding: millions of pieces in a body that is allowed.
    body = b"AA==" * 4_000_000 if text else b"\x80\x00\x00\x00\x00" * 4_000_000
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(post, f"{server.http}{SERVICE}GetContextType", body, text=text)
        slowest = 0.0
        while not sending.done():
            began = time.monotonic()
            assert call(server.http, "GetContextType", GET_TYPE).status == 5
            slowest = max(slowest, time.monotonic() - began)
        assert sending.result().status == 3
    assert slowest < 1.0
