"""Studies, series, instances: received, kept safe, indexed, settled."""

from django.apps import AppConfig


class StudiesConfig(AppConfig):
    name = "studies"

    def ready(self) -> None:
        from gateway_project.core.shared import Shared, shared_add
        from studies.services import stores

        shared_add(Shared("store", stores.store_mark, stores.store_mark_fits, stores.WORDS))
