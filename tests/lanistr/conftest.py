"""The two tasks of the house, records of both, and preprocessing fitted on them."""

import pytest

from lanistr.issues import IssueLog
from lanistr.preprocess import PreprocessOptions, Preprocessor
from lanistr.preprocess.image import ImageOptions
from lanistr.preprocess.text import TextOptions
from lanistr.sample import Sample
from lanistr.tasks import TaskSpec, find_task
from training.prepare.synthetic import SyntheticOptions, draw

OPTIONS = PreprocessOptions(
    text=TextOptions(vocabulary_size=600, max_tokens=64), image=ImageOptions(size=32)
)


@pytest.fixture(scope="session")
def mortality() -> TaskSpec:
    return find_task("mortality")


@pytest.fixture(scope="session")
def rating() -> TaskSpec:
    return find_task("rating")


@pytest.fixture(scope="session")
def stays() -> list[Sample]:
    return list(draw("mortality", SyntheticOptions(samples=40, seed=3)))


@pytest.fixture(scope="session")
def reviews() -> list[Sample]:
    return list(draw("rating", SyntheticOptions(samples=40, seed=3)))


@pytest.fixture(scope="session")
def of_stays(mortality: TaskSpec, stays: list[Sample]) -> Preprocessor:
    return Preprocessor.fit(lambda: stays, mortality, OPTIONS)


@pytest.fixture(scope="session")
def of_reviews(rating: TaskSpec, reviews: list[Sample]) -> Preprocessor:
    return Preprocessor.fit(lambda: reviews, rating, OPTIONS)


@pytest.fixture
def log() -> IssueLog:
    return IssueLog()
