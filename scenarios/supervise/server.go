// Package supervise keeps a lab in a process of its own and lets others use it
// over a unix socket: HTTP, with streams of JSON lines for what takes long.
package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/snapshot"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
	"github.com/hiveproof/hiveproof/scenarios/session"
)

// Protocol is raised when a client of the previous one would be misunderstood.
const Protocol = 2

// Status is what a supervisor says of itself.
type Status struct {
	Protocol int                `json:"protocol"`
	Version  string             `json:"version"`
	PID      int                `json:"pid"`
	Started  time.Time          `json:"started"`
	Phase    string             `json:"phase"` // starting, ready, failed, stopping
	Error    string             `json:"error,omitempty"`
	Running  string             `json:"running,omitempty"` // what it is busy with, and since when
	Accel    string             `json:"accel,omitempty"`
	Hosts    []HostStatus       `json:"hosts,omitempty"`
	Timings  map[string]float64 `json:"timings,omitempty"` // seconds by phase of the bring-up
	// Snapshot is the name of what the lab is restored to; Snapshots are all that are stored.
	Snapshot  string          `json:"snapshot,omitempty"`
	Snapshots []snapshot.Info `json:"snapshots,omitempty"`
	// PrivateKey is the key that the hosts let in, in OpenSSH's form; only the
	// owner of the socket can ask for it.
	PrivateKey []byte `json:"private_key,omitempty"`
}

// HostStatus is one host as the supervisor knows it.
type HostStatus struct {
	Name      string `json:"name"`
	Address   string `json:"address"`
	Role      string `json:"role"`
	MemoryMiB int    `json:"memory_mib"`
	UsedMiB   int    `json:"used_mib"`         // of this machine's memory, by its process
	UptimeS   int    `json:"uptime_s"`         // since it was booted or restored
	Swarm     string `json:"swarm"`            // ready, down, or what is wrong
	HostKey   string `json:"host_key"`         // authorized_keys form
	Leader    bool   `json:"leader,omitempty"` // leads the swarm now
}

// Phases of a supervisor.
const (
	Starting = "starting"
	Ready    = "ready"
	Failed   = "failed"
	Stopping = "stopping"
)

// Server supervises one lab.
type Server struct {
	version string
	started time.Time
	stop    context.CancelCauseFunc

	mu      sync.Mutex
	phase   string
	err     error
	lab     *lab.Lab
	events  []reports.Event // of the bring-up, replayed to whoever asks
	changed chan struct{}   // closed and replaced at each change
	running string
	cancel  context.CancelCauseFunc // of the run
}

// restoreTimeout bounds the restore after a run.
const restoreTimeout = 3 * time.Minute

// errCancelled is the cause of a run that its client ended.
var errCancelled = errors.New("cancelled by the client")

// ErrDown is the cause of an orderly end.
var ErrDown = errors.New("hiveproof down")

