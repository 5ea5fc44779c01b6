package probes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/agent"
	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

const (
	// patience is how long an exchange may take that must be answered: never all of it.
	patience = 30 * time.Second
	// impatience is for exchanges that get no answer.
	impatience = 50 * time.Millisecond
)

var here = Client{Name: "here", Addr: netip.MustParseAddr("127.0.0.1"), Network: "loopback"}

// ends closes what a test opened.
func ends(t *testing.T, c io.Closer) {
	t.Helper()
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func local(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
}

// startAgent serves everything that an agent can and returns an endpoint for each.
func startAgent(t *testing.T) []Endpoint {
	t.Helper()
	listens, err := agent.ParseListens("dns:0/udp,dns:0/tcp,http:0/tcp,echo:0/tcp,echo:0/udp")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"HIVEPROOF_SERVICE": "powerdns", "HIVEPROOF_TASK": "t1", "HIVEPROOF_SLOT": "2",
		"HIVEPROOF_NODE": "hive1", "HIVEPROOF_ROLE": "dns",
	}
	s := agent.NewServer(func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	bound, err := s.Start(listens)
	if err != nil {
		t.Fatal(err)
	}
	ends(t, s)
	var all []Endpoint
	for i, l := range listens {
		all = append(all, Endpoint{Service: "powerdns", Host: "hive1", Addr: local(bound[i].Port()), Proto: l.Proto, App: l.App})
	}
	return all
}

func put(t *testing.T, d Dialer, e Endpoint, timeout time.Duration) Exchange {
	t.Helper()
	return Exchange1(t.Context(), Ask{Client: here, Endpoint: e, Dialer: d}, timeout)
}

func wantOutcome(t *testing.T, x Exchange, want Outcome) {
	t.Helper()
	if x.Outcome != want {
		t.Errorf("%s/%s: %s (%s), want %s", x.Endpoint.App, x.Endpoint.Proto, x.Outcome, x.Err, want)
	}
	if (x.Outcome == Answered) != (x.Err == "") {
		t.Errorf("%s with error %q", x.Outcome, x.Err)
	}
}

func TestAgentAnswers(t *testing.T) {
	for _, e := range startAgent(t) {
		t.Run(e.App+" "+e.Proto, func(t *testing.T) {
			ports := map[uint16]bool{}
			var last uint64
			for range 3 {
				x := put(t, new(net.Dialer), e, patience)
				wantOutcome(t, x, Answered)
				if x.Answer == nil {
					t.Fatal("no answer")
				}
				a := *x.Answer
				if a.Service != "powerdns" || a.Task != "t1" || a.Slot != "2" || a.Node != "hive1" || a.Role != "dns" || a.Proto != e.Proto {
					t.Errorf("answer %+v", a)
				}
				// The socket is a dual-stack one: the address would be ::ffff:127.0.0.1.
				if a.Source != x.LocalAddr {
					t.Errorf("the agent saw %s, the client spoke from %s", a.Source, x.LocalAddr)
				}
				if e.Proto == "tcp" && a.Local != e.Addr {
					t.Errorf("the agent's own address is %s, want %s", a.Local, e.Addr)
				}
				if a.Seq <= last {
					t.Errorf("sequence %d after %d", a.Seq, last)
				}
				last = a.Seq
				ports[x.LocalAddr.Port()] = true
				if x.RTT <= 0 || x.Client != here || x.Endpoint != e {
					t.Errorf("exchange %+v", x)
				}
			}
			if len(ports) != 3 {
				t.Errorf("3 questions from ports %v: each needs a fresh one", ports)
			}
		})
	}
}

// tcpServer hands each connection to serve and closes it afterwards.
func tcpServer(t *testing.T, serve func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// udpServer answers each datagram with reply's result; nil is silence.
func udpServer(t *testing.T, reply func([]byte) []byte) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if out := reply(buf[:n]); out != nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	})
	t.Cleanup(func() {
		conn.Close()
		done.Wait()
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// firstRead waits for the question, whatever it is.
func firstRead(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }

func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		firstRead(c)
		_, _ = io.WriteString(c, text)
	}
}

