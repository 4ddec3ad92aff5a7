"""Indexes for what moderators and pin lists read: few rows of a large table. Made while the table is in use.

A run that was cut off leaves an invalid index behind; it is dropped and made again.
"""

from typing import Any

from django.db import migrations

from community_gateway.conf import config, model

INDEXES = {"community_message_flagged_partial": "is_flagged", "community_message_pinned_partial": "is_pinned"}
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"


def make(apps: Any, schema_editor: Any) -> None:
    quote, connection = schema_editor.quote_name, schema_editor.connection
    if connection.vendor != "postgresql":
        return
    table = quote(model("message")._meta.db_table)
    for name, column in INDEXES.items():
        with connection.cursor() as cursor:
            cursor.execute(VALID, [name])
            if (row := cursor.fetchone()) is not None and not row[0]:
                cursor.execute(f"DROP INDEX CONCURRENTLY {quote(name)}")
            cursor.execute(
                f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {quote(name)}"
                f" ON {table} (room_id, created_at DESC) WHERE {quote(column)}"
            )


def drop(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name in INDEXES:
            with schema_editor.connection.cursor() as cursor:
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(name)}")


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY refuses to run in a transaction
    initial = True
    dependencies = [migrations.swappable_dependency(config.MODELS["message"])]
    operations = [migrations.RunPython(make, drop)]
