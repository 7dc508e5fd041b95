"""Create the application's tables: ``python -m texting.schema``. Running it again changes nothing.

A real application would have migrations; the library's own tables do (``spoke-jobs migrate``).
"""

from __future__ import annotations

from texting.database import engine
from texting.models import Base


def create_tables() -> None:
    """Create the tables that aren't there yet."""
    Base.metadata.create_all(engine())


if __name__ == "__main__":
    create_tables()
    print(f"texting's tables are in {engine().url.render_as_string(hide_password=True)}")