// waits reads until the client has gone and says nothing.
func waits(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func resets(c net.Conn) {
	firstRead(c)
	_ = c.(*net.TCPConn).SetLinger(0)
}

func framed(text string) string {
	return string([]byte{byte(len(text) >> 8), byte(len(text))}) + text
}

func TestTCPOutcomes(t *testing.T) {
	stale, err := json.Marshal(whoami.Answer{Task: "t1", Nonce: "yesterday"})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 600)
	for _, test := range []struct {
		name, app string
		serve     func(net.Conn)
		want      Outcome
	}{
		{"accepts and says nothing", "echo", waits, Connected},
		{"accepts and says nothing", "http", waits, Connected},
		{"accepts and says nothing", "dns", waits, Connected},
		{"resets", "echo", resets, Reset},
		{"resets", "http", resets, Reset},
		{"resets", "dns", resets, Reset},
		{"closes without a word", "echo", firstRead, Reset},
		{"closes without a word", "http", firstRead, Reset},
		{"closes without a word", "dns", firstRead, Reset},
		{"another question's nonce", "echo", says(string(stale) + "\n"), WrongAnswer},
		{"another question's nonce", "http", says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(stale), stale)), WrongAnswer},
		{"not JSON", "echo", says("220 mail.example ESMTP\r\n"), WrongAnswer},
		{"half a line", "echo", says(`{"task":"t1"`), WrongAnswer},
		{"not JSON", "http", says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), WrongAnswer},
		{"half a body", "http", says("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello"), WrongAnswer},
		{"an error page", "http", says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), WrongAnswer},
		{"not HTTP", "http", says("220 mail.example ESMTP\r\n\r\n"), WrongAnswer},
		{"half a header", "http", says("HTTP/1.1 200 OK\r\nContent-"), WrongAnswer},
		{"not DNS, shorter than its length says", "dns", says("HTTP/1.1 400 Bad Request\r\n\r\n"), WrongAnswer},
		{"not DNS, too short", "dns", says(framed("abc")), WrongAnswer},
		{"not DNS", "dns", says(framed(long)), WrongAnswer},
		{"the question thrown back", "dns", func(c net.Conn) {
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			_, _ = c.Write(buf[:n])
		}, WrongAnswer},
	} {
		t.Run(test.app+" "+test.name, func(t *testing.T) {
			timeout := patience
			if test.want == Connected {
				timeout = impatience
			}
			wantOutcome(t, put(t, new(net.Dialer), Endpoint{Addr: tcpServer(t, test.serve), Proto: "tcp", App: test.app}, timeout), test.want)
		})
	}
}

// dnsReply changes the answer that a right server would give.
func dnsReply(change func(*dns.Msg)) func([]byte) []byte {
	return func(question []byte) []byte {
		q := new(dns.Msg)
		if q.Unpack(question) != nil {
			return nil
		}
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		m.Answer = []dns.RR{&dns.TXT{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{"task=t1", "seq=1", "nonce=" + strings.TrimSuffix(name, "."+whoami.Zone)},
		}}
		change(m)
		out, err := m.Pack()
		if err != nil {
			return nil
		}
		return out
	}
}

