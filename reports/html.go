package reports

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

//go:embed report.html.tmpl
var htmlSource string

//go:embed report.css
var cssSource string

var htmlTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"symbol":  Verdict.Symbol,
	"word":    func(v Verdict) string { return cleanText(string(v)) },
	"class":   verdictClass,
	"seconds": seconds,
	"stamp":   stamp,
	"clock":   func(t time.Time) string { return t.Format("15:04:05.000") },
	"iso":     func(t time.Time) string { return t.Format(time.RFC3339) },
	"ja":      japanese,
	"clean":   cleanText,
	"label":   func(s string) string { return strings.ReplaceAll(cleanText(s), "_", " ") },
	"slug":    slug,
	"shell":   shellLine,
	"plural":  plural,
	"bars":    newBars,
	"keys":    sortedKeys[string],
	"css":     func() template.CSS { return template.CSS(cssSource) },
	"open":    func(v Verdict) bool { return v != Pass && v != Skip && v != NotRun },
}).Parse(htmlSource))

// inlineLimit is how much of a text file is shown in the page, in bytes.
const inlineLimit = 64 << 10

// The page's view of a result.
type (
	page struct {
		*Result
		Mark       Verdict // of the headline
		Headline   string
		Counts     []countView
		Sum        int
		Columns    int // of the matrix
		Matrix     matrix
		Attention  []finding
		Sections   []scenarioView
		Unfinished string
		Meanings   []meaning
	}
	countView struct {
		Verdict Verdict
		N       int
	}
	meaning struct {
		Verdict Verdict
		Text    string
	}
	scenarioView struct {
		*Scenario
		Verdict  Verdict
		Anchor   string
		Claims   []claimView
		Evidence []evidenceView
	}
	claimView struct {
		*Claim
		Anchor       string
		Measurements []measurement
		Evidence     []evidenceView
		Counters     int
	}
	measurement struct {
		Name  string
		Value value
	}
	// value is a measurement to be shown: one of text, pairs, a list or a table.
	value struct {
		Text  string
		Pairs []measurement
		List  []value
		Head  []string
		Rows  [][]value
	}
	evidenceView struct {
		Evidence
		Href    string
		Size    string
		Text    string // the inlined text, "" if there is none
		Note    string // why there is none, or only a part of it
		Missing bool
	}
	bar struct {
		Name    string
		Seconds float64
		Percent float64 // of the longest
	}
)

var meanings = []meaning{
	{Pass, "Enough trustworthy observations, all as claimed."},
	{Fail, "Contradicted by an observation, which is shown."},
	{Invalid, "The measurement cannot be trusted: too few samples, a fault that did not take effect, or an unhealthy cluster."},
	{Error, "The harness or the lab broke, not the site."},
	{NotRun, "Selected and never started."},
	{Skip, "This provider or topology cannot show it. Never counted as a pass."},
}

// HTML renders r as one page that needs nothing else: style included, no
// script, nothing fetched. Evidence of kind "text" is read from under dir, the
// run directory, and shown in it (64 KiB of each file); a file that is missing
// or lies elsewhere is noted in its place and is no error.
func HTML(r *Result, dir string) ([]byte, error) {
	all := findings(r)
	p := page{
		Result: r,
		Sum:    r.totals().Sum(), Columns: len(r.Scenarios) + 1, Matrix: newMatrix(r, all), Meanings: meanings,
	}
	p.Mark, p.Headline = r.headline()
	for _, v := range Verdicts {
		p.Counts = append(p.Counts, countView{v, r.totals().Of(v)})
	}
	if !r.Run.Interrupted && r.Run.Finished == nil {
		p.Unfinished = unfinished
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open run directory: %w", err)
	}
	defer root.Close()
	used := map[string]bool{}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		anchor := "scenario-" + slug(s.ID)
		for n := 2; used[anchor]; n++ {
			anchor = fmt.Sprintf("scenario-%s-%d", slug(s.ID), n)
		}
		used[anchor] = true
		p.Sections = append(p.Sections, scenarioView{Scenario: s, Verdict: s.verdict(), Anchor: anchor, Evidence: viewEvidence(root, s.Evidence)})
	}
	for _, f := range all {
		for i := range p.Sections {
			if sec := &p.Sections[i]; sec.Scenario == f.Scenario {
				sec.Claims = append(sec.Claims, viewClaim(root, f))
			}
		}
		if v := f.Claim.Verdict; v != Pass && v != Skip && v != NotRun {
			p.Attention = append(p.Attention, f)
		}
	}
	var b bytes.Buffer
	if err := htmlTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("render page: %w", err)
	}
	return b.Bytes(), nil
}

