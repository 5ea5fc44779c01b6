package probes

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

// web serves over HTTP, or HTTPS if tune is given: it may change TLS's settings.
func web(t *testing.T, handler http.HandlerFunc, tune func(*tls.Config)) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if tune == nil {
		s.Start()
	} else {
		s.TLS = new(tls.Config)
		tune(s.TLS)
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).AddrPort()
}

// proxy says who it is on the one path, and serves others everywhere else.
func proxy(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != whoami.Path {
		http.Error(w, "nobody is there", http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(whoami.Answer{Task: "t1", Nonce: r.Header.Get("X-Hiveproof-Nonce")})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// frontPage fails the test if anything but the front page is asked for.
func frontPage(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.Path != "/" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		w.WriteHeader(http.StatusNotFound)
	}
}

func asIs(*tls.Config) {}

// alerts lets no handshake succeed.
func alerts(c *tls.Config) {
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("unrecognised name") }
}

func TestHTTPAndHTTPS(t *testing.T) {
	for _, test := range []struct {
		name, app string
		plain     bool
		at        netip.AddrPort
		want      Outcome
		task      string
	}{
		{"a proxy", "http", false, web(t, proxy, nil), Answered, "t1"},
		{"a proxy", "https", false, web(t, proxy, asIs), Answered, "t1"},
		{"a proxy whose services are down", "http", true, web(t, proxy, nil), WrongAnswer, ""},
		{"a proxy whose services are down", "https", true, web(t, proxy, asIs), WrongAnswer, ""},
		{"no page", "http", false, web(t, status(404), nil), WrongAnswer, ""},
		{"no page", "https", false, web(t, status(404), asIs), WrongAnswer, ""},
		{"no page", "http", true, web(t, frontPage(t), nil), Answered, ""},
		{"no page", "https", true, web(t, frontPage(t), asIs), Answered, ""},
		{"no content", "http", true, web(t, status(204), nil), Answered, ""},
		{"moved", "http", true, web(t, status(308), nil), Answered, ""},
		{"broken", "http", true, web(t, status(500), nil), WrongAnswer, ""},
		{"no TLS", "https", false, web(t, proxy, nil), WrongAnswer, ""},
		{"no TLS", "https", true, web(t, proxy, nil), WrongAnswer, ""},
		{"TLS", "http", false, web(t, proxy, asIs), WrongAnswer, ""},
		{"a TLS alert", "https", false, web(t, proxy, alerts), WrongAnswer, ""},
		{"a TLS alert", "https", true, web(t, proxy, alerts), WrongAnswer, ""},
		{"another protocol", "http", true, tcpServer(t, says("220 mail.example ESMTP\r\n")), WrongAnswer, ""},
		{"closes without a word", "http", true, tcpServer(t, firstRead), Reset, ""},
		{"closes without a word", "https", false, tcpServer(t, firstRead), Reset, ""},
		{"resets", "https", true, tcpServer(t, resets), Reset, ""},
		{"accepts and says nothing", "https", false, tcpServer(t, waits), Connected, ""},
		{"accepts and says nothing", "http", true, tcpServer(t, waits), Connected, ""},
	} {
		e := Endpoint{Addr: test.at, Proto: "tcp", App: test.app, Plain: test.plain}
		checkPut(t, test.name, e, test.want, test.task)
	}
}

// checkPut waits only for what must come.
func checkPut(t *testing.T, name string, e Endpoint, want Outcome, task string) {
	t.Helper()
	timeout := patience
	if want == Connected || want == TimedOut {
		timeout = impatience
	}
	x := put(t, new(net.Dialer), e, timeout)
	if x.Outcome != want || (x.Err == "") != (want == Answered) {
		t.Errorf("%s, %s/%s (plain %v): %s (%s), want %s", name, e.App, e.Proto, e.Plain, x.Outcome, x.Err, want)
	}
	if want == Answered && (x.Answer != nil) != (task != "") || x.Answer != nil && want == Answered && x.Answer.Task != task {
		t.Errorf("%s, %s/%s (plain %v): answer %+v, want one of task %q", name, e.App, e.Proto, e.Plain, x.Answer, task)
	}
}

// begins speaks first, and then hears whatever is said.
func begins(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		waits(c)
	}
}

const mysqlGreeting = "\x4a\x00\x00\x00\x0a11.8.3-MariaDB\x00"

