package reports

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func newTestStore(t *testing.T) *Store {
	t.Helper()
	s, err := Create(t.TempDir(), "20261123-045501-ab12")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files lists a directory's entries.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSaveLoad(t *testing.T) {
	s := newTestStore(t)
	r := sample()
	for range 3 {
		if err := s.Save(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(t, s.Dir()); !reflect.DeepEqual(got, []string{ResultFile}) {
		t.Errorf("files %v: a temporary one was left", got)
	}
	back, err := Load(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(r)
	b, _ := json.Marshal(back)
	if string(a) != string(b) {
		t.Errorf("read back differs:\n%s\n%s", a, b)
	}
	// What is rendered from the file is what was rendered from memory.
	h1, err1 := HTML(r, s.Dir())
	h2, err2 := HTML(back, s.Dir())
	if err1 != nil || err2 != nil || string(h1) != string(h2) {
		t.Errorf("pages differ (%v, %v)", err1, err2)
	}
	if string(Markdown(r)) != string(Markdown(back)) {
		t.Error("summaries differ")
	}
}

func TestSaveHasNoNull(t *testing.T) {
	s := newTestStore(t)
	if err := s.Save(&Result{Scenarios: []Scenario{{ID: "s"}}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.Dir(), ResultFile))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "null") {
		t.Errorf("null in\n%s", b)
	}
}

func TestSaveFiguresThatJSONCannotHold(t *testing.T) {
	s := newTestStore(t)
	r := &Result{Scenarios: []Scenario{claims(Fail)}}
	c := &r.Scenarios[0].Claims[0]
	c.Measurements = map[string]any{"share": math.NaN(), "n": 3, "f": func() {}}
	c.Samples = []Sample{{RTTms: math.Inf(1)}}
	r.Lab.Timings = map[string]float64{"boot": math.NaN(), "swarm": 2}
	if err := s.Save(r); err != nil {
		t.Fatal(err)
	}
	back, err := Load(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	m := back.Scenarios[0].Claims[0].Measurements
	if m["share"] != "NaN" || m["n"] != 3.0 {
		t.Errorf("measurements %v", m)
	}
	if !reflect.DeepEqual(back.Lab.Timings, map[string]float64{"swarm": 2}) {
		t.Errorf("timings %v", back.Lab.Timings)
	}
	if !math.IsNaN(c.Measurements["share"].(float64)) {
		t.Error("Save changed the caller's measurements")
	}
}

func TestFailedWriteKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := writeAtomic(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	// A directory in the place of the target makes the last step, the rename, fail.
	blocked := filepath.Join(dir, "blocked")
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeAtomic(blocked, []byte("new")); err == nil {
		t.Error("wrote over a directory")
	}
	if got := files(t, dir); !reflect.DeepEqual(got, []string{"blocked", "f"}) {
		t.Errorf("left over: %v", got)
	}
	if err := writeAtomic(filepath.Join(dir, "none", "f"), nil); err == nil {
		t.Error("wrote into a directory that is not there")
	}
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Errorf("old file is now %q", b)
	}

	s := newTestStore(t)
	if err := s.Save(sample()); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(filepath.Join(s.Dir(), ResultFile))
	bad := sample()
	bad.Scenarios[0].Timings["deploy"] = math.NaN()
	bad.Run.Started = bad.Run.Started.AddDate(20000, 0, 0) // no JSON time has that year
	if err := s.Save(bad); err == nil {
		t.Error("saved what cannot be encoded")
	}
	if after, _ := os.ReadFile(filepath.Join(s.Dir(), ResultFile)); string(before) != string(after) {
		t.Error("a failed save changed result.json")
	}
}

func TestRenderGoesOnAfterAFailure(t *testing.T) {
	s := newTestStore(t)
	for _, name := range []string{JUnitFile, HTMLFile} {
		if err := os.MkdirAll(filepath.Join(s.Dir(), name, "x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Render(sample())
	if err == nil || !strings.Contains(err.Error(), JUnitFile) || !strings.Contains(err.Error(), HTMLFile) {
		t.Errorf("error %v does not name both", err)
	}
	if b, _ := os.ReadFile(filepath.Join(s.Dir(), MarkdownFile)); !strings.HasPrefix(string(b), "# ") {
		t.Errorf("summary.md is %q", b)
	}
}

func TestCreate(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "results")
	for _, id := range []string{"20261123-045501-ab12", "20261123-045502-0001"} {
		s, err := Create(root, id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(filepath.Join(root, LatestLink)); err != nil || got != id {
			t.Errorf("latest -> %q, %v; want %q", got, err, id)
		}
		if s.Dir() != filepath.Join(root, id) {
			t.Errorf("Dir %q", s.Dir())
		}
	}
	if got := files(t, root); len(got) != 3 {
		t.Errorf("results directory holds %v", got)
	}
	for _, id := range []string{"20261123-045501-ab12", "", "..", "a/b", "/etc", LatestLink, "-x"} {
		if _, err := Create(root, id); err == nil {
			t.Errorf("Create(%q) succeeded", id)
		}
	}
	if _, err := Open(root); err == nil {
		t.Error("opened a directory without a result")
	}
}

func TestEvidencePath(t *testing.T) {
	s := newTestStore(t)
	path := func(scenario, name string) string {
		t.Helper()
		abs, rel, err := s.EvidencePath(scenario, name)
		if err != nil {
			t.Fatal(err)
		}
		if abs != filepath.Join(s.Dir(), filepath.FromSlash(rel)) {
			t.Errorf("abs %q, rel %q", abs, rel)
		}
		if err := os.WriteFile(abs, nil, 0o644); err != nil {
			t.Error(err)
		}
		return rel
	}
	long := strings.Repeat("長", 200) + ".pcapng"
	for _, c := range []struct{ scenario, name, want string }{
		{"lb-mesh", "frames.pcapng", "evidence/lb-mesh/frames.pcapng"},
		{"lb-mesh", "mesh/source-hidden.txt", "evidence/lb-mesh/mesh_source-hidden.txt"},
		{"lb-mesh", "mesh source-hidden.txt", "evidence/lb-mesh/mesh_source-hidden-2.txt"},
		{"lb-mesh", "mesh/source-hidden.txt", "evidence/lb-mesh/mesh_source-hidden.txt"},
		{"lb-mesh", "../../../etc/passwd", "evidence/lb-mesh/_.._.._etc_passwd"},
		{"..", "", "evidence/_/_"},
		{"サイト", "状態.txt", "evidence/サイト/状態.txt"},
	} {
		if got := path(c.scenario, c.name); got != c.want {
			t.Errorf("EvidencePath(%q, %q) = %q, want %q", c.scenario, c.name, got, c.want)
		}
	}
	if got := path("lb-mesh", long); !strings.HasSuffix(got, "長.pcapng") || len(got) > 210 {
		t.Errorf("long name became %q", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`{"schema":"hiveproof.result/v2","run":5}`: `schema "hiveproof.result/v2"`,
		`{}`:         `schema ""`,
		`{"schema":`: "unexpected end",
		`{"schema":"` + Schema + `","scenarios":5}`: "scenarios",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, ResultFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(dir)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", text, err, want)
		}
		if strings.Contains(want, "schema") != errors.Is(err, ErrSchema) {
			t.Errorf("%s: ErrSchema is %v", text, errors.Is(err, ErrSchema))
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("empty directory: %v", err)
	}
}
