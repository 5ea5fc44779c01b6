// Package remote speaks SSH to a host: commands, unix sockets on the far side
// and interactive shells, with an ephemeral key and a pinned host key (RFC 4251).
package remote

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hiveproof/hiveproof/provision"
	"golang.org/x/crypto/ssh"
)

// KeyPair is an Ed25519 key in the forms that OpenSSH reads.
type KeyPair struct {
	Signer     ssh.Signer
	PrivatePEM []byte // "OPENSSH PRIVATE KEY"
	Authorized string // one authorized_keys line, with its newline
}

// NewKeyPair makes a key.
func NewKeyPair(comment string) (*KeyPair, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, fmt.Errorf("make an SSH key: %w", err)
	}
	return ParseKeyPair(pem.EncodeToMemory(block))
}

// ParseKeyPair reads a private key back.
func ParseKeyPair(privatePEM []byte) (*KeyPair, error) {
	signer, err := ssh.ParsePrivateKey(privatePEM)
	if err != nil {
		return nil, fmt.Errorf("read an SSH key: %w", err)
	}
	return &KeyPair{
		Signer:     signer,
		PrivatePEM: privatePEM,
		Authorized: string(ssh.MarshalAuthorizedKey(signer.PublicKey())),
	}, nil
}

// DialFunc opens the transport to the host's SSH port.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Conn speaks to one host. It connects when it is first used and again when the
// connection was lost. It is safe for concurrent use.
type Conn struct {
	host   string
	dial   DialFunc
	config *ssh.ClientConfig

	mu     sync.Mutex
	client *ssh.Client
}

// New makes a Conn to root on a host whose public key is known; host is its
// name in error messages.
func New(host string, dial DialFunc, key ssh.Signer, hostKey ssh.PublicKey) *Conn {
	return &Conn{host: host, dial: dial, config: &ssh.ClientConfig{
		User:              "root",
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
	}}
}

// Close ends the connection; the next use makes a new one.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client == nil {
		return nil
	}
	err := c.client.Close()
	c.client = nil
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: close ssh: %w", c.host, err)
	}
	return nil
}

// connect returns the connection, made anew if there is none.
func (c *Conn) connect(ctx context.Context) (*ssh.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil {
		return c.client, nil
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: connect to ssh: %w", c.host, err)
	}
	// The handshake takes no context: closing the transport ends it.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	sshConn, channels, requests, err := ssh.NewClientConn(conn, c.host, c.config)
	if !stop() && err == nil {
		sshConn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: ssh handshake: %w", c.host, err)
	}
	client := ssh.NewClient(sshConn, channels, requests)
	c.client = client
	go func() {
		// It returns when the connection is lost, for whatever reason.
		_ = client.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.client == client {
			c.client = nil
		}
	}()
	return client, nil
}

// Run runs a shell command and returns its standard output.
func (c *Conn) Run(ctx context.Context, command string, stdin io.Reader) ([]byte, error) {
	client, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	session, err := newSession(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("%s: open an ssh session: %w", c.host, err)
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = stdin, &stdout, &stderr
	// A host that hangs answers neither the start nor the close of a session: do not wait for it.
	_, err = await(ctx, func() (struct{}, error) { return struct{}{}, session.Run(command) }, func(struct{}) {})
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.host, provision.Abbreviate(command), context.Cause(ctx))
	}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return stdout.Bytes(), &provision.ExitError{Host: c.host, Command: command, Status: exit.ExitStatus(), Stderr: tail(stderr.String())}
	}
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("%s: %s: %w", c.host, provision.Abbreviate(command), err)
	}
	return stdout.Bytes(), nil
}

func tail(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 600 {
		s = "… " + s[len(s)-600:]
	}
	return s
}

// newSession opens a session. The library's call takes no context, and a host
// that is cut off never answers it.
func newSession(ctx context.Context, client *ssh.Client) (*ssh.Session, error) {
	return await(ctx, client.NewSession, func(s *ssh.Session) { s.Close() })
}

// DialUnix connects to a unix socket on the host (OpenSSH's direct-streamlocal).
func (c *Conn) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	client, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := await(ctx, func() (net.Conn, error) { return client.Dial("unix", path) }, func(conn net.Conn) { conn.Close() })
	if err != nil {
		return nil, fmt.Errorf("%s: connect to %s: %w", c.host, path, err)
	}
	return conn, nil
}

// await runs a call that takes no context until ctx ends; what comes later is discarded.
func await[T any](ctx context.Context, call func() (T, error), discard func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := call()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				discard(r.value)
			}
		}()
		var none T
		return none, context.Cause(ctx)
	}
}

// WaitReady tries until the host accepts a connection and runs a command, or ctx
// ends; the error then holds the last attempt's.
func (c *Conn) WaitReady(ctx context.Context) error {
	const attempt = 20 * time.Second // a handshake under emulation takes seconds
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, attempt)
		_, err := c.Run(try, "true", nil)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for ssh (last attempt: %w): %w", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Terminal describes the local terminal of an interactive session.
type Terminal struct {
	Type          string
	Width, Height int
	// Resized delivers new widths and heights; it may be nil.
	Resized <-chan [2]int
}

// Interactive runs a command, or a login shell if it is empty, with the given
// streams, on a terminal if one is given, and returns the exit status.
func (c *Conn) Interactive(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer, terminal *Terminal) (int, error) {
	client, err := c.connect(ctx)
	if err != nil {
		return 0, err
	}
	session, err := newSession(ctx, client)
	if err != nil {
		return 0, fmt.Errorf("%s: open an ssh session: %w", c.host, err)
	}
	defer session.Close()
	session.Stdout, session.Stderr = stdout, stderr
	// Not session.Stdin: Wait would then wait for a line that nobody types.
	pipe, err := session.StdinPipe()
	if err != nil {
		return 0, fmt.Errorf("%s: open standard input: %w", c.host, err)
	}
	// A host that hangs answers nothing of this, nor the close of the session.
	_, err = await(ctx, func() (struct{}, error) {
		return struct{}{}, interact(session, pipe, command, stdin, terminal)
	}, func(struct{}) {})
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%s: ssh session: %w", c.host, context.Cause(ctx))
	}
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return exit.ExitStatus(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("%s: ssh session: %w", c.host, err)
	}
	return 0, nil
}

// interact runs an interactive session to its end.
func interact(session *ssh.Session, pipe io.WriteCloser, command string, stdin io.Reader, terminal *Terminal) error {
	if terminal != nil {
		if err := session.RequestPty(terminal.Type, terminal.Height, terminal.Width, ssh.TerminalModes{}); err != nil {
			return fmt.Errorf("ask for a terminal: %w", err)
		}
		go func() {
			for size := range terminal.Resized {
				_ = session.WindowChange(size[1], size[0]) // only cosmetic
			}
		}()
	}
	start := func() error { return session.Start(command) }
	if command == "" {
		start = session.Shell
	}
	if err := start(); err != nil {
		return fmt.Errorf("start the command: %w", err)
	}
	go func() {
		_, _ = io.Copy(pipe, stdin) // ends with the session
		pipe.Close()
	}()
	return session.Wait()
}
