package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision"
	"golang.org/x/crypto/ssh"
)

// limit is for what must happen at once, on a machine that is busy with other things.
const limit = 30 * time.Second

// server is a small SSH server on a unix socket.
type server struct {
	socket string
	config *ssh.ServerConfig
	muted  chan struct{} // receives when a request came that is never answered

	mu       sync.Mutex
	accepted int
	conns    []net.Conn
}

func newKey(t *testing.T) *KeyPair {
	t.Helper()
	k, err := NewKeyPair("test")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func start(t *testing.T, hostKey, client *KeyPair) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "ssh") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{socket: filepath.Join(dir, "s"), muted: make(chan struct{}, 10)}
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if meta.User() != "root" || !bytes.Equal(key.Marshal(), client.Signer.PublicKey().Marshal()) {
			return nil, errors.New("not authorized")
		}
		return nil, nil
	}}
	s.config.AddHostKey(hostKey.Signer)
	listener, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		s.drop()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.accepted++
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			all.Go(func() { s.serve(conn) })
		}
	})
	return s
}

// drop loses all connections.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

func (s *server) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", s.socket)
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		switch c.ChannelType() {
		case "session":
			go s.session(c)
		case "direct-streamlocal@openssh.com":
			var open struct {
				Path, Reserved string
				Reserved2      uint32
			}
			switch err := ssh.Unmarshal(c.ExtraData(), &open); {
			case err == nil && open.Path == "/run/echo.sock":
				go func() {
					channel, requests, err := c.Accept()
					if err != nil {
						return
					}
					go ssh.DiscardRequests(requests)
					_, _ = io.Copy(channel, channel)
					channel.Close()
				}()
			case err == nil && open.Path == "/run/mute.sock":
				s.muted <- struct{}{}
			default:
				_ = c.Reject(ssh.ConnectionFailed, "open failed")
			}
		default:
			_ = c.Reject(ssh.UnknownChannelType, c.ChannelType())
		}
	}
}

func (s *server) session(c ssh.NewChannel) {
	channel, requests, err := c.Accept()
	if err != nil {
		return
	}
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(r.Type == "pty-req", nil)
			continue
		}
		var exec struct{ Command string }
		_ = ssh.Unmarshal(r.Payload, &exec)
		if exec.Command == "mute" {
			s.muted <- struct{}{}
			continue
		}
		_ = r.Reply(true, nil)
		status := uint32(0)
		switch exec.Command {
		case "true":
		case "cat":
			_, _ = io.Copy(channel, channel)
		case "fail\nsecond line":
			_, _ = io.WriteString(channel, "partial output")
			_, _ = io.WriteString(channel.Stderr(), "the beginning "+strings.Repeat("x", 2000)+" No space left on device\n")
			status = 28
		case "hang":
			s.muted <- struct{}{}
			continue
		case "lose":
			s.drop()
			return
		default:
			status = 127
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		channel.Close()
	}
}

func connect(t *testing.T) (*server, *Conn) {
	t.Helper()
	host, key := newKey(t), newKey(t)
	s := start(t, host, key)
	c := New("alpha", s.dial, key.Signer, host.Signer.PublicKey())
	t.Cleanup(func() { c.Close() })
	return s, c
}

func TestRun(t *testing.T) {
	s, c := connect(t)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			out, err := c.Run(t.Context(), "cat", strings.NewReader("standard input"))
			if err != nil || string(out) != "standard input" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	all.Wait()
	if n := s.connections(); n != 1 {
		t.Errorf("%d connections, want one for all", n)
	}
}

func TestExitStatus(t *testing.T) {
	_, c := connect(t)
	out, err := c.Run(t.Context(), "fail\nsecond line", nil)
	var exit *provision.ExitError
	if !errors.As(err, &exit) || exit.Status != 28 || exit.Host != "alpha" || string(out) != "partial output" {
		t.Fatalf("%q, %v", out, err)
	}
	if len(exit.Stderr) > 700 || !strings.HasSuffix(exit.Stderr, "No space left on device") || strings.Contains(exit.Stderr, "beginning") {
		t.Errorf("stderr %q: want its end", exit.Stderr)
	}
	if text := err.Error(); !strings.HasPrefix(text, "alpha: fail …: exit status 28: ") || strings.Contains(text, "second line") {
		t.Errorf("message %q", text)
	}
	status, err := c.Interactive(t.Context(), "fail\nsecond line", strings.NewReader(""), io.Discard, io.Discard, nil)
	if status != 28 || err != nil {
		t.Errorf("interactive: status %d, %v", status, err)
	}
}

