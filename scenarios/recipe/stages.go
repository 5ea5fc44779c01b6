package recipe

import "slices"

// Stages are what available_on may name.
func Stages() []string { return slices.Clone(stages) }
