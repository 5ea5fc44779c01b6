package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// qmpClient speaks the QEMU Machine Protocol (QEMU docs/interop/qmp-spec) over a
// connected stream. It is safe for concurrent use.
type qmpClient struct {
	conn    io.ReadWriteCloser
	writeMu sync.Mutex

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan qmpReply
	waiters map[string][]chan struct{} // event name -> who waits for it
	err     error                      // set when the connection ended
}

type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *qmpError       `json:"error"`
	ID     uint64          `json:"id"`
	Event  string          `json:"event"`
}

type qmpError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *qmpError) Error() string { return e.Desc }

var errMonitorClosed = errors.New("the monitor connection is closed: QEMU has ended")

// newQMP negotiates capabilities. The client owns conn from then on.
func newQMP(ctx context.Context, conn io.ReadWriteCloser) (*qmpClient, error) {
	c := &qmpClient{conn: conn, waiting: map[uint64]chan qmpReply{}, waiters: map[string][]chan struct{}{}}
	go c.read()
	if _, err := c.Execute(ctx, "qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *qmpClient) read() {
	dec := json.NewDecoder(c.conn)
	for {
		var r qmpReply // the greeting decodes into an empty one
		if err := dec.Decode(&r); err != nil {
			c.mu.Lock()
			c.err = errMonitorClosed
			for id, ch := range c.waiting {
				close(ch)
				delete(c.waiting, id)
			}
			c.mu.Unlock()
			c.conn.Close()
			return
		}
		c.mu.Lock()
		switch {
		case r.Event != "":
			for _, ch := range c.waiters[r.Event] {
				close(ch)
			}
			delete(c.waiters, r.Event)
		case c.waiting[r.ID] != nil:
			c.waiting[r.ID] <- r
			delete(c.waiting, r.ID)
		}
		c.mu.Unlock()
	}
}

// Execute runs one command and returns what it returned.
func (c *qmpClient) Execute(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	return c.execute(ctx, command, arguments, nil)
}

// ExecuteWithFile is Execute with an open file that the command takes (getfd).
// The connection must be a unix socket.
func (c *qmpClient) ExecuteWithFile(ctx context.Context, command string, arguments any, file *os.File) (json.RawMessage, error) {
	return c.execute(ctx, command, arguments, file)
}

func (c *qmpClient) execute(ctx context.Context, command string, arguments any, file *os.File) (json.RawMessage, error) {
	reply := make(chan qmpReply, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, fmt.Errorf("qmp %s: %w", command, c.err)
	}
	c.next++
	id := c.next
	c.waiting[id] = reply
	c.mu.Unlock()

	text, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	c.writeMu.Lock()
	err = c.write(append(text, '\n'), file)
	c.writeMu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case r, ok := <-reply:
		if !ok {
			return nil, fmt.Errorf("qmp %s: %w", command, errMonitorClosed)
		}
		if r.Error != nil {
			return nil, fmt.Errorf("qmp %s: %w", command, r.Error)
		}
		return r.Return, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("qmp %s: %w", command, context.Cause(ctx))
	}
}

// write sends a command, with a file as ancillary data if there is one (unix(7), SCM_RIGHTS).
func (c *qmpClient) write(text []byte, file *os.File) error {
	if file == nil {
		_, err := c.conn.Write(text)
		return err
	}
	conn, ok := c.conn.(*net.UnixConn)
	if !ok {
		return errors.New("a file can only be passed over a unix socket")
	}
	n, _, err := conn.WriteMsgUnix(text, unix.UnixRights(int(file.Fd())), nil)
	if err == nil && n < len(text) {
		_, err = conn.Write(text[n:])
	}
	return err
}

// Event returns a channel that closes at the next event of a name. Ask for it
// before the command that causes the event.
func (c *qmpClient) Event(name string) <-chan struct{} {
	ch := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters[name] = append(c.waiters[name], ch)
	return ch
}

func (c *qmpClient) Close() error { return c.conn.Close() }
