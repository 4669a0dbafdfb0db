"""HL7 v2 over MLLP. Nothing is here yet; the name and the place are fixed."""

from django.apps import AppConfig


class Hl7Config(AppConfig):
    name = "hl7"
    verbose_name = "HL7"
