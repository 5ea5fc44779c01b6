package probes

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

// visited is a web service with one count a session.
func visited(t *testing.T, change func(http.ResponseWriter, *http.Request, *whoami.Answer) bool) http.Handler {
	t.Helper()
	counts := map[string]int{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := "one"
		if c, err := r.Cookie(whoami.SessionCookie); err == nil {
			id = c.Value
		} else {
			http.SetCookie(w, &http.Cookie{Name: whoami.SessionCookie, Value: id, Path: "/"})
			counts[id] = 0
		}
		counts[id]++
		a := &whoami.Answer{Task: "t", Session: id, Visits: counts[id], Nonce: r.Header.Get("X-Hiveproof-Nonce"), Header: http.Header{"Host": {r.Host}}}
		if change != nil && change(w, r, a) {
			return
		}
		_ = json.NewEncoder(w).Encode(a)
	})
}

func doorOf(t *testing.T, s *httptest.Server) Door {
	t.Helper()
	return Door{Name: "door", Host: "h", Addr: netip.MustParseAddrPort(s.Listener.Addr().String()), TLS: s.TLS != nil}
}

func TestBrowserKeepsItsSession(t *testing.T) {
	handler := visited(t, nil)
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	// httptest's certificate is for example.com.
	b := NewBrowser(Client{Name: "c"}, new(net.Dialer), "s1", "example.com", roots)
	for i, s := range []*httptest.Server{plain, secure, plain, secure} {
		v := b.Visit(t.Context(), doorOf(t, s), "/x", 5*time.Second)
		if v.Outcome != Answered || v.Answer == nil || v.Answer.Visits != i+1 || v.Session != "s1" || v.Status != 200 {
			t.Fatalf("visit %d: %+v, %+v", i, v, v.Answer)
		}
		if got := v.Answer.Header["Host"]; len(got) != 1 || got[0] != "example.com" {
			t.Errorf("visit %d: host %q", i, got)
		}
		if (v.Certificate != "") != (s == secure) {
			t.Errorf("visit %d: certificate %q", i, v.Certificate)
		}
	}
	if v := NewBrowser(Client{}, new(net.Dialer), "s2", "example.com", roots).Visit(t.Context(), doorOf(t, plain), "/", time.Second); v.Answer.Visits != 1 {
		t.Errorf("another visitor has cookies: %+v", v.Answer)
	}
}

func TestBrowserOutcomes(t *testing.T) {
	secure := httptest.NewTLSServer(visited(t, nil))
	defer secure.Close()
	hang := make(chan struct{})
	defer close(hang)
	serve := func(change func(http.ResponseWriter, *http.Request, *whoami.Answer) bool) Door {
		s := httptest.NewServer(visited(t, change))
		t.Cleanup(s.Close)
		return doorOf(t, s)
	}
	closed := serve(nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Addr = netip.MustParseAddrPort(l.Addr().String())
	l.Close()
	asTLS := serve(nil)
	asTLS.TLS = true
	for _, test := range []struct {
		name   string
		door   Door
		want   Outcome
		status int
		answer bool
	}{
		{"another certificate", doorOf(t, secure), WrongAnswer, 0, false},
		{"no TLS there", asTLS, WrongAnswer, 0, false},
		{"refused", closed, Refused, 0, false},
		{"answer to another question", serve(func(_ http.ResponseWriter, _ *http.Request, a *whoami.Answer) bool { a.Nonce = "x"; return false }), WrongAnswer, 200, false},
		{"a page", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool {
			_, _ = io.WriteString(w, "<html>")
			return true
		}), WrongAnswer, 200, false},
		{"503 with an answer", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool { w.WriteHeader(503); return false }), WrongAnswer, 503, true},
		{"302", serve(func(w http.ResponseWriter, r *http.Request, _ *whoami.Answer) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return true
		}), WrongAnswer, 302, false},
		{"closed without a word", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool {
			conn, _, _ := w.(http.Hijacker).Hijack()
			conn.Close()
			return true
		}), Reset, 0, false},
		{"no HTTP", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = io.WriteString(conn, "SSH-2.0\r\n")
			conn.Close()
			return true
		}), WrongAnswer, 0, false},
		{"half a page", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool {
			w.Header().Set("Content-Length", "500")
			_, _ = io.WriteString(w, "hello")
			return true
		}), WrongAnswer, 200, false},
		{"a page without end", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool {
			for _, err := w.Write(make([]byte, maxBody)); err == nil; {
				_, err = w.Write(make([]byte, maxBody))
			}
			return true
		}), WrongAnswer, 200, false},
		{"reset", serve(func(w http.ResponseWriter, _ *http.Request, _ *whoami.Answer) bool {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return true
		}), Reset, 0, false},
		{"silence", serve(func(http.ResponseWriter, *http.Request, *whoami.Answer) bool { <-hang; return true }), Connected, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			timeout := 5 * time.Second
			if test.want == Connected {
				timeout = 100 * time.Millisecond
			}
			v := NewBrowser(Client{}, new(net.Dialer), "s", "site.test", x509.NewCertPool()).Visit(t.Context(), test.door, "/", timeout)
			if v.Outcome != test.want || v.Status != test.status || (v.Answer != nil) != test.answer || v.Err == "" {
				t.Errorf("got %s, status %d, answer %v, %q", v.Outcome, v.Status, v.Answer, v.Err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if v := NewBrowser(Client{}, new(net.Dialer), "s", "x", nil).Visit(ctx, closed, "/", time.Second); v.Outcome != Aborted {
		t.Errorf("an ended run: %s", v.Outcome)
	}
}

// A certificate of an authority that is trusted is not enough: it must be the site's.
func TestBrowserWantsTheSitesCertificate(t *testing.T) {
	secure := httptest.NewTLSServer(visited(t, nil))
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate()) // httptest's is for example.com
	v := NewBrowser(Client{}, new(net.Dialer), "s", "site.test", roots).Visit(t.Context(), doorOf(t, secure), "/", 5*time.Second)
	if v.Outcome != WrongAnswer || !strings.Contains(v.Err, "site.test") {
		t.Errorf("got %s, %q", v.Outcome, v.Err)
	}
}

// The end of the run must not look like a site that does not answer.
func TestBrowserInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel(errors.New("interrupted"))
		<-r.Context().Done()
	}))
	defer s.Close()
	v := NewBrowser(Client{}, new(net.Dialer), "s", "site.test", nil).Visit(ctx, doorOf(t, s), "/", 5*time.Second)
	if v.Outcome != Aborted || v.Err != "interrupted" {
		t.Errorf("got %s, %q", v.Outcome, v.Err)
	}
}
