"""The file of a compressed image: a header of fixed size, the range-coded stream, a checksum over both.

All numbers are little-endian.

====== ===== ==========================================================================================
offset bytes meaning
====== ===== ==========================================================================================
0      4     ``89 47 4d 51``: "GMQ" with a first byte that no text has
4      1     version of this format, 1
5      1     kind of image: 0 HEALPix, 1 equirectangular
6      1     type of its numbers: 0 float, 1 uint8
7      1     grid of the model: 0 HEALPix, 1 equirectangular
8      4     resolution of that grid: nside, or height
12     4     height of the image (0 for HEALPix)
16     4     width of the image (0 for HEALPix)
20     2     channels of the model
22     2     channels of its latents
24     8     fingerprint of the model: architecture, weights and tables
32     4     length of the stream, n
36     n     the stream
36 + n 8     first bytes of SHA-256 of all before
====== ===== ==========================================================================================
"""

import hashlib
import struct
from dataclasses import dataclass

MAGIC = b"\x89GMQ"
VERSION = 1
_HEADER = struct.Struct("<4s4B3I2H8sI")
_CHECK = 8
KINDS = ("healpix", "equirectangular")
TYPES = ("float", "uint8")


class CodecError(ValueError):
    """A file that cannot be decoded: damaged, foreign, too new, or written by another model."""


@dataclass(frozen=True)
class CodecFile:
    """What a file says.

    Attributes:
        kind: ``"healpix"`` or ``"equirectangular"``, what the image was.
        dtype: ``"float"`` or ``"uint8"``.
        grid: ``"healpix"`` or ``"equirectangular"``, what the model works on.
        resolution: nside, or height.
        size: Height and width of an equirectangular image, else zeros.
        channels: Of the model and of its latents.
        fingerprint: Of the model, 8 bytes.
        stream: Range-coded symbols.
    """

    kind: str
    dtype: str
    grid: str
    resolution: int
    size: tuple[int, int]
    channels: tuple[int, int]
    fingerprint: bytes
    stream: bytes

    def to_bytes(self) -> bytes:
        """The file."""
        codes = VERSION, KINDS.index(self.kind), TYPES.index(self.dtype), KINDS.index(self.grid)
        numbers = self.resolution, *self.size, *self.channels
        head = _HEADER.pack(MAGIC, *codes, *numbers, self.fingerprint, len(self.stream))
        return head + self.stream + _digest(head + self.stream)

    @classmethod
    def from_bytes(cls, data: bytes) -> "CodecFile":
        """Reads a file; nothing of it is used before its checksum is right.

        Raises:
            TypeError: If ``data`` is not bytes.
            CodecError: If it is not such a file, is too new, cut off or damaged.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data must be bytes, as compress() gives them, got {type(data).__name__}")
        data = bytes(data)
        if data[:4] != MAGIC:
            raise CodecError(f"not a compressed image of geomeq: it begins with {data[:4]!r}, expected {MAGIC!r}")
        if len(data) > 4 and data[4] != VERSION:
            raise CodecError(f"the file has format version {data[4]}, this geomeq reads {VERSION}; upgrade geomeq")
        if len(data) < _HEADER.size + _CHECK:
            raise CodecError(f"the file is cut off: {len(data)} bytes, expected at least {_HEADER.size + _CHECK}")
        _, _, kind, dtype, grid, resolution, *size, channels, latent, fingerprint, length = _HEADER.unpack_from(data)
        expected = _HEADER.size + length + _CHECK
        if len(data) != expected:
            what = "cut off" if len(data) < expected else "too long"
            raise CodecError(f"the file is {what} or damaged: {len(data)} bytes, expected {expected}")
        if _digest(data[:-_CHECK]) != data[-_CHECK:]:
            raise CodecError("the file is damaged: its checksum does not match; get it anew")
        if kind >= len(KINDS) or dtype >= len(TYPES) or grid >= len(KINDS):
            raise CodecError(f"the file names kind {kind}, type {dtype} and grid {grid}, which do not exist")
        sizes = size[0], size[1]
        legal = (0, 0) if kind == 0 else (sizes[1] // 2, 2 * sizes[0])
        if sizes != legal or (grid == 1 and (kind == 0 or sizes[0] != resolution)):
            raise CodecError(f"the file claims an image of kind {KINDS[kind]!r} and size {sizes}, which cannot be")
        stream = data[_HEADER.size : -_CHECK]
        return cls(KINDS[kind], TYPES[dtype], KINDS[grid], resolution, sizes, (channels, latent), fingerprint, stream)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_CHECK]
