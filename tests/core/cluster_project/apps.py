from django.apps import AppConfig


class ClusterProjectConfig(AppConfig):
    """Stands for the core app, of which these tests use the command alone."""

    name = "tests.core.cluster_project"
    label = "cluster_project"
