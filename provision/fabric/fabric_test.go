package fabric

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
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

func TestErrorsAreToldApart(t *testing.T) {
	l := newLab(t)
	for name, test := range map[string]struct {
		from        *Vantage
		network, to string
		want        error
		within      time.Duration
	}{
		"tcp refused":              {l.a, "tcp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"tcp refused, routed":      {l.outA, "tcp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"tcp refused, v6":          {l.a, "tcp", "[fd00:56::51]:81", syscall.ECONNREFUSED, time.Second},
		"udp refused":              {l.a, "udp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"udp refused, routed":      {l.outB, "udp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"no route, told by router": {l.a, "tcp", "8.8.8.8:53", syscall.ENETUNREACH, time.Second},
		"no v6 here":               {l.outB, "tcp", "[fd00:56::51]:80", syscall.ENETUNREACH, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			_, _, err := ask(t, test.from, test.network, test.to)
			if !errors.Is(err, test.want) && !(test.want == syscall.ENETUNREACH && errors.Is(err, syscall.EHOSTUNREACH)) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if took := time.Since(started); took > test.within {
				t.Errorf("took %s: a refusal comes at once", took)
			}
		})
	}
	t.Run("tcp time-out", func(t *testing.T) {
		l.b.Port().SetImpairment(ToDevice, Impairment{Cut: true})
		defer l.b.Port().SetImpairment(ToDevice, Impairment{})
		ctx := within(t, 200*time.Millisecond)
		if _, err := l.a.DialContext(ctx, "tcp", "192.168.56.51:81"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's deadline", err)
		}
	})
	t.Run("udp time-out", func(t *testing.T) {
		conn, err := l.a.DialContext(within(t, time.Second), "udp", "192.168.56.99:53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v, want a deadline", err)
		}
	})
}

func TestACutIsOneWay(t *testing.T) {
	l := newLab(t)
	ping := func() error {
		_, err := l.a.Ping(within(t, 200*time.Millisecond), l.b.Addr4())
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	count := l.b.Port()
	before := count.Stats().ToFrames
	l.b.Port().SetImpairment(FromDevice, Impairment{Cut: true})
	if err := ping(); err == nil {
		t.Error("an answer came across a cut link")
	}
	if count.Stats().ToFrames == before {
		t.Error("the request did not arrive either: the cut is not one-way")
	}
	if count.Stats().DropCut == 0 {
		t.Error("the answer that was cut is not counted")
	}
	l.b.Port().SetImpairment(FromDevice, Impairment{})
	if err := ping(); err != nil {
		t.Errorf("after the cut was mended: %v", err)
	}
}

func TestLossAndDelay(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	got := make(chan byte, 10000)
	dst := sw.Attach("dst", func(frames [][]byte) {
		for _, f := range frames {
			got <- f[14]
		}
	})
	src := sw.Attach("src", func([][]byte) {})
	frame := func(n byte) []byte {
		return append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, n)
	}

	dst.SeedLoss(1)
	dst.SetImpairment(ToDevice, Impairment{Loss: 0.3})
	const sent = 2000
	for range sent {
		src.Send(frame(0))
	}
	lost := dst.Stats().DropLoss
	if lost < sent*25/100 || lost > sent*35/100 {
		t.Errorf("%d of %d lost, want about 30 %%", lost, sent)
	}
	for range sent - int(lost) {
		<-got
	}

	const delay = 50 * time.Millisecond
	dst.SetImpairment(ToDevice, Impairment{Delay: delay})
	started := time.Now()
	for n := range byte(100) {
		src.Send(frame(n))
		if n == 50 {
			// Frames that need not wait any more must not overtake.
			dst.SetImpairment(ToDevice, Impairment{})
		}
	}
	for n := range byte(100) {
		if f := <-got; f != n {
			t.Fatalf("frame %d came in place of %d", f, n)
		}
	}
	if took := time.Since(started); took < delay {
		t.Errorf("all frames came after %s, want at least %s", took, delay)
	}
}

