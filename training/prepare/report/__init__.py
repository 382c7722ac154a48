"""The report that comes with every prepared data set.

What is counted while the records stream through (`survey`, and a file for each modality), what is
checked at the end (`checks`), and the page that shows it (`page`).
"""
