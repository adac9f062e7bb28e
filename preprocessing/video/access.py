"""Where decoding may start: a frame from which all later frames are provably the same as when decoding the whole video.

A packet that the container marks as a key frame need not be such a point: streams with gradual refresh, or with later frames
that refer to frames before it, mark others too.
"""

from typing import Any

import av
from av.bitstream import BitStreamFilterContext

# Decoders that mark a frame as a key frame only if no later frame refers to earlier ones, except leading pictures.
_RELIABLE = {"hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video"}


class AccessPoints:
    """Access points of one stream. H.264's decoder also marks points of gradual recovery: there only an IDR picture is used."""

    def __init__(self, stream: Any):
        codec = stream.codec_context.codec
        self._known = codec.intra_only or codec.canonical_name in _RELIABLE
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
        """Whether `frame`, the first that will be used, belongs to the packet with this time stamp and is complete."""
        intra = av.video.frame.PictureType.I
        return frame.pts == stamp and bool(frame.key_frame) and frame.pict_type == intra and not frame.is_corrupt
