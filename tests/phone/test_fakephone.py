"""Real adb clients against the fake phone: what they do, and what they say when things go wrong.

Clients differ (29 gives exit code 0 for a shell whose cable was pulled); what is held here is what
both have in common and the code under test relies on.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from arm_runner import words
from fakephone_faults import left_behind
from fakephone_rig import AdbServer, FakePhone, wait_until

from phonesearch.candidate.config import Candidate
from phonesearch.onnx_export.recipe import Parts, write_recipe
from phonesearch.onnx_export.settings import GraphSettings
from phonesearch.onnx_export.write import export
from phonesearch.phone.host_twin import expected_output
from phonesearch.phone.runner import RUNNER
from phonesearch.timing.exchange import Stretch

pytestmark = pytest.mark.adb
FOLDER = "/data/local/tmp/phonesearch"
STRETCHES = (
    Stretch(new_tokens=16, past_tokens=0),
    Stretch(new_tokens=1, past_tokens=16, steps=4, settling_steps=2),
)


def said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stdout + done.stderr).lower()


def runner_command(*more: str, rounds: int = 1) -> str:
    asked = " ".join(words(STRETCHES))
    return (
        f"cd {FOLDER} && chmod 755 runner && LD_LIBRARY_PATH=. exec ./runner "
        "--lib ./libonnxruntime.so --model model.onnx --threads 2 --cpus 4,5,6,7 --capacity 24 "
        f"--warmup-rounds 1 --rounds {rounds} {asked} --max-seconds 60 {' '.join(more)}"
    )


@pytest.fixture
def ready(fake_phone: FakePhone, adb: AdbServer, arm_library: Path, tiny: Candidate) -> FakePhone:
    """A phone with runner, library and a tiny model on it."""
    folder = fake_phone.root / "local"
    model = export(tiny, folder, GraphSettings(), seed=2)
    for path, name in (
        (RUNNER, "runner"),
        (arm_library, "libonnxruntime.so"),
        (model.path, "model.onnx"),
        (model.data_path, "model.onnx.data"),
    ):
        done = adb("-s", fake_phone.serial, "push", str(path), f"{FOLDER}/{name}")
        assert done.returncode == 0, said(done)
    return fake_phone


@pytest.mark.parametrize(
    ("command", "code", "out", "err"),
    [
        ("getprop ro.soc.model", 0, "FK8350\n", ""),
        ("exit 42", 42, "", ""),
        ("echo out; echo err >&2; exit 3", 3, "out\n", "err\n"),
        ("kill -9 $$", 137, "", ""),
        ("cat", 0, "typed\n", ""),
        ("printf '%s\\n' 'a  b;$(id)' \"c'd\"", 0, "a  b;$(id)\nc'd\n", ""),
        ("cd /data/local/tmp; pwd", 0, "/data/local/tmp\n", ""),
        ("settings get global low_power; settings get global nothing", 0, "0\nnull\n", ""),
        ("uname -r", 0, "5.10.0-fakephone\n", ""),
        ("cat /sys/devices/system/cpu/cpu7/cpufreq/cpuinfo_max_freq", 0, "2840000\n", ""),
    ],
)
def test_commands_run_with_their_streams_and_exit_codes(
    fake_phone: FakePhone, adb: AdbServer, command: str, code: int, out: str, err: str
) -> None:
    done = adb("-s", fake_phone.serial, "shell", command, stdin="typed\n")
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


def test_files_come_back_as_they_were_pushed(
    fake_phone: FakePhone, adb: AdbServer, tmp_path: Path
) -> None:
    content = np.random.default_rng(0).bytes(5_000_000)
    (tmp_path / "a b").write_bytes(content)
    target = f"{FOLDER}/deep/it's $(here)"
    assert adb("push", str(tmp_path / "a b"), target).returncode == 0
    assert adb("pull", target, str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == content
    # No glob behind `<`: mksh and dash take it as it stands there, as POSIX lets them.
    each = 'for file in it*; do sha256sum < "$file"; wc -c < "$file"; done'
    listed = adb("shell", f"cd {FOLDER}/deep; {each}; ls")
    checksum, size, name = listed.stdout.splitlines()
    assert checksum.split()[0] == hashlib.sha256(content).hexdigest()
    assert int(size) == len(content)
    assert name == "it's $(here)"
    missing = adb("pull", f"{FOLDER}/missing", str(tmp_path))
    assert missing.returncode == 1
    assert "failed to stat remote object" in said(missing)
    refused = adb("push", str(tmp_path / "back"), "/system/lib64/x")
    assert refused.returncode == 1
    assert "permission denied" in said(refused)


def test_a_folder_is_pushed_whole(fake_phone: FakePhone, adb: AdbServer, tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "folder" / name).write_text(name)
    assert adb("push", str(tmp_path / "folder"), "/data/local/tmp/").returncode == 0
    found = adb("shell", "cd /data/local/tmp/folder && cat a b/c").stdout
    assert found == "ab/c"


def test_a_pushed_program_has_its_own_size_and_sum(ready: FakePhone, adb: AdbServer) -> None:
    told = adb("shell", f"cd {FOLDER}; sha256sum runner; sha256sum < runner; wc -c < runner")
    one, two, size = told.stdout.splitlines()
    checksum = hashlib.sha256(RUNNER.read_bytes()).hexdigest()
    assert one.split()[0] == two.split()[0] == checksum
    assert int(size) == RUNNER.stat().st_size
    assert adb("pull", f"{FOLDER}/runner", str(ready.root / "back")).returncode == 0
    assert (ready.root / "back").read_bytes() == RUNNER.read_bytes()


def test_the_whole_trip_gives_the_logits_of_the_host(ready: FakePhone, adb: AdbServer) -> None:
    done = adb("shell", runner_command("--dump logits --config mlas.disable_kleidiai 1"))
    assert done.returncode == 0, said(done)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["cpus_granted"] == [4, 5, 6, 7]
    assert lines[-1]["ok"] is True
    assert adb("pull", f"{FOLDER}/logits", str(ready.root / "logits")).returncode == 0
    logits = np.fromfile(ready.root / "logits", dtype=np.float32)
    expected = expected_output(ready.root / "local" / "model.onnx", STRETCHES, capacity=24)
    assert np.abs(logits - expected).max() < 1e-4
    assert left_behind(ready) == [FOLDER], "ONNX Runtime keeps telemetry outside, if it may"


def test_a_model_that_never_crossed_the_cable_runs(
    ready: FakePhone, adb: AdbServer, tiny: Candidate
) -> None:
    parts = Parts(ready.root / "parts")
    recipe = write_recipe(tiny, ready.root / "second", GraphSettings(), parts=parts, seed=2)
    for path in (*recipe.parts, recipe.recipe_path, recipe.path):
        place = f"{FOLDER}/parts/" if path in recipe.parts else f"{FOLDER}/"
        assert adb("push", str(path), place + path.name).returncode == 0
    done = adb(
        "shell",
        f"cd {FOLDER} && rm model.onnx.data && chmod 755 runner && exec ./runner "
        "--write-weights model.recipe model.onnx.data --parts parts --max-seconds 30",
    )
    assert json.loads(done.stdout)["ok"] is True
    whole = (ready.root / "local" / "model.onnx.data").read_bytes()
    assert ready.place(f"{FOLDER}/model.onnx.data").read_bytes() == whole
    assert adb("shell", runner_command()).returncode == 0


def test_a_program_without_its_mode_bit_cannot_be_run(ready: FakePhone, adb: AdbServer) -> None:
    done = adb("shell", f"cd {FOLDER} && chmod 644 runner && ./runner")
    assert done.returncode == 126
    assert "can't execute" in said(done) or "denied" in said(done)


def test_the_answers_follow_the_state(fake_phone: FakePhone, adb: AdbServer) -> None:
    fake_phone.update(
        battery={"level": 12, "temperature": 402},
        thermal={"status": 3},
        wakefulness="Dozing",
        settings={"global/low_power": "1"},
        properties={"ro.product.model": "it's; $(reboot) `x`"},
        disk_bytes=123 << 10,
    )
    ask = "dumpsys battery; dumpsys thermalservice; dumpsys power; settings get global low_power"
    answer = adb("shell", f"{ask}; getprop ro.product.model; df -k /data/local/tmp").stdout
    for words_ in (
        *("level: 12\n", "temperature: 402\n", "Thermal Status: 3\n", "mWakefulness=Dozing\n"),
        *("\n1\n", "it's; $(reboot) `x`\n", "123        0       123"),
    ):
        assert " ".join(words_.split()) in " ".join(answer.split()), words_
    adb("shell", "cmd power set-fixed-performance-mode-enabled true; svc power stayon usb")
    assert fake_phone.calls() == [
        "cmd power set-fixed-performance-mode-enabled true",
        "svc power stayon usb",
    ]


def test_a_phone_that_has_not_consented_is_unauthorised_until_it_does(
    make_phone: Callable[..., FakePhone], adb: AdbServer
) -> None:
    phone = make_phone(authorised=False)
    adb.connect(phone, state="unauthorized")
    done = adb("-s", phone.serial, "shell", "true")
    assert done.returncode == 1
    assert "unauthorized" in said(done)
    phone.update(authorised=True)
    adb.wait_for(phone, "device")


def test_none_two_and_wrong_phones(make_phone: Callable[..., FakePhone], adb: AdbServer) -> None:
    none = adb("shell", "true")
    assert (none.returncode, "no devices/emulators found" in said(none)) == (1, True)
    first, second = make_phone(), make_phone(properties={"ro.serialno": "FAKE0002"})
    adb.connect(first)
    adb.connect(second)
    both = adb("shell", "true")
    assert (both.returncode, "more than one device" in said(both)) == (1, True)
    wrong = adb("-s", "nobody", "shell", "true")
    assert (wrong.returncode, "device 'nobody' not found" in said(wrong)) == (1, True)
    for phone, number in ((first, "FAKE0001"), (second, "FAKE0002")):
        found = adb("-s", phone.serial, "shell", "getprop ro.serialno").stdout
        assert found == f"{number}\n"


def test_a_full_disk_is_told(fake_phone: FakePhone, adb: AdbServer, tmp_path: Path) -> None:
    fake_phone.update(disk_bytes=1_000_000)
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    done = adb("push", str(tmp_path / "big"), f"{FOLDER}/big")
    assert done.returncode == 1
    assert "no space left on device" in said(done)
    assert not fake_phone.place(f"{FOLDER}/big").exists()


def test_a_cable_lost_in_a_push_is_told_and_the_phone_comes_back(
    fake_phone: FakePhone, adb: AdbServer, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(3_000_000))
    fake_phone.update(faults={"lose_push_after_bytes": 1_000_000, "replug_after_s": 0.3})
    done = adb("push", str(tmp_path / "big"), f"{FOLDER}/big")
    assert done.returncode == 1
    assert "couldn't read from device" in said(done) or "failed to read copy" in said(done)
    assert not fake_phone.place(f"{FOLDER}/big").exists()
    wait_until(lambda: fake_phone.state.read()["cable"] == "ok")
    adb.replug(fake_phone)
    assert adb("push", str(tmp_path / "big"), f"{FOLDER}/big").returncode == 0


def test_a_cable_lost_in_a_run_ends_the_runner_and_leaves_no_end_line(
    ready: FakePhone, adb: AdbServer
) -> None:
    ready.update(faults={"lose_on_output": '"round": 3'})
    done = adb("shell", runner_command(rounds=100_000))
    assert '"round": 3' in done.stdout
    assert '"end"' not in done.stdout
    wait_until(lambda: not ready.processes())
    assert "device" not in adb("devices").stdout.replace("List of devices", "")
    adb.replug(ready)
    assert adb("shell", runner_command()).returncode == 0


def test_a_client_that_is_killed_takes_the_runner_with_it(ready: FakePhone, adb: AdbServer) -> None:
    client = subprocess.Popen(
        [adb.program, "-s", ready.serial, "shell", runner_command(rounds=100_000)],
        env={**os.environ, **adb.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert b"start" in client.stdout.readline()
    assert any("runner" in line for line in ready.processes().values())
    client.kill()
    client.wait()
    client.stdout.close()
    wait_until(lambda: not ready.processes())


@pytest.mark.parametrize(
    ("fault", "seconds", "code"), [("hang", 1, 142), (int(signal.SIGILL), 60, 132)]
)
def test_hangs_and_crashes_have_their_exit_codes(
    ready: FakePhone, adb: AdbServer, fault: str | int, seconds: int, code: int
) -> None:
    ready.update(runner_fault=fault)
    done = adb("shell", runner_command(f"--max-seconds {seconds}"))
    assert done.returncode == code
    assert '"end"' not in done.stdout


def test_a_runner_killed_from_outside_is_137_and_tools_see_it_before(
    ready: FakePhone, adb: AdbServer
) -> None:
    seen = []

    def kill() -> None:
        wait_until(lambda: any("--rounds" in line for line in ready.processes().values()))
        time.sleep(0.5)
        seen.append(adb("shell", "pgrep -f 'libonnx[r]untime'").stdout.strip())
        ready.kill("--rounds")

    killer = threading.Thread(target=kill)
    killer.start()
    done = adb("shell", runner_command(rounds=100_000))
    killer.join()
    assert done.returncode == 137
    assert seen[0].isdigit()
    assert adb("shell", "pgrep -f 'libonnx[r]untime'").returncode == 1