func TestUDPOutcomes(t *testing.T) {
	silence := func([]byte) []byte { return nil }
	says := func(text string) func([]byte) []byte { return func([]byte) []byte { return []byte(text) } }
	for _, test := range []struct {
		name, app string
		reply     func([]byte) []byte
		want      Outcome
	}{
		{"silence", "echo", silence, TimedOut},
		{"silence", "dns", silence, TimedOut},
		{"another nonce", "echo", says(`{"nonce":"yesterday"}`), WrongAnswer},
		{"not JSON", "echo", says("hello"), WrongAnswer},
		{"an empty datagram", "echo", says(""), WrongAnswer},
		{"too short", "dns", says("hello"), WrongAnswer},
		{"an empty datagram", "dns", says(""), WrongAnswer},
		{"right", "dns", dnsReply(func(*dns.Msg) {}), Answered},
		{"another message ID", "dns", dnsReply(func(m *dns.Msg) { m.Id++ }), WrongAnswer},
		{"refused by the server", "dns", dnsReply(func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeRefused, nil }), WrongAnswer},
		{"no records", "dns", dnsReply(func(m *dns.Msg) { m.Answer = nil }), WrongAnswer},
		{"an address", "dns", dnsReply(func(m *dns.Msg) {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(1, 2, 3, 4)}}
		}), WrongAnswer},
		{"another nonce", "dns", dnsReply(func(m *dns.Msg) { m.Answer[0].(*dns.TXT).Txt = []string{"nonce=yesterday"} }), WrongAnswer},
		{"another text", "dns", dnsReply(func(m *dns.Msg) { m.Answer[0].(*dns.TXT).Txt = []string{"v=spf1 -all"} }), WrongAnswer},
	} {
		t.Run(test.app+" "+test.name, func(t *testing.T) {
			timeout := patience
			if test.want == TimedOut {
				timeout = impatience
			}
			wantOutcome(t, put(t, new(net.Dialer), Endpoint{Addr: udpServer(t, test.reply), Proto: "udp", App: test.app}, timeout), test.want)
		})
	}
}

// A timeout's error says what was waited for, not that the prober closed its own socket.
func TestTimeoutSaysSo(t *testing.T) {
	x := put(t, new(net.Dialer), Endpoint{Addr: tcpServer(t, waits), Proto: "tcp", App: "echo"}, impatience)
	if want := "no answer within 50ms"; x.Err != want {
		t.Errorf("error %q, want %q", x.Err, want)
	}
	if x.RTT < impatience {
		t.Errorf("gave up after %s, before the timeout of %s", x.RTT, impatience)
	}
}

func TestRefused(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Once closed, nothing listens there.
	tcp.Close()
	udp.Close()
	wantOutcome(t, put(t, new(net.Dialer), Endpoint{Addr: tcp.Addr().(*net.TCPAddr).AddrPort(), Proto: "tcp", App: "http"}, patience), Refused)
	for _, app := range []string{"echo", "dns"} {
		wantOutcome(t, put(t, new(net.Dialer), Endpoint{Addr: udp.LocalAddr().(*net.UDPAddr).AddrPort(), Proto: "udp", App: app}, patience), Refused)
	}
}

// A SYN that the kernel drops, because the queue of a listener that never accepts
// is full, is silence: neither connected nor a failure of the probe.
func TestSYNDropped(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	e := Endpoint{Addr: local(uint16(at.(*syscall.SockaddrInet4).Port)), Proto: "tcp", App: "echo"}
	filler, err := net.Dial("tcp", e.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for range 10 {
		wantOutcome(t, put(t, new(net.Dialer), e, 10*time.Millisecond), TimedOut)
	}
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func (f dialFunc) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return f(ctx, network, address)
}

func TestDialErrors(t *testing.T) {
	e := Endpoint{Addr: local(1), Proto: "tcp", App: "echo"}
	errno := func(n syscall.Errno) error { return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", n)} }
	for _, test := range []struct {
		err  error
		want Outcome
	}{
		{errno(syscall.EHOSTUNREACH), Unreachable},
		{errno(syscall.ENETUNREACH), Unreachable},
		{errno(syscall.ECONNREFUSED), Refused},
		{errno(syscall.ETIMEDOUT), TimedOut},
		{context.DeadlineExceeded, TimedOut},
		{os.ErrDeadlineExceeded, TimedOut},
		{errno(syscall.EADDRNOTAVAIL), Failed},
		{errors.New("no such vantage"), Failed},
	} {
		d := dialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, test.err })
		x := put(t, d, e, patience)
		wantOutcome(t, x, test.want)
		if x.Start.IsZero() || x.Answer != nil {
			t.Errorf("exchange %+v", x)
		}
	}
	wantOutcome(t, put(t, new(net.Dialer), Endpoint{Addr: tcpServer(t, waits), Proto: "tcp", App: "gopher"}, patience), Failed)
}

