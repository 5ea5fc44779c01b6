// Package child starts external programs that do not outlive this process,
// however it ends.
package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The kernel sends a parent-death signal when the *thread* that forked ends
// (prctl(2), PR_SET_PDEATHSIG), and the Go runtime ends threads as it likes.
// So one goroutine that never gives its thread back starts them all.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start starts cmd so that the kernel sends it sig when this process ends.
func Start(cmd *exec.Cmd, sig syscall.Signal) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = sig
	done := make(chan error, 1)
	starter() <- func() { done <- cmd.Start() }
	return <-done
}

// stopGrace is how long a program that was asked to stop may take to clean up.
const stopGrace = 10 * time.Second

// Run runs a program to its end, giving each line that it prints to line (which
// may be nil). When ctx ends, it is asked to stop and, after ten seconds,
// killed. The error holds the end of what it printed. A program that is not
// installed gives an error for which errors.Is(err, exec.ErrNotFound) holds.
func Run(ctx context.Context, line func(string), env []string, name string, args ...string) error {
	return run(ctx, line, env, syscall.SIGTERM, name, exec.CommandContext(ctx, name, args...))
}

// RunIsolated is Run in mount and process namespaces of the program's own
// (unshare(1); it needs root). When ctx or this process ends, the program is
// killed together with everything that it started, and what it mounted is gone.
func RunIsolated(ctx context.Context, line func(string), env []string, name string, args ...string) error {
	args = append([]string{"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", name}, args...)
	// unshare itself ignores every signal but this one while its child runs.
	return run(ctx, line, env, syscall.SIGKILL, name, exec.CommandContext(ctx, "unshare", args...))
}

func run(ctx context.Context, line func(string), env []string, stop syscall.Signal, name string, cmd *exec.Cmd) error {
	cmd.Cancel = func() error { return cmd.Process.Signal(stop) }
	cmd.WaitDelay = stopGrace
	if env != nil {
		cmd.Env = append(cmd.Environ(), env...)
	}
	out := &lineWriter{line: line}
	cmd.Stdout, cmd.Stderr = out, out
	if err := Start(cmd, stop); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("start %s: %w", name, err)
	}
	err := cmd.Wait()
	out.flush()
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	}
	if err != nil {
		return &Error{Program: name, Tail: out.tail, Err: err}
	}
	return nil
}

// Output runs a program to its end and returns its standard output.
func Output(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = stopGrace
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := Start(cmd, syscall.SIGKILL); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", name, context.Cause(ctx))
		}
		failed := &Error{Program: name, Err: err}
		if text := strings.TrimSpace(stderr.String()); text != "" {
			failed.Tail = strings.Split(text, "\n")
		}
		return nil, failed
	}
	return stdout.Bytes(), nil
}

// Error is the failure of an external program.
type Error struct {
	Program string
	Tail    []string // the last lines that it printed
	Err     error
}

func (e *Error) Error() string {
	if len(e.Tail) == 0 {
		return fmt.Sprintf("%s: %v", e.Program, e.Err)
	}
	return fmt.Sprintf("%s: %v; its last output:\n  %s", e.Program, e.Err, strings.Join(e.Tail, "\n  "))
}

func (e *Error) Unwrap() error { return e.Err }

// Missing says whether err is that of a program that is not installed.
func Missing(err error) bool { return errors.Is(err, exec.ErrNotFound) }

const tailLines = 15

// lineWriter splits what a program prints into lines and keeps the last ones.
type lineWriter struct {
	line    func(string)
	partial []byte
	tail    []string
}

var _ io.Writer = (*lineWriter)(nil)

func (w *lineWriter) Write(p []byte) (int, error) {
	w.partial = append(w.partial, p...)
	for {
		i := bytes.IndexAny(w.partial, "\n\r")
		if i < 0 {
			return len(p), nil
		}
		w.emit(string(w.partial[:i]))
		w.partial = w.partial[i+1:]
	}
}

func (w *lineWriter) flush() {
	w.emit(string(w.partial))
	w.partial = nil
}

func (w *lineWriter) emit(s string) {
	s = strings.TrimRight(s, " \t")
	if s == "" {
		return
	}
	w.tail = append(w.tail, s)
	if len(w.tail) > tailLines {
		w.tail = w.tail[1:]
	}
	if w.line != nil {
		w.line(s)
	}
}
