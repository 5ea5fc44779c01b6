package fabric

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// NeighborOp is what a neighbour event asks or tells.
type NeighborOp string

// The operations: ARP (RFC 826) and IPv6 neighbour discovery (RFC 4861).
const (
	ARPRequest            NeighborOp = "arp-request"
	ARPReply              NeighborOp = "arp-reply"
	NeighborSolicitation  NeighborOp = "neighbor-solicitation"
	NeighborAdvertisement NeighborOp = "neighbor-advertisement"
)

// NeighborEvent is one ARP packet or neighbour discovery message on the wire.
type NeighborEvent struct {
	Time time.Time
	Port string // where it came into the switch
	Op   NeighborOp
	// SenderMAC is the one that receivers take into their caches: ARP's sender
	// field, or a neighbour message's link-layer address option where it has one.
	SenderMAC net.HardwareAddr
	SenderIP  netip.Addr       // of an advertisement: the address that is advertised
	TargetMAC net.HardwareAddr // of neighbour messages: where the frame goes to
	TargetIP  netip.Addr       // of an advertisement: whom it is sent to
	// Gratuitous: an ARP packet whose sender and target address are the same (RFC
	// 5227), or an advertisement that answers no solicitation (RFC 4861, 7.2.6).
	Gratuitous bool
}

type observer struct{ notify func(NeighborEvent) }

// Observe calls notify for each neighbour event that crosses the switch (what a
// cut link loses on its way in does not), from the goroutine that sends the frame:
// it must return quickly and call nothing of a vantage, whose locks the sender may
// hold. Events of different ports may come at once, and one that is under way still
// comes after stop. Frames with a VLAN tag are not looked into.
func (s *Switch) Observe(notify func(NeighborEvent)) (stop func()) {
	o := &observer{notify: notify}
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.observers, func(all []*observer) []*observer { return append(all, o) })
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		change(&s.observers, func(all []*observer) []*observer {
			return slices.DeleteFunc(all, func(other *observer) bool { return other == o })
		})
	}
}

func (s *Switch) observe(from *Port, frame []byte) {
	all := s.observers.Load()
	if all == nil || !mayBeNeighbor(frame) {
		return
	}
	e, ok := parseNeighbor(frame)
	if !ok {
		return
	}
	e.Time, e.Port = time.Now(), from.name
	for _, o := range *all {
		o.notify(e)
	}
}

const (
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	// Where an IPv6 packet without extension headers has its next header and, as
	// neighbour discovery has none, its ICMPv6 type.
	nextHeaderAt, icmpTypeAt = ethernetHeader + 6, ethernetHeader + 40
	protocolICMPv6           = 58
)

// mayBeNeighbor is a quick look before the frame is parsed.
func mayBeNeighbor(frame []byte) bool {
	switch etherType(frame) {
	case typeARP:
		return true
	case typeIPv6:
		return isICMPv6(frame) &&
			(frame[icmpTypeAt] == layers.ICMPv6TypeNeighborSolicitation || frame[icmpTypeAt] == layers.ICMPv6TypeNeighborAdvertisement)
	}
	return false
}

// isICMPv6 says that the frame is ICMPv6 without extension headers, and long enough
// to have a type and a code.
func isICMPv6(frame []byte) bool {
	return len(frame) > icmpTypeAt+1 && etherType(frame) == typeIPv6 && frame[nextHeaderAt] == protocolICMPv6
}

// parseNeighbor reads an ARP packet for IPv4 over Ethernet, or a neighbour discovery
// message that its receivers would not discard at once (RFC 4861, 7.1: hop limit 255).
func parseNeighbor(frame []byte) (NeighborEvent, bool) {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	if arp, ok := packet.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		return arpEvent(arp)
	}
	eth, ok := packet.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok {
		return NeighborEvent{}, false
	}
	ip, ok := packet.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	if !ok || ip.HopLimit != 255 {
		return NeighborEvent{}, false
	}
	source, _ := netip.AddrFromSlice(ip.SrcIP)
	if ns, ok := packet.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
		target, valid := netip.AddrFromSlice(ns.TargetAddress)
		return NeighborEvent{
			Op: NeighborSolicitation, SenderMAC: announced(ns.Options, layers.ICMPv6OptSourceAddress, eth.SrcMAC), SenderIP: source,
			TargetMAC: slices.Clone(eth.DstMAC), TargetIP: target,
		}, valid
	}
	if na, ok := packet.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		advertised, valid := netip.AddrFromSlice(na.TargetAddress)
		to, _ := netip.AddrFromSlice(ip.DstIP)
		return NeighborEvent{
			Op: NeighborAdvertisement, SenderMAC: announced(na.Options, layers.ICMPv6OptTargetAddress, eth.SrcMAC), SenderIP: advertised,
			TargetMAC: slices.Clone(eth.DstMAC), TargetIP: to, Gratuitous: !na.Solicited(),
		}, valid
	}
	return NeighborEvent{}, false
}

// announced is the hardware address that a message tells its receivers to use
// (RFC 4861, 4.6.1); without that option, the one that it came from.
func announced(options layers.ICMPv6Options, kind layers.ICMPv6Opt, from net.HardwareAddr) net.HardwareAddr {
	for _, o := range options {
		if o.Type == kind && len(o.Data) == len(mac{}) {
			return slices.Clone(net.HardwareAddr(o.Data))
		}
	}
	return slices.Clone(from)
}

func arpEvent(arp *layers.ARP) (NeighborEvent, bool) {
	var op NeighborOp
	switch arp.Operation {
	case layers.ARPRequest:
		op = ARPRequest
	case layers.ARPReply:
		op = ARPReply
	default: // RARP and others
		return NeighborEvent{}, false
	}
	sender, _ := netip.AddrFromSlice(arp.SourceProtAddress)
	target, _ := netip.AddrFromSlice(arp.DstProtAddress)
	if !sender.Is4() || !target.Is4() || arp.HwAddressSize != uint8(len(mac{})) {
		return NeighborEvent{}, false
	}
	return NeighborEvent{
		Op: op, SenderMAC: slices.Clone(net.HardwareAddr(arp.SourceHwAddress)), SenderIP: sender,
		TargetMAC: slices.Clone(net.HardwareAddr(arp.DstHwAddress)), TargetIP: target,
		Gratuitous: sender == target && !sender.IsUnspecified(),
	}, true
}
