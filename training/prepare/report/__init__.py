"""The report that comes with every prepared data set.

What is counted while the records stream through (`survey`, and a file for each modality), what is
checked at the end (`labels`, `duplicates`, `leakage`), and the page that shows it (`page`).
"""