func TestDelayRaisesTheRoundTrip(t *testing.T) {
	l := newLab(t)
	if _, err := l.a.Ping(within(t, time.Second), l.b.Addr4()); err != nil { // also resolves the address
		t.Fatal(err)
	}
	l.b.Port().SetImpairment(ToDevice, Impairment{Delay: 30 * time.Millisecond})
	l.b.Port().SetImpairment(FromDevice, Impairment{Delay: 20 * time.Millisecond})
	rtt, err := l.a.Ping(within(t, time.Second), l.b.Addr4())
	if err != nil {
		t.Fatal(err)
	}
	if rtt < 50*time.Millisecond {
		t.Errorf("round trip %s, want at least the links' 50ms", rtt)
	}
}

func TestKnownAddressesAreNotFlooded(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	var mu sync.Mutex
	got := map[string]int{}
	seen := make(chan struct{}, 100)
	port := func(name string) *Port {
		return sw.Attach(name, func(frames [][]byte) {
			mu.Lock()
			got[name] += len(frames)
			mu.Unlock()
			for range frames {
				seen <- struct{}{}
			}
		})
	}
	a, b, c := port("a"), port("b"), port("c")
	frame := func(dst, src byte) []byte {
		return []byte{2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 0x88, 0xb5, 0}
	}
	a.Send(frame(2, 1)) // unknown: flooded to b and c
	<-seen
	<-seen
	b.Send(frame(1, 2)) // a is known by now
	<-seen
	a.Send(frame(2, 1)) // and so is b
	<-seen
	mu.Lock()
	if got["a"] != 1 || got["b"] != 2 || got["c"] != 1 {
		t.Errorf("frames: %v, want a 1, b 2 and c only the flooded one", got)
	}
	mu.Unlock()
	if table := sw.Table(); len(table) != 2 || table[0].Port != "a" || table[1].Port != "b" {
		t.Errorf("MAC table: %v", table)
	}
	b.Close()
	if table := sw.Table(); len(table) != 1 {
		t.Errorf("a closed port's address is still in the table: %v", table)
	}
	sw.Flush()
	if len(sw.Table()) != 0 {
		t.Error("a flushed table is not empty")
	}
	c.Send([]byte{1, 2, 3})
	if c.Stats().DropMalformed != 1 {
		t.Error("a frame without a header was let through")
	}
}

func TestCapture(t *testing.T) {
	l := newLab(t)
	serveUDP(t, l.b, "192.168.56.51:53")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	c, err := StartCapture(path, CaptureOptions{}, l.site, l.netA)
	if err != nil {
		t.Fatal(err)
	}
	late, err := NewVantage(l.site, VantageConfig{Name: "late", Addrs: prefixes("192.168.56.60/24")})
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	for _, v := range []*Vantage{l.outA, late} {
		if _, _, err := ask(t, v, "udp", "192.168.56.51:53"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file has its name before it is complete")
	}
	stats, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	frames := map[string]int{} // interface -> DNS-port datagrams
	for n := uint64(0); ; n++ {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			if n != stats.Frames {
				t.Errorf("%d frames in the file, %d counted", n, stats.Frames)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(info.Timestamp) > time.Minute {
			t.Fatalf("time stamp %s", info.Timestamp)
		}
		i, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeUDP) != nil {
			frames[i.Name]++
		}
	}
	want := map[string]int{"net-a/out-a": 2, "net-a/router": 2, "site/router": 2, "site/b": 4, "site/late": 2}
	for name, n := range want {
		if frames[name] != n {
			t.Errorf("%s: %d datagrams, want %d (question and answer of each client that passes there)", name, frames[name], n)
		}
	}
	if got := r.NInterfaces(); got < 6 {
		t.Errorf("%d interfaces, want one for each port", got)
	}
}

func TestCaptureEndsAtItsLimit(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	p := sw.Attach("p", func([][]byte) {})
	c, err := StartCapture(filepath.Join(t.TempDir(), "x.pcapng"), CaptureOptions{MaxBytes: 100}, sw)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		p.Send(make([]byte, 60))
	}
	stats, err := c.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Frames != 1 || !stats.Truncated {
		t.Errorf("got %+v, want one frame and truncated", stats)
	}
}