// verdictClass names the style of v; an unknown verdict looks like an error.
func verdictClass(v Verdict) string {
	if !v.Known() {
		v = Error
	}
	return "v-" + string(v)
}

func viewClaim(root *os.Root, f finding) claimView {
	v := claimView{Claim: f.Claim, Anchor: f.Anchor, Evidence: viewEvidence(root, f.Claim.Evidence)}
	for _, k := range sortedKeys(f.Claim.Measurements) {
		v.Measurements = append(v.Measurements, measurement{k, newValue(generic(f.Claim.Measurements[k]))})
	}
	for _, s := range f.Claim.Samples {
		if s.Counter {
			v.Counters++
		}
	}
	return v
}

// newValue lays a generic measurement out: objects as pairs, lists of scalars
// on one line, lists of objects as a table.
func newValue(v any) value {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return value{Text: "none"}
		}
		out := value{}
		for _, k := range sortedKeys(v) {
			out.Pairs = append(out.Pairs, measurement{k, newValue(v[k])})
		}
		return out
	case []any:
		return newList(v)
	}
	return value{Text: cleanText(scalar(v))}
}

func newList(list []any) value {
	if len(list) == 0 {
		return value{Text: "none"}
	}
	columns, scalars := map[string]bool{}, 0
	objects := 0
	for _, e := range list {
		switch e := e.(type) {
		case map[string]any:
			objects++
			for k := range e {
				columns[k] = true
			}
		case []any:
		default:
			scalars++
		}
	}
	out := value{}
	switch {
	case scalars == len(list):
		return value{Text: cleanText(flat(list))}
	case objects == len(list) && len(columns) > 0:
		out.Head = sortedKeys(columns)
		for _, e := range list {
			var row []value
			for _, k := range out.Head {
				if cell, ok := e.(map[string]any)[k]; ok {
					row = append(row, newValue(cell))
				} else {
					row = append(row, value{})
				}
			}
			out.Rows = append(out.Rows, row)
		}
	default:
		for _, e := range list {
			out.List = append(out.List, newValue(e))
		}
	}
	return out
}

func viewEvidence(root *os.Root, list []Evidence) []evidenceView {
	var out []evidenceView
	for _, e := range list {
		v := evidenceView{Evidence: e, Href: (&url.URL{Path: e.Path}).String()}
		if v.Title == "" {
			v.Title = e.Path
		}
		v.read(root)
		out = append(out, v)
	}
	return out
}

// read fills in the size and, for text, the excerpt. Root keeps a path from a
// foreign result.json inside the run directory, symbolic links included.
func (v *evidenceView) read(root *os.Root) {
	missing := func(err error) {
		v.Missing = true
		v.Note = "cannot be read: " + err.Error()
		if errors.Is(err, fs.ErrNotExist) {
			v.Note = "not in the run directory"
		}
	}
	// Stat first: opening a pipe would wait for its writer.
	info, err := root.Stat(filepath.FromSlash(v.Path))
	if err != nil {
		missing(err)
		return
	}
	if !info.Mode().IsRegular() {
		missing(errors.New("not a regular file"))
		return
	}
	v.Size = bytesText(info.Size())
	if v.Kind != "text" {
		return
	}
	f, err := root.Open(filepath.FromSlash(v.Path))
	if err != nil {
		missing(err)
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, inlineLimit+1))
	if err != nil {
		missing(err)
		return
	}
	if len(b) > inlineLimit {
		b = b[:inlineLimit]
		if i := bytes.LastIndexByte(b, '\n'); i > 0 {
			b = b[:i+1]
		}
		v.Note = fmt.Sprintf("The first %s of %s; the file has the rest.", bytesText(int64(len(b))), v.Size)
	}
	v.Text = strings.TrimRight(cleanText(string(b)), "\n")
	if v.Text == "" {
		v.Note = "empty"
	}
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

func newBars(m map[string]float64) []bar {
	longest := 0.0
	var bars []bar
	for _, t := range sortTimings(m) {
		longest = max(longest, finiteOr0(t.Seconds))
		bars = append(bars, bar{Name: t.Name, Seconds: t.Seconds})
	}
	for i := range bars {
		if longest > 0 {
			bars[i].Percent = max(0, finiteOr0(bars[i].Seconds)) / longest * 100
		}
	}
	return bars
}

// japanese says whether s has Japanese characters, which need lang="ja" to get
// Japanese glyph shapes.
func japanese(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool {
		return unicode.In(c, unicode.Hiragana, unicode.Katakana, unicode.Han)
	})
}
