package helper

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision"
)

// serving starts a helper on a loopback port; clock is told what it would set.
func serving(t *testing.T, owner netip.Addr) (c *Conn, clock chan time.Time) {
	t.Helper()
	clock = make(chan time.Time, 16)
	real := setClock
	setClock = func(now time.Time) error { clock <- now; return nil }
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, owner) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		setClock = real
	})
	return New("hive0", dialer(l.Addr().String())), clock
}

func dialer(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

func TestRun(t *testing.T) {
	c, _ := serving(t, netip.Addr{})
	big := strings.Repeat("0123456789abcdef", 1<<16)
	for name, tc := range map[string]struct {
		command, stdin string
		noStdin        bool
		want           string
		status         int
		err            string
	}{
		"output":                 {command: "echo hello", noStdin: true, want: "hello\n"},
		"input and much of it":   {command: "cat", stdin: big, want: big},
		"input that nobody read": {command: "echo done", stdin: big, want: "done\n"},
		"status":                 {command: "echo partly; echo broken >&2; exit 7", noStdin: true, want: "partly\n", status: 7, err: "broken"},
		"killed":                 {command: "kill -9 $$", noStdin: true, err: "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdin io.Reader = strings.NewReader(tc.stdin)
			if tc.noStdin {
				stdin = nil
			}
			out, err := c.Run(t.Context(), tc.command, stdin)
			if string(out) != tc.want {
				t.Errorf("%d bytes of output, want %d: %.40q", len(out), len(tc.want), out)
			}
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			var exit *provision.ExitError
			if errors.As(err, &exit) != (tc.status != 0) || tc.status != 0 && exit.Status != tc.status {
				t.Errorf("%v, want status %d", err, tc.status)
			}
		})
	}
}

// A command ends together with what it started when its client goes away.
func TestRunCancelled(t *testing.T) {
	c, _ := serving(t, netip.Addr{})
	fifo := filepath.Join(t.TempDir(), "alive")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		// The grandchild holds the pipe open for as long as it lives.
		_, err := c.Run(ctx, "mkfifo "+fifo+".tmp && mv "+fifo+".tmp "+fifo+"; sh -c 'exec 3>"+fifo+"; echo up >&3; sleep 600'; true", nil)
		done <- err
	}()
	for {
		if _, err := os.Stat(fifo); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	file, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Errorf("ended with %v", err)
	}
	if _, err := io.ReadAll(file); err != nil { // ends when nobody has the pipe open any more
		t.Error(err)
	}
}

func TestDialUnix(t *testing.T) {
	c, _ := serving(t, netip.Addr{})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		text, _ := io.ReadAll(conn) // up to the half-close
		_, _ = conn.Write(bytes.ToUpper(text))
	}()
	conn, err := c.DialUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(conn); err != nil || string(text) != "HELLO" {
		t.Errorf("%q, %v", text, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.DialUnix(t.Context(), path+"-missing"); err == nil || !strings.Contains(err.Error(), "hive0: connect to "+path+"-missing") {
		t.Errorf("no socket: %v", err)
	}
}

// Close is for a host that is restored: what was under way ends at once.
func TestClose(t *testing.T) {
	c, _ := serving(t, netip.Addr{})
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := c.DialUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err == nil {
		t.Error("the connection outlived Close")
	}
	if out, err := c.Run(t.Context(), "echo again", nil); err != nil || string(out) != "again\n" {
		t.Errorf("after Close: %q, %v", out, err)
	}
}

func TestWaitReadySetsTheClock(t *testing.T) {
	c, clock := serving(t, netip.Addr{})
	before := time.Now()
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := <-clock; now.Before(before.Round(0)) || now.After(time.Now()) {
		t.Errorf("the clock was set to %s", now)
	}
	// Nobody listens: the last attempt's error is the reason.
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = New("hive1", dialer(l.Addr().String())).WaitReady(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("no helper: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	stranger, _ := serving(t, netip.MustParseAddr("192.0.2.1"))
	if _, err := stranger.Run(t.Context(), "echo secret", nil); err == nil {
		t.Error("another address than the owner's is answered")
	}
	c, _ := serving(t, netip.Addr{})
	for name, tc := range map[string]struct{ send, want string }{
		"not JSON":          {"hello\n", "not understood"},
		"unknown operation": {`{"op": "reboot"}` + "\n", "unknown operation"},
		"too long":          {strings.Repeat("x", maxRequest+64<<10), ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := c.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = conn.Write([]byte(tc.send)) // it may be closed half-way
			text, _ := io.ReadAll(conn)
			if !strings.Contains(string(text), tc.want) || tc.want == "" && len(text) > 0 {
				t.Errorf("answered %q", text)
			}
		})
	}
}
