"""The archive's table: its columns, and maps as bytes and back."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.archive.manifest import MapDtype
from engines.explanation import Explanation

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_A_GROUP = 1024
_UINT8_TOP = 255.0


def archive_schema() -> "pa.Schema":
    """Return the columns.

    ``photo`` is the file and ``key`` the photo in it, where there are several. ``class_index``,
    ``class_name`` and ``probability`` have K values, best first. ``map`` are the K maps' values
    (row by row, little-endian) of the shape (K, h, w) in ``map_shape`` and the type in
    ``map_dtype``: uint8 of which 255 is 1, or float16. A photo that could not be explained has
    nothing but the reason in ``error``.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("photo", pa.string(), nullable=False),
            ("key", pa.string()),
            ("class_index", pa.list_(pa.int32())),
            ("class_name", pa.list_(pa.string())),
            ("probability", pa.list_(pa.float32())),
            ("map", pa.binary()),
            ("map_shape", pa.list_(pa.int32())),
            ("map_dtype", pa.string()),
            ("error", pa.string()),
        ]
    )


def explained_row(
    photo: str, key: str | None, explanation: Explanation, position: int, dtype: MapDtype | None
) -> dict[str, Any]:
    """Return the row of a photo that was explained.

    Args:
        photo: the file.
        key: the photo in it.
        explanation: of its batch.
        position: in the batch.
        dtype: of the map; None for none.
    """
    maps = explanation.saliency[position]
    ranks = range(explanation.class_index.shape[1])
    row = {
        "photo": photo,
        "key": key,
        "class_index": explanation.class_index[position].tolist(),
        "class_name": [explanation.label(position, rank) for rank in ranks],
        "probability": explanation.probability[position].tolist(),
    }
    if dtype is not None:
        row |= {
            "map": encode_maps(maps, dtype),
            "map_shape": list(maps.shape),
            "map_dtype": dtype,
        }
    return row


def encode_maps(maps: NDArray[np.float32], dtype: MapDtype) -> bytes:
    """Return maps in [0, 1] as the bytes of a column."""
    if dtype == "uint8":
        return np.round(maps * _UINT8_TOP).astype(np.uint8).tobytes()
    return maps.astype("<f2").tobytes()


def decode_maps(row: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """Return a row's maps: float32 (K, h, w) in [0, 1], or None where it has none."""
    if row["map"] is None:
        return None
    values = np.frombuffer(row["map"], np.dtype(row["map_dtype"]).newbyteorder("<"))
    maps = values.reshape(row["map_shape"]).astype(np.float32)
    return maps / np.float32(_UINT8_TOP) if row["map_dtype"] == "uint8" else maps


class PartWriter:
    """Writes a part row by row; of rows no more than a group is held in memory."""

    def __init__(self, path: Path) -> None:
        from pyarrow.parquet import ParquetWriter

        self._schema = archive_schema()
        texts = ["photo", "class_name.list.element", "map_dtype", "error"]
        self._writer = ParquetWriter(path, self._schema, compression="zstd", use_dictionary=texts)
        self._rows: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; columns that it lacks are null."""
        self._rows.append(row)
        if len(self._rows) == ROWS_A_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []
