package agent

import (
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"
)

// start serves on free ports and returns where, in the order of listens.
func start(t *testing.T, env map[string]string, listens string) (*Server, []string) {
	t.Helper()
	all, err := ParseListens(listens)
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	bound, err := s.Start(all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var at []string
	for _, b := range bound {
		at = append(at, fmt.Sprintf("127.0.0.1:%d", b.Port()))
	}
	return s, at
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
