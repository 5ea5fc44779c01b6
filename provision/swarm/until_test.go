package swarm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	notYet := errors.New("it is not there yet")
	for _, tc := range []struct {
		name  string
		takes time.Duration // each try
		tries int           // within nine and a half seconds
	}{
		{"a quick try is repeated after the poll interval", 0, 32},
		{"a slow one leaves as much time as it takes", time.Second, 5},
		{"the pause has a bound", 4 * time.Second, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				err := Until(t.Context(), 9500*time.Millisecond, "wait for it", func(ctx context.Context) error {
					tries++
					time.Sleep(tc.takes)
					return notYet
				})
				if !errors.Is(err, notYet) || !strings.Contains(err.Error(), "wait for it: not within 9.5s") {
					t.Errorf("error %q does not give the wait and the last try's reason", err)
				}
				if tries != tc.tries {
					t.Errorf("%d tries, want %d", tries, tc.tries)
				}
			})
		})
	}
	t.Run("it ends with the condition", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			err := Until(t.Context(), time.Minute, "wait for it", func(context.Context) error {
				if tries++; tries < 3 {
					return notYet
				}
				return nil
			})
			if err != nil || tries != 3 {
				t.Errorf("error %v after %d tries, want none after 3", err, tries)
			}
		})
	})
	t.Run("an interruption is told apart from the deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			interrupted := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(interrupted) })
			start := time.Now()
			err := Until(ctx, time.Minute, "wait for it", func(context.Context) error { return notYet })
			if !errors.Is(err, interrupted) || time.Since(start) != time.Second {
				t.Errorf("error %v after %s, want the interruption after 1s", err, time.Since(start))
			}
		})
	})
}
