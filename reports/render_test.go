package reports

import (
	"encoding/xml"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// small is a run short enough for golden files.
func small() *Result {
	end := t0.Add(90 * time.Second)
	return &Result{
		Run: Run{ID: "20261123-045501-ab12", Started: t0, Finished: &end, Version: "0.1.0"},
		Lab: Lab{Provider: "qemu", Accel: "kvm", Hosts: []Host{{Name: "hive0", Address: "192.168.56.11", Role: "manager"}}},
		Scenarios: []Scenario{{ID: "lb-mesh", Title: "メッシュ", Recipe: "lb-mesh.yml", DurationS: 12.5, Claims: []Claim{
			{ID: "mesh/source-hidden", Service: "dns", Text: "The client is hidden.", Guide: "1", Verdict: Fail, Reason: "saw a|b",
				Measurements: map[string]any{"seen": []string{"a", "b"}, "n": 2}, DurationS: 0.25,
				Samples: []Sample{{Time: t0, Client: "c1", Target: "hive0:53/udp", Outcome: "answered", Seen: "a|b", Server: "dns.1", Counter: true}}},
			{ID: "mesh/balances", Guide: "1", Verdict: Invalid, Reason: "too few"},
			{ID: "mesh/scales", Guide: "1", Verdict: NotRun},
			{ID: "vip/follows", Guide: "2", Verdict: Skip, Reason: "needs power"},
			{ID: "vip/outage", Guide: "2", Verdict: Pass, Reason: "2 s"},
		}}},
	}
}

func TestGolden(t *testing.T) {
	junit, err := JUnit(small())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"small.xml": junit, "small.md": Markdown(small())} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s differs (go test -update rewrites it):\n%s", name, got)
		}
	}
}

const nasty = "<script>alert(1)</script> \"quoted\" 'single' & a|b `c` \x00\x07\x1b[31mred\x1b[0m \x1b]0;title\x07 \xff\nnext line\r\n</details>]]> \u202ereversed @someone [x](javascript:alert(2)) ![i](https://example.org/i)"

// nastyResult has the text above wherever text can be.
func nastyResult() *Result {
	n := nasty
	return &Result{
		Run: Run{ID: n, Started: t0, Version: n, Command: []string{n}, Error: n, Cleanup: []string{n}},
		Lab: Lab{Provider: n, Accel: n, Hosts: []Host{{Name: n, Address: n, Role: n}}, Versions: map[string]string{n: n}, Timings: map[string]float64{n: 1}, Notes: []string{n}},
		Scenarios: []Scenario{{ID: n, Title: n, Recipe: n, Reason: n, Verdict: Error, Notes: []string{n}, Timings: map[string]float64{n: 1},
			Services: []Service{{Name: n, Image: n, RunAs: n, Balance: n, Volume: n, Publish: n}},
			Evidence: []Evidence{{Path: n, Title: n, Kind: n}, {Path: "javascript:alert(3)", Title: n, Kind: "json"}},
			Claims: []Claim{{ID: n, Service: n, Text: n, Guide: n, Verdict: Fail, Reason: n, Measurements: map[string]any{n: map[string]any{n: n}, "list": []any{n, map[string]string{n: n}}},
				Samples:  []Sample{{Client: n, Target: n, Outcome: n, Seen: n, Server: n, Counter: true}},
				Evidence: []Evidence{{Path: "evidence/n.txt", Title: n, Kind: "text"}}}, {ID: n, Verdict: Verdict(n)}}}},
	}
}

// nastyDir is a run directory with the evidence of nastyResult.
func nastyDir(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "evidence"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "evidence", "n.txt"), []byte(nasty), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestHTMLEscapes(t *testing.T) {
	b, err := HTML(nastyResult(), nastyDir(t))
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, bad := range []string{"<script", "<img", `href="javascript:`, "\x00", "\x07", "\x1b", "\u202e", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("page contains %q", bad)
		}
	}
	if !strings.Contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the text itself is not shown")
	}
	// The nesting is whole: nothing closed what it did not open.
	for _, tag := range []string{"details", "section", "table", "div", "main"} {
		opened, closed := strings.Count(page, "<"+tag), strings.Count(page, "</"+tag+">")
		if opened == 0 || opened != closed {
			t.Errorf("<%s> opened %d times, closed %d times", tag, opened, closed)
		}
	}
}

