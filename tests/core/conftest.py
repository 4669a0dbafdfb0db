"""Fixtures of the tests that start and kill clusters."""

from tests.core.cluster_harness import cluster_template, project

__all__ = ["cluster_template", "project"]
