"""Types: creating and extending them, and reading them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from typing import Any, Final

from google.protobuf import json_format
from sqlalchemy import ColumnElement, and_, bindparam, null, select, update

from mdstore.errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from mdstore.store import kinds, tables
from mdstore.store.kinds import Kind
from mdstore.store.properties import check_text
from mdstore.store.sql import Insert, OneOf, Statement, asked_for, values
from mdstore.store.transaction import Declaration, Row, Transaction
from mdstore.wire import mlmd, service

_T = tables.TYPE.c
_COLUMNS = (_T.id, _T.name, _T.version, _T.description, _T.input_type, _T.output_type, _T.external_id)
_PARENT = tables.TYPE.alias("parent")


def _read(where: Any) -> Statement:
    return Statement(
        lambda: (
            select(*_COLUMNS, _PARENT.c.name.label("base"))
            .select_from(
                tables.TYPE.outerjoin(tables.PARENT_TYPE, tables.PARENT_TYPE.c.type_id == _T.id).outerjoin(
                    _PARENT, _PARENT.c.id == tables.PARENT_TYPE.c.parent_type_id
                )
            )
            .where(_T.type_kind == bindparam("kind"), where())
            .order_by(_T.id)
        )
    )


_BY_NAME: Final = _read(
    lambda: and_(
        _T.name == bindparam("name"),
        _T.version.is_not_distinct_from(bindparam("version")),
    )
)
_BY_ID: Final = _read(lambda: OneOf(_T.id, "ids"))
_BY_EXTERNAL_ID: Final = _read(lambda: OneOf(_T.external_id, "external_ids"))
_ALL: Final = _read(lambda: _T.id > 0)
_BY_NAMES: Final = _read(lambda: and_(OneOf(_T.name, "names"), _T.version.is_(None)))

_PROPERTIES: Final = Statement(
    lambda: (
        select(tables.TYPE_PROPERTY.c.type_id, tables.TYPE_PROPERTY.c.name, tables.TYPE_PROPERTY.c.data_type)
        .where(OneOf(tables.TYPE_PROPERTY.c.type_id, "ids"))
        .order_by(tables.TYPE_PROPERTY.c.type_id, tables.TYPE_PROPERTY.c.name)
    )
)


def _declared(where: Callable[[], ColumnElement[bool]]) -> Statement:
    return Statement(
        lambda: (
            select(
                _T.id,
                _T.type_kind,
                _T.name,
                tables.TYPE_PROPERTY.c.name.label("property"),
                tables.TYPE_PROPERTY.c.data_type,
            )
            .select_from(tables.TYPE.outerjoin(tables.TYPE_PROPERTY, tables.TYPE_PROPERTY.c.type_id == _T.id))
            .where(where())
        )
    )


DECLARED: Final = _declared(lambda: OneOf(_T.id, "ids"))
"""A query for the types of these `ids`, for `learn_from`."""


@cache
def declared_of(kind: Kind) -> Statement:
    """A query for the types of the nodes of these `ids`, for `learn_from`."""
    table = kind.table.c
    return _declared(lambda: _T.id.in_(select(table.type_id).where(OneOf(table.id, "ids"))))


_INSERT: Final = Insert(
    tables.TYPE, ("name", "version", "type_kind", "description", "input_type", "output_type", "external_id")
)
_INSERT_PROPERTY: Final = Insert(tables.TYPE_PROPERTY, ("type_id", "name", "data_type"))
_INSERT_PARENT: Final = Insert(tables.PARENT_TYPE, ("type_id", "parent_type_id"))
_SET_EXTERNAL_ID: Final = Statement(
    lambda: update(tables.TYPE).where(_T.id == bindparam("type_id")).values(external_id=bindparam("new_external_id"))
)


def declarations(tx: Transaction, kind: Kind, ids: Iterable[int]) -> dict[int, Declaration]:
    """Those of the types that exist and are of this kind: one statement, or none if the transaction knows them."""
    wanted = set(ids)
    learn(tx, wanted)
    found = ((type_id, tx.known.types.get(type_id)) for type_id in wanted)
    return {type_id: known for type_id, known in found if known is not None and known.type_kind == kind.type_kind}


def learn(tx: Transaction, ids: Iterable[int]) -> None:
    """Read the types of these ids, of whatever kind, in one statement; the transaction then knows them.

    Inside a transaction nobody else changes a type, and who changes one in it lets it be forgotten.
    """
    missing = set(ids) - tx.known.types.keys()
    if missing:
        learn_from(tx, tx.rows(DECLARED, ids=values(missing)))


def learn_from(tx: Transaction, rows: Iterable[Row]) -> None:
    """Know the types of these rows."""
    learned: dict[int, Declaration] = {}
    for type_id, type_kind, name, property_name, data_type in rows:
        declaration = learned.get(type_id)
        if declaration is None:
            declaration = learned[type_id] = Declaration(type_id, type_kind, name, {})
        if property_name is not None:
            declaration.properties[property_name] = data_type
    tx.known.types.update(learned)


def _messages(tx: Transaction, kind: Kind, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """The types of these rows with their properties, each once; one more statement."""
    by_id = {row[0]: _message(kind, row) for row in reversed(rows)}
    if by_id:
        for type_id, name, data_type in tx.rows(_PROPERTIES, ids=values(by_id)):
            by_id[type_id].properties[name] = data_type
    return list(reversed(by_id.values()))


def _message(kind: Kind, row: Sequence[Any]) -> Any:
    type_id, name, version, description, input_type, output_type, external_id, base = row
    message = kind.type_message(id=type_id, name=name)
    if version:
        message.version = version
    if description is not None:
        message.description = description
    if external_id is not None:
        message.external_id = external_id
    if input_type:
        # Set even if it says nothing.
        message.input_type.SetInParent()
        json_format.Parse(input_type, message.input_type)
    if output_type:
        message.output_type.SetInParent()
        json_format.Parse(output_type, message.output_type)
    if base is not None and base in kind.system_types:
        message.base_type = kind.system_types.index(base) + 1
    return message


def find(tx: Transaction, kind: Kind, name: str, version: str | None) -> Any | None:
    """The type of this name and version as a message, the oldest if there are several; None if there is none."""
    rows = tx.rows(_BY_NAME, kind=kind.type_kind, name=asked_for(name), version=asked_for(version) or None)
    # No key forbids duplicates, so racing creators of the library may have left some: all use the first.
    found = _messages(tx, kind, rows[:1])
    return found[0] if found else None


def find_id(tx: Transaction, kind: Kind, name: str, version: str | None) -> int | None:
    """The id of what `find` finds; one statement."""
    rows = tx.rows(_BY_NAME, kind=kind.type_kind, name=asked_for(name), version=asked_for(version) or None)
    return int(rows[0][0]) if rows else None


def ids_by_name(tx: Transaction, kind: Kind, names: Iterable[str]) -> dict[str, int]:
    """Name -> id of those types that exist without a version."""
    found: dict[str, int] = {}
    for row in tx.rows(_BY_NAMES, kind=kind.type_kind, names=values(set(names))):
        found.setdefault(row[1], row[0])
    return found


def put_type(tx: Transaction, kind: Kind, wanted: Any, *, can_add: bool, can_omit: bool) -> int:
    """Create a type, or extend the one that is there as far as the flags allow; returns its id.

    Raises:
        InvalidArgument: no name, or a property of kind UNKNOWN.
        AlreadyExists: the stored type has other properties and the flags do not allow the difference.
        Unimplemented: an explicit base type UNSET, or another base type than the stored one.
    """
    if not wanted.name:
        raise InvalidArgument(f"the {kind.label} type has no name")
    for field in ("name", "version", "description", "external_id"):
        check_text(f"the type's {field}", getattr(wanted, field))
    for name in wanted.properties:
        check_text("a property's name", name)
    stored = find(tx, kind, wanted.name, wanted.version)
    if stored is None:
        return _create(tx, kind, wanted)
    _extend(tx, kind, stored, wanted, can_add=can_add, can_omit=can_omit)
    type_id: int = stored.id
    return type_id


def _as_json(field: str, given: mlmd.ArtifactStructType) -> str:
    """As MLMD stores it, if it can be read back: a text that is not UTF-8, or too deep a nesting, cannot."""
    struct_type = mlmd.ArtifactStructType()
    struct_type.CopyFrom(given)
    struct_type.DiscardUnknownFields()
    try:
        text = json_format.MessageToJson(struct_type, indent=None)
        again = json_format.Parse(text, mlmd.ArtifactStructType())
    except (json_format.Error, TypeError, ValueError) as error:
        raise InvalidArgument(f"{field} cannot be stored: {error}") from error
    if again != struct_type:
        raise InvalidArgument(f"{field} cannot be stored so that it is read back the same: is every text UTF-8?")
    return text


def _create(tx: Transaction, kind: Kind, wanted: Any) -> int:
    input_type = output_type = None
    if kind is kinds.EXECUTION:
        if wanted.HasField("input_type"):
            input_type = _as_json("input_type", wanted.input_type)
        if wanted.HasField("output_type"):
            output_type = _as_json("output_type", wanted.output_type)
    description = wanted.description if wanted.HasField("description") else None
    external_id = wanted.external_id if wanted.HasField("external_id") else None
    (type_id,) = tx.create(
        _INSERT,
        [(wanted.name, wanted.version or None, kind.type_kind, description, input_type, output_type, external_id)],
    )
    # In the library's order: of several mistakes it says the same one. What was written is rolled back.
    _refuse_unknown(wanted, wanted.properties)
    tx.many(_INSERT_PROPERTY, [(type_id, name, data_type) for name, data_type in wanted.properties.items()])
    if wanted.HasField("base_type"):
        if not wanted.base_type:
            raise Unimplemented(f"type {wanted.name!r}: UNSET is no base type; leave it out")
        _link_base(tx, kind, type_id, wanted.base_type)
    image = getattr(tx.changes, f"{kind.label}_types").add()
    image.CopyFrom(wanted)
    image.DiscardUnknownFields()
    image.id = type_id
    if not wanted.version:
        image.ClearField("version")
    return type_id


def _extend(tx: Transaction, kind: Kind, stored: Any, wanted: Any, *, can_add: bool, can_omit: bool) -> None:
    for name, data_type in wanted.properties.items():
        if name in stored.properties and stored.properties[name] != data_type:
            raise AlreadyExists(
                f"type {wanted.name!r} is there with property {name!r} of kind "
                f"{mlmd.PropertyType.Name(stored.properties[name])}, not {mlmd.PropertyType.Name(data_type)}"
            )
    omitted = [name for name in stored.properties if name not in wanted.properties]
    if omitted and not can_omit:
        raise AlreadyExists(
            f"type {wanted.name!r} is there with more properties ({', '.join(omitted)}): set can_omit_fields"
        )
    added = [name for name in wanted.properties if name not in stored.properties]
    if added and not can_add:
        raise AlreadyExists(
            f"type {wanted.name!r} is there without these properties: {', '.join(added)}: set can_add_fields"
        )
    _refuse_unknown(wanted, added)
    changed = bool(added)
    if wanted.external_id and wanted.external_id != stored.external_id:
        tx.run(_SET_EXTERNAL_ID, type_id=stored.id, new_external_id=wanted.external_id)
        stored.external_id = wanted.external_id
        changed = True
    tx.many(_INSERT_PROPERTY, [(stored.id, name, wanted.properties[name]) for name in added])
    if wanted.HasField("base_type"):
        if not wanted.base_type:
            raise Unimplemented(f"type {wanted.name!r}: a base type cannot be taken away (UNSET)")
        if not stored.HasField("base_type"):
            _link_base(tx, kind, stored.id, wanted.base_type)
            stored.base_type = wanted.base_type
            changed = True
        elif stored.base_type != wanted.base_type:
            raise Unimplemented(f"type {wanted.name!r} has another base type, which cannot be changed")
    if changed:
        tx.known.types.pop(stored.id, None)
        for name in added:
            stored.properties[name] = wanted.properties[name]
        getattr(tx.changes, f"{kind.label}_types").add().CopyFrom(stored)


def _refuse_unknown(wanted: Any, names: Iterable[str]) -> None:
    for name in names:
        if wanted.properties[name] == mlmd.UNKNOWN:
            raise InvalidArgument(f"property {name!r} of type {wanted.name!r} is of kind UNKNOWN")


def _link_base(tx: Transaction, kind: Kind, type_id: int, base_type: int) -> None:
    name = kind.system_types[base_type - 1]
    parent = ids_by_name(tx, kind, [name])[name]
    if parent == type_id:
        raise InvalidArgument(f"type {name!r} cannot be its own base type")
    tx.many(_INSERT_PARENT, [(type_id, parent)])


def _refuse_deprecated(all_fields_match: bool) -> None:
    if not all_fields_match:
        raise Unimplemented("all_fields_match = false was never implemented; use can_add_fields and can_omit_fields")


def put_one(tx: Transaction, kind: Kind, request: Any) -> int:
    """`Put*K*Type`: the id."""
    _refuse_deprecated(request.all_fields_match)
    return put_type(
        tx,
        kind,
        getattr(request, f"{kind.label}_type"),
        can_add=request.can_add_fields,
        can_omit=request.can_omit_fields,
    )


def put_types(tx: Transaction, request: service.PutTypesRequest) -> service.PutTypesResponse:
    """`PutTypes`."""
    _refuse_deprecated(request.all_fields_match)
    response = service.PutTypesResponse()
    for kind in kinds.KINDS:
        for wanted in getattr(request, f"{kind.label}_types"):
            type_id = put_type(tx, kind, wanted, can_add=request.can_add_fields, can_omit=request.can_omit_fields)
            getattr(response, f"{kind.label}_type_ids").append(type_id)
    return response


def get_one(tx: Transaction, kind: Kind, request: Any) -> Any:
    """`Get*K*Type`: the type."""
    found = find(tx, kind, request.type_name, request.type_version)
    if found is None:
        version = f" version {request.type_version!r}" if request.type_version else ""
        raise NotFound(f"no {kind.label} type {request.type_name!r}{version}")
    return found


def get_all(tx: Transaction, kind: Kind) -> list[Any]:
    """`Get*K*Types`: all but the system's, which the library hides by the names of both kinds that have some."""
    hidden = kinds.SYSTEM_TYPE_NAMES if kind.system_types else ()
    rows = [row for row in tx.rows(_ALL, kind=kind.type_kind) if row[1] not in hidden]
    return _messages(tx, kind, rows)


