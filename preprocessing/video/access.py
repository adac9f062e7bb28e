"""Where decoding may begin: a picture from which on, as can be shown, every later one comes out as in the whole film.

A packet that the container calls a key need not be one: files of streams that refresh bit by bit, or whose later pictures
look beyond it, call others so too.
"""

from typing import Any

import av
from av.bitstream import BitStreamFilterContext

# Decoders that themselves mark a picture as a key only where nothing later looks beyond it, leading pictures aside.
_TELLING = {"hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video"}


class AccessPoints:
    """Of one stream. H.264's decoder also marks points of gradual recovery: there only an IDR picture will do."""

    def __init__(self, stream: Any):
        codec = stream.codec_context.codec
        self._known = codec.intra_only or codec.canonical_name in _TELLING
        self._idr: BitStreamFilterContext | None = None
        if codec.canonical_name == "h264":
            self._idr = BitStreamFilterContext("filter_units=pass_types=5", stream)

    def may_begin(self, packet: av.Packet) -> bool:
        if not packet.is_keyframe or packet.is_corrupt or packet.pts is None:
            return False
        if self._idr is None:
            return self._known
        try:
            return bool(self._idr.filter(av.Packet(bytes(packet))))
        except av.FFmpegError:
            return False

    def did_begin(self, stamp: int, frame: av.VideoFrame) -> bool:
        """Whether `frame`, the first that is to be used, is the one of the packet with this stamp, whole."""
        intra = av.video.frame.PictureType.I
        return frame.pts == stamp and bool(frame.key_frame) and frame.pict_type == intra and not frame.is_corrupt
