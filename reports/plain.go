package reports

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progressEvery is how often NewPlain tells the progress of one phase.
const progressEvery = 5 * time.Second

// NewPlain writes one line an event, each after the time since the first one:
// "[  12.3s] hive1: ssh answers". Progress is told every few seconds and at its
// end. The last event gives the final table. For logs and pipes: no colour, no
// terminal sequences.
func NewPlain(w io.Writer) Sink { return &plain{w: w, told: map[phaseKey]time.Time{}} }

type phaseKey struct{ phase, host, scenario string }

func (e *Event) key() phaseKey { return phaseKey{e.Phase, e.Host, e.Scenario} }

type plain struct {
	mu    sync.Mutex
	w     io.Writer
	start time.Time
	told  map[phaseKey]time.Time // last progress line
}

func (p *plain) Event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if p.start.IsZero() {
		p.start = e.Time
	}
	switch e.Kind {
	case KindPhaseStart:
		p.told[e.key()] = e.Time
	case KindPhaseDone:
		delete(p.told, e.key())
	case KindProgress:
		last, ok := p.told[e.key()]
		if complete := e.Total > 0 && e.Done >= e.Total; ok && !complete && e.Time.Sub(last) < progressEvery {
			return
		}
		p.told[e.key()] = e.Time
	case KindResult:
		if e.Result != nil {
			_, _ = io.WriteString(p.w, "\n")
			PrintResult(p.w, e.Result, e.Dir, false)
			return
		}
	}
	prefix := fmt.Sprintf("[%7.1fs] ", max(0, e.Time.Sub(p.start).Seconds()))
	text := strings.ReplaceAll(eventText(&e), "\n", "\n"+strings.Repeat(" ", len(prefix)))
	_, _ = io.WriteString(p.w, prefix+text+"\n")
}

// eventText is the event without its time, in one line but for a message of several.
func eventText(e *Event) string {
	msg := strings.TrimSpace(cleanText(e.Message))
	tail := ""
	if msg != "" {
		tail = ": " + msg
	}
	switch e.Kind {
	case KindPhaseStart:
		return phaseName(e) + " …" + strings.TrimPrefix(tail, ":")
	case KindPhaseDone:
		word := "done"
		if e.Verdict != "" && e.Verdict != Pass {
			word = string(e.Verdict)
		}
		if e.ElapsedS > 0 {
			word += " in " + seconds(e.ElapsedS)
		}
		return phaseName(e) + ": " + word + tail
	case KindProgress:
		return phaseName(e) + ": " + strings.TrimSpace(progressText(e)+" "+msg)
	case KindClaim:
		s := pad(string(e.Verdict), 7) + " " + join(": ", e.Scenario, e.Claim)
		if e.Service != "" {
			s += " [" + oneLine(e.Service) + "]"
		}
		if e.Verdict != Pass {
			s += tail
		}
		return s
	case KindScenario:
		s := pad(string(e.Verdict), 7) + " " + oneLine(e.Scenario)
		if e.ElapsedS > 0 {
			s += " in " + seconds(e.ElapsedS)
		}
		return s + tail
	case KindWarning, KindError:
		return string(e.Kind) + ": " + join(": ", phaseName(e), msg)
	}
	return join(": ", phaseName(e), msg)
}

// phaseName is "lb-mesh: deploy", "boot hive1", "hive1", or "".
func phaseName(e *Event) string { return join(": ", e.Scenario, join(" ", e.Phase, e.Host)) }

func progressText(e *Event) string {
	switch {
	case e.Total > 0:
		return fmt.Sprintf("%d/%d", e.Done, e.Total)
	case e.Done > 0:
		return fmt.Sprint(e.Done)
	}
	return ""
}

// join joins those of parts that are not empty; each is cleaned but the last, a
// message, which may have several lines.
func join(sep string, parts ...string) string {
	var some []string
	for i, p := range parts {
		if i < len(parts)-1 {
			p = oneLine(p)
		}
		if p != "" {
			some = append(some, p)
		}
	}
	return strings.Join(some, sep)
}

// NewQuiet writes errors and, at the end, what did not pass, the headline and
// the report's path.
func NewQuiet(w io.Writer) Sink { return &quiet{w: w} }

type quiet struct {
	mu sync.Mutex
	w  io.Writer
}

func (q *quiet) Event(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case e.Kind == KindResult && e.Result != nil:
		printResult(q.w, e.Result, e.Dir, false, true)
	case e.Kind == KindError, e.Kind == KindResult:
		_, _ = io.WriteString(q.w, eventText(&e)+"\n")
	}
}