def get_by_id(tx: Transaction, kind: Kind, ids: Sequence[int]) -> list[Any]:
    """`Get*K*TypesByID`: in the order of the request, repeats included; ids that are unknown are left out."""
    if not ids:
        return []
    found = {
        message.id: message for message in _messages(tx, kind, tx.rows(_BY_ID, kind=kind.type_kind, ids=values(ids)))
    }
    return [found[type_id] for type_id in ids if type_id in found]


def get_by_external_ids(tx: Transaction, kind: Kind, external_ids: Sequence[str]) -> list[Any]:
    """`Get*K*TypesByExternalIds`."""
    if not external_ids:
        return []
    if not all(external_ids):
        raise InvalidArgument("an external id is empty")
    rows = tx.rows(_BY_EXTERNAL_ID, kind=kind.type_kind, external_ids=values(set(external_ids)))
    if not rows:
        raise NotFound(f"no {kind.label} type has one of these external ids: {', '.join(external_ids)}")
    return _messages(tx, kind, rows)


def of_ids(tx: Transaction, kind: Kind, ids: Collection[int]) -> list[Any]:
    """The types of these ids, each once, by id."""
    return get_by_id(tx, kind, sorted(set(ids))) if ids else []


_EVERYTHING: Final = Statement(
    lambda: select(*_COLUMNS, null().label("base"), _T.type_kind).where(_T.id > 0).order_by(_T.id)
)


def everything(tx: Transaction) -> dict[Kind, list[Any]]:
    """All types of all kinds, the system's too, without base types; two statements."""
    found: dict[Kind, list[Any]] = {kind: [] for kind in kinds.KINDS}
    by_id: dict[int, Any] = {}
    for *row, type_kind in tx.rows(_EVERYTHING):
        kind = kinds.BY_TYPE_KIND[type_kind]
        message = by_id[row[0]] = _message(kind, row)
        found[kind].append(message)
    for type_id, name, data_type in tx.rows(_PROPERTIES, ids=values(by_id)):
        by_id[type_id].properties[name] = data_type
    return found
