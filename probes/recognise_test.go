package probes

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

// hasty waits for the answer to a question that begins with its own byte, and not
// for those that a server takes for the beginning of something longer.
type hasty struct {
	net.Conn
	own byte
}

func (h hasty) Write(b []byte) (int, error) {
	if b[0] != h.own {
		if err := h.SetReadDeadline(time.Now().Add(impatience)); err != nil {
			return 0, err
		}
	}
	return h.Conn.Write(b)
}

func recognise(t *testing.T, name string, at netip.AddrPort, proto string, timeout time.Duration, want Endpoint) {
	t.Helper()
	app, plain, err := Recognise(t.Context(), new(net.Dialer), at, proto, timeout)
	if err != nil || app != want.App || plain != want.Plain {
		t.Errorf("%s, %s: %q, plain %v, %v; want %q, plain %v", name, proto, app, plain, err, want.App, want.Plain)
	}
}

// What the prober can be told about an agent, it finds out by itself.
func TestRecogniseAgent(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, e := range startAgent(t) {
		all.Go(func() {
			var d Dialer = new(net.Dialer)
			if e.Proto == "tcp" {
				d = dialFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					return hasty{conn, map[string]byte{"http": 'G', "dns": 0, "echo": 'h'}[e.App]}, err
				})
			}
			app, plain, err := Recognise(t.Context(), d, e.Addr, e.Proto, patience)
			if err != nil || app != e.App || plain {
				t.Errorf("%s/%s: %q, plain %v, %v", e.App, e.Proto, app, plain, err)
			}
		})
	}
}

func TestRecognise(t *testing.T) {
	plain := func(app string) Endpoint { return Endpoint{App: app, Plain: true} }
	anyJSON := func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(map[string]int{}) }
	noHTTP := &tls.Config{}
	web(t, proxy, func(c *tls.Config) { noHTTP = c }) // for its certificate
	refused := dnsReply(func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeRefused, nil })
	type server struct {
		name string
		at   netip.AddrPort
		want Endpoint
	}
	var all sync.WaitGroup // each waits for its server to speak first
	defer all.Wait()
	for _, s := range []server{
		{"a proxy", web(t, proxy, nil), Endpoint{App: "http"}},
		{"a proxy", web(t, proxy, asIs), Endpoint{App: "https"}},
		{"another web server", web(t, status(404), nil), plain("http")},
		{"another web server", web(t, status(404), asIs), plain("https")},
		{"a broken web server", web(t, status(502), nil), plain("http")},
		{"a broken web server", web(t, status(502), asIs), plain("https")},
		{"another one's JSON", web(t, anyJSON, nil), plain("http")},
		{"another one's JSON", web(t, anyJSON, asIs), plain("https")},
		{"half a page", tcpServer(t, says("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello")), plain("http")},
		{"no HTTP within TLS", tcpServer(t, func(c net.Conn) { says("+OK\r\n")(tls.Server(c, noHTTP)) }), plain("tcp")},
		{"MariaDB", tcpServer(t, begins(mysqlGreeting)), plain("mysql")},
		{"SSH", tcpServer(t, begins("SSH-2.0-OpenSSH_9.9\r\n")), plain("tcp")},
		{"hangs up", tcpServer(t, firstRead), plain("tcp")},
		{"says something", tcpServer(t, says("?\r\n")), plain("tcp")},
		{"another DNS server", tcpServer(t, func(c net.Conn) {
			var head [2]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			question := make([]byte, int(head[0])<<8|int(head[1]))
			if len(question) > 512 {
				return
			}
			if _, err := io.ReadFull(c, question); err != nil {
				return
			}
			_, _ = io.WriteString(c, framed(string(refused(question))))
		}), plain("dns")},
	} {
		all.Go(func() { recognise(t, s.name, s.at, "tcp", patience, s.want) })
	}
	for _, s := range []server{
		{"PowerDNS", udpServer(t, dnsReply(split)), Endpoint{App: "dns"}},
		{"another DNS server", udpServer(t, refused), plain("dns")},
		{"says something", udpServer(t, func([]byte) []byte { return []byte("what?") }), plain("udp")},
		{"throws back", udpServer(t, func(b []byte) []byte { return b }), plain("udp")},
	} {
		all.Go(func() { recognise(t, s.name, s.at, "udp", patience, s.want) })
	}
	recognise(t, "accepts and says nothing", tcpServer(t, waits), "tcp", impatience, plain("tcp"))
	recognise(t, "silence", udpServer(t, func([]byte) []byte { return nil }), "udp", impatience, plain("udp"))
}

func TestRecogniseRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if app, _, err := Recognise(t.Context(), new(net.Dialer), at, "tcp", patience); err == nil || app != "" || !strings.Contains(err.Error(), at.String()+"/tcp") {
		t.Errorf("%q, %v; want an error that names the port", app, err)
	}
	// A UDP port cannot be told from one that ignores what it does not understand.
	recognise(t, "nobody", at, "udp", impatience, Endpoint{App: "udp", Plain: true})
}

// The end of the run must not look like a port that says nothing.
func TestRecogniseInterrupted(t *testing.T) {
	reason := errors.New("interrupted")
	for _, proto := range []string{"tcp", "udp"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		at := udpServer(t, func([]byte) []byte { cancel(reason); return nil })
		if proto == "tcp" {
			at = tcpServer(t, func(c net.Conn) { cancel(reason); waits(c) })
		}
		if app, _, err := Recognise(ctx, new(net.Dialer), at, proto, patience); !errors.Is(err, reason) || app != "" {
			t.Errorf("%s: %q, %v", proto, app, err)
		}
	}
}

// The agent's own path leaves no session behind, however often it is asked.
func TestRecogniseAsksThePath(t *testing.T) {
	at := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != whoami.Path {
			t.Errorf("asked for %s", r.URL)
		}
		proxy(w, r)
	}, nil)
	recognise(t, "a proxy", at, "tcp", patience, Endpoint{App: "http"})
}
