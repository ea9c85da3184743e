"""Commands that run in the test's own process share its reader: what they do with it is tried, and not its loading.

What starts a process of its own (`test_index.py`, `test_doctor.py`, some of `test_shape.py`) loads the model as a user.
"""

import pytest


@pytest.fixture
def one_reader(reader, monkeypatch):
    from ctxshaper.reading import reader as module

    made = module.Reader

    def make(*model, **options):
        return made(*model, **options) if model or any(options.values()) else reader

    monkeypatch.setattr(module, "Reader", make)
