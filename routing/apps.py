"""Rules and deliveries to other PACS. Nothing is here yet; the name and the place are fixed."""

from django.apps import AppConfig


class RoutingConfig(AppConfig):
    name = "routing"
