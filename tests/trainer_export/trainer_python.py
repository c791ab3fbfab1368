"""The trainers' own Python: an environment beside that of the tests, see `make trainers`.

What runs there cannot import phonesearch, as on the machine of somebody who was given a folder.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from needs import lack
from torch import Tensor

from phonesearch.candidate.config import Candidate
from phonesearch.candidate.count import total_parameters
from phonesearch.errors import TrainerExportError
from phonesearch.model.decoder import Decoder
from phonesearch.trainer_export.base import export_to

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-trainers" / "bin" / "python"


def python_of(package: str) -> Path:
    """The interpreter; the test is skipped, or fails in CI, where it or the package lacks."""
    python = Path(os.environ.get("PHONESEARCH_TRAINERS_PYTHON", PYTHON))
    if not python.is_file():
        lack(f"needs {python}: make trainers")
    asked = [
        python,
        "-c",
        f"import importlib.util as u, sys; sys.exit(not u.find_spec({package!r}))",
    ]
    if subprocess.run(asked, check=False, env=_environment()).returncode:
        lack(f"needs {package} in {python}: make trainers")
    return python


def run_in_trainer(
    package: str,
    *arguments: str | Path,
    folder: Path | None = None,
    timeout_s: float = 880,
) -> str:
    """Standard output of a program in that environment; fails with what it printed.

    Args:
        package: What must be installed there.
        arguments: After `python`; a name of a file in `trainers/` stands for that file.
        folder: Where it runs.
        timeout_s: Seconds that it may take.
    """
    python = python_of(package)
    script = HERE / "trainers" / str(arguments[0])
    first = script if script.is_file() else arguments[0]
    done = subprocess.run(
        [python, first, *arguments[1:]],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=timeout_s,
        env=_environment(),
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n")
        raise AssertionError(f"{first} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout + done.stderr


def give_weights(candidate: Candidate, folder: Path) -> Tensor:
    """Weights and ids in `given.pt`, for a program that writes their logits to `logits.pt`.

    Returns:
        The logits that our own model has; gains and biases are drawn as well, so that one in
        the wrong place is seen.
    """
    model = Decoder(candidate, seed=1)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: t * 6 if t.dim() > 1 else t + 0.2 * torch.randn(t.shape, generator=generator)
        for name, t in model.state_dict().items()
    }
    model.load_state_dict(weights)
    ids = torch.randint(candidate.vocab_size, (2, 12), generator=generator)
    torch.save({"weights": weights, "ids": ids}, folder / "given.pt")
    with torch.no_grad():
        logits: Tensor = model(ids)
    assert logits.std() > 0.1
    return logits


def differing(expected: Mapping[Path, Tensor], *, atol: float = 2e-5) -> list[str]:
    """Names of the folders whose `logits.pt` is not what was expected, and by how much."""
    found = []
    for folder, logits in expected.items():
        theirs = torch.load(folder / "logits.pt")
        error = (theirs.float() - logits).abs().max() if theirs.shape == logits.shape else torch.inf
        if not error <= atol:
            found.append(f"{folder.name}: {error:.3g}")
    return found


def export_each(
    target: str, candidates: Sequence[Candidate], folder: Path
) -> tuple[dict[Path, int], dict[Candidate, str]]:
    """Folders with the parameters counted for them, and refused candidates with the message."""
    written: dict[Path, int] = {}
    refused: dict[Candidate, str] = {}
    for number, candidate in enumerate(candidates):
        try:
            path = export_to(target, candidate, folder / str(number))
        except TrainerExportError as error:
            refused[candidate] = str(error)
        else:
            written[path] = total_parameters(candidate)
    return written, refused


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1"}
