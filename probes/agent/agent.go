// Package agent is the stand-in workload: servers that tell whoever asks who
// answered and what source address was seen, over HTTP, a line protocol and DNS.
// Over HTTP it also does what a web application behind a load balancer does: it
// keeps visitors' sessions in its own memory, and writes rows to a database if DB_*
// in the environment name one. HIVEPROOF_LISTEN, from the image or from the
// service, says which ports it serves.
package agent

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/probes/whoami"
)

// Listen is one port that the agent serves.
type Listen struct {
	App   string // "http", "echo" or "dns"
	Port  int    // 0 chooses a free one
	Proto string // "tcp" or "udp"
}

func (l Listen) String() string { return fmt.Sprintf("%s:%d/%s", l.App, l.Port, l.Proto) }

// ParseListens reads a list such as "dns:53/udp,dns:53/tcp,http:80/tcp".
func ParseListens(text string) ([]Listen, error) {
	var all []Listen
	for word := range strings.SplitSeq(text, ",") {
		app, rest, ok1 := strings.Cut(strings.TrimSpace(word), ":")
		port, proto, ok2 := strings.Cut(rest, "/")
		n, err := strconv.Atoi(port)
		if !ok1 || !ok2 || err != nil || n < 0 || n > 65535 {
			return nil, fmt.Errorf("listen %q: want APP:PORT/PROTO such as dns:53/udp", word)
		}
		l := Listen{App: app, Port: n, Proto: proto}
		switch l.App + "/" + l.Proto {
		case "http/tcp", "echo/tcp", "echo/udp", "dns/tcp", "dns/udp":
		default:
			return nil, fmt.Errorf("listen %q: want http over tcp, or echo or dns over tcp or udp", word)
		}
		all = append(all, l)
	}
	return all, nil
}

// Server answers questions. The zero value has no identity; use NewServer.
type Server struct {
	identity whoami.Answer // what does not change from one answer to the next
	seq      atomic.Uint64
	log      *slog.Logger
	sessions sessions
	database func() (*sql.DB, error) // nil: the environment names none

	mu       sync.Mutex
	closers  []io.Closer
	bound    []netip.AddrPort
	closing  bool
	handlers sync.WaitGroup
}

// NewServer takes the identity from the environment that the deployment sets.
func NewServer(getenv func(string) string, log *slog.Logger) *Server {
	host, _ := os.Hostname() // an empty name says as much as an error would
	s := &Server{log: log, identity: whoami.Answer{
		Service: getenv("HIVEPROOF_SERVICE"), Task: getenv("HIVEPROOF_TASK"), Slot: getenv("HIVEPROOF_SLOT"),
		Node: getenv("HIVEPROOF_NODE"), Role: getenv("HIVEPROOF_ROLE"), Container: host,
	}}
	if getenv("DB_TYPE") != "" {
		s.database = s.openOnce(func() (*sql.DB, error) { return openDatabase(getenv) })
	}
	return s
}

// answer is the answer to one question.
func (s *Server) answer(proto string, remote, local net.Addr, nonce string) whoami.Answer {
	a := s.identity
	a.Proto, a.Nonce, a.Seq = proto, nonce, s.seq.Add(1)
	a.Source, a.Local = addrPort(remote), addrPort(local)
	return a
}

