package helper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen opens the helper's port on one interface of the host: what arrives on
// another, from a container for instance, is refused by the kernel.
func Listen(ctx context.Context, device string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var bindErr error
		err := raw.Control(func(fd uintptr) { bindErr = unix.BindToDevice(int(fd), device) })
		return errors.Join(err, bindErr)
	}}
	l, err := config.Listen(ctx, "tcp4", fmt.Sprintf(":%d", Port))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", device, err)
	}
	return l, nil
}

// Serve answers on a listener until ctx ends. Connections from other addresses
// than owner are closed at once; the zero Addr allows all.
func Serve(ctx context.Context, l net.Listener, owner netip.Addr) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		if owner.IsValid() && (err != nil || from.Addr().Unmap() != owner) {
			conn.Close()
			continue
		}
		go serve(ctx, conn.(*net.TCPConn))
	}
}

// setClock sets this machine's clock; tests replace it.
var setClock = func(now time.Time) error {
	at := unix.NsecToTimeval(now.UnixNano())
	return unix.Settimeofday(&at)
}

func serve(ctx context.Context, conn *net.TCPConn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, err := readLine(in)
	if err != nil {
		return
	}
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		answer(conn, reply{Error: "the request is not understood: " + err.Error()})
		return
	}
	switch req.Op {
	case opClock:
		if err := setClock(req.Now); err != nil {
			answer(conn, reply{Error: "set the clock: " + err.Error()})
			return
		}
		answer(conn, reply{})
	case opRun:
		answer(conn, runCommand(ctx, req, in))
	case opDial:
		dial(ctx, conn, in, req.Path)
	default:
		answer(conn, reply{Error: fmt.Sprintf("unknown operation %q", req.Op)})
	}
}

// readLine reads a line of at most maxRequest bytes.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxRequest {
			return nil, fmt.Errorf("read a line: %w", err)
		}
	}
}

// answer sends the reply. The client may be gone, which nobody here minds.
func answer(conn net.Conn, r reply) { _ = json.NewEncoder(conn).Encode(r) }

// runCommand runs a shell command until it ends. A client that goes away ends
// the command together with what it started.
func runCommand(ctx context.Context, req request, in io.Reader) reply {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", req.Command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout bytes.Buffer
	stderr := &tail{max: maxStderr}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	var stdin io.WriteCloser
	if req.Stdin {
		var err error
		if stdin, err = cmd.StdinPipe(); err != nil {
			return reply{Error: err.Error()}
		}
	}
	if err := cmd.Start(); err != nil {
		return reply{Error: err.Error()}
	}
	go func() {
		var err error
		if req.Stdin {
			_, err = io.Copy(stdin, in) // up to the client's half-close
			stdin.Close()
		} else {
			_, err = io.Copy(io.Discard, in)
			cancel() // the client sends nothing: this is its end
		}
		if err != nil && !errors.Is(err, syscall.EPIPE) {
			cancel()
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return reply{Stdout: stdout.Bytes(), Stderr: stderr.data}
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return reply{Status: exit.ExitCode(), Stdout: stdout.Bytes(), Stderr: stderr.data}
	default:
		return reply{Error: err.Error(), Stdout: stdout.Bytes(), Stderr: stderr.data}
	}
}

// dial connects the client to a unix socket until both sides have ended.
func dial(ctx context.Context, conn *net.TCPConn, in io.Reader, path string) {
	var d net.Dialer
	far, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		answer(conn, reply{Error: err.Error()})
		return
	}
	defer far.Close()
	answer(conn, reply{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(far, in) // either side may end first; half-closes are passed on
		_ = far.(*net.UnixConn).CloseWrite()
	})
	wg.Go(func() {
		_, _ = io.Copy(conn, far)
		_ = conn.CloseWrite()
	})
	wg.Wait()
}

// tail keeps the last bytes written to it.
type tail struct {
	max  int
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if over := len(t.data) - t.max; over > 0 {
		t.data = t.data[over:]
	}
	return len(p), nil
}
