package fabric

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestPerimeter(t *testing.T) {
	const site, other = "192.168.56.11", "192.0.2.11"
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	ip := func(to string, proto layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.ParseIP("198.51.100.10"), DstIP: net.ParseIP(to)}
	}
	// Without checksums: a filter is no receiver.
	frame := func(parts ...gopacket.SerializableLayer) []byte {
		t.Helper()
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	// The source port is high, as a client's is: only the destination's counts.
	tcp := func(to string, port layers.TCPPort, flags layers.TCP) []byte {
		flags.SrcPort, flags.DstPort, flags.Window = 40000, port, 1024
		return frame(eth, ip(to, layers.IPProtocolTCP), &flags)
	}
	udp := func(to string, port layers.UDPPort) []byte {
		return frame(eth, ip(to, layers.IPProtocolUDP), &layers.UDP{SrcPort: 40000, DstPort: port}, gopacket.Payload("query"))
	}
	syn := layers.TCP{SYN: true}
	options := ip(site, layers.IPProtocolTCP)
	options.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	first, later := ip(site, layers.IPProtocolUDP), ip(site, layers.IPProtocolUDP)
	first.Flags, later.FragOffset = layers.IPv4MoreFragments, 185
	// What would be a datagram to port 10000, were it not the middle of one.
	datagram := &layers.UDP{SrcPort: 40000, DstPort: 10000}
	whole := tcp(site, 10000, syn)[:14+20+20] // without Ethernet's padding, which the others have
	ipv6 := *eth
	ipv6.EthernetType = layers.EthernetTypeIPv6
	arp := *eth
	arp.EthernetType = layers.EthernetTypeARP

	passes := Perimeter(netip.MustParsePrefix("192.168.56.0/24"), 10000)
	for _, test := range []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"SYN to 9999", tcp(site, 9999, syn), true},
		{"SYN to 10000", tcp(site, 10000, syn), false},
		{"SYN to 10000 without padding", whole, false},
		{"SYN to 65535", tcp(site, 65535, syn), false},
		{"SYN with ECN flags to 10000", tcp(site, 10000, layers.TCP{SYN: true, ECE: true, CWR: true}), false},
		{"SYN behind IP options to 10000", frame(eth, options, &layers.TCP{SrcPort: 40000, DstPort: 10000, SYN: true}), false},
		{"SYN and ACK to 10000", tcp(site, 10000, layers.TCP{SYN: true, ACK: true}), true},
		{"ACK to 10000", tcp(site, 10000, layers.TCP{ACK: true, PSH: true}), true},
		{"RST to 10000", tcp(site, 10000, layers.TCP{RST: true}), true},
		{"SYN elsewhere", tcp(other, 10000, syn), true},
		{"UDP to 9999", udp(site, 9999), true},
		{"UDP to 10000", udp(site, 10000), false},
		{"UDP elsewhere", udp(other, 10000), true},
		{"first fragment to 10000", frame(eth, first, datagram), false},
		{"later fragment", frame(eth, later, datagram), true},
		{"ICMP", frame(eth, ip(site, layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 10000, Seq: 10000}), true},
		{"ARP", frame(&arp, &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: 1, SourceHwAddress: eth.SrcMAC, SourceProtAddress: []byte{198, 51, 100, 10}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{192, 168, 56, 11}}), true},
		{"IPv6", frame(&ipv6, gopacket.Payload(whole[14:])), true},
		{"no frame", nil, true},
		{"no IP header", whole[:14], true},
	} {
		if got := passes(test.frame); got != test.want {
			t.Errorf("%s: passes %t, want %t", test.name, got, test.want)
		}
	}
	// A frame that is cut off is nothing that a host could take for a packet.
	for n := range whole {
		if !passes(whole[:n:n]) {
			t.Errorf("the first %d bytes of a frame are stopped", n)
		}
	}
	for _, short := range [][]byte{
		frame(eth, ip(site, layers.IPProtocolTCP), gopacket.Payload(whole[34:34+19])),
		frame(eth, ip(site, layers.IPProtocolUDP), gopacket.Payload{0x9c, 0x40, 0x27, 0x10, 0, 0, 0}),
	} {
		if !passes(short) {
			t.Errorf("%x: less than a transport header is stopped", short)
		}
	}
}

// The filter is where the lab has it, at the router's port in an outside network.
func TestPerimeterAtTheRouter(t *testing.T) {
	l := newLab(t)
	l.router.Port(l.netA).SetFilter(ToDevice, Perimeter(netip.MustParsePrefix("192.168.56.0/24"), 10000))
	serveTCP(t, l.a, "192.168.56.50:9999")
	serveTCP(t, l.a, "192.168.56.50:10000")
	serveUDP(t, l.a, "192.168.56.50:10000")
	serveTCP(t, l.outA, "198.51.100.10:10000")
	for _, test := range []struct {
		name        string
		from        *Vantage
		network, to string
	}{
		{"an open port", l.outA, "tcp", "192.168.56.50:9999"},
		{"from a network without the filter", l.outB, "tcp", "192.168.56.50:10000"},
		{"on the segment", l.b, "tcp", "192.168.56.50:10000"},
		// The answers arrive at a port of the site that may be above 10000.
		{"from the site to the outside", l.a, "tcp", "198.51.100.10:10000"},
	} {
		if _, _, err := ask(t, test.from, test.network, test.to); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if conn, err := l.outA.DialContext(within(t, 200*time.Millisecond), "tcp", "192.168.56.50:10000"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a closed port: %v, %v; want silence", conn, err)
	}
	conn, err := l.outA.DialContext(within(t, 5*time.Second), "udp", "192.168.56.50:10000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 64)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a closed port: a datagram of %d bytes, %v; want silence", n, err)
	}
	if dropped := l.router.Port(l.netA).Stats().DropFilter; dropped < 2 {
		t.Errorf("%d frames were dropped by the filter", dropped)
	}
}
