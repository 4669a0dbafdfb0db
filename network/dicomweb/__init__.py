"""DICOMweb (PS3.18) as protocol: pure, nothing of Django and nothing of the apps around it."""