// Serve brings a lab up and serves it on the socket until ctx ends or a client
// says down; then it takes the lab down. The error of a lab that did not come
// up is also told to the clients that wait for it.
func Serve(ctx context.Context, socket, version string, up func(context.Context, func(lab.Event)) (*lab.Lab, error)) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &Server{version: version, started: time.Now().UTC(), stop: stop, phase: Starting, changed: make(chan struct{})}
	// The caller holds the state directory's lock: whatever is at this path is dead.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen on the supervisor's socket: %w", err)
	}
	defer listener.Close()
	// The directory is 0700 already; this says it of the socket itself.
	if err := os.Chmod(socket, 0o600); err != nil {
		return fmt.Errorf("protect the supervisor's socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.handleStatus)
	mux.HandleFunc("GET /v1/bringup", s.handleBringUp)
	mux.HandleFunc("POST /v1/run", s.handleRun)
	mux.HandleFunc("POST /v1/cancel", s.handleCancel)
	mux.HandleFunc("POST /v1/snapshot/save", s.handleSnapshot("saving snapshot", (*lab.Lab).Save))
	mux.HandleFunc("POST /v1/snapshot/restore", s.handleSnapshot("restoring snapshot", (*lab.Lab).RestoreTo))
	mux.HandleFunc("POST /v1/ssh", s.handleSSH)
	mux.HandleFunc("POST /v1/down", s.handleDown)
	server := &http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()

	l, err := up(ctx, s.record)
	s.update(func() {
		s.lab, s.err, s.phase = l, err, Ready
		if err != nil {
			s.phase = Failed
		}
	})
	if err == nil {
		<-ctx.Done()
		s.update(func() { s.phase = Stopping })
		if closeErr := l.Close(); closeErr != nil {
			err = closeErr
		}
	}
	// Clients that wait are told the end; streams that go on are cut after a moment.
	grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	stop(ErrDown)
	if shutdownErr := server.Shutdown(grace); shutdownErr != nil {
		server.Close()
	}
	<-served
	return err
}

// update changes the state and wakes who waits for a change.
func (s *Server) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) record(e lab.Event) {
	session.LabEvents(reports.SinkFunc(func(e reports.Event) {
		e.Time = time.Now()
		s.update(func() { s.events = append(s.events, e) })
	}))(e)
}

func (s *Server) handleStatus(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	st := Status{Protocol: Protocol, Version: s.version, PID: os.Getpid(), Started: s.started, Phase: s.phase, Running: s.running}
	if s.err != nil {
		st.Error = s.err.Error()
	}
	l := s.lab
	s.mu.Unlock()
	if l != nil && st.Phase == Ready {
		st.Accel, st.Timings, st.PrivateKey = string(l.Proof.Accel), l.Timings, l.Cluster.PrivateKey()
		st.Hosts = hostStatus(r.Context(), l)
		st.Snapshot = l.SnapshotName()
		st.Snapshots, _ = l.Snapshots() // a list that cannot be read is no reason to hide the rest
	}
	reply(w, st)
}

func hostStatus(ctx context.Context, l *lab.Lab) []HostStatus {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	health := "ready"
	if err := l.Swarm.Healthy(ctx); err != nil {
		health = err.Error()
	}
	leader, _ := l.Swarm.Leader(ctx) // the health already says what is wrong
	var all []HostStatus
	for i, h := range l.Topology.Hosts {
		hs := HostStatus{Name: h.Name, Address: h.Addr.String(), Role: "worker", MemoryMiB: h.MemoryMiB, Swarm: health, Leader: h.Name == leader}
		switch {
		case h.Manager:
			hs.Role = "manager"
		case h.Edge:
			hs.Role, hs.Swarm = "edge", "not in the swarm"
		}
		hs.HostKey = l.Cluster.HostKey(i)
		usage := l.Cluster.Usage(i)
		hs.UsedMiB, hs.UptimeS = usage.MemoryMiB, int(usage.Uptime.Seconds())
		all = append(all, hs)
	}
	return all
}

// BringUp is one line of the stream that follows a bring-up.
type BringUp struct {
	Event *reports.Event `json:"event,omitempty"`
	Phase string         `json:"phase,omitempty"` // the last line: ready or failed
	Error string         `json:"error,omitempty"`
}

func (s *Server) handleBringUp(w http.ResponseWriter, r *http.Request) {
	stream := newStream(w)
	next := 0
	for {
		s.mu.Lock()
		events, phase, err, changed := s.events[next:], s.phase, s.err, s.changed
		s.mu.Unlock()
		for i := range events {
			if stream.send(BringUp{Event: &events[i]}) != nil {
				return
			}
		}
		next += len(events)
		if phase != Starting {
			last := BringUp{Phase: phase}
			if err != nil {
				last.Error = err.Error()
			}
			_ = stream.send(last) // the client may be gone
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			// A failed bring-up also ends the supervisor: its reason is told first.
			select {
			case <-changed:
			default:
				return
			}
		}
	}
}

