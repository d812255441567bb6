"""The supervisor over small real services, as a process."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mdstore.cli import ports
from tests.up.processes import Running, answer, is_alive, until

STAND = str(Path(__file__).with_name("stand.py"))


def served(name: str, *more: str, after: tuple[str, ...] = ()) -> dict[str, Any]:
    port = ports.any_free()
    return {
        "name": name,
        "arguments": [name, "serve", str(port), *more],
        "after": after,
        "ready_url": f"http://127.0.0.1:{port}/",
    }


def port_of(service: dict[str, Any]) -> int:
    return int(service["arguments"][2])


def stand(*services: dict[str, Any], ready_s: float = 30) -> Running:
    return Running([sys.executable, STAND, json.dumps(services), str(ready_s)])


def test_services_start_in_order_and_each_line_bears_its_childs_name() -> None:
    first = served("first", "--start-s", "0.5")
    second = served("second", after=("first",))
    with stand(second, first) as running:
        running.wait_for("everything is ready")
        assert answer(port_of(first))
        assert answer(port_of(second))
    assert running.printed.index("first  | first listens") < running.printed.index("second | second listens")


def test_a_service_is_started_at_once_and_waits_until_what_it_needs_is_ready() -> None:
    first = served("first", "--start-s", "1.5")
    second = served("second", after=("first",))
    second["imports"] = ["this"]  # prints the Zen of Python
    with stand(second, first) as running:
        running.wait_for("everything is ready")
    order = ["second is there", "The Zen of Python", "first listens", "second listens"]
    assert sorted(order, key=running.printed.index) == order


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_in_three_seconds_and_leaves_no_child(number: signal.Signals) -> None:
    first = served("first")
    with stand(first, served("second", after=("first",)), served("third", after=("second",))) as running:
        running.wait_for("everything is ready")
        children = running.children()
        assert len(children) == 3
        running.send(number)
        code, took = running.end()
    assert code == 0
    assert took < 3
    assert not any(map(is_alive, children))


def test_a_child_that_ignores_the_signal_is_killed_in_three_seconds() -> None:
    with stand(served("stubborn", "--ignore-sigterm"), served("other")) as running:
        running.wait_for("everything is ready")
        children = running.children()
        running.send(signal.SIGINT)
        code, took = running.end()
    assert code == 0
    assert took < 3
    assert "stubborn did not stop and is killed" in running.printed
    assert not any(map(is_alive, children))


def test_a_second_signal_kills_at_once() -> None:
    with stand(served("stubborn", "--ignore-sigterm")) as running:
        running.wait_for("everything is ready")
        [child] = running.children()
        running.send(signal.SIGINT)
        running.wait_for("stopping")
        running.send(signal.SIGINT)
        _, took = running.end()
    assert took < 0.5
    assert not is_alive(child)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_a_signal_while_services_start_leaves_no_child(delay_s: float) -> None:
    slow = served("slow", "--start-s", "30")
    with stand(slow, served("next", after=("slow",))) as running:
        until("the first child", running.children)
        time.sleep(delay_s)
        children = running.children()
        running.send(signal.SIGINT)
        code, took = running.end()
    assert code == 128 + signal.SIGINT
    assert took < 3
    assert "next listens" not in running.printed
    assert not any(map(is_alive, children))


@pytest.mark.parametrize(("number", "said"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")])
def test_a_child_that_dies_is_started_again_and_the_others_go_on(number: signal.Signals, said: str) -> None:
    fragile, steady = served("fragile"), served("steady")
    with stand(fragile, steady) as running:
        running.wait_for("everything is ready")
        before, beside = answer(port_of(fragile)), answer(port_of(steady))
        assert before
        os.kill(int(before), number)
        running.wait_for(f"fragile was killed by {said}; it is started again in 0\\.\\d s")
        after = until("the new child", lambda: answer(port_of(fragile)))
        assert after != before
        assert answer(port_of(steady)) == beside


def test_children_end_when_the_supervisor_is_killed() -> None:
    with stand(served("one"), served("two"), {"name": "three", "arguments": ["three", "say", "hello"]}) as running:
        running.wait_for("everything is ready")
        running.wait_for("three \\| hello")
        children = running.children()
        assert len(children) == 3
        running.send(signal.SIGKILL)
        running.end()
        until("the children's end", lambda: not any(map(is_alive, children)), seconds=3)


def test_readiness_may_be_a_port_or_a_line() -> None:
    port = ports.any_free()
    by_port = {"name": "port", "arguments": ["port", "serve", str(port)], "ready_port": port}
    by_line = {"name": "line", "arguments": ["line", "say", "now following"], "ready_line": "following"}
    never = {"name": "never", "arguments": ["never", "say", "something else"], "ready_line": "following"}
    with stand(by_port, by_line) as running:
        running.wait_for("everything is ready")
    with stand(by_port, never) as running:
        running.wait_for("never \\| something else")
        running.wait_for("port  \\| port listens")
        time.sleep(0.5)
        assert "everything is ready" not in running.printed


def test_a_child_that_does_not_get_ready_in_time_is_killed_and_started_again() -> None:
    stuck = {"name": "stuck", "arguments": ["stuck", "say", "hello"], "ready_line": "never said"}
    with stand(stuck, ready_s=1) as running:
        running.wait_for("stuck is not ready after 1 s and is killed")
        running.wait_for("stuck was killed by SIGKILL; it is started again")
        running.wait_for("stuck \\| hello", count=2)


def test_a_child_that_refuses_its_settings_stops_the_start_with_exit_code_2() -> None:
    with stand(served("good"), {"name": "bad", "arguments": ["bad", "exit", "2"]}) as running:
        code, _ = running.end()
    assert code == 2
    assert "bad  | bad cannot" in running.printed
    assert "mdstore: bad cannot start: it ended with exit code 2" in running.printed
    assert "Traceback" not in running.printed


def test_a_child_that_never_comes_up_is_tried_a_few_times() -> None:
    with stand({"name": "bad", "arguments": ["bad", "exit", "1"]}) as running:
        code, _ = running.end(seconds=20)
    assert code == 2
    assert running.printed.count("bad | bad cannot") == 4


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ([{"name": "a", "arguments": [], "after": ["b"]}], "comes after ['b'], which is not installed"),
        (
            [{"name": "a", "arguments": [], "after": ["b"]}, {"name": "b", "arguments": [], "after": ["a"]}],
            "services wait for each other",
        ),
    ],
)
def test_an_order_that_is_none_is_refused(services: list[dict[str, Any]], said: str) -> None:
    with stand(*services) as running:
        code, _ = running.end()
    assert code == 2
    assert said in running.printed
