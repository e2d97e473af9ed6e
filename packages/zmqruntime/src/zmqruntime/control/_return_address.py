"""ReturnAddress: where the reply to a request goes, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from zmqruntime._errors import FrameError
from zmqruntime.control import _codec
from zmqruntime.control._messages import V_MAX, ReplyMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zmqruntime._errors import RequestError
    from zmqruntime.control._codec import Encoding
    from zmqruntime.control._messages import Reply

__all__ = ["ReturnAddress"]


@dataclass(slots=True, kw_only=True, eq=False)
class ReturnAddress:
    """What is known of a request from the moment it arrives, so that it can be answered.

    Not frozen, because each message makes one, and a frozen one takes four times as long.

    Attributes
    ----------
    envelope
        Frames before the reply: the routing ids up to the empty delimiter.
    encoding
        That of the request.
    id, trace
        Copied from the request, once it could be read.
    wanted
        Whether a reply is wanted.
    """

    envelope: Sequence[bytes]
    encoding: Encoding
    id: str = ""
    trace: str | None = None
    wanted: bool = True

    def reply(self, reply: Reply) -> list[bytes]:
        """Write a reply.

        Parameters
        ----------
        reply
            What is answered.

        Returns
        -------
        list[bytes]
            The frames to send.

        Raises
        ------
        FrameError
            If the body or an attachment cannot be sent.
        """
        message = ReplyMessage(
            v=V_MAX, id=self.id, type=reply.type, body=dict(reply.body), trace=self.trace
        )
        _codec.check_attachments(reply.attachments)
        return [*self.envelope, _codec.encode(message, self.encoding), *reply.attachments]

    def refusal(self, error: RequestError) -> list[bytes]:
        """Write why there is no reply; details that cannot be sent are left out.

        Parameters
        ----------
        error
            The reason.

        Returns
        -------
        list[bytes]
            The frames to send.
        """
        message = ReplyMessage(
            v=V_MAX,
            id=self.id,
            type="error",
            trace=self.trace,
            code=error.code,
            message=str(error),
            details=error.details,
            retryable=error.retryable,
        )
        try:
            frame = _codec.encode(message, self.encoding)
        except FrameError:
            frame = _codec.encode(msgspec.structs.replace(message, details={}), self.encoding)
        return [*self.envelope, frame]