func TestJUnitEscapes(t *testing.T) {
	b, err := JUnit(nastyResult())
	if err != nil {
		t.Fatal(err)
	}
	var got junitRun
	if err := xml.Unmarshal(b, &got); err != nil { // strict: forbidden characters fail
		t.Fatalf("%v in\n%s", err, b)
	}
	for _, c := range string(b) {
		if c < 0x20 && c != '\n' && c != '\t' || c == 0xfffe {
			t.Errorf("forbidden character %U", c)
		}
	}
	var failure *junitOutcome
	unknown := false
	for _, s := range got.Suites {
		for _, c := range s.Cases {
			if c.Failure != nil {
				failure = c.Failure
			}
			unknown = unknown || c.Error != nil && strings.HasPrefix(c.Error.Message, "unknown verdict")
		}
	}
	if failure == nil || !strings.Contains(failure.Message, `<script>alert(1)</script> "quoted"`) || strings.Contains(failure.Message, "\n") {
		t.Errorf("failure %+v", failure)
	}
	if !unknown {
		t.Error("a claim of unknown verdict is not reported as an error")
	}
}

func TestJUnitIsNotGreenUnlessPassed(t *testing.T) {
	end := t0.Add(time.Minute)
	skipped := claims(Skip)
	broken := claims(NotRun)
	broken.Verdict, broken.Reason = Error, "deploy: no suitable node"
	for name, r := range map[string]*Result{
		"empty":       {Run: Run{Finished: &end}},
		"all skipped": {Run: Run{Finished: &end}, Scenarios: []Scenario{skipped}},
		"unfinished":  {Scenarios: []Scenario{claims(Pass)}},
		"interrupted": {Run: Run{Finished: &end, Interrupted: true}, Scenarios: []Scenario{claims(Pass)}},
		"lab error":   {Run: Run{Finished: &end, Error: "x"}, Scenarios: []Scenario{claims(Pass)}},
		"scenario":    {Run: Run{Finished: &end}, Scenarios: []Scenario{broken}},
		"failed":      {Run: Run{Finished: &end}, Scenarios: []Scenario{claims(Fail)}},
		"not started": {Run: Run{Finished: &end}, Scenarios: []Scenario{claims(Pass), claims()}},
	} {
		b, err := JUnit(r)
		if err != nil {
			t.Fatal(err)
		}
		var got junitRun
		if err := xml.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		if got.Failures+got.Errors == 0 {
			t.Errorf("%s: exit %d and a green JUnit file:\n%s", name, r.ExitCode(), b)
		}
	}
	b, err := JUnit(&Result{Run: Run{Finished: &end}, Scenarios: []Scenario{claims(Pass, Skip)}})
	if err != nil || !strings.Contains(string(b), `tests="2" failures="0" errors="0" skipped="1"`) {
		t.Errorf("a passed run: %v\n%s", err, b)
	}
}

func TestMarkdownEscapes(t *testing.T) {
	text := string(Markdown(nastyResult()))
	outside := regexp.MustCompile("`+[^`]+`+").ReplaceAllString(text, "") // markup does nothing in code
	for _, bad := range []string{"<script", "[x](", "[i](", "@someone", "\x1b", "\x00"} {
		if strings.Contains(outside, bad) {
			t.Errorf("contains %q outside code", bad)
		}
	}
	// Every table has as many cells in each row as in its head.
	cells := 0
	bar := regexp.MustCompile(`(^|[^\\])\|`)
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			cells = 0
			continue
		}
		n := len(bar.FindAllString(strings.ReplaceAll(line, "||", "| |"), -1))
		if cells != 0 && n != cells {
			t.Errorf("%d bars, the head has %d: %s", n, cells, line)
		}
		cells = n
	}
}

