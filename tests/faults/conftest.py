"""The store and receiver that the faults are tried on."""

from tests.studies.conftest import house

__all__ = ["house"]
