package agent_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/agent"
	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

// limit is how long anything may take that must happen.
const limit = 30 * time.Second

func noEnv(string) string { return "" }

// start serves one port and returns where.
func start(t *testing.T, listen string) (*agent.Server, string) {
	t.Helper()
	listens, err := agent.ParseListens(listen)
	if err != nil {
		t.Fatal(err)
	}
	s := agent.NewServer(noEnv, slog.New(slog.DiscardHandler))
	bound, err := s.Start(listens)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, fmt.Sprintf("127.0.0.1:%d", bound[0].Port())
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestParseListens(t *testing.T) {
	got, err := agent.ParseListens("dns:53/udp, dns:53/tcp,http:80/tcp,echo:3306/tcp,echo:7/udp")
	want := []agent.Listen{{"dns", 53, "udp"}, {"dns", 53, "tcp"}, {"http", 80, "tcp"}, {"echo", 3306, "tcp"}, {"echo", 7, "udp"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{
		"", "http", "http:80", "http/tcp", "http:80/udp", "gopher:70/tcp", "dns:53/sctp", "dns:65536/udp", "dns:-1/udp", "dns:x/udp", "dns:53/udp,",
	} {
		if got, err := agent.ParseListens(bad); err == nil || !strings.Contains(err.Error(), "listen") {
			t.Errorf("%q gives %v, %v", bad, got, err)
		}
	}
}

func TestEchoTCP(t *testing.T) {
	_, at := start(t, "echo:0/tcp")
	conn := dial(t, "tcp", at)
	lines := bufio.NewReader(conn)
	// The same connection may ask again.
	for _, nonce := range []string{"one", "two"} {
		fmt.Fprintf(conn, "hiveproof %s\n", nonce)
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var a whoami.Answer
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		if a.Nonce != nonce || a.Source.String() != conn.LocalAddr().String() || a.Proto != "tcp" {
			t.Errorf("asked %s from %s, got %+v", nonce, conn.LocalAddr(), a)
		}
	}
	// Anything else is told what is wanted, and that is the end of it.
	fmt.Fprint(conn, "GET / HTTP/1.0\n")
	rest, err := io.ReadAll(lines)
	if err != nil || !isError(rest) {
		t.Errorf("got %q, %v", rest, err)
	}
}

func isError(text []byte) bool {
	var e struct{ Error string }
	return json.Unmarshal(text, &e) == nil && e.Error != ""
}

// A line without an end is not kept in memory for ever.
func TestEchoEndlessLine(t *testing.T) {
	_, at := start(t, "echo:0/tcp")
	conn := dial(t, "tcp", at)
	written, err := io.Copy(conn, io.LimitReader(zeros{}, 64<<20))
	if err == nil {
		t.Errorf("it took %d bytes of one line", written)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestEchoUDP(t *testing.T) {
	_, at := start(t, "echo:0/udp")
	conn := dial(t, "udp", at)
	buf := make([]byte, 4096)
	for _, test := range []struct {
		say, nonce string // no nonce: an error comes back
	}{{"hiveproof one\n", "one"}, {"hiveproof two", "two"}, {"hello", ""}, {"", ""}, {"hiveproof", ""}, {"hiveproof\n", ""}} {
		if _, err := conn.Write([]byte(test.say)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		var a whoami.Answer
		if err := json.Unmarshal(buf[:n], &a); err != nil {
			t.Fatal(err)
		}
		if a.Nonce != test.nonce || isError(buf[:n]) != (test.nonce == "") {
			t.Errorf("%q is answered by %s", test.say, buf[:n])
		}
	}
}

func TestHTTP(t *testing.T) {
	_, at := start(t, "http:0/tcp")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: limit}
	for _, test := range []struct {
		path, header, nonce string
	}{{"/?nonce=q", "", "q"}, {"/any/path", "h", "h"}, {"/?nonce=q", "h", "h"}, {"/", "", ""}} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+at+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", "198.51.100.10")
		if test.header != "" {
			req.Header.Set("X-Hiveproof-Nonce", test.header)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var a whoami.Answer
		err = json.NewDecoder(resp.Body).Decode(&a)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %s, %v", test.path, resp.Status, resp.Header.Get("Content-Type"), err)
		}
		if a.Nonce != test.nonce {
			t.Errorf("%s with header %q: nonce %q", test.path, test.header, a.Nonce)
		}
		if got := a.Header["X-Forwarded-For"]; !slices.Equal(got, []string{"198.51.100.10"}) {
			t.Errorf("header %v", a.Header)
		}
		if got := a.Header["Host"]; !slices.Equal(got, []string{at}) {
			t.Errorf("host %v, want %s", got, at)
		}
		if !a.Source.Addr().Is4() || a.Source.Port() == 0 || a.Local.String() != at {
			t.Errorf("source %s, local %s", a.Source, a.Local)
		}
	}
}

func TestStartAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	first, second := free.Addr().(*net.TCPAddr).Port, taken.Addr().(*net.TCPAddr).Port
	s := agent.NewServer(noEnv, slog.New(slog.DiscardHandler))
	_, err = s.Start([]agent.Listen{{"http", first, "tcp"}, {"echo", second, "tcp"}})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("serve echo:%d/tcp", second)) {
		t.Errorf("got %v, want an error that names the port", err)
	}
	again, err := net.Listen("tcp", fmt.Sprintf(":%d", first))
	if err != nil {
		t.Fatalf("the other port was not given back: %v", err)
	}
	again.Close()
}

// A container that does not end when told to holds up every update by its grace
// period: connections that say nothing must not keep it.
func TestCloseDoesNotWaitForClients(t *testing.T) {
	for _, listen := range []string{"dns:0/tcp", "http:0/tcp", "echo:0/tcp"} {
		t.Run(listen, func(t *testing.T) {
			s, at := start(t, listen)
			conn := dial(t, "tcp", at)
			// An answer shows that the server has this connection, and not only the kernel.
			switch listen {
			case "dns:0/tcp":
				c := &dns.Conn{Conn: conn}
				if err := c.WriteMsg(new(dns.Msg).SetQuestion("abc."+whoami.Zone, dns.TypeTXT)); err != nil {
					t.Fatal(err)
				}
				if _, err := c.ReadMsg(); err != nil {
					t.Fatal(err)
				}
			case "http:0/tcp":
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			default:
				fmt.Fprint(conn, "hiveproof a\n")
				if _, err := conn.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > time.Second {
				t.Errorf("closing took %s", took)
			}
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the connection is still open: %v", err)
			}
			if conn, err := net.Dial("tcp", at); err == nil {
				conn.Close()
				t.Error("it still accepts")
			}
		})
	}
}

// An agent whose settings make no sense must not look like one that serves nothing.
func TestRunRefuses(t *testing.T) {
	for _, listen := range []string{"", "http"} {
		err := agent.Run(t.Context(), func(string) string { return listen }, nil, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "HIVEPROOF_LISTEN") {
			t.Errorf("HIVEPROOF_LISTEN=%q: %v", listen, err)
		}
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	getenv := func(k string) string { return map[string]string{"HIVEPROOF_LISTEN": "echo:0/udp"}[k] }
	if err := agent.Run(ctx, getenv, []string{"--api=yes", "--api-key=hunter2"}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "hunter2") {
		t.Error("a password of the site is in the log, and so in the evidence")
	}
}
