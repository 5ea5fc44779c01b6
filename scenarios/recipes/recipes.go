// Package recipes holds the guide's example definitions, one file a section of
// its chapter 構成ガイド, ready to be parsed by package recipe.
package recipes

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
)

//go:embed *.yml
var files embed.FS

// Names gives the recipes' file names, such as "stateless-mesh.yml", sorted.
func Names() []string {
	names, err := fs.Glob(files, "*.yml")
	if err != nil {
		panic(err) // only a malformed pattern can fail here
	}
	return names
}

// Read gives a recipe's text by its file name. The error is fs.ErrNotExist for a
// name that is not among Names.
func Read(name string) ([]byte, error) {
	if ok, err := path.Match("*.yml", name); err != nil || !ok {
		return nil, fmt.Errorf("recipe %q: %w", name, fs.ErrNotExist)
	}
	src, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("recipe %q: %w", name, fs.ErrNotExist)
	}
	return src, nil
}
