"""The client of a DICOMweb server that takes studies by STOW-RS: pure, as the client of a vault of ours."""
