"""The ONNX Runtime that is pushed to phones: found in what people can download, checked, kept.

It is the official library for Android, whichever wrapping it comes in: Microsoft's AAR from Maven,
a NuGet or npm package that holds that AAR, or the bare `.so`. Ours to ship it is not, so the user
downloads one file once. It is kept by its hash, and every result tells which one ran.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from phonesearch import files
from phonesearch.errors import InvalidFileError, RuntimeLibraryError
from phonesearch.phone.adb_words import printable, said
from phonesearch.phone.device import Identity
from phonesearch.phone.elf import Elf, read_elf
from phonesearch.phone.hazards import Hazard
from phonesearch.phone.unpack import Unpacked, unpack_library

NPM_PACKAGE: Final = "com.github.asus4.onnxruntime@0.4.9"
NPM_URL: Final = (
    "https://registry.npmjs.org/com.github.asus4.onnxruntime/-/"
    "com.github.asus4.onnxruntime-0.4.9.tgz"
)
MAVEN_URL: Final = "https://repo1.maven.org/maven2/com/microsoft/onnxruntime/onnxruntime-android/"
CHECKED: Final = {
    "3a602b463d434d20fbf69cd1b8bdfd2f86a2cb67d08de97aec8f62476fa4ab87": (
        f"1.29.0 from npm {NPM_PACKAGE}"
    ),
}
"""sha256 of libraries that our runner was run with, and where they came from."""
_LEAST_VERSION: Final = (1, 24, 4)
"""First that does not die on a Snapdragon 8 Elite Gen 5. Source: microsoft/onnxruntime issues
26361 and 27884: SME is taken for present, and its instructions are illegal there (SIGILL)."""
_BROKEN_FROM: Final = (1, 23, 0)
_SME_CHIPS: Final = ("SM8850", "SM8845")
_NPM_TIMEOUT_S: Final = 1800.0
_LIBRARY: Final = "libonnxruntime.so"
_RECORD: Final = "library.json"
_CURRENT: Final = "current.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLibrary:
    """A checked library in the cache; what is to be written beside every result."""

    path: str
    """On this computer."""
    sha256: str
    size_bytes: int
    version: str | None
    """`1.29.0`; None when the file does not tell, and the runner on the phone will."""
    api_level: int
    """Of Android that it needs."""
    source: str
    """Name of the file that it came out of, without its folder."""
    source_sha256: str
    warnings: tuple[str, ...]
    """What speaks against trusting it."""

    @property
    def is_checked(self) -> bool:
        """Whether it is byte for byte one that our runner was run with."""
        return self.sha256 in CHECKED


def runtime_dir(cache: Path) -> Path:
    """Where libraries are kept.

    Args:
        cache: Folder of the user's caches that is ours.
    """
    return cache / "onnxruntime-android"


def set_up(source: Path, *, cache: Path) -> RuntimeLibrary:
    """Take the library out of a file, check it, keep it, and use it from now on.

    Args:
        source: An `.aar`, a NuGet or npm package with one in it, or `libonnxruntime.so`.
        cache: Folder of the user's caches that is ours.

    Raises:
        RuntimeLibraryError: If there is no usable library in it.
    """
    unpacked = unpack_library(source)
    sha256 = hashlib.sha256(unpacked.content).hexdigest()
    elf = _checked(unpacked, source)
    version = elf.symbol_version
    folder = runtime_dir(cache) / sha256[:16]
    assert elf.api_level is not None
    library = RuntimeLibrary(
        path=str(folder / _LIBRARY),
        sha256=sha256,
        size_bytes=len(unpacked.content),
        version=version,
        api_level=elf.api_level,
        source=printable(source.name),
        source_sha256=unpacked.source_sha256,
        warnings=_warnings(sha256, version, elf),
    )
    try:
        files.write_bytes(folder / _LIBRARY, unpacked.content)
        files.write_json(folder / _RECORD, asdict(library))
        files.write_json(runtime_dir(cache) / _CURRENT, {"sha256": sha256})
    except OSError as error:
        raise RuntimeLibraryError(
            f"The library could not be kept in {folder}: {error.strerror}. It takes "
            f"{len(unpacked.content) / 1e6:.0f} MB."
        ) from error
    return library


def set_up_from_npm(*, cache: Path, npm: str = "npm") -> RuntimeLibrary:
    """Download the npm package that holds the AAR (143 MiB) and set it up.

    Args:
        cache: Folder of the user's caches that is ours.
        npm: Name or path of the npm program.

    Raises:
        RuntimeLibraryError: If npm is missing or fails, or the package is not as expected.
    """
    program = shutil.which(npm)
    if program is None:
        raise RuntimeLibraryError(
            f"There is no npm on this computer. Download {NPM_URL} in any other way (143 MiB) and "
            "give it with --runtime FILE."
        )
    with tempfile.TemporaryDirectory(prefix="phonesearch-npm-") as folder:
        try:
            done = subprocess.run(
                [program, "pack", "--ignore-scripts", NPM_PACKAGE],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_NPM_TIMEOUT_S,
                check=False,
            )
        except (subprocess.TimeoutExpired, OSError) as error:
            raise RuntimeLibraryError(
                f"`npm pack {NPM_PACKAGE}` did not finish: {error}. Download {NPM_URL} in any "
                "other way and give it with --runtime FILE."
            ) from error
        tarballs = sorted(Path(folder).glob("*.tgz"))
        if done.returncode or not tarballs:
            raise RuntimeLibraryError(
                f"`npm pack {NPM_PACKAGE}` failed. Look at the connection, or download {NPM_URL} "
                f"in any other way and give it with --runtime FILE. npm said: "
                f"{said(done.stderr, done.stdout) or 'nothing'}"
            )
        return set_up(tarballs[0], cache=cache)


def installed(cache: Path) -> RuntimeLibrary:
    """The library that was set up last, unharmed.

    Raises:
        RuntimeLibraryError: If none was, or its file is not what it was.
    """
    current = runtime_dir(cache) / _CURRENT
    if not current.is_file():
        raise RuntimeLibraryError(
            f"No ONNX Runtime for phones is set up. Download an AAR of 1.24.4 or later from "
            f"{MAVEN_URL} and run `phonesearch phone setup --runtime FILE.aar`; or, with npm, "
            "`phonesearch phone setup --from-npm`."
        )
    try:
        sha256 = str(files.read_mapping(current)["sha256"])
        folder = runtime_dir(cache) / sha256[:16]
        library = files.read(folder / _RECORD, RuntimeLibrary)
        library = replace(library, path=str(folder / _LIBRARY))
        content = Path(library.path).read_bytes()
    except (InvalidFileError, KeyError, OSError) as error:
        raise RuntimeLibraryError(
            f"The ONNX Runtime that was set up in {runtime_dir(cache)} is damaged ({error}). Run "
            "`phonesearch phone setup` again."
        ) from error
    if hashlib.sha256(content).hexdigest() != library.sha256:
        raise RuntimeLibraryError(
            f"{library.path} is not the file that was set up: its sha256 has changed. Run "
            "`phonesearch phone setup` again."
        )
    return library


def runtime_hazards(library: RuntimeLibrary, identity: Identity) -> tuple[Hazard, ...]:
    """What speaks against this library on this phone."""
    found = []
    known_bad = is_broken_by_sme(library.version)
    if known_bad and identity.soc_model in _SME_CHIPS:
        found.append(
            Hazard(
                name="runtime-sigill",
                severity="refuse",
                what=f"ONNX Runtime {library.version} dies with an illegal instruction on "
                f"{identity.soc_model}.",
                remedy="Set up 1.24.4 or later with `phonesearch phone setup`.",
            )
        )
    if identity.api_level is not None and identity.api_level < library.api_level:
        found.append(
            Hazard(
                name="runtime-api",
                severity="refuse",
                what=f"This ONNX Runtime needs Android API level {library.api_level} and the "
                f"phone has {identity.api_level}.",
                remedy="Set up an older ONNX Runtime, or use a newer phone.",
            )
        )
    found += [
        Hazard(name="runtime", severity="warn", what=warning, remedy="")
        for warning in library.warnings
        if not (known_bad and identity.soc_model in _SME_CHIPS and "SIGILL" in warning)
    ]
    return tuple(found)


def is_broken_by_sme(version: str | None) -> bool:
    """Whether a version is among those that die with SIGILL on a Snapdragon 8 Elite Gen 5."""
    if version is None:
        return False
    return _BROKEN_FROM <= tuple(int(part) for part in version.split(".")) < _LEAST_VERSION


def _checked(unpacked: Unpacked, source: Path) -> Elf:
    where = f"The library in {source.name} ({unpacked.member})"
    if unpacked.member == source.name:
        where = source.name
    try:
        elf = read_elf(unpacked.content)
    except ValueError as error:
        raise RuntimeLibraryError(
            f"{where} cannot be used: {error}. Download the file again, or another."
        ) from error
    if elf.machine != "aarch64":
        raise RuntimeLibraryError(
            f"{where} is for {elf.machine} and phones need aarch64. Give the one of the folder "
            "jni/arm64-v8a, or the whole AAR."
        )
    if "OrtGetApiBase" not in elf.exported:
        raise RuntimeLibraryError(
            f"{where} does not export OrtGetApiBase, so it is not ONNX Runtime's own library. "
            "The bridge for Java, libonnxruntime4j_jni.so, is another."
        )
    if elf.api_level is None:
        raise RuntimeLibraryError(
            f"{where} was not built for Android, and would not find its C library there. Give an "
            f"AAR of {MAVEN_URL}."
        )
    return elf


def _warnings(sha256: str, version: str | None, elf: Elf) -> tuple[str, ...]:
    found = []
    if sha256 not in CHECKED:
        found.append(
            f"This ONNX Runtime ({version or 'version unknown'}, sha256 {sha256[:16]}...) is not "
            "one that we have run; if it came from elsewhere than Microsoft, be careful."
        )
    if is_broken_by_sme(version):
        found.append(
            f"ONNX Runtime {version} dies with SIGILL on Snapdragon 8 Elite Gen 5 (SM8850, "
            "SM8845); 1.24.4 and later do not."
        )
    if elf.alignment_bytes < 16384:
        found.append("It is not aligned for phones with pages of 16 KiB, and will not load there.")
    return tuple(found)
