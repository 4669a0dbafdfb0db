"""Studies, series, instances: received, kept safe, indexed, settled."""

from django.apps import AppConfig


class StudiesConfig(AppConfig):
    name = "studies"
