"""The report of an evaluation: findings (numbers), history (training), plots, tables, the page."""
