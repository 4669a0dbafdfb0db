"""Stands for the core's check of what machines share: this project has no rows of the gateway's."""


class SharedError(Exception):
    """Never raised here."""


def shared_check() -> None:
    """Nothing is shared."""
