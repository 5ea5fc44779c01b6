package fabric

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// pair is a TCP connection between two vantages of the segment.
func pair(t testing.TB, l *lab, at string) (client, server net.Conn) {
	t.Helper()
	listener, err := l.b.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = l.a.DialContext(within(t, 5*time.Second), "tcp", at); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// A call that waits must end when what it waits on is closed: else the goroutine
// that made it is leaked, and a scenario hangs.
func TestCloseEndsCallsThatWait(t *testing.T) {
	one := make([]byte, 1)
	for name, start := range map[string]func(t *testing.T, l *lab) (call func() error, end func()){
		"tcp read, connection": func(t *testing.T, l *lab) (func() error, func()) {
			c, _ := pair(t, l, "192.168.56.51:80")
			return func() error { _, err := c.Read(one); return err }, func() { c.Close() }
		},
		"tcp read of the accepted end, connection": func(t *testing.T, l *lab) (func() error, func()) {
			_, c := pair(t, l, "192.168.56.51:80")
			return func() error { _, err := c.Read(one); return err }, func() { c.Close() }
		},
		"tcp read, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			c, _ := pair(t, l, "192.168.56.51:80")
			return func() error { _, err := c.Read(one); return err }, l.a.Close
		},
		"tcp write, connection": func(t *testing.T, l *lab) (func() error, func()) {
			c, _ := pair(t, l, "192.168.56.51:80")
			return func() error { _, err := c.Write(make([]byte, 64<<20)); return err }, func() { c.Close() }
		},
		"tcp write, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			c, _ := pair(t, l, "192.168.56.51:80")
			return func() error { _, err := c.Write(make([]byte, 64<<20)); return err }, l.a.Close
		},
		"accept, listener": func(t *testing.T, l *lab) (func() error, func()) {
			listener, err := l.b.Listen("tcp", "192.168.56.51:80")
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, err := listener.Accept(); return err }, func() { listener.Close() }
		},
		"accept, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			listener, err := l.b.Listen("tcp", "192.168.56.51:80")
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, err := listener.Accept(); return err }, l.b.Close
		},
		"udp read, connection": func(t *testing.T, l *lab) (func() error, func()) {
			c, err := l.a.DialContext(within(t, time.Second), "udp", "192.168.56.51:53")
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, err := c.Read(one); return err }, func() { c.Close() }
		},
		"udp read, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			c, err := l.a.DialContext(within(t, time.Second), "udp", "192.168.56.51:53")
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, err := c.Read(one); return err }, l.a.Close
		},
		"udp server, socket": func(t *testing.T, l *lab) (func() error, func()) {
			c, err := l.b.ListenPacket("udp", "192.168.56.51:53")
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, _, err := c.ReadFrom(one); return err }, func() { c.Close() }
		},
		"udp server, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			c, err := l.b.ListenPacket("udp", "192.168.56.51:53")
			if err != nil {
				t.Fatal(err)
			}
			return func() error { _, _, err := c.ReadFrom(one); return err }, l.b.Close
		},
		"tcp dial, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			l.b.Port().SetImpairment(ToDevice, Impairment{Cut: true})
			return func() error {
				_, err := l.a.DialContext(context.Background(), "tcp", "192.168.56.51:80")
				return err
			}, l.a.Close
		},
		"ping, vantage": func(t *testing.T, l *lab) (func() error, func()) {
			l.b.Port().SetImpairment(ToDevice, Impairment{Cut: true})
			return func() error {
				_, err := l.a.Ping(context.Background(), l.b.Addr4())
				return err
			}, l.a.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call, end := start(t, newLab(t))
			ended := make(chan error, 1)
			go func() { ended <- call() }()
			select {
			case err := <-ended:
				t.Fatalf("did not wait: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			end()
			select {
			case err := <-ended:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("got %v, want net.ErrClosed", err)
				}
			case <-time.After(2 * time.Second):
				t.Error("still waits")
			}
		})
	}
}