func (s *Server) handleRun(w http.ResponseWriter, r *http.Request) {
	var req session.Request
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "the request is not understood: "+err.Error(), http.StatusBadRequest)
		return
	}
	// A client that goes away ends its run too: it is then cleaned up and reported
	// as an interrupted one.
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	l, done, err := s.begin("a run", cancel)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	defer done()
	plan, err := scenarios.NewPlan(req.Selection, scenarios.FactsOf(l.Topology))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	stream := newStream(w)
	_, err = session.Run(ctx, req, plan, reports.SinkFunc(func(e reports.Event) {
		_ = stream.send(RunLine{Event: &e}) // a client that is gone cancels ctx
	}), func(context.Context, string) (*lab.Lab, bool, error) { return l, false, nil }, func(l *lab.Lab) error {
		// The next user finds it as this one did, also after an interruption.
		if req.NoRestore || !l.CanRestore() {
			return nil
		}
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
		defer cancel()
		return l.Restore(limited)
	})
	last := RunLine{End: true}
	if err != nil {
		last.Error = err.Error()
	}
	_ = stream.send(last)
}

// begin makes the lab busy until done is called; cancel ends what it is busy with.
func (s *Server) begin(what string, cancel context.CancelCauseFunc) (l *lab.Lab, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.phase != Ready:
		return nil, nil, fmt.Errorf("the lab is not ready: %s", s.phase)
	case s.running != "":
		return nil, nil, fmt.Errorf("the lab is busy with %s: wait for it", s.running)
	}
	s.running, s.cancel = what+" since "+time.Now().UTC().Format(time.RFC3339), cancel
	return s.lab, func() { s.update(func() { s.running, s.cancel = "", nil }) }, nil
}

// handleSnapshot does something with a named snapshot while nobody else uses the lab.
func (s *Server) handleSnapshot(what string, do func(*lab.Lab, context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("name")
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		l, done, err := s.begin(what+" "+name, cancel)
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer done()
		if err := do(l, ctx, name); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		reply(w, struct{}{})
	}
}

// handleCancel ends the run; its stream goes on until the report is written.
func (s *Server) handleCancel(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	if s.cancel != nil {
		s.cancel(errCancelled)
	}
	s.mu.Unlock()
	reply(w, struct{}{})
}

// RunLine is one line of the stream of a run.
type RunLine struct {
	Event *reports.Event `json:"event,omitempty"`
	End   bool           `json:"end,omitempty"`
	Error string         `json:"error,omitempty"`
}

// handleSSH turns the connection into one to the host's SSH port; the client
// speaks SSH itself and checks the host's key.
func (s *Server) handleSSH(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	l, phase := s.lab, s.phase
	s.mu.Unlock()
	if phase != Ready {
		http.Error(w, "the lab is not ready: "+phase, http.StatusConflict)
		return
	}
	far, err := l.Cluster.DialSSH(r.Context(), r.URL.Query().Get("host"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer near.Close()
	if _, err := io.WriteString(near, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ssh\r\n\r\n"); err != nil {
		return
	}
	done := make(chan struct{}, 2)
	go func() {
		_, _ = io.Copy(far, buffered)
		done <- struct{}{}
	}()
	go func() {
		_, _ = io.Copy(near, far)
		done <- struct{}{}
	}()
	<-done // either side's end is the session's
}

func (s *Server) handleDown(w http.ResponseWriter, _ *http.Request) {
	reply(w, struct{}{})
	s.stop(ErrDown)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// stream writes JSON lines, each at once.
type stream struct {
	mu  sync.Mutex
	enc *json.Encoder
	rc  *http.ResponseController
}

func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return &stream{enc: json.NewEncoder(w), rc: http.NewResponseController(w)}
}

func (s *stream) send(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.enc.Encode(v); err != nil {
		return err
	}
	return s.rc.Flush()
}
