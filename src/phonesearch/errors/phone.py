"""What goes wrong between this computer and a phone; the tree is in `errors/__init__.py`."""

from __future__ import annotations

from collections.abc import Sequence

from phonesearch.errors.base import TimingError


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


class PhonesDifferError(PhoneError):
    """Phones whose times may not stand in one front."""

    def __init__(self, how: str) -> None:
        super().__init__(
            f"These phones cannot be used as one: {how}. Times of two machines make no front "
            "together: name phones that are alike, or make one run for each."
        )


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
