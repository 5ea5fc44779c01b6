package child

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRunLines(t *testing.T) {
	var lines []string
	err := Run(t.Context(), func(s string) { lines = append(lines, s) }, []string{"GREETING=hello"},
		"sh", "-c", `echo "$GREETING"; echo; printf '10%%\r20%%\r\n' >&2; printf 'no newline'`)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"hello", "10%", "20%", "no newline"}; !slices.Equal(lines, want) {
		t.Errorf("lines %q, want %q", lines, want)
	}
}

func TestRunKeepsTheEnvironment(t *testing.T) {
	t.Setenv("HIVEPROOF_KEPT", "kept")
	for _, env := range [][]string{nil, {"OTHER=1"}} {
		if err := Run(t.Context(), nil, env, "sh", "-c", `test "$HIVEPROOF_KEPT" = kept`); err != nil {
			t.Errorf("with %v: %v", env, err)
		}
	}
}

func TestErrorHoldsTheEnd(t *testing.T) {
	err := Run(t.Context(), nil, nil, "sh", "-c", `for i in $(seq 100); do echo "line $i"; done; echo "E: no space" >&2; exit 25`)
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("%T: %v", err, err)
	}
	if len(failed.Tail) != tailLines || failed.Tail[tailLines-1] != "E: no space" || failed.Tail[0] != "line 87" {
		t.Errorf("tail %q", failed.Tail)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 25 {
		t.Errorf("%v: want exit status 25", err)
	}
	if text := err.Error(); !strings.HasPrefix(text, "sh: ") || !strings.Contains(text, "E: no space") || strings.Contains(text, "line 1\n") {
		t.Errorf("message %q", text)
	}
	if Missing(err) {
		t.Error("a program that failed is not missing")
	}
}

func TestMissing(t *testing.T) {
	const name = "hiveproof-no-such-program"
	if err := Run(t.Context(), nil, nil, name); !Missing(err) || !strings.Contains(err.Error(), name) {
		t.Errorf("Run: %v", err)
	}
	if _, err := Output(t.Context(), name); !Missing(err) {
		t.Errorf("Output: %v", err)
	}
}

var errCause = errors.New("the user pressed Ctrl-C")

func TestRunIsAskedToStop(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	var lines []string
	// The program's own clean-up shows that it was asked, not killed.
	err := Run(ctx, func(s string) {
		lines = append(lines, s)
		if s == "started" {
			cancel(errCause)
		}
	}, nil, "sh", "-c", `trap 'echo cleaned up; exit 0' TERM; echo started; while :; do sleep 0.05; done`)
	if !errors.Is(err, errCause) {
		t.Errorf("%v, want the cause", err)
	}
	if !slices.Contains(lines, "cleaned up") {
		t.Errorf("it printed %q: it was not asked with SIGTERM", lines)
	}
}

func TestAlreadyCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	started := filepath.Join(t.TempDir(), "started")
	if err := Run(ctx, nil, nil, "touch", started); !errors.Is(err, errCause) {
		t.Errorf("Run: %v, want the cause", err)
	}
	if _, err := Output(ctx, "touch", started); !errors.Is(err, errCause) {
		t.Errorf("Output: %v, want the cause", err)
	}
	if err := Run(t.Context(), nil, nil, "test", "!", "-e", started); err != nil {
		t.Error("started a program although the context had ended")
	}
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), "sh", "-c", "echo out; echo err >&2")
	if err != nil || string(out) != "out\n" {
		t.Errorf("%q, %v", out, err)
	}
	_, err = Output(t.Context(), "sh", "-c", "echo why >&2; exit 1")
	var failed *Error
	if !errors.As(err, &failed) || !slices.Equal(failed.Tail, []string{"why"}) {
		t.Errorf("%v", err)
	}
	if _, err = Output(t.Context(), "false"); err == nil || strings.Contains(err.Error(), "last output") {
		t.Errorf("%q talks of output that there was not", err)
	}
}

// A child must not die because some thread of this process ended.
func TestStartedFromShortLivedThreads(t *testing.T) {
	results := make(chan error)
	for i := range 8 {
		go func() {
			out, err := Output(t.Context(), "sh", "-c", fmt.Sprintf("sleep 0.2; echo %d", i))
			if err == nil && strings.TrimSpace(string(out)) != fmt.Sprint(i) {
				err = fmt.Errorf("%d printed %q", i, out)
			}
			results <- err
		}()
	}
	for range 8 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
