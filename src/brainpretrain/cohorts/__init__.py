DISJOINT = "disjoint-folds"  # instead of a cohort: the subjects that folds without a common training case need
