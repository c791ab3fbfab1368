"""Every error phonesearch raises on purpose.

* PhoneSearchError
  - InvalidFileError         a YAML/JSON/CSV file does not fit its schema
  - InvalidCandidateError    the fields of a candidate contradict each other
  - InvalidSpaceError        the ranges of a search space contradict each other
  - UnsupportedConfigError   a Hugging Face config describes a model that we cannot represent
  - BudgetError              no candidate in the space meets the parameter budget
  - SpaceExhaustedError      every distinct architecture of the space was evaluated
  - NotInCatalogError        no device profile or search space of that name
  - ProfileError             a device profile lacks a number the question needs
  - ExportError              a graph or a folder of weights could not be written
  - TimingError              the device could not be timed (throttled, crashed)
    - PhoneError             something between us and a phone
      - NoAdbError           no adb program on this computer
      - AdbError             adb failed in a way that we do not know
        - AdbServerError     the server in the background cannot be reached
      - SeveralDevicesError  more than one phone, and none was named
      - PhoneUnreachableError  a phone that a cable or a tap may bring back
        - NoDeviceError      none plugged in, or not the one that was named
        - UnauthorisedError  its dialog was not accepted
        - OfflineError       it is plugged in and does not answer
        - UsbPermissionError this user may not open the USB device
        - CableLostError     it went in the middle of something
      - PhoneFullError       no space left on it
      - PhoneFileError       a file on it is missing or may not be written
      - PhoneTimeoutError    a command took too long
      - PhoneMemoryError     too little memory left on it for a model
      - PhoneNotFitError     it is in no state to be measured (battery saver, hot)
      - PhoneInUseError      another session of ours holds it
      - AnotherPhoneError    another one than the session began with
      - UnsteadyPhoneError   it slowed down, or two measurements do not agree
      - WrongLogitsError     it computes other numbers than this computer
      - RunnerError          our program on it did not end as it should
        - RunnerStartError     the phone does not start it
        - WrongLibraryError    it cannot load the ONNX Runtime that it was given
        - CoresWithheldError   the system does not give it the cores that were asked for
        - IllegalInstructionError  an instruction that the processor does not have
        - RunnerAbortedError   a library gave up
        - RunnerKilledError    the system ended it, as when memory runs out
        - RunnerCrashedError   it touched memory that is not its own
        - RunnerHungError      it did not end in time
      - RuntimeLibraryError  no ONNX Runtime for the phone, or not a usable one
  - CorpusError              text that cannot be read, or too little of it
  - ProxyError               a short training failed (NaN, out of memory)
  - SettingsError            options of a run that contradict each other
  - RunFolderError           a results folder is missing, foreign, damaged or busy
  - TrainerExportError       a trainer or runtime cannot express this candidate

Anything else that escapes is a bug. A message has up to four parts: what failed, the rule,
the value got, what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class PhoneSearchError(Exception):
    """Base of every deliberate error; the command line prints it as one message."""


class InvalidFileError(PhoneSearchError, ValueError):
    """A file does not fit its schema. Lists every problem found, not only the first."""

    def __init__(self, path: Path | str, problems: Sequence[str]) -> None:
        self.path = Path(path)
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{self.path} is not valid:{lines}")


class InvalidCandidateError(PhoneSearchError, ValueError):
    """The fields of a candidate contradict each other."""


class InvalidSpaceError(PhoneSearchError, ValueError):
    """The ranges of a search space contradict each other."""


class UnsupportedConfigError(PhoneSearchError, ValueError):
    """A Hugging Face config describes a model that a `Candidate` cannot represent."""


class BudgetError(PhoneSearchError, ValueError):
    """No candidate in the search space meets the parameter budget."""

    def __init__(self, *, target: int, tolerance: float, nearest: int | None, space: str) -> None:
        hint = (
            f"the nearest reachable budget is {nearest:,} ({nearest / target - 1:+.1%})"
            if nearest is not None
            else "no combination of its ranges is a legal architecture at any budget"
        )
        super().__init__(
            f"No candidate of search space {space!r} has {target:,} parameters to within "
            f"{tolerance:.1%}; {hint}. Change --budget, or widen `num_hidden_layers`, "
            "`hidden_size` or `ffn_ratio` in a copy of the space file and pass it with --space."
        )
        self.target = target
        self.tolerance = tolerance
        self.nearest = nearest


class SpaceExhaustedError(PhoneSearchError):
    """Every distinct architecture of the space at this budget was already evaluated."""


class NotInCatalogError(PhoneSearchError, KeyError):
    """No shipped device profile or search space has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class ProfileError(PhoneSearchError, ValueError):
    """A device profile lacks a number that the question needs."""