func TestUnfinishedIsSaid(t *testing.T) {
	s := newTestStore(t)
	r := sample()
	r.Run.Finished = nil
	if err := s.Save(r); err != nil {
		t.Fatal(err)
	}
	back, err := Load(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Render(back); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{HTMLFile, MarkdownFile, JUnitFile} {
		b, _ := os.ReadFile(filepath.Join(s.Dir(), name))
		if !strings.Contains(string(b), "ended without finishing: crashed or killed") {
			t.Errorf("%s does not say that the run is unfinished", name)
		}
	}
	var b strings.Builder
	PrintResult(&b, back, s.Dir(), false)
	if !strings.Contains(b.String(), "Unfinished: ") {
		t.Errorf("table:\n%s", b.String())
	}
}

func TestHTMLBanners(t *testing.T) {
	r := small()
	r.Run.Interrupted, r.Run.Error = true, "mmdebstrap: no space left"
	b, err := HTML(r, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<b>Interrupted</b>", "<b>Lab error</b>", "no space left"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(string(b), "<b>Unfinished</b>") {
		t.Error("a finished run is called unfinished")
	}
}

func TestHTMLEvidence(t *testing.T) {
	s := newTestStore(t)
	r := sample()
	writeEvidence(t, s.Dir())
	outside := filepath.Join(filepath.Dir(s.Dir()), "secret.txt")
	if err := os.WriteFile(outside, []byte("the secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(s.Dir(), "evidence", "link.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "evidence", "50% #1?.txt"), []byte("odd name"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"../secret.txt", outside, "evidence/link.txt", "evidence", "evidence/50% #1?.txt"} {
		r.Scenarios[0].Evidence = append(r.Scenarios[0].Evidence, Evidence{Path: path, Title: "odd", Kind: "text"})
	}
	b, err := HTML(r, s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, want := range []string{
		"Masq    1      0          3", "not in the run directory", "The first 63.9 KiB of 80.0 KiB",
		`href="evidence/50%25%20%231%3f.txt"`, "odd name", "not a regular file",
	} {
		if !strings.Contains(page, want) && !strings.Contains(page, strings.Replace(want, "%3f", "%3F", 1)) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(page, "the secret") {
		t.Error("a file outside the run directory is shown")
	}
	if strings.Count(page, "sbJoin") > 1000 {
		t.Error("the log is not cut")
	}
}

// TestHTMLLinks: every link inside the page has its target, each ID is there once.
func TestHTMLLinks(t *testing.T) {
	r := sample()
	r.Scenarios = append(r.Scenarios, r.Scenarios[0]) // the same recipe twice
	r.Scenarios[2].Claims = append(r.Scenarios[2].Claims, r.Scenarios[2].Claims[0])
	b, err := HTML(r, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(string(b), -1) {
		if ids[m[1]]++; ids[m[1]] > 1 {
			t.Errorf("ID %q twice", m[1])
		}
	}
	links := regexp.MustCompile(` href="#([^"]*)"`).FindAllStringSubmatch(string(b), -1)
	for _, m := range links {
		if ids[m[1]] == 0 {
			t.Errorf("link to #%s, which is not there", m[1])
		}
	}
	if len(links) < 20 {
		t.Errorf("%d links only", len(links))
	}
	for _, m := range regexp.MustCompile(`<details class="claim ([^"]*)"( open)?`).FindAllStringSubmatch(string(b), -1) {
		if want := m[1] == "v-fail" || m[1] == "v-error" || m[1] == "v-invalid"; (m[2] != "") != want {
			t.Errorf("%s: open %v", m[1], m[2] != "")
		}
	}
	if regexp.MustCompile(`(src|href)="(https?:)?//`).Match(b) {
		t.Error("the page refers to something outside")
	}
}

func TestNatural(t *testing.T) {
	keys := sortedKeys(map[string]int{"hive10": 0, "hive2": 0, "10.0.0.12": 0, "10.0.0.9": 0, "a": 0, "hive02": 0})
	if got := strings.Join(keys, " "); got != "10.0.0.9 10.0.0.12 a hive02 hive2 hive10" {
		t.Error(got)
	}
}

func TestSortTimings(t *testing.T) {
	var names []string
	for _, x := range sortTimings(map[string]float64{"swarm": 1, "zzz": 1, "boot hive10": 1, "boot hive2": 1, "image": 1, "": 1}) {
		names = append(names, x.Name)
	}
	if got := strings.Join(names, ","); got != "image,boot hive2,boot hive10,swarm,,zzz" {
		t.Error(got)
	}
}
