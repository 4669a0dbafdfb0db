"""The house of the uploads' tests, for the pipeline above them."""

from tests.uploads.conftest import house

__all__ = ["house"]