func TestWithoutIdentity(t *testing.T) {
	echoes := func(c net.Conn) { _, _ = io.Copy(c, c) }
	for _, test := range []struct {
		name, app string
		serve     func(net.Conn)
		want      Outcome
	}{
		{"a greeting", "mysql", begins(mysqlGreeting), Answered},
		{"too many connections", "mysql", begins("\x17\x00\x00\x00\xff\x10\x04Too many connections"), Answered},
		{"too many connections, numbered as MariaDB does", "mysql", begins("\x17\x00\x00\x01\xff\x10\x04Too many connections"), Answered},
		{"an older protocol", "mysql", begins("\x4a\x00\x00\x00\x093.20"), WrongAnswer},
		{"in the middle of a session", "mysql", begins("\x4a\x00\x00\x02\x0a"), WrongAnswer},
		{"SSH", "mysql", begins("SSH-2.0-OpenSSH_9.9\r\n"), WrongAnswer},
		{"a line end where the version would be", "mysql", begins("220 \n"), WrongAnswer},
		{"stops in the head", "mysql", func(c net.Conn) { _, _ = io.WriteString(c, "\x4a\x00") }, WrongAnswer},
		{"waits to be asked", "mysql", waits, Connected},
		{"closes without a word", "mysql", func(net.Conn) {}, Reset},

		{"answers", "tcp", says("?"), Answered},
		{"speaks first", "tcp", begins("SSH-2.0-OpenSSH_9.9\r\n"), Answered},
		{"hangs up", "tcp", firstRead, Answered},
		{"echoes", "tcp", echoes, Answered},
		{"accepts and says nothing", "tcp", waits, Connected},
		{"resets", "tcp", resets, Reset},
	} {
		checkPut(t, test.name, Endpoint{Addr: tcpServer(t, test.serve), Proto: "tcp", App: test.app}, test.want, "")
	}
	for _, test := range []struct {
		name  string
		reply func([]byte) []byte
		want  Outcome
	}{
		{"answers", func([]byte) []byte { return []byte("what?") }, Answered},
		{"an empty datagram", func([]byte) []byte { return []byte{} }, Answered},
		{"silence", func([]byte) []byte { return nil }, TimedOut},
	} {
		checkPut(t, test.name, Endpoint{Addr: udpServer(t, test.reply), Proto: "udp", App: "udp"}, test.want, "")
	}
}

// split gives each string a record of its own, the last one first, as PowerDNS may.
func split(m *dns.Msg) {
	txt := m.Answer[0].(*dns.TXT)
	m.Answer = nil
	for _, s := range slices.Backward(txt.Txt) {
		m.Answer = append(m.Answer, &dns.TXT{Hdr: txt.Hdr, Txt: []string{s}})
	}
}

func TestDNSReplies(t *testing.T) {
	refused := func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeRefused, nil }
	for _, test := range []struct {
		name   string
		plain  bool
		change func(*dns.Msg)
		want   Outcome
	}{
		{"a record to each string", false, split, Answered},
		{"another letter case", false, func(m *dns.Msg) {
			split(m)
			m.Answer[1].Header().Name = strings.ToUpper(m.Answer[1].Header().Name)
		}, Answered},
		{"one record is of another name", false, func(m *dns.Msg) {
			split(m)
			m.Answer[1].Header().Name = "other." + whoami.Zone
		}, WrongAnswer},
		{"one record is no text", false, func(m *dns.Msg) {
			split(m)
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(1, 2, 3, 4)})
		}, WrongAnswer},
		{"the nonce is missing", false, func(m *dns.Msg) { split(m); m.Answer = m.Answer[1:] }, WrongAnswer},
		{"cut off", false, func(m *dns.Msg) { split(m); m.Truncated = true }, WrongAnswer},
		{"no reply", false, func(m *dns.Msg) { m.Response = false }, WrongAnswer},
		{"right", true, func(m *dns.Msg) {}, Answered},
		{"refused", true, refused, Answered},
		{"refused", false, refused, WrongAnswer},
		{"another message ID", true, func(m *dns.Msg) { m.Id++ }, WrongAnswer},
		{"the question thrown back", true, func(m *dns.Msg) { m.Response, m.Answer = false, nil }, WrongAnswer},
	} {
		at := udpServer(t, dnsReply(func(m *dns.Msg) {
			if q := m.Question[0]; test.plain != (q.Name == "version.bind." && q.Qclass == dns.ClassCHAOS) {
				t.Errorf("%s: plain %v asks %s", test.name, test.plain, q.String())
			}
			test.change(m)
		}))
		task := "t1"
		if test.plain {
			task = ""
		}
		checkPut(t, test.name, Endpoint{Addr: at, Proto: "udp", App: "dns", Plain: test.plain}, test.want, task)
	}
	garbage := udpServer(t, func([]byte) []byte { return []byte("hello") })
	checkPut(t, "no DNS", Endpoint{Addr: garbage, Proto: "udp", App: "dns", Plain: true}, WrongAnswer, "")
}
