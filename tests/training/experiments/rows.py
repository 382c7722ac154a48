"""Rows of tables and the jobs behind them, as tests ask for them."""

from training.experiments.jobs import Job
from training.experiments.setup import LeftOut, Row, Setup
from training.experiments.tables import TABLES
from training.recipe import FinetuneRecipe


def lines(table: str, setup: Setup) -> dict[str, Row | LeftOut]:
    return {each.key: each for each in TABLES[table][1](setup)}


def settings(job: Job) -> set[str]:
    words = list(job.command)
    return {str(words[at + 1]) for at, word in enumerate(words) if word == "--set"}


def jobs(row: Row | LeftOut, seed: int = 0) -> tuple[Job, ...]:
    assert isinstance(row, Row)
    return row.by_seed[seed]


def pretraining(row: Row | LeftOut, seed: int = 0) -> Job:
    (job,) = jobs(row, seed)
    (before,) = job.needs
    return before


def recipe(job: Job) -> FinetuneRecipe:
    return FinetuneRecipe.model_validate_json(job.recipe)
