"""Fixtures for the tests of the verbs."""

import pytest
from controlled import Asked, Desk, context_of
from parts import Parts


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def desk(parts: Parts, asked: Asked) -> Desk:
    return Desk(context_of(parts, asked))
