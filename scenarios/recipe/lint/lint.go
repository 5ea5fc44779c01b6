// Package lint finds what the guide's chapter サービスパターン forbids or
// discourages in hive-builder service definitions, without a host to try it on.
//
// Files that are read together are one site: a port that two of them publish is
// found. Rules are pure functions of the parsed files; each has a page in
// docs/rules. What stands in a definition as a template without a value is not
// guessed at: no rule speaks about it, and it is listed as unresolved.
package lint

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Severity is how bad a finding is.
type Severity string

// The severities. An Error is what the guide, hive-builder or the engine forbids,
// a Warning what the guide discourages.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Options say what site the definitions are for.
type Options struct {
	// Hosts is the number of hosts that hold containers; 0 is unknown and taken
	// for several.
	Hosts int
	// Stage leaves out the services that are not available on it; empty keeps all.
	Stage string
	// Vars are what templates look up.
	Vars map[string]string
}

// Finding is one place where a rule is broken. Line and Column are of the
// offending value, from 1, Column in characters.
type Finding struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Service  string   `json:"service"` // empty outside the services
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Message  string   `json:"message"`
}

// Ignored is a finding that a comment silences.
type Ignored struct {
	Finding
	Reason  string `json:"reason"`
	Comment Place  `json:"comment"`
}

// Place is a line and column of a file, from 1.
type Place struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Note is something about the check itself: a template without a value, or a
// comment that silences nothing.
type Note struct {
	Service string `json:"service,omitempty"`
	Place
	Message string `json:"message"`
}

// Axes are a service's place on the guide's axes. An axis that hangs on a template
// without a value, or on a value that is wrong, is Unknown.
type Axes struct {
	Name    string `json:"name"`
	Balance string `json:"balance"`
	Volume  string `json:"volume"`
	Publish string `json:"publish"`
	// InternalPorts: it publishes ports of 10000 and above, which the guide marks as
	// not for the outside.
	InternalPorts bool `json:"-"`
}

// Unknown is the place on an axis that cannot be told.
const Unknown = "unknown"

// File is what was found in one file, each list in the order of the file.
type File struct {
	Path       string    `json:"path"`
	Services   []Axes    `json:"services"`
	Findings   []Finding `json:"findings"`
	Ignored    []Ignored `json:"ignored,omitempty"`
	Unresolved []Note    `json:"unresolved,omitempty"`  // templates where a value must be known
	BadIgnores []Note    `json:"bad_ignores,omitempty"` // comments that silence nothing

	recipe    *recipe.Recipe
	deployed  *recipe.Recipe  // as the stage has it
	elsewhere map[string]bool // services that the stage does not have
	problems  recipe.Problems
}

// Problems is what the parser finds wrong with the file, also what is ignored.
func (f *File) Problems() recipe.Problems { return f.problems }

// Report is what was found in a site's files.
type Report struct {
	Files   []*File  `json:"files"`
	Skipped []string `json:"skipped,omitempty"` // files of directories that are no service definitions
	Hosts   int      `json:"hosts"`
	Stage   string   `json:"stage,omitempty"`
}

// Counts are a report's totals.
type Counts struct{ Errors, Warnings, Ignored, Unresolved, BadIgnores int }

// Count adds a report up.
func (r *Report) Count() Counts {
	var c Counts
	for _, f := range r.Files {
		for _, finding := range f.Findings {
			if finding.Severity == Error {
				c.Errors++
			} else {
				c.Warnings++
			}
		}
		c.Ignored += len(f.Ignored)
		c.Unresolved += len(f.Unresolved)
		c.BadIgnores += len(f.BadIgnores)
	}
	return c
}

// Failed reports whether there are errors. If strict, everything that is not
// silenced counts: warnings, comments that silence nothing, and what could not be
// checked for want of a template's value.
func (r *Report) Failed(strict bool) bool {
	c := r.Count()
	return c.Errors > 0 || strict && c.Warnings+c.BadIgnores+c.Unresolved > 0
}

// Run reads the sources as one site and applies every rule.
func Run(sources []Source, opts Options) *Report {
	report := &Report{Files: []*File{}, Hosts: opts.Hosts, Stage: opts.Stage}
	for _, source := range sources {
		f, isDefinition := read(source, opts)
		if !isDefinition {
			report.Skipped = append(report.Skipped, source.Path)
			continue
		}
		report.Files = append(report.Files, f)
	}
	x := newSite(report.Files, opts.Hosts)
	for _, s := range x.services {
		s.file.Services = append(s.file.Services, s.axes)
		for _, rule := range rules {
			if rule.check == nil {
				continue
			}
			for _, r := range rule.check(x, s) {
				s.file.add(Finding{Rule: rule.ID, Severity: rule.Severity, Service: s.Name, Line: r.at.Line, Column: r.at.Column, Message: r.message})
			}
		}
	}
	for _, f := range report.Files {
		slices.SortStableFunc(f.Findings, compare)
		// An anchor is read through each of its aliases.
		f.Findings = slices.Compact(f.Findings)
		f.silence()
	}
	return report
}

func (f *File) add(finding Finding) { f.Findings = append(f.Findings, finding) }

func compare(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
}

// read parses one file; the parser's problems are findings of the rules that it
// checks. It is no definition if it was only found in a directory and is none.
func read(source Source, opts Options) (f *File, isDefinition bool) {
	r, problems := recipe.ParsePartial(source.Path, source.Text)
	if source.Found && !looksLikeDefinition(source.Text, r, problems) {
		return nil, false
	}
	if len(opts.Vars) > 0 && r.Plugin != "" {
		problems = r.ResolvePartial(opts.Vars)
	}
	f = &File{Path: source.Path, Services: []Axes{}, Findings: []Finding{}, recipe: r, deployed: r, problems: problems}
	for _, p := range problems {
		f.add(Finding{Rule: p.Rule, Severity: Error, Service: p.Service, Line: p.Line, Column: p.Column, Message: p.Message})
	}
	if opts.Stage != "" {
		f.deployed, f.elsewhere = r.ForStage(opts.Stage), make(map[string]bool)
		for _, s := range r.Services {
			f.elsewhere[s.Name] = true
		}
		for _, s := range f.deployed.Services {
			delete(f.elsewhere, s.Name)
		}
	}
	for _, u := range r.Unresolved() {
		if u.Needed && !f.elsewhere[u.Service] {
			f.Unresolved = append(f.Unresolved, Note{Service: u.Service, Place: Place{u.Position.Line, u.Position.Column},
				Message: fmt.Sprintf("%q is a template where the value must be known, so that what hangs on it was not checked; give it with --vars", u.Text)})
		}
	}
	return f, true
}

// remark is what a rule has to say: where, and what about it.
type remark struct {
	at      recipe.Position
	message string
}

// remarkf makes the one remark of a rule.
func remarkf(at recipe.Position, format string, args ...any) []remark {
	return []remark{{at, fmt.Sprintf(format, args...)}}
}
