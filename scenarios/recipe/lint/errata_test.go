package lint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, seen from this package.
const root = "../../.."

// The errata list what lint finds in the guide's examples as printed: all of it,
// and nothing else.
func TestErrata(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/errata.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	row := regexp.MustCompile(`(?m)^\| (\S+) \| (\d+) \| (HP\d+) \| (\S*) ?\|`)
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		want = append(want, strings.Join(m[1:], " "))
	}
	if len(want) == 0 {
		t.Fatal("no errata")
	}
	path := os.Getenv("HIVEPROOF_GUIDE")
	if path == "" {
		path = filepath.Join(root, "../shared/guide/service-patterns.ja.txt")
	}
	guide, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the printed guide is not at hand; HIVEPROOF_GUIDE names its file")
	}
	if err != nil {
		t.Fatal(err)
	}
	examples := printed(string(guide))
	if len(examples) != 7 {
		t.Errorf("%d examples in the guide, want 7", len(examples))
	}
	var got []string
	for _, e := range examples {
		r := lintTexts(three, e.text)
		for _, x := range r.Files[0].Findings {
			got = append(got, fmt.Sprintf("%s %d %s %s", e.section, x.Line, x.Rule, x.Service))
		}
		if c := r.Count(); c.Unresolved+c.Ignored+c.BadIgnores > 0 {
			t.Errorf("%s: %+v", e.section, c)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n\t%s\nin the errata\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

type example struct{ section, text string }

// printed takes the examples out of the guide: each begins with "---" and ends at
// a blank line, under the last heading that is the name of a section.
func printed(guide string) []example {
	var out []example
	sections := []string{
		"ステートレスメッシュルーティング", "ステートレスグローバル", "ロードバランサ背後ステートレスメッシュルーティング",
		"ロードバランサ背後スティッキーグローバル", "内蔵ロードバランサ", "スティッキー対応内蔵ロードバランサ", "仮想IP",
	}
	section, in := "", false
	for line := range strings.SplitSeq(guide, "\n") {
		switch {
		case line == "---":
			out, in = append(out, example{section: section}), true
		case line == "":
			in = false
		case slices.Contains(sections, line):
			section = line
		}
		if in {
			out[len(out)-1].text += line + "\n"
		}
	}
	return out
}