func TestCallsAfterCloseSayClosed(t *testing.T) {
	l := newLab(t)
	client, _ := pair(t, l, "192.168.56.51:80")
	client.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	l.a.Close()
	l.a.Close()
	if _, err := l.a.DialContext(within(t, time.Second), "tcp", "192.168.56.51:80"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	l := newLab(t)
	client, server := pair(t, l, "192.168.56.51:80")
	udp, err := l.b.ListenPacket("udp", "192.168.56.51:53")
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	for name, c := range map[string]struct {
		set  func(time.Time) error
		read func() error
	}{
		"client":     {client.SetReadDeadline, func() error { _, err := client.Read(one); return err }},
		"server":     {server.SetReadDeadline, func() error { _, err := server.Read(one); return err }},
		"udp server": {udp.SetReadDeadline, func() error { _, _, err := udp.ReadFrom(one); return err }},
	} {
		if err := c.set(time.Now().Add(10 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if err := c.read(); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: %v, want a deadline", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.a.DialContext(ctx, "tcp", "192.168.56.51:80"); !errors.Is(err, context.Canceled) {
		t.Errorf("dial: %v, want context.Canceled", err)
	}
}

func TestAnEstablishedConnectionIsReset(t *testing.T) {
	l := newLab(t)
	client, server := pair(t, l, "192.168.56.51:80")
	if _, err := client.Write([]byte("never read")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 1)); err != nil { // so that the rest is there, unread
		t.Fatal(err)
	}
	server.Close() // RFC 2525, 2.17: data that was not read is answered with RST
	_ = client.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
}

// Who gives up waiting says so at once, to a peer that has not read the question yet either.
func TestLingerResets(t *testing.T) {
	l := newLab(t)
	client, server := pair(t, l, "192.168.56.51:80")
	if _, err := client.Write([]byte("a question")); err != nil {
		t.Fatal(err)
	}
	lingerer := client.(interface{ SetLinger(int) error })
	if err := lingerer.SetLinger(1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("1 s: %v, want EINVAL", err)
	}
	if err := lingerer.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	client.Close()
	_ = server.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(server); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
}

func TestAnEndOfStreamIsNoError(t *testing.T) {
	l := newLab(t)
	client, server := pair(t, l, "192.168.56.51:80")
	server.Close()
	_ = client.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want io.EOF itself", err)
	}
}

func TestAddressInUse(t *testing.T) {
	l := newLab(t)
	serveTCP(t, l.b, "192.168.56.51:80")
	serveUDP(t, l.b, "192.168.56.51:53")
	if _, err := l.b.Listen("tcp", "192.168.56.51:80"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen: %v", err)
	}
	if _, err := l.b.ListenPacket("udp", "192.168.56.51:53"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listen packet: %v", err)
	}
	if _, err := l.b.Listen("tcp", "192.168.56.99:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("a foreign address: %v", err)
	}
	local := netip.MustParseAddrPort("192.168.56.50:40000")
	for _, network := range []string{"tcp", "udp"} {
		to := map[string]string{"tcp": "192.168.56.51:80", "udp": "192.168.56.51:53"}[network]
		c, err := l.a.DialFrom(within(t, time.Second), network, local, to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.LocalAddr().String(); got != local.String() {
			t.Errorf("%s from %s, want %s", network, got, local)
		}
		if _, err := l.a.DialFrom(within(t, time.Second), network, local, to); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s from a port in use: %v", network, err)
		}
	}
}

func TestARefusalWakesAUDPReader(t *testing.T) {
	l := newLab(t)
	conn, err := l.a.DialContext(within(t, time.Second), "udp", "192.168.56.51:81")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for name, read := range map[string]func([]byte) error{
		"Read":     func(b []byte) error { _, err := conn.Read(b); return err },
		"ReadFrom": func(b []byte) error { _, _, err := conn.(net.PacketConn).ReadFrom(b); return err },
	} {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		got := make(chan error, 1)
		go func() { got <- read(make([]byte, 1)) }()
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if err := <-got; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want ECONNREFUSED", name, err)
		}
		// The refusal is reported once and leaves the caller's own deadline in force.
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if err := read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s again: %v, want a deadline", name, err)
		}
	}
}

