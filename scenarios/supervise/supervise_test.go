package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/session"
)

var errNoLab = errors.New("hive1: no address after 60s")

// starting is a supervisor whose lab is coming up until end is closed or it is
// told to stop; then it fails with errNoLab, or with the reason of the stop.
type starting struct {
	socket string
	record func(lab.Event)
	end    chan struct{}
	served chan error
}

func start(t *testing.T, socket string) *starting {
	t.Helper()
	s := &starting{socket: socket, end: make(chan struct{}), served: make(chan error, 1)}
	up := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.served <- Serve(ctx, socket, "v1", func(ctx context.Context, record func(lab.Event)) (*lab.Lab, error) {
			s.record = record
			close(up)
			select {
			case <-s.end:
				return nil, errNoLab
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})
		close(s.served)
	}()
	t.Cleanup(func() {
		cancel()
		for range s.served {
		}
	})
	select {
	case <-up:
	case err := <-s.served:
		t.Fatalf("Serve ended before the lab was brought up: %v", err)
	}
	return s
}

func connect(t *testing.T, socket string) (*Client, *Status) {
	t.Helper()
	c, st, err := Connect(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	return c, st
}

func TestStarting(t *testing.T) {
	s := start(t, filepath.Join(t.TempDir(), "s"))
	c, st := connect(t, s.socket)
	if st.Phase != Starting || st.Version != "v1" || st.PID != os.Getpid() || st.Protocol != Protocol || st.Error != "" || len(st.PrivateKey) > 0 {
		t.Errorf("status %+v", st)
	}
	info, err := os.Stat(s.socket)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("the socket's mode is %o", mode)
	}
	if _, err := c.Run(t.Context(), session.Request{}, reports.SinkFunc(func(reports.Event) {})); err == nil || !strings.Contains(err.Error(), "not ready: starting") {
		t.Errorf("a run on a lab that is not up: %v", err)
	}
	if _, err := c.DialSSH(t.Context(), "hive0"); err == nil || !strings.Contains(err.Error(), "not ready: starting") {
		t.Errorf("ssh to a lab that is not up: %v", err)
	}
}

// Those who wait are told what went wrong, each time and not only by chance.
func TestBringUpFails(t *testing.T) {
	dir := t.TempDir()
	for range 10 {
		s := start(t, filepath.Join(dir, "s"))
		s.record(lab.Event{Phase: "image", Start: true})
		c, _ := connect(t, s.socket)
		var events []reports.Event
		err := c.WaitReady(t.Context(), reports.SinkFunc(func(e reports.Event) {
			events = append(events, e)
			switch e.Phase {
			case "image": // recorded before anybody asked; what follows is followed
				s.record(lab.Event{Phase: "boot", Start: true})
			case "boot":
				close(s.end)
			}
		}))
		if err == nil || err.Error() != errNoLab.Error() {
			t.Fatalf("WaitReady gives %v, want the reason", err)
		}
		if len(events) != 2 || events[0].Kind != reports.KindPhaseStart || events[0].Time.IsZero() {
			t.Errorf("events %+v", events)
		}
		if err := <-s.served; !errors.Is(err, errNoLab) {
			t.Errorf("Serve gives %v, want the reason", err)
		}
		if _, _, err := Connect(t.Context(), s.socket); !errors.Is(err, ErrNone) {
			t.Errorf("a supervisor is still there: %v", err)
		}
	}
}

func TestDownWhileStarting(t *testing.T) {
	s := start(t, filepath.Join(t.TempDir(), "s"))
	c, _ := connect(t, s.socket)
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-s.served; !errors.Is(err, ErrDown) {
		t.Errorf("Serve gives %v, want %v", err, ErrDown)
	}
}

func TestStaleSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	if _, _, err := Connect(t.Context(), socket); !errors.Is(err, ErrNone) {
		t.Errorf("without a socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := os.Stat(socket); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Connect(t.Context(), socket); !errors.Is(err, ErrNone) {
		t.Errorf("with a dead one's socket: %v", err)
	}
	// The next supervisor takes its place.
	connect(t, start(t, socket).socket)
}

func TestConnectInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("interrupted")
	cancel(reason)
	if _, _, err := Connect(ctx, filepath.Join(t.TempDir(), "s")); !errors.Is(err, reason) {
		t.Errorf("error %v: that there is no supervisor was not found out", err)
	}
}

// fake is a supervisor that answers every request by handle.
func fake(t *testing.T, handle http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handle, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(l)
		close(done)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return socket
}

func TestOtherProtocol(t *testing.T) {
	socket := fake(t, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, Status{Protocol: Protocol + 1, Version: "v9", PID: 4711, Phase: Ready})
	})
	_, _, err := Connect(t.Context(), socket)
	var other *IncompatibleError
	if !errors.As(err, &other) || other.Status.PID != 4711 || !strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), "v9") {
		t.Errorf("error %v", err)
	}
}

// A supervisor that dies is never taken for one whose lab is up or whose run passed.
func TestSupervisorDies(t *testing.T) {
	socket := fake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/status" {
			reply(w, Status{Protocol: Protocol, Phase: Starting})
			return
		}
		_ = newStream(w).send(RunLine{Event: &reports.Event{Kind: reports.KindLog, Message: "m"}})
	})
	c, _ := connect(t, socket)
	sink := reports.SinkFunc(func(reports.Event) {})
	if err := c.WaitReady(t.Context(), sink); err == nil || !strings.Contains(err.Error(), "the supervisor ended") {
		t.Errorf("WaitReady gives %v", err)
	}
	if report, err := c.Run(t.Context(), session.Request{}, sink); err == nil || report != nil || !strings.Contains(err.Error(), "the supervisor ended") {
		t.Errorf("Run gives %v, %v", report, err)
	}
}

func TestStatusPhases(t *testing.T) {
	for _, phase := range []string{Starting, Failed, Stopping} {
		// A lab that comes or goes is not asked: it may never answer.
		s := &Server{version: "v1", phase: phase, lab: &lab.Lab{}, running: "now"}
		if phase == Failed {
			s.err = errNoLab
		}
		w := httptest.NewRecorder()
		s.handleStatus(w, httptest.NewRequest("GET", "/v1/status", nil))
		var st Status
		if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		if st.Phase != phase || (st.Error != "") != (phase == Failed) || st.Running != "now" || st.Hosts != nil {
			t.Errorf("%s: %+v", phase, st)
		}
	}
}

func TestRunRefused(t *testing.T) {
	for _, test := range []struct {
		name, body string
		server     *Server
		code       int
		want       string
	}{
		{"not JSON", "{", &Server{phase: Ready}, http.StatusBadRequest, "not understood"},
		{"busy", "{}", &Server{phase: Ready, running: "10:15"}, http.StatusConflict, "10:15"},
		{"failed", "{}", &Server{phase: Failed}, http.StatusConflict, "not ready: failed"},
		{"stopping", "{}", &Server{phase: Stopping}, http.StatusConflict, "not ready: stopping"},
	} {
		w := httptest.NewRecorder()
		test.server.handleRun(w, httptest.NewRequest("POST", "/v1/run", strings.NewReader(test.body)))
		if w.Code != test.code || !strings.Contains(w.Body.String(), test.want) {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
	}
}
