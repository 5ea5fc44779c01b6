// Package rules holds the pages that explain the rules of lint.
package rules

import (
	"embed"
	"fmt"
	"io/fs"
)

//go:embed HP*.md
var pages embed.FS

// Page is the text of a rule's page in Markdown. The error is fs.ErrNotExist for
// an ID without one.
func Page(id string) (string, error) {
	text, err := pages.ReadFile(id + ".md")
	if err != nil {
		return "", fmt.Errorf("rule %q: %w", id, fs.ErrNotExist)
	}
	return string(text), nil
}
