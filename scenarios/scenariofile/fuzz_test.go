package scenariofile

import (
	"os"
	"strings"
	"testing"
)

// Whatever the text, each problem has a place in it, and what is without problems
// says the version.
func FuzzRead(f *testing.F) {
	page, err := os.ReadFile("../../docs/scenario-files.md")
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split(string(page), "```") {
		f.Add(strings.TrimPrefix(part, "yaml\n"))
	}
	f.Add("version: &v {a: *v}\nvars: &x [*x]\n<<: {id: x}\n? [a]\n: b\nclaims: [*x, {params: !vault x}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		r := &reader{file: "x.yml"}
		body := r.parse([]byte(text))
		if body != nil {
			r.read(body)
		}
		if r.err() == nil && !strings.Contains(text, Version) && !strings.Contains(text, `\`) {
			t.Errorf("no problem in %q", text)
		}
		lines := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("\n\r\u0085\u2028\u2029", r) })
		for _, p := range r.problems {
			if p.Line < 1 || p.Column < 1 || p.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+len(lines)+2 || p.Message == "" {
				t.Errorf("%q: %+v", text, p)
			}
		}
	})
}
