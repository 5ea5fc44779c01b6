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
	Time      time.Time
	Port      string // where it came into the switch
	Op        NeighborOp
	SenderMAC net.HardwareAddr
	SenderIP  netip.Addr // of an advertisement: the address that is advertised
	TargetMAC net.HardwareAddr
	TargetIP  netip.Addr
	// Gratuitous: an ARP packet whose sender and target address are the same (RFC
	// 5227), or an advertisement that answers no solicitation (RFC 4861, 7.2.6).
	Gratuitous bool
}

type observer struct{ notify func(NeighborEvent) }

// Observe calls notify for each neighbour event that crosses the switch, from
// the goroutine that sends the frame: it must return quickly. Events of
// different ports may come at once.
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
		return len(frame) > icmpTypeAt && frame[nextHeaderAt] == protocolICMPv6 &&
			(frame[icmpTypeAt] == layers.ICMPv6TypeNeighborSolicitation || frame[icmpTypeAt] == layers.ICMPv6TypeNeighborAdvertisement)
	}
	return false
}

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
	if !ok {
		return NeighborEvent{}, false
	}
	source, _ := netip.AddrFromSlice(ip.SrcIP)
	if ns, ok := packet.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
		target, valid := netip.AddrFromSlice(ns.TargetAddress)
		return NeighborEvent{
			Op: NeighborSolicitation, SenderMAC: eth.SrcMAC, SenderIP: source, TargetMAC: eth.DstMAC, TargetIP: target,
		}, valid
	}
	if na, ok := packet.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok {
		advertised, valid := netip.AddrFromSlice(na.TargetAddress)
		to, _ := netip.AddrFromSlice(ip.DstIP)
		return NeighborEvent{
			Op: NeighborAdvertisement, SenderMAC: eth.SrcMAC, SenderIP: advertised, TargetMAC: eth.DstMAC, TargetIP: to,
			Gratuitous: !na.Solicited(),
		}, valid
	}
	return NeighborEvent{}, false
}

func arpEvent(arp *layers.ARP) (NeighborEvent, bool) {
	e := NeighborEvent{
		Op: ARPReply, SenderMAC: slices.Clone(net.HardwareAddr(arp.SourceHwAddress)), TargetMAC: slices.Clone(net.HardwareAddr(arp.DstHwAddress)),
	}
	if arp.Operation == layers.ARPRequest {
		e.Op = ARPRequest
	}
	sender, ok1 := netip.AddrFromSlice(arp.SourceProtAddress)
	target, ok2 := netip.AddrFromSlice(arp.DstProtAddress)
	e.SenderIP, e.TargetIP = sender, target
	e.Gratuitous = sender == target
	return e, ok1 && ok2
}
