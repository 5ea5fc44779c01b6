package reports

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Kind says what an Event reports.
type Kind string

// The kinds of events.
const (
	// KindPhaseStart begins a phase. A phase is known by Phase, Host and Scenario
	// together, so several may go on at once (the boot of each host).
	KindPhaseStart Kind = "phase-start"
	// KindPhaseDone ends it. A Verdict other than "" and pass says that it failed; Message may say how.
	KindPhaseDone Kind = "phase-done"
	// KindProgress tells how far a phase is: Done of Total (0: unknown), or a Message.
	KindProgress Kind = "progress"
	// KindClaim is one claim's Verdict, with the reason as Message.
	KindClaim Kind = "claim"
	// KindScenario is a scenario's Verdict.
	KindScenario Kind = "scenario"
	KindWarning  Kind = "warning"
	KindError    Kind = "error"
	// KindLog is a step worth a line: "ssh answers".
	KindLog Kind = "log"
	// KindResult is the last event: Result and Dir, for the final table, or a Message.
	KindResult Kind = "result"
)

// Event is one thing that happened in a run. It is streamed from a supervisor
// as JSON, one object a line, and is what --json prints. The line of a KindResult
// event holds the whole Result and may be long: read with json.Decoder.
type Event struct {
	Time     time.Time `json:"time"` // when it happened; sinks take the present for a zero time
	Kind     Kind      `json:"kind"`
	Phase    string    `json:"phase,omitempty"` // image, boot, swarm, deploy, probe, …
	Host     string    `json:"host,omitempty"`
	Scenario string    `json:"scenario,omitempty"`
	Claim    string    `json:"claim,omitempty"`
	Service  string    `json:"service,omitempty"` // that the claim was judged on
	Verdict  Verdict   `json:"verdict,omitempty"`
	Message  string    `json:"message,omitempty"`
	Done     int       `json:"done,omitempty"`
	Total    int       `json:"total,omitempty"`
	ElapsedS float64   `json:"elapsed_s,omitempty"` // of the phase or scenario that is done, in seconds
	Result   *Result   `json:"result,omitempty"`
	Dir      string    `json:"dir,omitempty"` // the run directory
}

// Sink takes the events of a run. Event may be called concurrently. It neither
// fails nor holds up the run: what cannot be written is dropped. The sink does
// not keep Result after it returns.
type Sink interface{ Event(Event) }

// SinkFunc is a function as a Sink. It must itself be safe for concurrent use.
type SinkFunc func(Event)

// Event calls f.
func (f SinkFunc) Event(e Event) { f(e) }

// Multi passes each event to all sinks, in order. Nil sinks are left out.
func Multi(sinks ...Sink) Sink {
	var m multi
	for _, s := range sinks {
		if s != nil {
			m = append(m, s)
		}
	}
	return m
}

type multi []Sink

func (m multi) Event(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now() // the same for all of them
	}
	for _, s := range m {
		s.Event(e)
	}
}

// NewJSON writes each event as a JSON object on its own line, in one Write.
func NewJSON(w io.Writer) Sink { return &jsonSink{w: w} }

type jsonSink struct {
	mu sync.Mutex
	w  io.Writer
}

func (j *jsonSink) Event(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	b, err := json.Marshal(e)
	if err != nil && e.Result != nil {
		e.Result = encodable(e.Result)
		b, err = json.Marshal(e)
	}
	if err != nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = j.w.Write(append(b, '\n'))
}
