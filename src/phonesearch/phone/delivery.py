"""Files brought to a phone: pushed only if they are missing, whole or not at all.

Each comes under another name and gets its own once its hash agrees, so that one that is there is
whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from phonesearch.errors import PhoneError, PhoneFileError, PhoneFullError, PhoneMemoryError
from phonesearch.phone.adb import REMOTE_FOLDER, quoted
from phonesearch.phone.adb_words import said
from phonesearch.phone.hazards import SPARE_BYTES
from phonesearch.phone.link import Link
from phonesearch.phone.readings import parse_free, parse_memory
from phonesearch.phone.say import Say
from phonesearch.units import MIB, format_bytes

_HASH_TIMEOUT_S: Final = 300.0
_LARGE_BYTES: Final = 4 * MIB
"""From which a push takes seconds even with a good cable, and is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A file, and where it is to be."""

    local: Path
    remote: str
    sha256: str
    mode: str = "644"
    stays_as: str = ""
    """What it is, of one that stays on the phone from one session to the next."""
    is_hashed_once: bool = False
    """Whether its hash is looked at only the first time in a session: for large ones that each
    model needs."""


class Delivery:
    """Brings files to one phone."""

    def __init__(self, link: Link, *, say: Say) -> None:
        """Nothing is asked of the phone yet.

        Args:
            link: The phone.
            say: Told what large things are pushed that stay.
        """
        self.pushed_bytes = 0
        """That went over the cable so far."""
        self._link = link
        self._say = say
        self._there: set[str] = set()

    def deliver(
        self, parcels: Sequence[Parcel], *, more_bytes: int = 0, memory_bytes: int = 0
    ) -> None:
        """Push what is not there yet.

        Args:
            parcels: To be there afterwards.
            more_bytes: That will be written there besides.
            memory_bytes: That will be needed.

        Raises:
            PhoneFullError: If it does not fit, with 64 MiB to spare.
            PhoneMemoryError: If so much memory is not left.
            PhoneError: If something cannot be brought there otherwise.
        """
        parcels = [parcel for parcel in parcels if parcel.remote not in self._there]
        missing = [
            parcel
            for parcel, found in zip(parcels, self._hashes(parcels, suffix=""), strict=True)
            if found != parcel.sha256
        ]
        sizes = sum(parcel.local.stat().st_size for parcel in missing if parcel.local.is_file())
        self._check_room(sizes + more_bytes, memory_bytes)
        try:
            for parcel in missing:
                self._push(parcel)
            for parcel, found in zip(missing, self._hashes(missing, suffix=".part"), strict=True):
                if found != parcel.sha256:
                    raise PhoneFileError(
                        f"{parcel.local.name} did not arrive whole on the phone. Use another cable "
                        "or port, and try again."
                    )
            self._name(missing)
        except PhoneError:
            for parcel in missing:
                self._link.remove(f"{parcel.remote}.part")
            raise
        self._there |= {parcel.remote for parcel in parcels if parcel.is_hashed_once}

    def _push(self, parcel: Parcel) -> None:
        size = parcel.local.stat().st_size if parcel.local.is_file() else 0
        if parcel.stays_as and size >= _LARGE_BYTES:
            self._say(f"Pushing {parcel.stays_as} to the phone, {format_bytes(size)}, once")
        self._link.adb.push(parcel.local, f"{parcel.remote}.part")
        self.pushed_bytes += size

    def _hashes(self, parcels: Sequence[Parcel], *, suffix: str) -> list[str]:
        if not parcels:
            return []
        command = "\n".join(
            f"sha256sum < {quoted(parcel.remote + suffix)} || echo none" for parcel in parcels
        )
        done = self._link.ask(
            f"exec 2>/dev/null\n{command}", timeout_s=_HASH_TIMEOUT_S, doing="hashing"
        )
        found = [line.split(" ")[0] for line in done.stdout.splitlines()]
        if len(found) != len(parcels):
            raise PhoneFileError(
                "The phone does not tell the hashes of files (sha256sum). Send us the output of "
                "`phonesearch phone doctor --json`."
            )
        return found

    def _name(self, parcels: Sequence[Parcel]) -> None:
        commands = [
            f"chmod {parcel.mode} {quoted(parcel.remote + '.part')} && "
            f"mv -f {quoted(parcel.remote + '.part', parcel.remote)}"
            for parcel in parcels
        ]
        if not commands:
            return
        done = self._link.ask(" && ".join(commands), doing="naming files")
        if done.exit_code:
            raise PhoneFileError(
                f"Files could not be put in their places in {REMOTE_FOLDER}. The phone said: "
                f"{said(done.stderr)}. Run `phonesearch phone clean` and try again."
            )

    def _check_room(self, new_bytes: int, memory_bytes: int) -> None:
        done = self._link.ask(
            "df -k /data/local/tmp; echo; echo; cat /proc/meminfo", doing="asking for space"
        )
        space, _, memory = done.stdout.partition("\n\n")
        free = parse_free(space)
        needed = new_bytes + SPARE_BYTES
        if free is not None and free < needed and new_bytes:
            raise PhoneFullError("this model", needed_bytes=needed, free_bytes=free)
        available = parse_memory(memory).available_bytes
        if available is not None and available < memory_bytes:
            raise PhoneMemoryError(
                f"{format_bytes(available)} of the phone's memory are available and the model "
                f"needs about {format_bytes(memory_bytes)}; Android would kill it. Close apps or "
                "restart the phone, or use smaller candidates."
            )


def sha256(path: Path) -> str:
    """Of a file on this computer, 64 hexadecimal digits.

    Raises:
        PhoneFileError: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(4 * MIB):
                digest.update(chunk)
    except OSError as error:
        raise PhoneFileError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()
