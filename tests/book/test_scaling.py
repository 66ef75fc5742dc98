"""Training spread over devices and processes: the rate, the work and the weights of one device."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import scaling  # noqa: E402

JAX = ROOT / "_build" / "jax" / "bin" / "python"


@pytest.fixture(scope="module")
def mirrored() -> dict:
    pytest.importorskip("tensorflow")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "mirrored.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


SETTERS = pytest.mark.parametrize("setter", ["callback", "schedule"])


@SETTERS
def test_mirrored_replicas_update_with_the_rates_of_one_device(mirrored, setter):
    (alone,) = mirrored[f"{setter} one"]["rates"]
    replicas = mirrored[f"{setter} two"]["rates"]
    assert len(replicas) == 2, "rates were noted on both devices"
    assert len(alone) == 24 and np.ptp(alone) > 0.2, "the rate swings"
    assert replicas == [alone, alone]


def test_the_callbacks_history_is_what_the_replicas_updated_with(mirrored):
    found = mirrored["callback two"]
    np.testing.assert_allclose(found["rates"][0], found["history"], rtol=1e-6)


@SETTERS
def test_mirrored_replicas_share_the_work_and_end_with_the_weights_of_one_device(mirrored, setter):
    alone, together = mirrored[f"{setter} one"], mirrored[f"{setter} two"]
    (examples,) = alone["rows"]
    assert together["rows"] == [examples / 2] * 2
    np.testing.assert_allclose(together["loss"], alone["loss"], rtol=1e-5)
    np.testing.assert_allclose(together["weights"], alone["weights"], atol=1e-5)


def test_a_loss_scaled_by_float16_is_mirrored_too(mirrored):
    found = mirrored["float16 two"]
    np.testing.assert_allclose(found["rates"], [mirrored["callback one"]["rates"][0]] * 2)
    np.testing.assert_allclose(found["loss"], mirrored["callback one"]["loss"], rtol=1e-2)


@pytest.fixture(scope="module")
def python() -> str:
    if not JAX.exists():
        pytest.skip("no environment with JAX: `make scale` makes it")
    return str(JAX)


@pytest.fixture(scope="module")
def single(python) -> dict:
    return scaling.train(python)[0]


@pytest.mark.parametrize("arrangement", list(scaling.ARRANGEMENTS)[1:])
def test_jax_trains_on_several_devices_as_on_one(python, single, arrangement):
    found = scaling.compare(scaling.train(python, **scaling.ARRANGEMENTS[arrangement]), single)
    examples = sum(single["rows"])
    assert np.ptp(single["rates"]) > 0.09, "the rate swings"
    assert found["updates"] == len(single["rates"]) == examples / 128
    assert found["examples on each device"] == f"{examples // 2} + {examples // 2}"
    assert found["rates differ between devices"] == 0
    assert found["rates differ from one device's"] < 1e-8
    assert found["losses differ by"] < 1e-5
    assert found["weights differ by"] < 1e-5


def test_a_process_killed_in_mid_run_ends_the_other_with_a_checkpoint(python, single, tmp_path):
    killed = scaling.kill(python, str(tmp_path))
    assert killed["statuses"] == [1, -9]
    assert "Process 0 of 2 stops: it lost touch with another." in killed["said"]
    assert killed["checkpoints"] == ["checkpoint-00001.npz", "checkpoint-00002.npz"]
    # One process alone goes on from there, and arrives where an uninterrupted run does.
    resumed = scaling.train(python, folder=str(tmp_path))
    found = scaling.compare(resumed, scaling.last_epochs(single))
    assert found["updates"] == len(single["rates"]) / 2
    assert sum(resumed[0]["rows"]) == sum(single["rows"])
    assert found["rates differ from one device's"] < 1e-8
    assert found["weights differ by"] < 1e-5
