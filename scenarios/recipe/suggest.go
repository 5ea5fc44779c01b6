package recipe

import (
	"slices"
	"strings"
)

// Nearest gives the name of names that word most likely stands for, or "" if
// none is near: more than two edits and more than a third of the word away.
func Nearest(word string, names []string) string {
	if len(word) > 64 {
		return ""
	}
	best, distance := "", max(2, len(word)/3)+1
	for _, name := range names {
		if d := edits(strings.ToLower(word), name); d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	return best
}

// edits counts the insertions, deletions, replacements and swaps of neighbours
// that make b of a.
func edits(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// OneOf writes names as a choice: "a, b or c".
func OneOf[S ~string](names []S) string {
	words := make([]string, len(names))
	for i, n := range names {
		words[i] = string(n)
	}
	if n := len(words); n > 1 {
		words = append(slices.Clone(words[:n-2]), words[n-2]+" or "+words[n-1])
	}
	return strings.Join(words, ", ")
}
