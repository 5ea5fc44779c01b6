package fabric

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// lab is a segment with two vantages, and a router with a client in each of two
// outside networks.
type lab struct {
	site, netA, netB *Switch
	router           *Router
	a, b             *Vantage // on the segment
	outA, outB       *Vantage
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{site: NewSwitch("site"), netA: NewSwitch("net-a"), netB: NewSwitch("net-b"), router: NewRouter("router")}
	for _, i := range []struct {
		sw    *Switch
		addrs []netip.Prefix
	}{
		{l.site, prefixes("192.168.56.1/24", "fd00:56::1/64")},
		{l.netA, prefixes("198.51.100.1/24", "2001:db8:a::1/64")},
		{l.netB, prefixes("203.0.113.1/24")},
	} {
		if err := l.router.AddInterface(i.sw, i.addrs...); err != nil {
			t.Fatal(err)
		}
	}
	vantage := func(sw *Switch, name, gw4, gw6 string, addrs ...string) *Vantage {
		cfg := VantageConfig{Name: name, Addrs: prefixes(addrs...), Gateway4: netip.MustParseAddr(gw4)}
		if gw6 != "" {
			cfg.Gateway6 = netip.MustParseAddr(gw6)
		}
		v, err := NewVantage(sw, cfg)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	l.a = vantage(l.site, "a", "192.168.56.1", "fd00:56::1", "192.168.56.50/24", "fd00:56::50/64")
	l.b = vantage(l.site, "b", "192.168.56.1", "fd00:56::1", "192.168.56.51/24", "fd00:56::51/64")
	l.outA = vantage(l.netA, "out-a", "198.51.100.1", "2001:db8:a::1", "198.51.100.10/24", "2001:db8:a::10/64")
	l.outB = vantage(l.netB, "out-b", "203.0.113.1", "", "203.0.113.10/24")
	t.Cleanup(l.close)
	return l
}

func (l *lab) close() {
	for _, v := range []*Vantage{l.a, l.b, l.outA, l.outB} {
		v.Close()
	}
	l.router.Close()
	for _, sw := range []*Switch{l.site, l.netA, l.netB} {
		sw.Close()
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// serveTCP answers every connection with the remote address that it sees.
func serveTCP(t testing.TB, v *Vantage, at string) {
	t.Helper()
	listener, err := v.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, conn.RemoteAddr())
			conn.Close()
		}
	}()
}

// serveUDP answers every datagram with the remote address that it sees.
func serveUDP(t testing.TB, v *Vantage, at string) {
	t.Helper()
	conn, err := v.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, MTU)
		for {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := conn.WriteTo(fmt.Appendln(nil, from), from); err != nil {
				return
			}
		}
	}()
}

// ask returns the line that the server sends, and the client's own address.
func ask(t testing.TB, v *Vantage, network, to string) (seen, own string, err error) {
	t.Helper()
	conn, err := v.DialContext(within(t, 5*time.Second), network, to)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if network == "udp" {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", "", err
		}
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", "", err
	}
	return line[:len(line)-1], conn.LocalAddr().String(), nil
}

func TestServersSeeTheClientsOwnAddress(t *testing.T) {
	l := newLab(t)
	serveTCP(t, l.b, "192.168.56.51:80")
	serveTCP(t, l.b, "[fd00:56::51]:80")
	serveUDP(t, l.b, "192.168.56.51:53")
	serveUDP(t, l.b, "[fd00:56::51]:53")
	for _, client := range []*Vantage{l.a, l.outA, l.outB} {
		for _, at := range []struct{ network, to string }{
			{"tcp", "192.168.56.51:80"}, {"udp", "192.168.56.51:53"},
			{"tcp", "[fd00:56::51]:80"}, {"udp", "[fd00:56::51]:53"},
		} {
			if at.to[0] == '[' && !client.Addr6().IsValid() {
				continue
			}
			t.Run(client.Name()+" "+at.network+" "+at.to, func(t *testing.T) {
				seen, own, err := ask(t, client, at.network, at.to)
				if err != nil {
					t.Fatal(err)
				}
				if seen != own {
					t.Errorf("the server saw %s, the client's own address is %s", seen, own)
				}
			})
		}
	}
}

func TestPing(t *testing.T) {
	l := newLab(t)
	for _, to := range []string{"192.168.56.51", "192.168.56.1", "fd00:56::51", "fd00:56::1"} {
		for _, from := range []*Vantage{l.a, l.outA} {
			if _, err := from.Ping(within(t, 5*time.Second), netip.MustParseAddr(to)); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := l.a.Ping(within(t, 100*time.Millisecond), netip.MustParseAddr("192.168.56.99")); err == nil {
		t.Error("an address that nobody has answered")
	}
}

func TestEachVantageHasItsOwnNeighborCache(t *testing.T) {
	l := newLab(t)
	if _, err := l.a.Ping(within(t, 5*time.Second), l.b.Addr4()); err != nil {
		t.Fatal(err)
	}
	knows := func(v *Vantage, a netip.Addr) net.HardwareAddr {
		all, err := v.Neighbors()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all {
			if n.Addr == a {
				return n.MAC
			}
		}
		return nil
	}
	if got := knows(l.a, l.b.Addr4()); got.String() != l.b.MAC().String() {
		t.Errorf("a knows b as %v, want %v", got, l.b.MAC())
	}
	if got := knows(l.outA, l.b.Addr4()); got != nil {
		t.Errorf("a client behind the router knows b's MAC address %v", got)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("lab", func(t *testing.T) {
		l := newLab(t)
		serveTCP(t, l.b, "192.168.56.51:80")
		if _, _, err := ask(t, l.outA, "tcp", "192.168.56.51:80"); err != nil {
			t.Fatal(err)
		}
		ours, qemu := streamPair(t)
		defer qemu.Close()
		l.site.AttachStream("vm", ours)
		c, err := StartCapture(filepath.Join(t.TempDir(), "x.pcapng"), CaptureOptions{}, l.site)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = c.Stop() }()
		l.a.Port().SetImpairment(ToDevice, Impairment{Delay: time.Hour})
		_, _ = l.b.Ping(within(t, 10*time.Millisecond), l.a.Addr4())
	})
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		stacks := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
	}
}
