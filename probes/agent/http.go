package agent

import (
	"crypto/rand"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
)

func (s *Server) serveHTTP(l net.Listener) {
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       idleTimeout,
		Handler:           http.HandlerFunc(s.handleHTTP),
	}
	untrack, ok := s.track(server)
	if !ok {
		return
	}
	defer untrack()
	_ = server.Serve(l) // it ends when the server is closed
}

// handleHTTP gives the same answer on every path. whoami.Path leaves no trace in
// the sessions; whoami.DatabasePath does the work of the image that the agent
// stands in for, and its status says how that went.
func (s *Server) handleHTTP(w http.ResponseWriter, r *http.Request) {
	nonce := r.Header.Get("X-Hiveproof-Nonce")
	if nonce == "" {
		nonce = r.URL.Query().Get("nonce")
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	a := s.answer("tcp", tcpAddr(r.RemoteAddr), local, nonce)
	header := r.Header.Clone()
	header.Set("Host", r.Host)
	a.Header = header
	if r.URL.Path != whoami.Path {
		s.count(w, r, &a)
	}
	status := http.StatusOK
	if r.URL.Path == whoami.DatabasePath {
		status = s.store(r.Context(), &a)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // the client may be gone
}

func tcpAddr(text string) net.Addr {
	p, err := netip.ParseAddrPort(text)
	if err != nil {
		return nil
	}
	return net.TCPAddrFromAddrPort(p)
}

// count takes the visit down in the visitor's session, a new one if it brings none.
func (s *Server) count(w http.ResponseWriter, r *http.Request, a *whoami.Answer) {
	if c, err := r.Cookie(whoami.SessionCookie); err == nil && len(c.Value) <= maxSessionID {
		a.Session = c.Value
	}
	if a.Session == "" {
		a.Session = rand.Text()
		http.SetCookie(w, &http.Cookie{Name: whoami.SessionCookie, Value: a.Session, Path: "/", HttpOnly: true})
	}
	a.Visits = s.sessions.visit(a.Session)
}

// What visitors may make the agent keep.
const (
	maxSessions  = 10_000
	maxSessionID = 128
)

// sessions lives in this process's memory only: that a session is lost in another
// container is what is to be seen. The zero value is ready; it may be used concurrently.
type sessions struct {
	mu     sync.Mutex
	visits map[string]int
	begun  []string // IDs, the oldest first
}

// visit counts, from 1. The session that was begun first makes room for a new one.
func (s *sessions) visit(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.visits == nil {
		s.visits = map[string]int{}
	}
	if s.visits[id] == 0 {
		s.begun = append(s.begun, id)
		if len(s.begun) > maxSessions {
			delete(s.visits, s.begun[0])
			s.begun = s.begun[1:]
		}
	}
	s.visits[id]++
	return s.visits[id]
}
