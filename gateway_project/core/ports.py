"""A port: what an app needs from above or beside it, bound once by the wiring in every process."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Port(Generic[T]):
    """Holds one implementation of a Protocol. Using it before it is bound is an error, never a silent no-op."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bound: T | None = None

    def bind(self, implementation: T) -> None:
        self._bound = implementation

    def get(self) -> T:
        if self._bound is None:
            raise RuntimeError(f"port {self._name} is not bound; gateway_project.wiring binds it")
        return self._bound
