"""The names of our own top-level packages: whose options are collected, whose log texts are trusted."""

OUR_PACKAGES = ("gateway_project", "studies", "network", "uploads", "routing", "hl7")


def package_is_ours(dotted: str) -> bool:
    """True when a module or logger of this dotted name is our own code."""
    return dotted.partition(".")[0] in OUR_PACKAGES
