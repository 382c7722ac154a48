"""The PhysioNet / CinC Challenge 2012: 48 hours of intensive care, and death in hospital.

layout     in which of its two layouts a set is there
tables     two tables: `events_a.parquet` and `stays_a.csv`
texts      the challenge's own: a text file a stay in `set-a/`, and `Outcomes-a.txt`
columns    columns of numbers of a CSV file, which both have
stays      what either reads; the sets put together
samples    stays become samples
command    the options, and the splits

Of the outcomes only `In-hospital_death` is read, as the label. `Survival` and `Length_of_stay` are
known after the stay, `SAPS-I` and `SOFA` are scores that others computed: none of the four is ever
looked at.

Source: Silva et al. 2012, Predicting in-hospital mortality of ICU patients, CinC 39:245-248.
"""
