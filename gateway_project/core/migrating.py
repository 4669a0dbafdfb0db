"""Migrations that are recorded in the transaction that does them."""

from typing import Any

from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.migration import Migration


class WholeMigrationExecutor(MigrationExecutor):
    """Django records a migration that has statements left for the end (indexes, constraints) only after its commit: who
    is killed in between has the tables without the record, and can never migrate again. Here the record is part of it.
    """

    def apply_migration(self, state: Any, migration: Migration, fake: bool = False, fake_initial: bool = False) -> Any:
        if fake or fake_initial or not migration.atomic:
            return super().apply_migration(state, migration, fake=fake, fake_initial=fake_initial)
        if self.progress_callback:
            self.progress_callback("apply_start", migration, fake)
        with self.connection.schema_editor(atomic=True) as editor:
            state = migration.apply(state, editor)
            for statement in editor.deferred_sql:
                editor.execute(statement, None)
            editor.deferred_sql.clear()
            self.record_migration(migration)  # type: ignore[call-arg, arg-type]  # the stubs are of an older Django
        if self.progress_callback:
            self.progress_callback("apply_success", migration, fake)
        return state
