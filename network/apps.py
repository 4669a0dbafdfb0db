"""Who talks to us and to whom we talk: DIMSE in and out, associations."""

from django.apps import AppConfig


class NetworkConfig(AppConfig):
    name = "network"
