package reports

import (
	"strings"
	"testing"
)

func TestDiagnostic(t *testing.T) {
	d := Diagnostic{File: "a.yml", Line: 12, Column: 5, Level: "error", About: "HP999 web", Message: "no\n good"}
	for name, test := range map[string]struct {
		source string
		column int
		want   string // below the first line
	}{
		"none":         {"", 5, ""},
		"plain":        {"    x: y", 5, "   12 |     x: y\n      |     ^\n"},
		"wide":         {"名前: あ い", 7, "   12 | 名前: あ い\n      |          ^\n"},
		"tabs":         {"\tx:\ty", 5, "   12 |  x: y\n      |     ^\n"},
		"escapes":      {"a\x1b[31m: b", 1, "   12 | a: b\n      | ^\n"},
		"behind":       {"ab", 9, "   12 | ab\n      |   ^\n"},
		"long":         {strings.Repeat("a", 500), 301, "   12 | …" + strings.Repeat("a", 80) + strings.Repeat("a", 79) + "…\n      |  " + strings.Repeat(" ", 80) + "^\n"},
		"column zero?": {"ab", 0, "   12 | ab\n      | ^\n"},
	} {
		d.Source, d.Column = test.source, test.column
		head, below, _ := strings.Cut(d.Text(false), "\n")
		if !strings.HasSuffix(head, ": error HP999 web: no good") || below != test.want {
			t.Errorf("%s: %q\n%s, want\n%s", name, head, below, test.want)
		}
		if got := d.Text(true); !strings.Contains(got, "\x1b[1;31merror\x1b[0m") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
