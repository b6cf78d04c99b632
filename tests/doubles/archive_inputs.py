"""Tar and Parquet files made of a folder of photos, as archives come."""

import io
import tarfile


def tar_of(path, folder):
    with tarfile.open(path, "w") as file:
        for photo in sorted(folder.iterdir()):
            content = photo.read_bytes()
            for name, part in ((photo.name, content), (photo.stem + ".cls", b"7")):
                info = tarfile.TarInfo(name)
                info.size = len(part)
                file.addfile(info, io.BytesIO(part))
    return path


def parquet_of(path, folder, *, hugging_face=False, rows=3):
    import pyarrow as pa
    from pyarrow import parquet

    contents = [photo.read_bytes() for photo in sorted(folder.iterdir())]
    names = [photo.name for photo in sorted(folder.iterdir())]
    images = (
        [{"bytes": one, "path": name} for one, name in zip(contents, names, strict=True)]
        if hugging_face
        else contents
    )
    table = pa.table({"id": names, "image": images})
    parquet.write_table(table, path, row_group_size=rows)
    return path
