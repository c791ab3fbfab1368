"""One phone for as long as it is used: told from others, waited for when its cable was pulled."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from phonesearch.errors import (
    AnotherPhoneError,
    NoDeviceError,
    OfflineError,
    PhoneError,
    PhoneUnreachableError,
)
from phonesearch.phone.adb import Adb, Finished, quoted
from phonesearch.phone.adb_words import printable
from phonesearch.phone.clean import FIND_LEFTOVERS, parse_pids
from phonesearch.phone.clock import Clock
from phonesearch.phone.say import Say, say_nothing

T = TypeVar("T")

PATIENCE_S: Final = 60.0
"""For which a phone that went is waited for."""
_POLL_S: Final = 1.0
_REPEATS: Final = 2
_WHO: Final = ("ro.serialno", "ro.build.fingerprint", "ro.product.model")


class Link:
    """The connection to one phone."""

    def __init__(
        self,
        adb: Adb,
        *,
        patience_s: float = PATIENCE_S,
        clock: Clock | None = None,
        say: Say = say_nothing,
    ) -> None:
        """Nothing is asked of the phone yet.

        Args:
            adb: With a phone chosen.
            patience_s: How long to wait for it when it is gone.
            clock: How waiting is done.
            say: Told when it is waited for, what for, and that it is back.
        """
        assert adb.serial is not None, "choose a phone first"
        self.adb = adb
        self.serial = adb.serial
        self.losses = 0
        """How often it went and came back."""
        self._patience_s = patience_s
        self._clock = clock or Clock()
        self._say = say
        self._who: str | None = None
        self._is_same = True
        """Whether no other phone has answered in its place."""
        self._doomed: set[str] = set()
        self._is_over = False

    def stop(self) -> None:
        """Begin nothing more that `held` does, as when the user breaks off; from any thread."""
        self._is_over = True

    def contact(self) -> None:
        """Make sure that it is there and the same phone, with nothing of ours running on it and
        nothing that was to be removed.

        Raises:
            AnotherPhoneError: If it is another.
            PhoneUnreachableError, PhoneTimeoutError: If it is not there, or hangs.
        """
        left = parse_pids(self.ask(FIND_LEFTOVERS, doing="looking for processes").stdout)
        if left:
            self.adb.ask(quoted("kill", "-9", *map(str, left)), doing="ending processes")
        if self._doomed:
            self.adb.ask(quoted("rm", "-rf", *sorted(self._doomed)), doing="removing files")
            self._doomed.clear()

    def ask(self, command: str, *, timeout_s: float = 30.0, doing: str = "asking") -> Finished:
        """As `Adb.ask`, of this phone and no other: what is answered came from it.

        Raises:
            AnotherPhoneError: If another phone answers.
            PhoneError: As `Adb.ask`.
        """
        mark = secrets.token_hex(8)
        told = " ".join(f'"$(getprop {name})"' for name in _WHO)
        done = self.adb.ask(
            f"printf '{mark}%s|%s|%s{mark}\\n' {told}\n{command}", timeout_s=timeout_s, doing=doing
        )
        _, who, answer = done.stdout.split(mark, 2) if done.stdout.count(mark) > 1 else 3 * ("",)
        if self._who is None:
            self._who = who
        if who != self._who:
            self._is_same = False
            raise AnotherPhoneError(
                f"Another phone answers as {self.serial!r} than the one that this began with "
                f"({_model(who)} in place of {_model(self._who)}). Plug the first one in again; "
                "speeds of two phones are not put together."
            )
        return Finished(
            exit_code=done.exit_code, stdout=answer.removeprefix("\n"), stderr=done.stderr
        )

    def held(self, doing: Callable[[], T]) -> T:
        """What `doing` gives; if the phone goes meanwhile, it is waited for and `doing` done anew,
        at most twice.

        Whatever else goes wrong, the phone is asked once more who it is: one that is pulled out or
        restarts may end a runner first and go only then, and another may be there by now.

        Args:
            doing: Something that can be begun again.

        Raises:
            PhoneUnreachableError: If the phone stays away, or goes a third time.
            AnotherPhoneError: If another one comes back.
            PhoneError: Whatever else `doing` raises, or if it was stopped.
        """
        for _ in range(_REPEATS):
            self._require_not_over()
            try:
                return self._of_this_phone(doing)
            except PhoneUnreachableError as error:
                self.wait(error)
        self._require_not_over()
        return self._of_this_phone(doing)

    def _of_this_phone(self, doing: Callable[[], T]) -> T:
        """As `doing`; an error of it only if this phone is still there.

        Raises:
            AnotherPhoneError: If another is.
            PhoneUnreachableError: If none is, so that whatever failed may be done anew.
            PhoneError: Whatever else `doing` raises.
        """
        try:
            return doing()
        except (AnotherPhoneError, PhoneUnreachableError):
            raise
        except PhoneError as error:
            try:
                self.ask("true", doing="asking which phone this is")
            except (AnotherPhoneError, PhoneUnreachableError) as found:
                raise found from error
            except PhoneError:
                pass  # it does not say; then the first error is what is known
            raise

    def _require_not_over(self) -> None:
        if self._is_over:
            raise PhoneError("It was broken off.")

    def wait(self, lost: PhoneUnreachableError) -> None:
        """Until the phone is back.

        Args:
            lost: How it went, which is raised if it does not come back.

        Raises:
            PhoneUnreachableError: If it stays away.
            AnotherPhoneError: If another one comes back.
        """
        end = self._clock.now() + self._patience_s
        told: type[PhoneError] | None = None
        while True:
            self._require_not_over()
            try:
                self.adb.choose(self.serial)
                self.contact()
            except PhoneUnreachableError as error:
                if self._clock.now() >= end:
                    raise error from lost
                if type(error) is not told:
                    told = type(error)
                    why = str(error).splitlines()[0]
                    self._say(f"Waiting up to {self._patience_s:.0f} s for the phone. {why}")
                self._nudge(error)
                self._clock.sleep(_POLL_S)
            else:
                self.losses += 1
                self._say("The phone is back; what was interrupted begins anew")
                return

    def remove(self, folder: str) -> None:
        """Remove a folder of ours: now, or when the phone is back. Never raises a `PhoneError`."""
        self._doomed.add(folder)
        if not self._is_same:
            return
        try:
            self.contact()
        except PhoneError:
            return  # at the next contact, or when the next session begins

    def _nudge(self, error: PhoneUnreachableError) -> None:
        """Over the network adb looks for a phone that went only every 10 s."""
        if re.fullmatch(r".+:\d+", self.serial) and isinstance(
            error, (NoDeviceError, OfflineError)
        ):
            self.adb.connect_again()


def _model(who: str) -> str:
    return repr(printable(who.rpartition("|")[2]) or "nothing")
