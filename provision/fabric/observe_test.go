package fabric

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

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

func FuzzParseNeighbor(f *testing.F) {
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) >= ethernetHeader && mayBeNeighbor(frame) {
			parseNeighbor(frame)
		}
	})
}

// ethernet builds a frame of the layers, with lengths and checksums.
func ethernetFrame(t testing.TB, all ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buf.Bytes())
}

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func gratuitousARP(t testing.TB, operation uint16, from net.HardwareAddr, ip netip.Addr) []byte {
	return ethernetFrame(t,
		&layers.Ethernet{SrcMAC: from, DstMAC: broadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
			SourceHwAddress: from, SourceProtAddress: ip.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: ip.AsSlice(),
		})
}

func unsolicitedNA(t testing.TB, from, announced net.HardwareAddr, ip netip.Addr, hopLimit uint8) []byte {
	ip6 := &layers.IPv6{
		Version: 6, HopLimit: hopLimit, NextHeader: layers.IPProtocolICMPv6, SrcIP: ip.AsSlice(), DstIP: net.ParseIP("ff02::1"),
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if err := icmp.SetNetworkLayerForChecksum(ip6); err != nil {
		t.Fatal(err)
	}
	return ethernetFrame(t,
		&layers.Ethernet{SrcMAC: from, DstMAC: net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeIPv6},
		ip6, icmp, &layers.ICMPv6NeighborAdvertisement{
			Flags: 0x20, TargetAddress: ip.AsSlice(), // override
			Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: announced}},
		})
}

func TestParseNeighbor(t *testing.T) {
	one, two := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	v4, v6 := netip.MustParseAddr("192.168.56.101"), netip.MustParseAddr("fd00:56::101")
	for name, test := range map[string]struct {
		frame []byte
		want  NeighborEvent // Op "": none
	}{
		"gratuitous request": {gratuitousARP(t, layers.ARPRequest, one, v4), NeighborEvent{Op: ARPRequest, SenderMAC: one, SenderIP: v4, Gratuitous: true}},
		"gratuitous reply":   {gratuitousARP(t, layers.ARPReply, one, v4), NeighborEvent{Op: ARPReply, SenderMAC: one, SenderIP: v4, Gratuitous: true}},
		"nobody's":           {gratuitousARP(t, layers.ARPRequest, one, netip.IPv4Unspecified()), NeighborEvent{Op: ARPRequest, SenderMAC: one, SenderIP: netip.IPv4Unspecified()}},
		"reverse ARP":        {gratuitousARP(t, 3, one, v4), NeighborEvent{}},
		"unsolicited NA":     {unsolicitedNA(t, one, two, v6, 255), NeighborEvent{Op: NeighborAdvertisement, SenderMAC: two, SenderIP: v6, Gratuitous: true}},
		"NA from afar":       {unsolicitedNA(t, one, two, v6, 254), NeighborEvent{}},
		"cut short":          {gratuitousARP(t, layers.ARPRequest, one, v4)[:30], NeighborEvent{}},
	} {
		got, ok := parseNeighbor(test.frame)
		if ok != (test.want.Op != "") {
			t.Errorf("%s: %v, %+v", name, ok, got)
			continue
		}
		if ok && (got.Op != test.want.Op || got.Gratuitous != test.want.Gratuitous || got.SenderIP != test.want.SenderIP || got.SenderMAC.String() != test.want.SenderMAC.String()) {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}

// When an address moves, those who know it follow its announcement at once, as
// Linux hosts do: clients on the segment, and the router for those behind it.
func TestCachesFollowAnAnnouncement(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.168.56.101"), netip.MustParseAddr("fd00:56::101")
	for name, test := range map[string]struct {
		ip       netip.Addr
		announce func(t *testing.T, from net.HardwareAddr) []byte
	}{
		"gratuitous ARP request": {v4, func(t *testing.T, from net.HardwareAddr) []byte { return gratuitousARP(t, layers.ARPRequest, from, v4) }},
		"gratuitous ARP reply":   {v4, func(t *testing.T, from net.HardwareAddr) []byte { return gratuitousARP(t, layers.ARPReply, from, v4) }},
		"unsolicited NA":         {v6, func(t *testing.T, from net.HardwareAddr) []byte { return unsolicitedNA(t, from, from, v6, 255) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			owner := func(name string) *Vantage {
				v, err := NewVantage(l.site, VantageConfig{
					Name: name, Addrs: prefixes("192.168.56.101/24", "fd00:56::101/64"),
					Gateway4: netip.MustParseAddr("192.168.56.1"), Gateway6: netip.MustParseAddr("fd00:56::1"),
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(v.Close)
				return v
			}
			first := owner("first")
			for _, client := range []*Vantage{l.a, l.outA} {
				if _, err := client.Ping(within(t, 5*time.Second), test.ip); err != nil {
					t.Fatal(err)
				}
			}
			first.Close()
			second := owner("second")
			if _, err := l.a.Ping(within(t, 100*time.Millisecond), test.ip); err == nil {
				t.Fatal("the second owner was found without an announcement: the test shows nothing")
			}
			second.Port().Send(test.announce(t, second.MAC()))
			for _, client := range []*Vantage{l.a, l.outA} {
				// The first one may still have gone to the old address, before the client's
				// own goroutine had seen the announcement. Without it, the cache would
				// not change for at least eight seconds (RFC 4861, 10: 5 s and three probes).
				var err error
				for range 5 {
					if _, err = client.Ping(within(t, 200*time.Millisecond), test.ip); err == nil {
						break
					}
				}
				if err != nil {
					t.Errorf("after the announcement: %v", err)
				}
			}
			all, err := l.a.Neighbors()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(all, func(n Neighbor) bool { return n.Addr == test.ip && n.MAC.String() == second.MAC().String() }) {
				t.Errorf("a's cache: %v, want %s at %s", all, test.ip, second.MAC())
			}
			// Who never asked for the address does not learn it.
			if all, _ = l.b.Neighbors(); slices.ContainsFunc(all, func(n Neighbor) bool { return n.Addr == test.ip }) {
				t.Errorf("b's cache: %v", all)
			}
		})
	}
}