func TestInteractive(t *testing.T) {
	_, c := connect(t)
	var out bytes.Buffer
	status, err := c.Interactive(t.Context(), "cat", strings.NewReader("typed"), &out, io.Discard, &Terminal{Type: "vt100", Width: 80, Height: 24})
	if status != 0 || err != nil || out.String() != "typed" {
		t.Errorf("status %d, %v, output %q", status, err, out.String())
	}
}

// The server never answers, and the call must return as soon as its context ends.
func TestCancel(t *testing.T) {
	cause := errors.New("the user pressed Ctrl-C")
	for name, call := range map[string]func(context.Context, *Conn) error{
		"start": func(ctx context.Context, c *Conn) error { _, err := c.Run(ctx, "mute", nil); return err },
		"run":   func(ctx context.Context, c *Conn) error { _, err := c.Run(ctx, "hang", nil); return err },
		"dial":  func(ctx context.Context, c *Conn) error { _, err := c.DialUnix(ctx, "/run/mute.sock"); return err },
		"interactive start": func(ctx context.Context, c *Conn) error {
			_, err := c.Interactive(ctx, "mute", strings.NewReader(""), io.Discard, io.Discard, nil)
			return err
		},
		"interactive": func(ctx context.Context, c *Conn) error {
			_, err := c.Interactive(ctx, "hang", strings.NewReader(""), io.Discard, io.Discard, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := connect(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() { done <- call(ctx, c) }()
			<-s.muted
			cancel(cause)
			select {
			case err := <-done:
				if !errors.Is(err, cause) || !strings.Contains(err.Error(), "alpha") {
					t.Errorf("%v, want the cause and the host", err)
				}
			case <-time.After(limit):
				t.Fatal("it waits for a server that does not answer")
			}
			if _, err := c.Run(t.Context(), "true", nil); err != nil {
				t.Errorf("the connection is of no more use: %v", err)
			}
		})
	}
}

func TestCancelledHandshake(t *testing.T) {
	key, cause := newKey(t), errors.New("the user pressed Ctrl-C")
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := New("alpha", func(context.Context) (net.Conn, error) { return ours, nil }, key.Signer, key.Signer.PublicKey())
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, "true", nil)
		done <- err
	}()
	if _, err := theirs.Read(make([]byte, 4)); err != nil { // the client's version: it is waiting for ours
		t.Fatal(err)
	}
	cancel(cause)
	select {
	case err := <-done:
		if !errors.Is(err, cause) {
			t.Errorf("%v, want the cause", err)
		}
	case <-time.After(limit):
		t.Fatal("it waits for a server that does not answer")
	}
}

func TestReconnects(t *testing.T) {
	s, c := connect(t)
	_, err := c.Run(t.Context(), "lose", nil)
	var exit *provision.ExitError
	if err == nil || errors.As(err, &exit) {
		t.Errorf("the connection was lost, and the command ended with %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Run(t.Context(), "true", nil); err != nil {
		t.Errorf("after Close: %v", err)
	}
	if n := s.connections(); n < 3 {
		t.Errorf("%d connections, want three", n)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestWaitReadyTellsTheLastAttempt(t *testing.T) {
	key, refused, cause := newKey(t), errors.New("connection refused"), errors.New("no answer within 1s")
	ctx, cancel := context.WithCancelCause(t.Context())
	attempts := 0
	c := New("alpha", func(context.Context) (net.Conn, error) {
		if attempts++; attempts == 2 {
			cancel(cause)
		}
		return nil, refused
	}, key.Signer, key.Signer.PublicKey())
	if err := c.WaitReady(ctx); !errors.Is(err, refused) || !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestWrongKeys(t *testing.T) {
	host, key, stranger := newKey(t), newKey(t), newKey(t)
	s := start(t, host, key)
	for name, c := range map[string]*Conn{
		"another host's key": New("alpha", s.dial, key.Signer, stranger.Signer.PublicKey()),
		"another user's key": New("alpha", s.dial, stranger.Signer, host.Signer.PublicKey()),
	} {
		if _, err := c.Run(t.Context(), "true", nil); err == nil || !strings.Contains(err.Error(), "handshake") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDialUnix(t *testing.T) {
	_, c := connect(t)
	conn, err := c.DialUnix(t.Context(), "/run/echo.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := c.DialUnix(t.Context(), "/run/missing.sock"); err == nil || !strings.Contains(err.Error(), "/run/missing.sock") {
		t.Errorf("a socket that is not there: %v", err)
	}
}

func TestKeyPair(t *testing.T) {
	k := newKey(t)
	back, err := ParseKeyPair(k.PrivatePEM)
	if err != nil || back.Authorized != k.Authorized || !strings.HasPrefix(k.Authorized, "ssh-ed25519 ") || !strings.HasSuffix(k.Authorized, "\n") {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := ParseKeyPair([]byte("no key")); err == nil {
		t.Error("read a key out of nothing")
	}
}