// The end of the run is no finding about the site, whenever it comes.
func TestAborted(t *testing.T) {
	reason := errors.New("interrupted")
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(reason)
		d := dialFunc(func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialled although the run was over")
			return nil, reason
		})
		x := Exchange1(ctx, Ask{Client: here, Endpoint: Endpoint{Addr: local(1), Proto: "tcp", App: "echo"}, Dialer: d}, patience)
		wantOutcome(t, x, Aborted)
	})
	t.Run("dialling", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		d := dialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
			cancel(reason)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		x := Exchange1(ctx, Ask{Client: here, Endpoint: Endpoint{Addr: local(1), Proto: "tcp", App: "echo"}, Dialer: d}, patience)
		wantOutcome(t, x, Aborted)
	})
	t.Run("connected", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		at := tcpServer(t, func(c net.Conn) {
			firstRead(c)
			cancel(reason)
			waits(c)
		})
		x := Exchange1(ctx, Ask{Client: here, Endpoint: Endpoint{Addr: at, Proto: "tcp", App: "echo"}, Dialer: new(net.Dialer)}, patience)
		wantOutcome(t, x, Aborted)
		if x.Err != reason.Error() {
			t.Errorf("error %q, want the reason of the interruption", x.Err)
		}
	})
}

// underWay counts the exchanges that each client has under way.
type underWay struct {
	mu   sync.Mutex
	now  map[string]int
	most int // of one client
	both bool
	meet chan struct{}
}

func (u *underWay) dialer(client string) Dialer {
	return dialFunc(func(ctx context.Context, _, _ string) (net.Conn, error) {
		u.mu.Lock()
		u.now[client]++
		u.most = max(u.most, u.now[client])
		if len(u.now) == 2 && !u.both {
			u.both = true
			close(u.meet)
		}
		u.mu.Unlock()
		defer func() {
			u.mu.Lock()
			u.now[client]--
			u.mu.Unlock()
		}()
		// Nobody gets on before both clients have something under way.
		select {
		case <-u.meet:
			return nil, syscall.ECONNREFUSED
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

func TestCollect(t *testing.T) {
	u := &underWay{now: map[string]int{}, meet: make(chan struct{})}
	var asks []Ask
	for i := range 10 {
		for _, name := range []string{"a", "b"} {
			asks = append(asks, Ask{
				Client: Client{Name: name}, Dialer: u.dialer(name),
				Endpoint: Endpoint{Addr: local(uint16(i + 1)), Proto: "tcp", App: "echo"},
			})
		}
	}
	var reported []Exchange
	all := Collect(t.Context(), asks, Options{Timeout: patience, Progress: func(x Exchange) { reported = append(reported, x) }})
	if len(all) != len(asks) || len(reported) != len(asks) {
		t.Fatalf("%d exchanges, %d reported, of %d questions", len(all), len(reported), len(asks))
	}
	next := map[string]uint16{"a": 1, "b": 1}
	for i, x := range all {
		wantOutcome(t, x, Refused)
		if i > 0 && x.Start.Before(all[i-1].Start) {
			t.Errorf("exchange %d started before the one listed before it", i)
		}
		if got := x.Endpoint.Addr.Port(); got != next[x.Client.Name] {
			t.Errorf("client %s asked port %d, its turn was %d", x.Client.Name, got, next[x.Client.Name])
		}
		next[x.Client.Name]++
	}
	if u.most != 1 || !u.both {
		t.Errorf("one client had %d under way, both at once: %v", u.most, u.both)
	}
}

func TestCollectInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := dialFunc(func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED })
	var asks []Ask
	for i := range 5 {
		asks = append(asks, Ask{Client: here, Dialer: d, Endpoint: Endpoint{Addr: local(uint16(i + 1)), Proto: "tcp", App: "echo"}})
	}
	n := 0
	all := Collect(ctx, asks, Options{Progress: func(Exchange) {
		if n++; n == 2 {
			cancel()
		}
	}})
	if got := fmt.Sprint(outcomes(all)); got != "map[aborted:3 refused:2]" {
		t.Errorf("outcomes %s", got)
	}
	for _, x := range all {
		if !x.Endpoint.Addr.IsValid() || x.Start.IsZero() {
			t.Errorf("not to be told from another: %+v", x)
		}
	}
}