class ExportError(PhoneSearchError):
    """A graph or its weights could not be written."""


class TimingError(PhoneSearchError):
    """The device could not be timed; raised rather than returning a doubtful number."""


class CorpusError(PhoneSearchError, ValueError):
    """Text that cannot be read, or too little of it to train and score a proxy."""


class ProxyError(PhoneSearchError):
    """A short training failed (not a number, out of memory); the study records and goes on."""


class SettingsError(PhoneSearchError, ValueError):
    """Options of a run that contradict each other."""


class RunFolderError(PhoneSearchError):
    """A results folder is missing, belongs to another run, is damaged or in use."""


class TrainerExportError(PhoneSearchError, ValueError):
    """A trainer or runtime cannot express this candidate; names the field."""


class PhoneError(TimingError):
    """Something between this computer and a phone went wrong."""

    is_of_candidate = False
    """Whether another candidate may fare better; if not, a search had better stop."""


class NoAdbError(PhoneError):
    """There is no adb on this computer, or not where we were told."""


class AdbError(PhoneError):
    """Adb failed and said something that we do not know; its words are passed on."""


class AdbServerError(AdbError):
    """Adb's server, which runs in the background and owns the cable, cannot be reached."""


class SeveralDevicesError(PhoneError):
    """More than one phone is plugged in and none was named."""

    def __init__(self, listing: Sequence[str] = ()) -> None:
        self.listing = tuple(listing)
        lines = "".join(f"\n  - {line}" for line in self.listing)
        super().__init__(
            "More than one phone is connected. Name one with --serial SERIAL or in "
            f"$ANDROID_SERIAL{':' if lines else '; `adb devices -l` lists them.'}{lines}"
        )


class PhoneUnreachableError(PhoneError):
    """A phone that does not answer, and may after a replug, a tap or a wait."""

    def __init__(self, message: str, *, serial: str | None = None) -> None:
        super().__init__(message)
        self.serial = serial


class NoDeviceError(PhoneUnreachableError):
    """No phone is plugged in, or not the one that was named."""

    def __init__(self, *, serial: str | None = None, listing: Sequence[str] = ()) -> None:
        self.listing = tuple(listing)
        if serial is None:
            super().__init__(
                "No phone is connected. Plug one in with a cable that carries data; on the phone, "
                "tap Settings > About phone > Build number seven times, then switch on Settings > "
                "System > Developer options > USB debugging, and accept its dialog."
            )
            return
        lines = "".join(f"\n  - {line}" for line in self.listing)
        seen = f" Connected now:{lines}" if lines else " `adb devices -l` lists what is connected."
        super().__init__(
            f"The phone {serial!r} is not connected. Plug it in again, or name another.{seen}",
            serial=serial,
        )


class UnauthorisedError(PhoneUnreachableError):
    """The phone has not allowed this computer to debug it."""

    def __init__(self, *, serial: str | None = None) -> None:
        super().__init__(
            f"{_the_phone(serial)} has not authorised this computer. Unlock it and accept the "
            "dialog 'Allow USB debugging?', with 'Always allow' ticked so that a search is not "
            "stopped by it. No dialog: replug, or tap Developer options > Revoke USB debugging "
            "authorisations, and replug.",
            serial=serial,
        )


class OfflineError(PhoneUnreachableError):
    """The phone is plugged in, or was, and does not answer."""

    def __init__(self, *, serial: str | None = None, state: str = "offline") -> None:
        self.state = state
        super().__init__(
            f"{_the_phone(serial)} is {state} and does not answer. Wait a moment; then replug it, "
            "run `adb reconnect`, or restart it. It must be booted normally, not into recovery or "
            "the bootloader.",
            serial=serial,
        )


class UsbPermissionError(PhoneUnreachableError):
    """This user may not open the USB device."""

    def __init__(self, *, serial: str | None = None) -> None:
        super().__init__(
            f"This computer does not let you open the USB device of {_the_phone(serial, 'the')}. "
            "On Linux install the udev rules (Debian, Ubuntu: `apt install "
            "android-sdk-platform-tools-common`), add yourself to the group plugdev, log in again "
            "and replug; then `adb kill-server`.",
            serial=serial,
        )


