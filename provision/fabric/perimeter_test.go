package fabric

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func frameOf(t *testing.T, to string, transport gopacket.SerializableLayer, change func(*layers.IPv4)) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, SrcIP: net.IP{203, 0, 113, 9}, DstIP: net.ParseIP(to), Protocol: layers.IPProtocolTCP}
	switch l := transport.(type) {
	case *layers.UDP:
		ip.Protocol = layers.IPProtocolUDP
		_ = l.SetNetworkLayerForChecksum(ip)
	case *layers.TCP:
		_ = l.SetNetworkLayerForChecksum(ip)
	}
	if change != nil {
		change(ip)
	}
	buf := gopacket.NewSerializeBuffer()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, transport); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPerimeterFrames(t *testing.T) {
	const host = "192.168.56.11"
	syn := func(port uint16) *layers.TCP {
		return &layers.TCP{SrcPort: 40000, DstPort: layers.TCPPort(port), SYN: true}
	}
	udp := func(port uint16) *layers.UDP { return &layers.UDP{SrcPort: 40000, DstPort: layers.UDPPort(port)} }
	short := frameOf(t, host, syn(10000), nil)[:20]
	arp := frameOf(t, host, syn(10000), nil)
	arp[12], arp[13] = 0x08, 0x06
	accept := Perimeter(netip.MustParsePrefix("192.168.56.0/24"), 10000)
	for name, test := range map[string]struct {
		frame []byte
		want  bool
	}{
		"an open port":               {frameOf(t, host, syn(9999), nil), true},
		"an internal port":           {frameOf(t, host, syn(10000), nil), false},
		"the highest port":           {frameOf(t, host, syn(65535), nil), false},
		"the answer to a connection": {frameOf(t, host, &layers.TCP{SrcPort: 80, DstPort: 40000, SYN: true, ACK: true}, nil), true},
		"a connection that is open":  {frameOf(t, host, &layers.TCP{SrcPort: 80, DstPort: 40000, ACK: true}, nil), true},
		"a datagram":                 {frameOf(t, host, udp(53), nil), true},
		"an internal datagram":       {frameOf(t, host, udp(10053), nil), false},
		"for somebody else":          {frameOf(t, "198.51.100.10", syn(10000), nil), true},
		"a later fragment":           {frameOf(t, host, udp(10053), func(ip *layers.IPv4) { ip.FragOffset = 100 }), true},
		"a frame that is cut off":    {short, true},
		"no IP":                      {arp, true},
		"nothing":                    {nil, true},
	} {
		if got := accept(test.frame); got != test.want {
			t.Errorf("%s: let through %v, want %v", name, got, test.want)
		}
	}
}

// Across a router: what the perimeter closes is silent outside and open inside.
func TestPerimeter(t *testing.T) {
	l := newLab(t)
	for _, sw := range []*Switch{l.netA, l.netB} {
		l.router.Port(sw).SetFilter(ToDevice, Perimeter(netip.MustParsePrefix("192.168.56.0/24"), 10000))
	}
	dial := func(from *Vantage, to string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		conn, err := from.DialContext(ctx, "tcp", to)
		if err == nil {
			conn.Close()
		}
		return err
	}
	// Nobody listens: a refusal shows that the question arrived.
	for _, test := range []struct {
		from   *Vantage
		to     string
		silent bool
	}{
		{l.outA, "192.168.56.50:10080", true}, {l.outB, "192.168.56.51:10000", true}, {l.outA, "192.168.56.50:9999", false},
		{l.b, "192.168.56.50:10080", false}, {l.a, "203.0.113.10:10080", false}, {l.outA, "203.0.113.10:10080", false},
	} {
		err := dial(test.from, test.to)
		timeout, ok := err.(net.Error)
		if silent := ok && timeout.Timeout(); err == nil || silent != test.silent {
			t.Errorf("%v to %s: %v, silent %v", test.from, test.to, err, test.silent)
		}
	}
}
