"""The project's command, found here without installing the core app and its tables."""

from gateway_project.core.management.commands.runworkers import Command

__all__ = ["Command"]
