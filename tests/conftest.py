import os
import shutil

import pytest
from hypothesis import settings

# Before Keras is imported: no figure opens a window, and no log line stands between the results.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# `make test` tries some examples of each property, `make fuzz` many.
settings.register_profile("some", max_examples=50, deadline=None)
settings.register_profile("many", max_examples=10_000, deadline=None)
settings.load_profile("some")


@pytest.fixture(scope="module")
def eager():
    """Trains uncompiled: to compile takes longer than a few batches do. test_cli.py compiles."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        yield
        tf.config.run_functions_eagerly(False)
    elif keras.backend.backend() == "jax":
        import jax

        with jax.disable_jit():
            yield
    else:  # PyTorch is never compiled.
        yield


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    # The first has no window to draw, and needs much less of the processor.
    candidates = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, candidates)), None)
    if executable is None:
        pytest.skip("no chromium on the path: apt-get install chromium, or your system's like")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=executable,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
            ],
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def open_tab(browser):
    """Opens a tab that reaches files only, with the lists of its requests and its complaints."""

    def open_one(**options):
        tab, requests, complaints = browser.new_page(**options), [], []
        tab.set_default_navigation_timeout(120_000)  # The machine may be busy.
        here = ("file:", "data:", "blob:")
        tab.route(lambda url: not url.startswith(here), lambda route: route.abort())
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "console",
            lambda message: complaints.append(message.text) if message.type == "error" else None,
        )
        return tab, requests, complaints

    return open_one
