"""Anyone's table (CSV, JSON lines, Parquet) with pictures and series beside it.

    table file ─ rows ─ case reader ─ checked cases on disk ─ Samples ─ prepared data set
                          │ one reader a modality: text.py image.py tabular.py timeseries.py
                          └ what is wrong, by file, row and column ─ problems file

The table is read and checked once, row by row. What could be used is kept in a file of the run's
own, so that memory does not grow with notes, pictures and series; the samples are made of that.
"""
