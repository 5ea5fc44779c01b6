package lint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Source is the text of one file.
type Source struct {
	Path string
	Text []byte
	// Found is true if the file was not named but found in a directory: it is
	// skipped if it is no service definition.
	Found bool
}

// Load reads files, and all YAML files below directories, in the order of paths
// and each once. Directories whose names begin with a dot are not looked into.
// The error holds every file that could not be read.
func Load(paths []string) ([]Source, error) {
	var (
		sources []Source
		errs    *multierror.Error
		seen    = make(map[string]bool)
	)
	load := func(path string, found bool) error {
		path = filepath.Clean(path)
		if seen[path] {
			return nil
		}
		seen[path] = true
		text, err := readSome(path)
		if err != nil {
			return fmt.Errorf("reading a service definition: %w", err)
		}
		sources = append(sources, Source{Path: path, Text: text, Found: found})
		return nil
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			errs = multierror.Append(errs, fmt.Errorf("reading a service definition: %w", err))
		case info.IsDir():
			err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
				switch {
				case err != nil:
					errs = multierror.Append(errs, fmt.Errorf("looking for service definitions: %w", err))
				case entry.IsDir() && name != path && strings.HasPrefix(entry.Name(), "."):
					return fs.SkipDir
				case !entry.IsDir() && slices.Contains([]string{".yml", ".yaml"}, filepath.Ext(name)):
					if err := load(name, true); err != nil {
						errs = multierror.Append(errs, err)
					}
				}
				return nil
			})
			if err != nil {
				errs = multierror.Append(errs, err)
			}
		default:
			if err := load(path, false); err != nil {
				errs = multierror.Append(errs, err)
			}
		}
	}
	return sources, errs.ErrorOrNil()
}

// maxRead bounds what is read of a file, in bytes: more than the parser takes.
const maxRead = 32 << 20

func readSome(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxRead))
	return text, errors.Join(err, f.Close())
}

// looksLikeDefinition tells service definitions from the other YAML files of a
// hive-builder project: by the plugin, and where the file cannot be read that
// far, by its name somewhere in the text.
func looksLikeDefinition(text []byte, r *recipe.Recipe, problems recipe.Problems) bool {
	other := func(p recipe.Problem) bool { return p.Rule == recipe.RuleDefinition }
	return r.Plugin != "" || bytes.Contains(text, []byte(recipe.Plugin)) && !slices.ContainsFunc(problems, other)
}
