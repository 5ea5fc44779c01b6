package lint

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/hiveproof/hiveproof/reports"
)

// WriteText writes the report for people: each finding with its line of the file
// and a caret under the offending value, and a summary in the last line.
func WriteText(w io.Writer, r *Report, colour bool) error {
	var b strings.Builder
	for _, f := range r.Files {
		for _, d := range f.diagnostics() {
			b.WriteString(d.Text(colour))
		}
	}
	b.WriteString(r.summary(colour) + "\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing what lint found: %w", err)
	}
	return nil
}

// diagnostics is everything about a file in the order of its places.
func (f *File) diagnostics() []reports.Diagnostic {
	var out []reports.Diagnostic
	add := func(at Place, level, message string, about ...string) {
		d := reports.Diagnostic{File: f.Path, Line: at.Line, Column: at.Column, Level: level, Message: message}
		d.About = strings.TrimSpace(strings.Join(about, " "))
		if level != "ignored" {
			d.Source = f.recipe.Line(at.Line)
		}
		out = append(out, d)
	}
	for _, x := range f.Findings {
		add(Place{x.Line, x.Column}, string(x.Severity), x.Message, x.Rule, x.Service)
	}
	for _, x := range f.Ignored {
		add(Place{x.Line, x.Column}, "ignored", fmt.Sprintf("%s (line %d)", x.Reason, x.Comment.Line), x.Rule, x.Service)
	}
	for _, x := range f.Unresolved {
		add(x.Place, "note", x.Message, x.Service)
	}
	for _, x := range f.BadIgnores {
		add(x.Place, "warning", x.Message)
	}
	slices.SortStableFunc(out, func(a, b reports.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return out
}

func (r *Report) summary(colour bool) string {
	c, services := r.Count(), 0
	for _, f := range r.Files {
		services += len(f.Services)
	}
	parts := []string{count(c.Errors, "error"), count(c.Warnings+c.BadIgnores, "warning")}
	if c.Unresolved > 0 {
		parts = append(parts, fmt.Sprintf("%d unresolved", c.Unresolved))
	}
	if c.Ignored > 0 {
		parts = append(parts, fmt.Sprintf("%d ignored", c.Ignored))
	}
	level := ""
	switch {
	case c.Errors > 0:
		level = "error"
	case c.Warnings+c.BadIgnores > 0:
		level = "warning"
	case c.Unresolved > 0:
		level = "note"
	}
	text := reports.Headline(level, strings.Join(parts, ", "), colour)
	text += fmt.Sprintf(" in %s of %s", count(services, "service"), count(len(r.Files), "file"))
	if len(r.Skipped) > 0 {
		text += fmt.Sprintf("; %s skipped", count(len(r.Skipped), "other file"))
	}
	return text
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
