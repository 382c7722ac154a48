"""The paper's tables, on any prepared data: what is trained, how it is run, and what came out."""
