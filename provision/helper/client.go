package helper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hiveproof/hiveproof/provision"
)

// Conn speaks to one host's helper, a connection an operation. It is safe for
// concurrent use.
type Conn struct {
	host string
	dial func(context.Context) (net.Conn, error)

	mu   sync.Mutex
	open map[net.Conn]bool
}

// New makes a Conn; host is its name in error messages.
func New(host string, dial func(context.Context) (net.Conn, error)) *Conn {
	return &Conn{host: host, dial: dial, open: map[net.Conn]bool{}}
}

// Close ends every operation and connection that is under way. The next use
// makes a new one.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close() // its user sees the end
	}
	clear(c.open)
	return nil
}

// tracked is a connection that Conn.Close ends.
type tracked struct {
	net.Conn
	reader io.Reader // with what came together with the reply
	owner  *Conn
}

func (t *tracked) Read(p []byte) (int, error) { return t.reader.Read(p) }

func (t *tracked) Close() error {
	t.owner.mu.Lock()
	delete(t.owner.open, t.Conn)
	t.owner.mu.Unlock()
	return t.Conn.Close()
}

// CloseWrite tells the other side that no more will be sent.
func (t *tracked) CloseWrite() error { return closeWrite(t.Conn) }

func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection cannot be half-closed")
	}
	return half.CloseWrite()
}

// begin connects, sends a request and its standard input, and reads the reply.
func (c *Conn) begin(ctx context.Context, req request, stdin io.Reader) (*tracked, *reply, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	t := &tracked{Conn: conn, owner: c}
	c.mu.Lock()
	c.open[conn] = true
	c.mu.Unlock()
	// Neither reads nor writes take a context: closing the connection ends them.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r, err := t.exchange(req, stdin)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = t.Close() // the first error says more
		return nil, nil, err
	}
	return t, r, nil
}

func (t *tracked) exchange(req request, stdin io.Reader) (*reply, error) {
	text, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if _, err := t.Conn.Write(append(text, '\n')); err != nil {
		return nil, err
	}
	if stdin != nil {
		// A command that does not read its input to the end is no failure: the reply tells.
		if _, err := io.Copy(t.Conn, stdin); err == nil {
			_ = closeWrite(t.Conn)
		}
	}
	in := bufio.NewReader(t.Conn)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the helper ended the connection: %w", err)
	}
	r := new(reply)
	if err := json.Unmarshal(line, r); err != nil {
		return nil, fmt.Errorf("the helper's answer is not understood: %w", err)
	}
	t.reader = in
	return r, nil
}

// Run runs a shell command as root and returns its standard output. A command
// that exits other than 0 is a *provision.ExitError.
func (c *Conn) Run(ctx context.Context, command string, stdin io.Reader) ([]byte, error) {
	t, r, err := c.begin(ctx, request{Op: opRun, Command: command, Stdin: stdin != nil}, stdin)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", c.host, provision.Abbreviate(command), err)
	}
	_ = t.Close() // everything has been said
	switch {
	case r.Error != "":
		return r.Stdout, fmt.Errorf("%s: %s: %s", c.host, provision.Abbreviate(command), r.Error)
	case r.Status != 0:
		return r.Stdout, &provision.ExitError{Host: c.host, Command: command, Status: r.Status, Stderr: strings.TrimSpace(string(r.Stderr))}
	}
	return r.Stdout, nil
}

// DialUnix connects to a unix socket on the host.
func (c *Conn) DialUnix(ctx context.Context, path string) (net.Conn, error) {
	t, r, err := c.begin(ctx, request{Op: opDial, Path: path}, nil)
	if err == nil && r.Error != "" {
		_ = t.Close() // it is of no use
		err = errors.New(r.Error)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: connect to %s: %w", c.host, path, err)
	}
	return t, nil
}

// SetClock sets the host's clock to what ours shows, as exactly as the network is quick.
func (c *Conn) SetClock(ctx context.Context) error {
	t, r, err := c.begin(ctx, request{Op: opClock, Now: time.Now()}, nil)
	if err == nil {
		_ = t.Close() // everything has been said
		if r.Error != "" {
			err = errors.New(r.Error)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.host, err)
	}
	return nil
}

// WaitReady tries until the host answers, which sets its clock, or ctx ends; the
// error then holds the last attempt's.
func (c *Conn) WaitReady(ctx context.Context) error {
	const attempt = 2 * time.Second // what an interface that is not up yet swallowed is not waited for
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		try, cancel := context.WithTimeout(ctx, attempt)
		err := c.SetClock(try)
		cancel()
		if err == nil {
			return nil
		}
		if last == nil || !errors.Is(err, context.DeadlineExceeded) { // an attempt that a deadline ended says nothing new
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the host's helper (last attempt: %w): %w", last, context.Cause(ctx))
		case <-tick.C:
		}
	}
}
