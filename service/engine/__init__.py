"""From preprocessed cases to a head's outputs: queue, cost, grouping, graphs."""
