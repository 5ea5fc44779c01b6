package reports

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// TerminalOptions adjust NewTerminal. The zero value is right for a real terminal.
type TerminalOptions struct {
	// NoColour leaves out colours. The environment's NO_COLOR does too (no-color.org).
	NoColour bool
	// Size gives the terminal's columns and rows; it is asked before each
	// drawing. Nil asks the terminal, or takes 80 × 24 if w is none.
	Size func() (columns, rows int)
	// Now is the clock for elapsed times, time.Now if nil.
	Now func() time.Time
	// Refresh is the time between two drawings, 0 for 120 ms. If negative it is
	// drawn after each event and never in between.
	Refresh time.Duration
}

// Terminal is a live display: what has happened scrolls up, and below it stands
// a line for each phase that is going on, drawn anew in its place.
type Terminal struct {
	w    io.Writer
	opts TerminalOptions

	mu     sync.Mutex
	live   []*livePhase
	drawn  []int // columns used by each live line that is on the screen
	frame  int
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup
}

type livePhase struct {
	phaseKey
	since  time.Time
	status string
}

// Console is a sink that must be closed after the last event.
type Console interface {
	Sink
	io.Closer
}

// NewConsole is a Terminal if f is a terminal that can be drawn on, else plain lines.
func NewConsole(f *os.File) Console {
	if drawable(f) {
		return NewTerminal(f, TerminalOptions{})
	}
	return plainConsole{NewPlain(f)}
}

type plainConsole struct{ Sink }

func (plainConsole) Close() error { return nil }

// NewTerminal draws on w. Nothing else should write to the terminal until Close.
func NewTerminal(w io.Writer, opts TerminalOptions) *Terminal {
	if os.Getenv("NO_COLOR") != "" {
		opts.NoColour = true
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Size == nil {
		opts.Size = func() (int, int) { return 80, 24 }
		if f, ok := w.(*os.File); ok {
			opts.Size = func() (int, int) {
				if c, r, err := term.GetSize(int(f.Fd())); err == nil && c > 0 && r > 0 {
					return c, r
				}
				return 80, 24
			}
		}
	}
	if opts.Refresh == 0 {
		opts.Refresh = 120 * time.Millisecond
	}
	t := &Terminal{w: w, opts: opts, stop: make(chan struct{})}
	if opts.Refresh > 0 {
		t.wg.Add(1)
		go t.refresh()
	}
	return t
}

func (t *Terminal) refresh() {
	defer t.wg.Done()
	tick := time.NewTicker(t.opts.Refresh)
	defer tick.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-tick.C:
			t.mu.Lock()
			if len(t.live) > 0 {
				t.frame++
				t.draw("")
			}
			t.mu.Unlock()
		}
	}
}

// Close takes the live lines away and stops the display. Later events are
// printed as lines only. It may be called again.
func (t *Terminal) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.live = nil
	t.draw("")
	close(t.stop)
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// Event shows e.
func (t *Terminal) Event(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = t.opts.Now()
	}
	at := slices.IndexFunc(t.live, func(l *livePhase) bool { return l.phaseKey == e.key() })
	switch e.Kind {
	case KindPhaseStart:
		l := &livePhase{phaseKey: e.key(), since: e.Time, status: oneLine(e.Message)}
		if at >= 0 {
			t.live[at] = l
		} else if !t.closed {
			t.live = append(t.live, l)
		}
		t.draw("")
		return
	case KindProgress:
		if at >= 0 {
			t.live[at].status = strings.TrimSpace(progressText(&e) + " " + oneLine(e.Message))
			if t.opts.Refresh < 0 {
				t.draw("")
			}
		}
		return // the refresh shows it: there may be thousands
	case KindLog:
		if at < 0 && e.Phase == "" && e.Host != "" { // of a host: what is that host doing?
			at = slices.IndexFunc(t.live, func(l *livePhase) bool { return l.host == e.Host })
		}
		if at >= 0 && !strings.Contains(strings.TrimSpace(e.Message), "\n") {
			t.live[at].status = oneLine(e.Message)
			t.draw("")
			return
		}
	case KindPhaseDone:
		if e.ElapsedS == 0 && at >= 0 {
			e.ElapsedS = e.Time.Sub(t.live[at].since).Seconds()
		}
		if at >= 0 {
			t.live = slices.Delete(t.live, at, at+1)
		}
	case KindScenario:
		t.live = slices.DeleteFunc(t.live, func(l *livePhase) bool { return e.Scenario != "" && l.scenario == e.Scenario })
	case KindResult:
		t.live = nil
		if e.Result != nil {
			var b strings.Builder
			PrintResult(&b, e.Result, e.Dir, !t.opts.NoColour)
			t.draw("\n" + b.String())
			return
		}
	}
	t.draw(t.permanent(&e))
}

