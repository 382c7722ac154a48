"""HTTP: addresses, answers, problems, documentation."""