func TestWriteToTakesBothFormsOfAnIPv4Address(t *testing.T) {
	l := newLab(t)
	serveUDP(t, l.b, "192.168.56.51:53")
	conn, err := l.a.ListenPacket("udp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, ip := range []net.IP{net.ParseIP("192.168.56.51").To4(), net.ParseIP("192.168.56.51").To16()} {
		if _, err := conn.WriteTo([]byte("?"), &net.UDPAddr{IP: ip, Port: 53}); err != nil {
			t.Fatalf("%d bytes: %v", len(ip), err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := conn.ReadFrom(make([]byte, 100)); err != nil {
			t.Fatalf("%d bytes: %v", len(ip), err)
		}
	}
	if _, err := conn.WriteTo([]byte("?"), &net.UnixAddr{Name: "x"}); err == nil {
		t.Error("an address of another network was taken")
	}
}

// An address where nobody is: the neighbour is asked for three times, a second
// apart (RFC 4861, 10), and then the connection fails; it does not time out.
func TestNoNeighborIsUnreachable(t *testing.T) {
	l := newLab(t)
	var all sync.WaitGroup
	for name, test := range map[string]struct {
		from *Vantage
		to   string
		want error
	}{
		"segment":    {l.a, "192.168.56.99:80", syscall.EHOSTUNREACH},
		"segment v6": {l.a, "[fd00:56::99]:80", syscall.EHOSTUNREACH},
		"routed":     {l.outA, "192.168.56.98:80", syscall.EHOSTUNREACH},
		"routed v6":  {l.outA, "[fd00:56::98]:80", syscall.ENETUNREACH}, // see readableUnreachable
	} {
		all.Go(func() {
			if _, err := test.from.DialContext(within(t, 8*time.Second), "tcp", test.to); !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, want %v", name, err, test.want)
			}
		})
	}
	all.Wait()
}

func TestUnreachableIsMadeReadable(t *testing.T) {
	from, to := netip.MustParseAddr("2001:db8:a::1"), netip.MustParseAddr("2001:db8:a::10")
	build := func(code uint8) []byte {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, code)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		return ethernetFrame(t, &layers.Ethernet{SrcMAC: broadcast, DstMAC: broadcast, EthernetType: layers.EthernetTypeIPv6}, ip, icmp, gopacket.Payload("\x00\x00\x00\x00the packet"))
	}
	for code, want := range map[uint8]uint8{0: 0, 1: 0, 3: 0, 4: 4, 5: 0, 6: 0} {
		original := build(code)
		if got := readableUnreachable(original); !bytes.Equal(got, build(want)) { // with the right checksum
			t.Errorf("code %d became %x", code, got)
		}
		if !bytes.Equal(original, build(code)) {
			t.Errorf("code %d: the frame that others see was changed", code)
		}
	}
	if short := build(3)[:icmpTypeAt+2]; !bytes.Equal(readableUnreachable(short), short) {
		t.Error("a frame cut short was changed")
	}
}

func TestListenOnAllAddresses(t *testing.T) {
	l := newLab(t)
	serveTCP(t, l.b, "[::]:80")
	serveUDP(t, l.b, "[::]:53")
	serveTCP(t, l.b, "0.0.0.0:81")
	for _, at := range []struct{ network, to string }{
		{"tcp", "192.168.56.51:80"}, {"tcp", "[fd00:56::51]:80"}, {"tcp", "192.168.56.51:81"},
		{"udp", "192.168.56.51:53"}, {"udp", "[fd00:56::51]:53"},
	} {
		if seen, own, err := ask(t, l.a, at.network, at.to); err != nil || seen != own {
			t.Errorf("%s %s: seen as %s, own %s, %v", at.network, at.to, seen, own, err)
		}
	}
}

func TestBadDialArguments(t *testing.T) {
	l := newLab(t)
	for _, c := range [][2]string{{"tcp", "host.example:80"}, {"tcp", "192.168.56.51"}, {"tcp6", "192.168.56.51:80"}, {"udp4", "[fd00:56::51]:53"}, {"ip", "192.168.56.51:80"}, {"", ""}} {
		if conn, err := l.a.DialContext(within(t, time.Second), c[0], c[1]); err == nil {
			conn.Close()
			t.Errorf("%v was dialled", c)
		}
	}
	if listener, err := l.b.Listen("udp", "192.168.56.51:80"); err == nil {
		listener.Close()
		t.Error("a stream listener on udp")
	}
	if conn, err := l.b.ListenPacket("tcp", "192.168.56.51:80"); err == nil {
		conn.Close()
		t.Error("a packet socket on tcp")
	}
	if listener, err := l.b.Listen("tcp4", "[fd00:56::51]:80"); err == nil {
		listener.Close()
		t.Error("tcp4 listens on an IPv6 address")
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
		"tcp refused":                 {l.a, "tcp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"tcp refused, routed":         {l.outA, "tcp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"tcp refused, v6":             {l.a, "tcp", "[fd00:56::51]:81", syscall.ECONNREFUSED, time.Second},
		"udp refused":                 {l.a, "udp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"udp refused, routed":         {l.outB, "udp", "192.168.56.51:81", syscall.ECONNREFUSED, time.Second},
		"no route, told by router":    {l.a, "tcp", "8.8.8.8:53", syscall.ENETUNREACH, time.Second},
		"no v6 route, told by router": {l.outA, "tcp", "[2001:db8:ffff::1]:53", syscall.ENETUNREACH, time.Second},
		"no v6 here":                  {l.outB, "tcp", "[fd00:56::51]:80", syscall.EHOSTUNREACH, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			started := time.Now()
			_, _, err := ask(t, test.from, test.network, test.to)
			if !errors.Is(err, test.want) {
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
