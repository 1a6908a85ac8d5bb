VALIDATION = "validation"  # instead of a cohort: the subjects that training and validation of a recipe need
DISJOINT = "disjoint-folds"  # instead of a cohort: the subjects that folds without a common training case need
