"""Unpacking archives that come from elsewhere: nothing is written outside the folder."""

from __future__ import annotations

import errno
import gzip
import tarfile
import zipfile
import zlib
from pathlib import Path

from stages.data.files import leaves_its_folder
from stages.errors import InputError, one_line

# What the system says of a name that is too long, is taken, or is none.
NAMES_FAULTS = (
    *(errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ),
    *(errno.ENOTEMPTY, errno.ELOOP, errno.ENOENT),
)


def unpack(archive: Path, folder: Path) -> None:
    """Write what the .zip or .tar[.gz] holds below the folder.

    Raises:
        InputError: naming the archive, when it is damaged, or holds a path that leads out of the
            folder, or a link; then some of it may be unpacked, all of it inside.
    """
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as opened:
                # zipfile would write `../a` as `a`: not outside, but not what was meant either.
                for info in opened.infolist():
                    name = info.filename
                    if leaves_its_folder(name):
                        raise InputError(f"{archive}: {name!r} would be written outside {folder}")
                    # LZMA asks for as much memory as the archive says, up to 4 GB.
                    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise InputError(
                            f"{archive}: {name!r} is not deflated but otherwise packed"
                        )
                opened.extractall(folder)
            return
        if not hasattr(tarfile, "data_filter"):
            raise InputError(f"{archive}: needs Python 3.11.4 or later to be unpacked safely")
        # By its name: what calls itself .tar may be xz, which is LZMA too.
        with tarfile.open(archive, "r:" if archive.suffix == ".tar" else "r:gz") as tar:
            for member in tar:
                # The filter would write `/a` as `a`, likewise.
                if leaves_its_folder(member.name):
                    raise InputError(
                        f"{archive}: {member.name!r} would be written outside {folder}"
                    )
                # No data set has any, and the filter has let some lead out (Python 3.11.7: `a/` to `..`).
                if member.issym() or member.islnk():
                    raise InputError(f"{archive}: {member.name!r} is a link; we unpack none")
                tar.extract(member, folder, filter="data")
    except tarfile.FilterError as error:
        raise InputError(f"{archive}: {one_line(error)}") from None
    except (
        *(tarfile.TarError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error),
        # Cut short; encrypted; names and numbers that are none.
        *(EOFError, RuntimeError, NotImplementedError, ValueError, LookupError),
    ) as error:
        raise InputError(f"{archive}: damaged: {one_line(error)}") from None
    except OSError as error:
        if error.errno not in NAMES_FAULTS:  # a full disk, say
            raise
        raise InputError(f"{archive}: holds what cannot be written: {one_line(error)}") from None