class CableLostError(PhoneUnreachableError):
    """The phone went in the middle of something; what it was doing does not count."""

    def __init__(self, doing: str, *, serial: str | None = None) -> None:
        self.doing = doing
        super().__init__(
            f"The connection to {_the_phone(serial, 'the')} was lost while {doing}. Replug the "
            "cable (a short one, into the computer and not a hub) and try again; nothing of the "
            "broken attempt is used.",
            serial=serial,
        )


class PhoneFullError(PhoneError):
    """The phone has no space left where we write."""

    def __init__(
        self, doing: str, *, needed_bytes: int | None = None, free_bytes: int | None = None
    ) -> None:
        self.doing = doing
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        if needed_bytes is None or free_bytes is None:
            what = f"The phone's storage was full while {doing}."
        else:
            what = (
                f"The phone has {free_bytes / 1e6:,.0f} MB free in /data/local/tmp, and {doing} "
                f"needs {needed_bytes / 1e6:,.0f} MB."
            )
        super().__init__(
            f"{what} Free some, or remove what we left there with `phonesearch phone clean`."
        )


class PhoneFileError(PhoneError):
    """A file on the phone is missing, or its place may not be written."""


class PhoneTimeoutError(PhoneError):
    """A command took longer than it may, and was given up."""

    def __init__(self, doing: str, *, timeout_s: float) -> None:
        self.doing = doing
        self.timeout_s = timeout_s
        super().__init__(
            f"The phone did not finish {doing} within {timeout_s:.0f} s. Unlock it and look "
            "whether a dialog is open; if it hangs again, replug or restart it."
        )


class PhoneMemoryError(PhoneError):
    """A model needs more memory than the phone has left; Android would kill it."""

    is_of_candidate = True


class PhoneNotFitError(PhoneError):
    """The phone is in a state, or of a kind, whose numbers cannot be believed."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"The phone cannot be measured now:{lines}")


class PhoneInUseError(PhoneError):
    """Another session of this account holds the phone."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        super().__init__(
            f"Another phonesearch on this computer works with the phone {serial!r}, and was not "
            "disturbed. Wait until it ends, or stop it (Ctrl-C where it runs), and try again; or "
            "name another phone."
        )


class AnotherPhoneError(PhoneError):
    """Another phone answers than the one that a session began with."""


class UnsteadyPhoneError(PhoneError):
    """The phone slowed down or changed its speed, so that its times say nothing."""

    is_of_candidate = True


class WrongLogitsError(PhoneError):
    """The phone computes other numbers from the same model than this computer does."""

    is_of_candidate = True


class RunnerError(PhoneError):
    """The runner on the phone did not end as it should; nothing of that run is used."""

    def __init__(self, message: str, *, exit_code: int, stage: str | None = None) -> None:
        self.exit_code = exit_code
        """Above 128: the signal that ended it, and 128."""
        self.stage = stage
        """Where it gave up, in its own word; None if it did not say."""
        super().__init__(message)


class RunnerStartError(RunnerError):
    """The phone does not start the runner."""


class WrongLibraryError(RunnerError):
    """The runner cannot load the ONNX Runtime that it was given."""


class CoresWithheldError(RunnerError):
    """The system does not give the runner the cores that were asked for."""


class IllegalInstructionError(RunnerError):
    """An instruction that the processor does not have (SIGILL)."""


class RunnerAbortedError(RunnerError):
    """A library gave up (SIGABRT)."""

    is_of_candidate = True


class RunnerKilledError(RunnerError):
    """The system ended the runner (SIGKILL), as when memory runs out."""

    is_of_candidate = True


class RunnerCrashedError(RunnerError):
    """The runner touched memory that is not its own (SIGSEGV, SIGBUS)."""

    is_of_candidate = True


class RunnerHungError(RunnerError):
    """The runner did not end in time (SIGALRM, which it sets itself)."""

    is_of_candidate = True


class RuntimeLibraryError(PhoneError, ValueError):
    """No ONNX Runtime library for the phone is set up, or the one given cannot be used."""


def _the_phone(serial: str | None, article: str = "The") -> str:
    return f"{article} phone" if serial is None else f"{article} phone {serial!r}"
