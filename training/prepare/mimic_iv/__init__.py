"""MIMIC-IV in its raw file layout becomes intensive-care stays.

layout     where the files lie in v2.x and v1.0
tables     a CSV file of any size, block by block
cohort     which stays are kept, by rule; labels and the row of each
variables  the 17 variables: item ids and units
events     what was charted or analysed in a stay's window
notes      which notes belong to a stay or patient
pictures   which chest X-rays do
work       what was extracted, kept until the data set stands
pairing    parts become samples
command    the options
"""
