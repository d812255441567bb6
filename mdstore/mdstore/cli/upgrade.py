"""`mdstore upgrade`: a database of an older MLMD schema to version 10."""

from typing import Annotated

import typer


def upgrade(
    database: Annotated[str, typer.Option(help="The database's URL: sqlite:///FILE, postgresql://..., mysql://...")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
) -> None:
    """Upgrade a database of MLMD's schema 0 to 9 to version 10, in place.

    If it is interrupted, run it again: on SQLite and PostgreSQL nothing has happened then, and on MySQL and MariaDB
    either nothing or all but the dropping of the old tables.
    """
    from mdstore.redaction import shown  # noqa: PLC0415 (beside the other one)
    from mdstore.store import upgrade as upgrading  # noqa: PLC0415 (SQLAlchemy is slow to import)

    plan = upgrading.plan_upgrade(database)
    if plan is None:
        if not dry_run:
            # An upgrade that was killed at its very end has left tables to drop.
            upgrading.upgrade(database)
        typer.echo(f"{shown(database)} has schema version 10 already: nothing to do")
        return
    typer.echo(f"{shown(database)} has schema version {plan.from_version}. To version 10:")
    for step in plan.steps:
        typer.echo(f"  {step}")
    typer.echo("Rows: " + ", ".join(f"{name} {count}" for name, count in plan.rows.items() if count))
    if plan.duplicate_events:
        typer.echo(f"{plan.duplicate_events} events go: a newer one of the same type joins the same nodes")
    if dry_run:
        typer.echo("Nothing was changed (--dry-run). Stop whoever uses the database, and copy it, before the upgrade.")
        return
    upgrading.upgrade(database, lambda table: typer.echo(f"  {table} done"))
    typer.echo("upgraded to version 10")
