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
      - PhonesDifferError    several that are not alike enough to be put together
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
  - QualityError             too little to fit or use the law of final loss
  - CorpusError              text that cannot be read, or too little of it
  - ProxyError               a short training failed (NaN, out of memory)
  - SettingsError            options of a run that contradict each other
  - RunFolderError           a results folder is missing, foreign, damaged or busy
  - TrainerExportError       a trainer or runtime cannot express this candidate
  - StorageError             the database of a study cannot be reached, or has no such study
  - WorkerError              worker processes died again and again, or cannot be placed

Anything else that escapes is a bug. A message has up to four parts: what failed, the rule,
the value got, what to do next.
"""

from __future__ import annotations

from phonesearch.errors.base import (
    BudgetError,
    CorpusError,
    ExportError,
    InvalidCandidateError,
    InvalidFileError,
    InvalidSpaceError,
    NotInCatalogError,
    PhoneSearchError,
    ProfileError,
    ProxyDroppedError,
    ProxyError,
    QualityError,
    RunFolderError,
    SettingsError,
    SpaceExhaustedError,
    StorageError,
    TimingError,
    TrainerExportError,
    UnsupportedConfigError,
    WorkerError,
)
from phonesearch.errors.phone import (
    AdbError,
    AdbServerError,
    AnotherPhoneError,
    CableLostError,
    CoresWithheldError,
    IllegalInstructionError,
    NoAdbError,
    NoDeviceError,
    OfflineError,
    PhoneError,
    PhoneFileError,
    PhoneFullError,
    PhoneInUseError,
    PhoneMemoryError,
    PhoneNotFitError,
    PhonesDifferError,
    PhoneTimeoutError,
    PhoneUnreachableError,
    RunnerAbortedError,
    RunnerCrashedError,
    RunnerError,
    RunnerHungError,
    RunnerKilledError,
    RunnerStartError,
    RuntimeLibraryError,
    SeveralDevicesError,
    UnauthorisedError,
    UnsteadyPhoneError,
    UsbPermissionError,
    WrongLibraryError,
    WrongLogitsError,
)

__all__ = [
    "AdbError",
    "AdbServerError",
    "AnotherPhoneError",
    "BudgetError",
    "CableLostError",
    "CoresWithheldError",
    "CorpusError",
    "ExportError",
    "IllegalInstructionError",
    "InvalidCandidateError",
    "InvalidFileError",
    "InvalidSpaceError",
    "NoAdbError",
    "NoDeviceError",
    "NotInCatalogError",
    "OfflineError",
    "PhoneError",
    "PhoneFileError",
    "PhoneFullError",
    "PhoneInUseError",
    "PhoneMemoryError",
    "PhoneNotFitError",
    "PhoneSearchError",
    "PhoneTimeoutError",
    "PhoneUnreachableError",
    "PhonesDifferError",
    "ProfileError",
    "ProxyDroppedError",
    "ProxyError",
    "QualityError",
    "RunFolderError",
    "RunnerAbortedError",
    "RunnerCrashedError",
    "RunnerError",
    "RunnerHungError",
    "RunnerKilledError",
    "RunnerStartError",
    "RuntimeLibraryError",
    "SettingsError",
    "SeveralDevicesError",
    "SpaceExhaustedError",
    "StorageError",
    "TimingError",
    "TrainerExportError",
    "UnauthorisedError",
    "UnsteadyPhoneError",
    "UnsupportedConfigError",
    "UsbPermissionError",
    "WorkerError",
    "WrongLibraryError",
    "WrongLogitsError",
]
