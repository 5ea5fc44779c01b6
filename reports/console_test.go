package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// after is the time s seconds into the run.
func after(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }

func TestPlain(t *testing.T) {
	var b strings.Builder
	p := NewPlain(&b)
	for _, e := range []Event{
		{Time: after(0), Kind: KindPhaseStart, Phase: "boot", Host: "hive1"},
		{Time: after(12.34), Kind: KindLog, Host: "hive1", Message: "ssh answers"},
		{Time: after(34), Kind: KindPhaseDone, Phase: "boot", Host: "hive1", ElapsedS: 34},
		{Time: after(35), Kind: KindPhaseStart, Phase: "probe", Scenario: "mesh"},
		{Time: after(36), Kind: KindProgress, Phase: "probe", Scenario: "mesh", Done: 1, Total: 90},
		{Time: after(41), Kind: KindProgress, Phase: "probe", Scenario: "mesh", Done: 40, Total: 90},
		{Time: after(42), Kind: KindProgress, Phase: "probe", Scenario: "mesh", Done: 60, Total: 90},
		{Time: after(43), Kind: KindProgress, Phase: "probe", Scenario: "mesh", Done: 90, Total: 90},
		{Time: after(44), Kind: KindPhaseDone, Phase: "probe", Scenario: "mesh", Verdict: Error, Message: "no route"},
		{Time: after(45), Kind: KindClaim, Scenario: "mesh", Claim: "mesh/balances", Service: "dns", Verdict: Pass, Message: "all well"},
		{Time: after(46), Kind: KindClaim, Scenario: "mesh", Claim: "mesh/scales", Verdict: Fail, Message: "one\nof two"},
		{Time: after(47), Kind: KindScenario, Scenario: "mesh", Verdict: Fail, ElapsedS: 70},
		{Time: after(48), Kind: KindWarning, Message: "slow \x1b[31mdisk\x1b[0m"},
		{Time: after(3700), Kind: KindError, Host: "hive2", Message: "gone"},
		{Time: after(3701), Kind: KindResult, Message: "done"},
	} {
		p.Event(e)
	}
	want := `[    0.0s] boot hive1 …
[   12.3s] hive1: ssh answers
[   34.0s] boot hive1: done in 34.0 s
[   35.0s] mesh: probe …
[   41.0s] mesh: probe: 40/90
[   43.0s] mesh: probe: 90/90
[   44.0s] mesh: probe: error: no route
[   45.0s] pass    mesh: mesh/balances [dns]
[   46.0s] fail    mesh: mesh/scales: one
           of two
[   47.0s] fail    mesh in 1 min 10 s
[   48.0s] warning: slow disk
[ 3700.0s] error: hive2: gone
[ 3701.0s] done
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestQuiet(t *testing.T) {
	var b strings.Builder
	q := NewQuiet(&b)
	r := small()
	for _, e := range []Event{
		{Kind: KindPhaseStart, Phase: "boot"}, {Kind: KindWarning, Message: "w"}, {Kind: KindLog, Message: "l"},
		{Kind: KindClaim, Claim: "c", Verdict: Fail}, {Kind: KindError, Message: "broke"},
		{Kind: KindResult, Result: r, Dir: "/r/x"},
	} {
		q.Event(e)
	}
	want := "error: broke\n" +
		"lb-mesh  メッシュ  ✗ fail  12.5 s\n" +
		"  ✗ fail     mesh/source-hidden  dns\n             saw a|b\n" +
		"  ? invalid  mesh/balances\n             too few\n" +
		"  ○ not-run  mesh/scales\n\n" +
		"✗ Failed: 1 of 5 claims does not hold, 2 could not be judged\nreport: /r/x/report.html\n"
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestPrintResult(t *testing.T) {
	r := sample()
	var plain, colour strings.Builder
	PrintResult(&plain, r, "/r/x", false)
	PrintResult(&colour, r, "/r/x", true)
	if strings.Contains(plain.String(), "\x1b") {
		t.Error("escape sequences without colour")
	}
	if got := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colour.String(), ""); got != plain.String() || got == colour.String() {
		t.Errorf("colour changes the text:\n%s", got)
	}
	lines := strings.Split(strings.TrimSuffix(plain.String(), "\n"), "\n")
	if last := lines[len(lines)-1]; last != "report: /r/x/report.html" {
		t.Errorf("last line %q", last)
	}
	for _, line := range lines {
		if textWidth(line) > printWidth {
			t.Errorf("%d columns: %s", textWidth(line), line)
		}
	}
	for _, want := range []string{"– skip     volume/follows", "connection lost after 31 s", "Failed: 1 of 10", "device or resource busy"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("no %q in\n%s", want, plain.String())
		}
	}
}

func TestJSONLines(t *testing.T) {
	var b bytes.Buffer
	j := NewJSON(&b)
	r := small()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			j.Event(Event{Kind: KindProgress, Done: i, Message: "a\nb"})
		})
	}
	wg.Wait()
	r.Lab.Timings = map[string]float64{"boot": nan()}
	j.Event(Event{Time: t0, Kind: KindResult, Result: r, Dir: "/x"})
	lines := bytes.Split(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("\n"))
	if len(lines) != 21 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Time.IsZero() {
			t.Error("no time")
		}
		if last := i == 20; last != (e.Result != nil) {
			t.Errorf("line %d: result %v", i, e.Result)
		}
	}
}

func nan() float64 { f, _ := strconv.ParseFloat("NaN", 64); return f }

func TestMulti(t *testing.T) {
	var times []time.Time
	s := SinkFunc(func(e Event) { times = append(times, e.Time) })
	Multi(s, nil, s).Event(Event{Kind: KindLog})
	if len(times) != 2 || times[0].IsZero() || !times[0].Equal(times[1]) {
		t.Errorf("%v", times)
	}
}

// screen is a small terminal: it wraps at its width as terminals do, and knows
// the sequences that Terminal uses. Any other fails the test.
type screen struct {
	t    *testing.T
	cols int
	rows [][]rune // each as long as cols
	y, x int
}

var sequence = regexp.MustCompile("^\x1b\\[([0-9;]*)([AJm])")

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		if m := sequence.FindStringSubmatch(text); m != nil {
			switch m[2] {
			case "A":
				n, _ := strconv.Atoi(m[1])
				if s.y -= n; s.y < 0 {
					s.t.Errorf("cursor moved %d rows above the screen", -s.y)
					s.y = 0
				}
			case "J":
				s.rows = s.rows[:min(len(s.rows), s.y+1)]
				if s.y < len(s.rows) {
					s.rows[s.y] = s.rows[s.y][:s.x]
				}
			}
			text = text[len(m[0]):]
			continue
		}
		c := []rune(text)[0]
		text = text[len(string(c)):]
		switch c {
		case '\n':
			s.y, s.x = s.y+1, 0
		case '\r':
			s.x = 0
		case '\x1b':
			s.t.Errorf("unknown sequence in %q", "\x1b"+text)
		default:
			w := runeWidth(c)
			if s.x+w > s.cols {
				s.y, s.x = s.y+1, 0
			}
			for len(s.rows) <= s.y {
				s.rows = append(s.rows, nil)
			}
			row := s.rows[s.y]
			for len(row) <= s.x {
				row = append(row, ' ')
			}
			row[s.x] = c
			if w == 2 {
				row = append(row[:s.x+1], 0)
			}
			s.rows[s.y] = row
			s.x += w
		}
	}
	return len(p), nil
}

func (s *screen) String() string {
	var lines []string
	for _, r := range s.rows {
		lines = append(lines, strings.TrimRight(strings.ReplaceAll(string(r), "\x00", ""), " "))
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func testTerminal(t *testing.T, cols, rows int) (*Terminal, *screen, *time.Time) {
	t.Setenv("NO_COLOR", "")
	s := &screen{t: t, cols: cols}
	now := t0
	term := NewTerminal(s, TerminalOptions{
		Size: func() (int, int) { return cols, rows }, Now: func() time.Time { return now }, Refresh: -1,
	})
	t.Cleanup(func() { _ = term.Close() })
	return term, s, &now
}

func TestTerminalNarrow(t *testing.T) {
	term, s, now := testTerminal(t, 30, 10)
	for i := range 2 {
		term.Event(Event{Time: t0, Kind: KindPhaseStart, Phase: "boot", Host: fmt.Sprintf("hive%d", i)})
	}
	*now = after(12.3)
	for i := range 50 {
		term.Event(Event{Time: *now, Kind: KindLog, Host: "hive1", Message: fmt.Sprintf("a message much longer than the terminal is wide %d", i)})
		term.Event(Event{Time: *now, Kind: KindLog, Host: "hive0", Message: "ステートレスメッシュルーティングの長い行"})
	}
	want := "⠋ boot hive0  12.3 s  ステー…\n⠋ boot hive1  12.3 s  a mess…"
	if got := s.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	term.Event(Event{Time: *now, Kind: KindWarning, Message: "the image is older than the release it was made from"})
	term.Event(Event{Time: *now, Kind: KindPhaseDone, Phase: "boot", Host: "hive0"})
	want = "! warning: the image is\n    older than the release it\n    was made from\n✓ boot hive0 in 12.3 s\n⠋ boot hive1  12.3 s  a mess…"
	if got := s.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if err := term.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.String(); strings.Contains(got, "⠋") || !strings.Contains(got, "✓ boot hive0 in 12.3 s") {
		t.Errorf("after Close:\n%s", got)
	}
	term.Event(Event{Kind: KindError, Message: "late"})
	if got := s.String(); !strings.HasSuffix(got, "! error: late") {
		t.Errorf("after Close:\n%s", got)
	}
}

func TestTerminalLowAndCrowded(t *testing.T) {
	term, s, _ := testTerminal(t, 60, 6)
	for i := range 9 {
		term.Event(Event{Time: t0, Kind: KindPhaseStart, Phase: "boot", Host: fmt.Sprintf("hive%d", i)})
	}
	lines := strings.Split(s.String(), "\n")
	if len(lines) != 4 || lines[3] != "  … and 6 more" {
		t.Errorf("screen:\n%s", s)
	}
	for i := range 9 {
		term.Event(Event{Time: after(1), Kind: KindPhaseDone, Phase: "boot", Host: fmt.Sprintf("hive%d", i)})
	}
	if got := strings.Count(s.String(), "✓ boot"); got != 9 || strings.Contains(s.String(), "more") {
		t.Errorf("screen:\n%s", s)
	}
}

func TestTerminalScenario(t *testing.T) {
	term, s, now := testTerminal(t, 100, 24)
	term.Event(Event{Time: t0, Kind: KindPhaseStart, Phase: "probe", Scenario: "mesh"})
	*now = after(2)
	term.Event(Event{Time: *now, Kind: KindProgress, Phase: "probe", Scenario: "mesh", Done: 40, Total: 90})
	if got := s.String(); got != "⠋ mesh: probe  2.0 s  40/90" {
		t.Errorf("screen:\n%s", got)
	}
	term.Event(Event{Time: *now, Kind: KindClaim, Scenario: "mesh", Claim: "mesh/scales", Verdict: Fail, Message: "a \x1b[2J\x1b[31mred\x07 reason"})
	term.Event(Event{Time: *now, Kind: KindResult, Result: small(), Dir: "/x"})
	got := s.String()
	if !strings.Contains(got, "✗ fail    mesh: mesh/scales: a red\ufffd reason") && !strings.Contains(got, "✗ fail mesh: mesh/scales: a red\ufffd reason") {
		t.Errorf("screen:\n%s", got)
	}
	if strings.Contains(got, "⠋") || !strings.HasSuffix(got, "report: /x/report.html") {
		t.Errorf("screen:\n%s", got)
	}
}

func TestTerminalNoColour(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	var b bytes.Buffer
	term := NewTerminal(&b, TerminalOptions{Refresh: -1})
	term.Event(Event{Kind: KindPhaseStart, Phase: "boot"})
	term.Event(Event{Kind: KindError, Message: "x"})
	term.Event(Event{Kind: KindResult, Result: small()})
	if regexp.MustCompile("\x1b\\[[0-9;]*m").Match(b.Bytes()) {
		t.Errorf("colours in %q", b.String())
	}
}

// TestSinksConcurrent is for the race detector, with the display refreshing beside it.
func TestSinksConcurrent(t *testing.T) {
	drawn := make(chan struct{}, 1)
	w := writerFunc(func(p []byte) (int, error) {
		select {
		case drawn <- struct{}{}:
		default:
		}
		return len(p), nil
	})
	term := NewTerminal(w, TerminalOptions{Refresh: time.Millisecond})
	var plain, quiet, lines strings.Builder
	m := Multi(term, NewPlain(&plain), NewQuiet(&quiet), NewJSON(&lines))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			host := fmt.Sprintf("hive%d", i)
			m.Event(Event{Kind: KindPhaseStart, Phase: "boot", Host: host})
			<-drawn
			for n := range 50 {
				m.Event(Event{Kind: KindProgress, Phase: "boot", Host: host, Done: n, Total: 50})
			}
			m.Event(Event{Kind: KindPhaseDone, Phase: "boot", Host: host})
		})
	}
	wg.Wait()
	_ = term.Close()
	_ = term.Close()
	if got := strings.Count(plain.String(), "done"); got != 8 {
		t.Errorf("%d phases done", got)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestNewConsoleOnAFile(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	c := NewConsole(f)
	c.Event(Event{Time: t0, Kind: KindLog, Message: "hello"})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(f.Name()); string(b) != "[    0.0s] hello\n" {
		t.Errorf("%q", b)
	}
}
