package fabric

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// newARP makes the netstack's ARP with RFC 826's rule for an address that is
// already in the cache: whatever ARP packet comes from it, also one that is not
// for us, brings its hardware address up to date. The netstack's own ignores
// requests for others and keeps the old address on replies, so that its users
// would send to the previous owner of an address that moved for many seconds
// after a gratuitous ARP; a Linux host, and so a real client, follows it at once.
func newARP(s *stack.Stack) stack.NetworkProtocol {
	return &arpProtocol{NetworkProtocol: arp.NewProtocol(s)}
}

type arpProtocol struct{ stack.NetworkProtocol }

func (p *arpProtocol) NewEndpoint(nic stack.NetworkInterface, d stack.TransportDispatcher) stack.NetworkEndpoint {
	return &arpEndpoint{arpHandler: p.NetworkProtocol.NewEndpoint(nic, d).(arpHandler), nic: nic}
}

// arpHandler is all that the netstack looks for in an ARP endpoint.
type arpHandler interface {
	stack.NetworkEndpoint
	stack.LinkAddressResolver
	stack.DuplicateAddressDetector
}

type arpEndpoint struct {
	arpHandler
	nic stack.NetworkInterface
}

// HandlePacket implements stack.NetworkEndpoint.
func (e *arpEndpoint) HandlePacket(pkt *stack.PacketBuffer) {
	if b, ok := pkt.Data().PullUp(header.ARPSize); ok && header.ARP(b).IsValid() {
		p := header.ARP(b)
		sender := tcpip.AddrFrom4Slice(p.ProtocolAddressSender())
		mac := tcpip.LinkAddress(p.HardwareAddressSender())
		if sender != header.IPv4Any && !header.IsMulticastEthernetAddress(mac) {
			// It changes a known neighbour only, and makes none. The error says that
			// the NIC resolves no addresses; ours do.
			_ = e.nic.HandleNeighborConfirmation(header.IPv4ProtocolNumber, sender, mac, stack.ReachabilityConfirmationFlags{Override: true})
		}
	}
	e.arpHandler.HandlePacket(pkt)
}