// permanent is the event as lines that stay.
func (t *Terminal) permanent(e *Event) string {
	colour := !t.opts.NoColour
	columns, _ := t.opts.Size()
	mark, code := " ", ""
	text := eventText(e)
	switch e.Kind {
	case KindPhaseDone:
		mark, code = Pass.Symbol(), colours[Pass]
		if e.Verdict != "" && e.Verdict != Pass {
			mark, code = e.Verdict.Symbol(), colours[e.Verdict]
		}
		text = strings.Replace(text, ": done in ", " in ", 1)
	case KindClaim, KindScenario:
		mark, code = e.Verdict.Symbol(), colours[e.Verdict]
	case KindWarning:
		mark, code = "!", colours[Invalid]
	case KindError:
		mark, code = "!", colours[Fail]
	case KindLog:
		code = "2"
	}
	var b strings.Builder
	// A little less than the width: terminals differ in what they do in the last column.
	for i, line := range wrapText(text, columns-4) {
		if i == 0 {
			b.WriteString(paint(colour, code, mark) + " ")
		} else {
			b.WriteString("    ")
		}
		if e.Kind == KindLog {
			line = paint(colour, code, line)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// draw takes the live lines away, writes the permanent lines and draws the live
// ones below, all in one Write. Live lines are cut to the width so that each
// takes one row, and are fewer than the rows: the cursor cannot go above the
// screen. Call it with mu held.
func (t *Terminal) draw(permanent string) {
	columns, rows := t.opts.Size()
	columns, rows = max(columns, 2), max(rows, 3)
	var b strings.Builder
	if len(t.drawn) > 0 {
		// If the window has become narrower since, the terminal has broken the
		// lines, and each takes several rows.
		up := 0
		for _, used := range t.drawn {
			up += max(1, (used+columns-1)/columns)
		}
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", min(up, rows-1))
	}
	b.WriteString(permanent)
	t.drawn = t.drawn[:0]
	show := min(len(t.live), 12, rows-2)
	for i, l := range t.live[:show] {
		if i == show-1 && len(t.live) > show {
			line := truncate(fmt.Sprintf("  … and %d more", len(t.live)-show+1), columns-1)
			t.line(&b, line, line)
			break
		}
		e := Event{Phase: l.phase, Host: l.host, Scenario: l.scenario}
		spin := spinner[t.frame%len(spinner)]
		name := phaseName(&e)
		elapsed := seconds(max(0, t.opts.Now().Sub(l.since).Seconds()))
		text := truncate(" "+strings.TrimSpace(name+"  "+elapsed+"  "+l.status), columns-2)
		t.line(&b, spin+text, paint(!t.opts.NoColour, "36", spin)+text)
	}
	if b.Len() > 0 {
		_, _ = io.WriteString(t.w, b.String())
	}
}

func (t *Terminal) line(b *strings.Builder, plain, painted string) {
	b.WriteString(painted + "\n")
	t.drawn = append(t.drawn, textWidth(plain))
}
