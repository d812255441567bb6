"""PostgreSQL as the library uses it: it never quotes a name, so its tables have lower-case ones there."""

from sqlalchemy.dialects import postgresql as sqlalchemy_postgresql
from sqlalchemy.dialects.postgresql.base import PGIdentifierPreparer
from sqlalchemy.engine import Dialect


class LowerCase(PGIdentifierPreparer):
    """Names without capital letters."""

    def quote(self, ident: str) -> str:
        """A name as SQL has it."""
        return super().quote(ident.lower())


def postgresql() -> Dialect:
    """SQLAlchemy's dialect with such names."""
    found = sqlalchemy_postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy's gap
    found.identifier_preparer = LowerCase(found)
    return found
