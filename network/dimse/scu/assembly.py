"""A message put together from the fragments of its command and of its data set (PS3.7 annex E, PS3.8 annex E)."""

from collections.abc import Callable
from typing import Final, Protocol

from network.dimse.command import NO_DATA_SET, command_elements
from network.dimse.guards import COMMAND_BYTES, ProtocolViolationError
from network.dimse.scu.messages import DATA_SET_TYPE, Message

IDENTIFIER_BYTES: Final = 1 << 20
"""The longest data set that is gathered in memory."""
_COMMAND, _LAST = 0x01, 0x02


class Sink(Protocol):
    """Takes a data set as it comes."""

    def write(self, data: memoryview) -> object: ...


SinkFor = Callable[[Message], Sink | None]


class Assembly:
    """One message under way. `sink_for` is asked about each command that announces a data set; without a sink it is
    gathered, up to IDENTIFIER_BYTES.
    """

    def __init__(self, sink_for: SinkFor | None) -> None:
        self.data_bytes = 0
        self._sink_for = sink_for
        self._command = bytearray()
        self._message: Message | None = None
        self._sink: Sink | None = None
        self._data = bytearray()

    def feed(self, context_id: int, control: int, fragment: memoryview) -> Message | None:
        """The message, when this fragment was its last. Raises ProtocolViolationError, CommandError."""
        if self._message is None:
            return self._feed_command(context_id, control, fragment)
        if control & _COMMAND or context_id != self._message.context_id:
            raise ProtocolViolationError("message-order")
        self.data_bytes += len(fragment)
        if self._sink is not None:
            self._sink.write(fragment)
        elif self.data_bytes > IDENTIFIER_BYTES:
            raise ProtocolViolationError("data-set-too-long")
        else:
            self._data += fragment
        if not control & _LAST:
            return None
        return Message(context_id, self._message.elements, bytes(self._data))

    def _feed_command(self, context_id: int, control: int, fragment: memoryview) -> Message | None:
        if not control & _COMMAND:
            raise ProtocolViolationError("message-order")
        if len(self._command) + len(fragment) > COMMAND_BYTES:
            raise ProtocolViolationError("command-too-long")
        self._command += fragment
        if not control & _LAST:
            return None
        message = Message(context_id, command_elements(bytes(self._command)))
        if message.number(DATA_SET_TYPE) in (None, NO_DATA_SET):
            return message
        self._message = message
        self._sink = self._sink_for(message) if self._sink_for is not None else None
        return None