func TestObserveNeighborEvents(t *testing.T) {
	l := newLab(t)
	events := make(chan NeighborEvent, 100)
	stop := l.site.Observe(func(e NeighborEvent) { events <- e })
	for _, to := range []netip.Addr{l.b.Addr4(), l.b.Addr6()} {
		if _, err := l.a.Ping(within(t, 5*time.Second), to); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	var seen []NeighborOp
	for len(events) > 0 {
		e := <-events
		if e.Gratuitous {
			t.Errorf("gratuitous: %+v", e)
		}
		if e.Op == ARPReply && (e.SenderIP != l.b.Addr4() || e.SenderMAC.String() != l.b.MAC().String() || e.Port != "b") {
			t.Errorf("ARP reply: %+v", e)
		}
		if e.Op == NeighborAdvertisement && e.SenderIP != l.b.Addr6() {
			t.Errorf("advertisement: %+v", e)
		}
		seen = append(seen, e.Op)
	}
	for _, want := range []NeighborOp{ARPRequest, ARPReply, NeighborSolicitation, NeighborAdvertisement} {
		if !slices.Contains(seen, want) {
			t.Errorf("no %s among %v", want, seen)
		}
	}
	gratuitous := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6}, // Ethernet
		0, 1, 8, 0, 6, 4, 0, 1, // ARP request for IPv4 over Ethernet
		2, 0, 0, 0, 0, 9, 192, 168, 56, 101, 0, 0, 0, 0, 0, 0, 192, 168, 56, 101)
	if e, ok := parseNeighbor(gratuitous); !ok || !e.Gratuitous || e.SenderIP != netip.MustParseAddr("192.168.56.101") {
		t.Errorf("a gratuitous ARP request: %+v, %v", e, ok)
	}
}

func streamPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return conns[0], conns[1]
}

func TestStream(t *testing.T) {
	sw := NewSwitch("s")
	defer sw.Close()
	got := make(chan []byte, 10)
	other := sw.Attach("other", func(frames [][]byte) {
		for _, f := range frames {
			got <- f
		}
	})
	ours, qemu := streamPair(t)
	defer qemu.Close()
	p := sw.AttachStream("vm", ours)
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, 42}
	if _, err := qemu.Write(append([]byte{0, 0, 0, 15}, frame...)); err != nil {
		t.Fatal(err)
	}
	if f := <-got; string(f) != string(frame) {
		t.Errorf("got %x", f)
	}
	other.Send(frame)
	back := make([]byte, 19)
	if _, err := io.ReadFull(qemu, back); err != nil || string(back) != "\x00\x00\x00\x0f"+string(frame) {
		t.Errorf("got %x, %v", back, err)
	}
	// A length that no frame has: the stream is given up.
	if _, err := qemu.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, err := qemu.Read(back); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the stream closed", err)
	}
	p.Close() // waits for the reader's own close
	if slices.ContainsFunc(sw.Ports(), func(q *Port) bool { return q == p }) {
		t.Error("the port of an ended stream is still attached")
	}
}

func TestFilter(t *testing.T) {
	l := newLab(t)
	serveTCP(t, l.b, "192.168.56.51:80")
	p := l.router.Port(l.netA)
	p.SetFilter(FromDevice, func(f []byte) bool { return etherType(f) == typeARP })
	if _, err := l.outA.Ping(within(t, 100*time.Millisecond), l.b.Addr4()); err == nil {
		t.Error("a filtered answer came through")
	}
	p.SetFilter(FromDevice, nil)
	if _, err := l.outA.Ping(within(t, 5*time.Second), l.b.Addr4()); err != nil {
		t.Error(err)
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

func FuzzParseNeighbor(f *testing.F) {
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) >= ethernetHeader && mayBeNeighbor(frame) {
			parseNeighbor(frame)
		}
	})
}

func FuzzReadFrames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 42, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		total := 0
		r := bytes.NewReader(stream)
		_ = readFrames(r, func(frame []byte) { total += len(frame) + lengthSize })
		if total > len(stream) {
			t.Errorf("%d bytes of frames out of %d", total, len(stream))
		}
	})
}
