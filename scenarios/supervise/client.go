package supervise

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/session"
)

const cancelTimeout = 10 * time.Second

// Client speaks to a supervisor. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// ErrNone says that no supervisor runs.
var ErrNone = errors.New("no lab is up (hiveproof up starts one)")

// IncompatibleError says that the supervisor was started by another version.
type IncompatibleError struct{ Status Status }

func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("the lab is kept by hiveproof %s (pid %d), which speaks protocol %d and not %d: end it with that version's hiveproof down, or kill %d",
		e.Status.Version, e.Status.PID, e.Status.Protocol, Protocol, e.Status.PID)
}

// Connect finds the supervisor at a socket. It fails with ErrNone if there is
// none, also if a dead one left its socket.
func Connect(ctx context.Context, socket string) (*Client, *Status, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	probe, err := dial(ctx, "", "")
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("connect to the supervisor: %w", context.Cause(ctx))
		}
		return nil, nil, ErrNone
	}
	probe.Close()
	c := &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
	st, err := c.Status(ctx)
	if err != nil {
		return nil, nil, err
	}
	if st.Protocol != Protocol {
		return nil, nil, &IncompatibleError{Status: *st}
	}
	return c, st, nil
}

func (c *Client) call(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("supervisor %s: %w", path, err)
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, payload)
	if err != nil {
		return nil, fmt.Errorf("supervisor %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("supervisor %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp, nil
}

func refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("supervisor: %s: %w", resp.Status, err)
	}
	return errors.New(strings.TrimSpace(string(text)))
}

// Status asks for the supervisor's and the lab's state.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	resp, err := c.call(ctx, "GET", "/v1/status", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	st := new(Status)
	if err := json.NewDecoder(resp.Body).Decode(st); err != nil {
		return nil, fmt.Errorf("supervisor status: %w", err)
	}
	return st, nil
}

// WaitReady follows the bring-up until the lab is ready; its error is why it is not.
func (c *Client) WaitReady(ctx context.Context, sink reports.Sink) error {
	resp, err := c.call(ctx, "GET", "/v1/bringup", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var line BringUp
		if err := lines.Decode(&line); err != nil {
			return fmt.Errorf("follow the lab's bring-up: the supervisor ended: %w", err)
		}
		switch {
		case line.Event != nil:
			sink.Event(*line.Event)
		case line.Phase == Ready:
			return nil
		default:
			return errors.New(line.Error)
		}
	}
}

// Run has the supervisor run a request and passes its events on. When ctx ends,
// the supervisor is told to end the run, and Run returns when it has written the report.
func (c *Client) Run(ctx context.Context, req session.Request, sink reports.Sink) (*session.Report, error) {
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		resp, err := c.call(limited, "POST", "/v1/cancel", nil)
		if err != nil {
			sink.Event(reports.Event{Kind: reports.KindWarning, Message: err.Error()})
			return
		}
		resp.Body.Close()
	})
	defer stop()
	resp, err := c.call(context.WithoutCancel(ctx), "POST", "/v1/run", req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	var report *session.Report
	for {
		var line RunLine
		if err := lines.Decode(&line); err != nil {
			return report, fmt.Errorf("follow the run: the supervisor ended: %w", err)
		}
		if line.Event != nil {
			if line.Event.Kind == reports.KindResult {
				report = &session.Report{Result: line.Event.Result, Dir: line.Event.Dir}
			}
			sink.Event(*line.Event)
		}
		if line.End {
			if line.Error != "" {
				return report, errors.New(line.Error)
			}
			return report, nil
		}
	}
}

// Save stores the running lab under a name.
func (c *Client) Save(ctx context.Context, name string) error { return c.snapshot(ctx, "save", name) }

// Restore brings the running lab to a stored state.
func (c *Client) Restore(ctx context.Context, name string) error {
	return c.snapshot(ctx, "restore", name)
}

func (c *Client) snapshot(ctx context.Context, what, name string) error {
	resp, err := c.call(ctx, "POST", "/v1/snapshot/"+what+"?name="+url.QueryEscape(name), nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Down takes the lab down and returns when the supervisor has gone.
func (c *Client) Down(ctx context.Context) error {
	resp, err := c.call(ctx, "POST", "/v1/down", nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// DialSSH opens a connection to a host's SSH port through the supervisor.
func (c *Client) DialSSH(ctx context.Context, host string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the supervisor: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://supervisor/v1/ssh?host="+url.QueryEscape(host), nil)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ssh through the supervisor: %w", err)
	}
	if err := req.Write(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("ssh through the supervisor: %w", err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, req)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ssh through the supervisor: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		return nil, refusal(resp)
	}
	return &bufferedConn{Conn: conn, reader: reader}, nil
}

// bufferedConn reads what came together with the response first.
type bufferedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.reader.Read(p) }
