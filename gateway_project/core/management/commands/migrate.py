"""`manage.py migrate`: Django's own, whose steps are recorded in the transaction that does them."""

from typing import Any

from django.core.management.commands import migrate

from gateway_project.core.migrating import WholeMigrationExecutor


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        setattr(migrate, "MigrationExecutor", WholeMigrationExecutor)  # noqa: B010 - where Django takes it from
        super().handle(*args, **options)
