"""The SOP classes of C-MOVE and C-GET, by information model (PS3.4 C.6)."""

from typing import Final

from network.dimse.query.question import PATIENT_ROOT_FIND, PATIENT_STUDY_ONLY_FIND, STUDY_ROOT_FIND

_FINDS: Final = (PATIENT_ROOT_FIND, STUDY_ROOT_FIND, PATIENT_STUDY_ONLY_FIND)
MOVE_MODELS: Final = {f"{find.removesuffix('.1')}.2": find for find in _FINDS}
GET_MODELS: Final = {f"{find.removesuffix('.1')}.3": find for find in _FINDS}
FIND_MODEL: Final = {**MOVE_MODELS, **GET_MODELS}
"""Each retrieval SOP class with the C-FIND SOP class of the same information model."""
