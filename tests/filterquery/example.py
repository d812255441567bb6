"""A store to ask hand-made filters of: eight artifacts, six executions, five contexts."""

from typing import Any, Final

from mdstore.store.kinds import ARTIFACT, CONTEXT, EXECUTION
from tests.filterquery.world import Node, World

TYPES: Final = {ARTIFACT: ("Data", "Model"), EXECUTION: ("Train",), CONTEXT: ("Run", "Pipe")}


def example() -> World:
    """Made anew, so that a test may add to it."""
    world = World(types=dict(TYPES), nodes={ARTIFACT: {}, EXECUTION: {}, CONTEXT: {}})

    def times(number: int) -> dict[str, int]:
        return {"create_time_since_epoch": 1000 + number, "last_update_time_since_epoch": 2000 - number}

    for n in range(8):
        data = n % 2 == 1
        fields: dict[str, Any] = {
            "id": n + 1,
            "type": "Data" if data else "Model",
            "name": "Name" if n == 3 else f"art{n}",
            "uri": f"s3://b/{n}",
            "state": n % 5 if n % 4 else None,
            "external_id": "ext5" if n == 5 else None,
            **times(n),
        }
        node = Node(
            fields=fields, properties={(True, "c"): ("int_value", n * 10), (True, "big"): ("int_value", 2**30 + n)}
        )
        if n % 3 == 0:
            node.properties[False, "i"] = ("int_value", n)
        else:
            node.properties[True, "my key:x.y"] = ("string_value", f"v{n}")
        if data:
            node.properties[False, "s"] = ("string_value", ("x", "X", "a_b", "name")[n // 2])
            node.properties[False, "d"] = ("double_value", n / 2)
            node.properties[False, "b"] = ("bool_value", n % 4 == 1)
        world.nodes[ARTIFACT][n + 1] = node
    for n in range(6):
        node = Node(
            fields={
                "id": n + 1,
                "type": "Train",
                "name": f"ex{n}",
                "last_known_state": n + 1 if n % 3 else None,
                **times(n),
            },
            properties={(True, "parent_dag_id"): ("int_value", n // 2)},
        )
        if n % 2:
            node.properties[False, "i"] = ("int_value", n)
        world.nodes[EXECUTION][n + 1] = node
    for n in range(5):
        world.nodes[CONTEXT][n + 1] = Node(
            fields={"id": n + 1, "type": "Run" if n < 3 else "Pipe", "name": f"ctx{n}", **times(n)},
            properties={(True, "k"): ("string_value", f"v{n}")},
        )
    for kind, nodes in world.nodes.items():
        for node in nodes.values():
            node.fields["type_id"] = world.type_id(kind, node.fields["type"])
    world.attributions = {(m + 1, n + 1) for n in range(8) for m in range(3) if (n + m) % 3 == 0}
    world.associations = {(m + 1, n + 1) for n in range(6) for m in range(4) if (n + m) % 2 == 0}
    world.parents = {(1, 4), (2, 4), (3, 5)}
    world.events = {
        (n + 1, m + 1, (n + m) % 6 + 1, 1000 + n) for n in range(8) for m in range(6) if (n * m) % 4 == 1 or n == m
    }
    return world