// addrPort unmaps IPv4 addresses, which a dual-stack socket sees as IPv6 ones.
func addrPort(a net.Addr) netip.AddrPort {
	if a == nil {
		return netip.AddrPort{}
	}
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// Start binds every port, or none and says which could not be had. It returns
// where it listens, in the order of listens.
func (s *Server) Start(listens []Listen) ([]netip.AddrPort, error) {
	for _, l := range listens {
		if err := s.start(l); err != nil {
			return nil, errors.Join(fmt.Errorf("serve %s: %w", l, err), s.Close())
		}
		s.log.Info("listening", "app", l.App, "proto", l.Proto, "address", s.bound[len(s.bound)-1])
	}
	return s.bound, nil
}

func (s *Server) start(l Listen) error {
	address := net.JoinHostPort("", strconv.Itoa(l.Port))
	if l.Proto == "udp" {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		s.keep(conn, conn.LocalAddr())
		serve := s.serveEchoUDP
		if l.App == "dns" {
			serve = s.serveDNSPacket
		}
		s.handlers.Go(func() { serve(conn) })
		return nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.keep(listener, listener.Addr())
	serve := s.serveEchoTCP
	switch l.App {
	case "dns":
		serve = s.serveDNSListener
	case "http":
		serve = s.serveHTTP
	}
	s.handlers.Go(func() { serve(listener) })
	return nil
}

func (s *Server) keep(c io.Closer, at net.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, c)
	s.bound = append(s.bound, addrPort(at))
}

// track closes a connection together with the server; false means it is closed already.
func (s *Server) track(c io.Closer) (untrack func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		c.Close()
		return nil, false
	}
	s.closers = append(s.closers, c)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, other := range s.closers {
			if other == c {
				s.closers = append(s.closers[:i], s.closers[i+1:]...)
				return
			}
		}
	}, true
}

// Close ends every listener and connection and waits for their goroutines.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing = true
	closers := s.closers
	s.closers = nil
	s.mu.Unlock()
	var problems *multierror.Error
	for _, c := range closers {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			problems = multierror.Append(problems, err)
		}
	}
	s.handlers.Wait()
	return problems.ErrorOrNil()
}

// idleTimeout is how long a client may take between two questions.
const idleTimeout = time.Minute

// The line protocol: "hiveproof NONCE\n" is answered by one line of JSON; over
// TCP a connection may carry many. Anything else is told what is wanted.
const greeting = "hiveproof"

func parseQuestion(line string) (nonce string, ok bool) {
	word, nonce, found := strings.Cut(strings.TrimSpace(line), " ")
	return nonce, found && word == greeting
}

var complaint = []byte(`{"error":"want: hiveproof NONCE"}` + "\n")

func (s *Server) reply(proto string, remote, local net.Addr, line string) []byte {
	nonce, ok := parseQuestion(line)
	if !ok {
		return complaint
	}
	text, err := json.Marshal(s.answer(proto, remote, local, nonce))
	if err != nil {
		return complaint // an Answer always encodes
	}
	return append(text, '\n')
}

func (s *Server) serveEchoTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // the listener was closed
		}
		untrack, ok := s.track(conn)
		if !ok {
			return
		}
		s.handlers.Go(func() {
			defer untrack()
			defer conn.Close()
			lines := bufio.NewReaderSize(io.LimitReader(conn, 1<<20), 4096)
			for {
				_ = conn.SetDeadline(time.Now().Add(idleTimeout)) // it fails only once the connection is closed
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				reply := s.reply("tcp", conn.RemoteAddr(), conn.LocalAddr(), line)
				if _, err := conn.Write(reply); err != nil || &reply[0] == &complaint[0] {
					return
				}
			}
		})
	}
}

func (s *Server) serveEchoUDP(conn net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		// The local address of a datagram is the wildcard: a container has few, and
		// the source is what matters.
		_, _ = conn.WriteTo(s.reply("udp", from, conn.LocalAddr(), string(buf[:n])), from) // a client that is gone asks again
	}
}

// Run serves until ctx ends. Arguments of the image that it stands in for are
// accepted and named once in the log.
func Run(ctx context.Context, getenv func(string) string, ignored []string, log *slog.Logger) error {
	listens, err := ParseListens(getenv("HIVEPROOF_LISTEN"))
	if err != nil {
		return fmt.Errorf("HIVEPROOF_LISTEN: %w", err)
	}
	if len(ignored) > 0 {
		log.Info("arguments of the image that this agent stands in for are ignored", "arguments", len(ignored))
	}
	s := NewServer(getenv, log)
	if _, err := s.Start(listens); err != nil {
		return err
	}
	<-ctx.Done()
	return s.Close()
}
