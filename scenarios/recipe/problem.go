package recipe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The lint rules that the parser itself checks (DESIGN.md).
const (
	RuleYAML       = "HP001" // not YAML, or more of it than is read
	RuleKey        = "HP002" // unknown key
	RuleValue      = "HP003" // wrong type or value
	RuleVolume     = "HP004" // volume without source or target, or in short syntax
	RuleOneStorage = "HP005" // more than one of drbd, nfs and driver
	RuleDefinition = "HP006" // no hive service definition
)

// Position is a place in a file. Line and Column count from 1, Column in
// characters. The zero Position means that nothing in a file says it, such as a
// default.
type Position struct {
	File         string
	Line, Column int
}

// IsValid reports whether p is a place in a file.
func (p Position) IsValid() bool { return p.Line > 0 }

// String gives "file:line:column", and "-" for the zero Position.
func (p Position) String() string {
	if !p.IsValid() {
		return "-"
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string
	Line, Column int
	Service      string // empty outside the services
	Rule         string // ID of the lint rule that a service definition breaks, such as RuleValue
	Message      string
}

// Error gives "file:line:column: message".
func (p Problem) Error() string {
	return p.Position().String() + ": " + p.Message
}

// Position is where the problem is.
func (p Problem) Position() Position {
	return Position{File: p.File, Line: p.Line, Column: p.Column}
}

// Problems is everything that is wrong with a file, sorted by position.
// errors.As finds it in what Parse returns.
type Problems []Problem

// Error lists the problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find a single Problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// complaints collects problems while a file is read. The same sentence about
// the same place is kept once: an anchor may be read through many aliases.
type complaints struct {
	list Problems
	seen map[Problem]bool
}

func (c *complaints) add(p Problem) {
	key := p
	key.Service = ""
	if c.full() || c.seen[key] {
		return
	}
	if c.seen == nil {
		c.seen = make(map[Problem]bool)
	}
	c.seen[key] = true
	c.list = append(c.list, p)
	if c.full() {
		c.list[len(c.list)-1].Message += fmt.Sprintf(" (and that is problem %d; no more are looked for)", maxProblems)
	}
}

// full reports whether there are so many problems that no more are worth a word.
func (c *complaints) full() bool { return len(c.list) >= maxProblems }

// err gives the problems in the order of the file, or nil if there are none.
func (c *complaints) err() error {
	if len(c.list) == 0 {
		return nil
	}
	return c.sorted()
}

// sorted gives the problems in the order of the file.
func (c *complaints) sorted() Problems {
	slices.SortStableFunc(c.list, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column))
	})
	return c.list
}
